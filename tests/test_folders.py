"""`equiform upright` and `equiform predict` over folders, as a user runs them: cut short, in shards, in worker processes."""

import csv
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import equiform
from asserting import python
from equiform.cli.main import app
from equiform.images.files import read_square
from equiform.predictors.references import load_reference
from small_photos import skies

MODELS = """
import torch

class Halves(torch.nn.Module):
    def forward(self, x):
        rows = x.mean((1, 3))
        return 9 * torch.stack([rows[:, :8].mean(1) - rows[:, 8:].mean(1), rows[:, 8:].mean(1) - rows[:, :8].mean(1)], 1)

def net():
    return Halves()

def maps():
    return lambda x: {"mask": (x.mean(1) > 0.5).long(), "score": x.mean((1, 2, 3))}

def lists():
    return lambda x: [{"words": ["a"] * i} for i in range(len(x))]

def wrong():
    return lambda x: x.mean()

def flat():
    return torch.nn.Linear(64, 2)
"""


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An adapter fitted to skies, models.py, and 40 skies in two folders, number i turned by i quarter turns."""
    home = tmp_path_factory.mktemp("home")
    (home / "models.py").write_text(MODELS)
    canonicalizer = equiform.OrbitCanonicalizer("C4", resolution=8)
    model = equiform.adapt(lambda x: x, "C4", outputs="logits", canonicalizer=canonicalizer)
    equiform.fit(model, skies(64), epochs=6, lr=1e-2, enable_progress_bar=False)
    model.save(home / "adapter")
    for i, sky in enumerate(skies(40, size=32)):
        folder = home / "photos" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "jpg" if i % 4 == 3 else "png"
        turned = np.ascontiguousarray(np.rot90(sky.permute(1, 2, 0).numpy(), i % 4))
        Image.fromarray(turned).save(folder / f"{i:02d}.{suffix}", **({"quality": 95, "subsampling": 0} if i % 4 == 3 else {}))
    (home / "photos" / "b" / "text.jpg").write_text("no photo")
    return home


def turning(home, out, *more):
    return ("upright", home / "photos", "--out", out, "--adapter", home / "adapter", *more)


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def left_in(out):
    files = (path for path in out.rglob("*") if path.is_file() and path.name != "job.json")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def plain(home, tmp_path_factory):
    """What an uninterrupted run in one process leaves."""
    out = tmp_path_factory.mktemp("plain") / "out"
    result = run(*turning(home, out))
    assert result.exit_code == 1, result.output
    return left_in(out)


# -------------------------------------------------------------------------------------------------------------- upright
def test_every_photo_comes_upright_and_a_bad_one_is_a_row(home, plain, tmp_path):
    out = tmp_path / "out"
    result = run(*turning(home, out))
    assert "40 of 41 images in" in result.stdout
    assert "30 turned, 10 upright already" in result.stdout
    assert (result.exit_code, left_in(out)) == (1, plain)
    rows = table(out / "poses.csv")
    for row in rows[:-1]:
        i = int(Path(row["file"]).stem)
        assert (int(row["angle"]), row["lossless"]) == (90 * (i % 4), "1")
        sky = skies(40, size=32)[i].permute(1, 2, 0).numpy()
        written = np.asarray(Image.open(out / Path(row["file"]).relative_to(home / "photos"))).astype(int)
        assert np.abs(written - sky).max() <= (30 if i % 4 == 3 else 0)
    assert rows[-1] == dict.fromkeys(rows[-1], "") | {
        "file": str(home / "photos" / "b" / "text.jpg"),
        "done": "failed",
        "error": f"{home}/photos/b/text.jpg: not an image, or of an unknown format",
    }


def test_the_same_command_again_changes_nothing_and_another_is_refused(home, plain, tmp_path):
    out = tmp_path / "out"
    first = run(*turning(home, out))
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = run(*turning(home, out))
    assert (again.exit_code, again.output) == (first.exit_code, first.output)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    other = run(*turning(home, out, "--at-least", 0.9))
    assert other.exit_code == 2
    assert "is of another job (another at-least): that was `equiform upright " in other.stderr
    assert "this is `equiform upright " in other.stderr
    assert run(*turning(home, out, "--at-least", 0.9, "--overwrite")).exit_code == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    refused = run(*turning(home, tmp_path / "full"))
    assert "holds other files: name a new folder, or --overwrite" in refused.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    assert run(*turning(home, tmp_path / "full", "--overwrite")).exit_code == 1


def test_shards_are_the_whole(home, plain, tmp_path):
    for i in (1, 2, 3):
        assert run(*turning(home, tmp_path / "out", "--shard", f"{i}/3")).exit_code in (0, 1)
    left = left_in(tmp_path / "out")
    tables = sorted(name for name in left if name.endswith(".csv"))
    assert tables == [f"poses-{i}-of-3.csv" for i in (1, 2, 3)]
    rows = [line for name in tables for line in left.pop(name).splitlines()[1:]]
    assert sorted(rows) == sorted(plain["poses.csv"].splitlines()[1:])
    assert left == {name: data for name, data in plain.items() if name != "poses.csv"}
    for wrong in ("0/3", "4/3", "3", "a/b"):
        assert "--shard is a part of so many, 1/16 to 16/16" in run(*turning(home, tmp_path / "o", "--shard", wrong)).stderr


def test_parquet_by_name_and_for_many(home, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run(*turning(home, tmp_path / "a", "--table", tmp_path / "named.parquet")).exit_code == 1
    rows = parquet.read_table(tmp_path / "named.parquet").to_pylist()
    monkeypatch.setattr("equiform.cli.running.MANY", 41)
    assert run(*turning(home, tmp_path / "b")).exit_code == 1
    assert parquet.read_table(tmp_path / "b" / "poses.parquet").to_pylist() == rows
    assert [row["angle"] for row in rows[:3]] == [0, 180, 0]
    assert (rows[-1]["angle"], rows[-1]["done"]) == (None, "failed")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(*turning(home, tmp_path / "c"))
    assert "pip install 'equiform[parquet]', or name a table in .csv" in result.stderr
    assert not (tmp_path / "c").exists()


def test_an_adapter_that_guesses_is_said_before_anything_is_written(home, tmp_path):
    noise = tmp_path / "noise"
    noise.mkdir()
    for i in range(9):
        Image.new("RGB", (32, 32), (i, 9, 9)).save(noise / f"{i}.png")
    call = ("upright", noise, "--out", tmp_path / "out", "--adapter", home / "adapter")
    result = run(*call)
    assert result.exit_code == 2
    assert "guesses on these images: of 9 images that were looked at the median confidence is 0." in result.stderr
    assert "where guessing is 0.25; nothing was written: " in result.stderr
    assert not (tmp_path / "out").exists()
    assert "warning: " in run(*call, "--anyway").stderr
    assert "9 left alone" in run(*call, "--anyway").stdout
    few = run(*[noise / "1.png" if word == noise else word for word in call[:-4]], "--out", tmp_path / "one", *call[-2:])
    assert (few.exit_code, few.stderr.count("warning: ")) == (0, 1), "of a few files it is only said"


def test_a_full_disk_names_the_file_and_the_same_command_goes_on(home, plain, tmp_path, monkeypatch):
    opens, original = [], Path.open

    def full(self, mode="r", *args, **kwargs):
        if mode == "xb" and "scratch" in self.parts:
            opens.append(self)
            if len(opens) > 20:
                raise OSError(28, "No space left on device", str(self))
        return original(self, mode, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        result = run(*turning(home, tmp_path / "out"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in result.stderr
    assert run(*turning(home, tmp_path / "out", "--workers", 0)).exit_code == 1
    assert left_in(tmp_path / "out") == plain


# -------------------------------------------------------------------------------------------------------------- predict
def predicting(home, model, out, *more, inputs=None):
    options = ("--adapter", home / "adapter", "--size", 16, *more)
    return ("predict", f"{home}/models.py:{model}", inputs or home / "photos", "--out", out, *options)


def test_answers_are_those_of_the_adapted_model(home, tmp_path):
    result = run(*predicting(home, "net", tmp_path / "a.csv"))
    assert result.exit_code == 1, result.output
    assert "40 of 41 images answered" in result.stdout
    rows = table(tmp_path / "a.csv")
    assert list(rows[0]) == ["file", "angle", "flip", "confidence", "class", "probability", "error"]
    assert {row["class"] for row in rows[:-1]} == {"0"}, "bright above, whichever way it came"
    predictor = load_reference(f"{home}/models.py:net")
    model = equiform.adapt(
        predictor, "C4", outputs="logits", canonicalizer=equiform.load(home / "adapter", predictor).canonicalizer
    )
    for row in rows[:5]:
        logits, pose = model.predict(read_square(Path(row["file"]), 16)[None].float() / 255)
        assert float(row["probability"]) == pytest.approx(float(logits.softmax(1).max()), abs=1e-5)
        assert float(row["confidence"]) == pytest.approx(float(pose.confidence), abs=1e-3)
    assert "not an image" in rows[-1]["error"]
    assert "is there already" not in run(*predicting(home, "net", tmp_path / "a.csv")).stderr, "it is the same command"
    (tmp_path / "b.csv").write_text("")
    assert "b.csv is there already: --overwrite replaces it" in run(*predicting(home, "net", tmp_path / "b.csv")).stderr


def test_a_table_of_paths_and_any_output(home, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "paths.csv").write_text(f"id,path\n1,{home}/photos/a/00.png\n2,missing.png\n3,\n4,{home}/photos/a/00.png\n")
    call = predicting(home, "maps", tmp_path / "m.parquet", inputs=tmp_path / "paths.csv")
    result = run(*call, "--outputs", "invariant")
    assert result.exit_code == 1, result.output
    rows = parquet.read_table(tmp_path / "m.parquet").to_pylist()
    assert [row["file"] for row in rows] == [f"{home}/photos/a/00.png", "missing.png", "", f"{home}/photos/a/00.png"]
    assert [row["error"] for row in rows] == [None, "no file missing.png", "an empty path", None]
    assert np.array(rows[0]["mask"]).shape == (16, 16)
    assert isinstance(rows[0]["score"], float)
    assert rows[1]["mask"] is None
    assert rows[3] == rows[0]
    assert "no column photo" in run(*call, "--column", "photo", "--overwrite").stderr


def test_predictors_that_do_not_fit_are_named_before_the_work(home, tmp_path):
    for model, message in [
        ("wrong", "wrong runs, and its answer cannot be kept as 'logits': "),
        ("flat", "flat fails on an image of 16 x 16 pixels (see --size): "),
        ("missing", "there is no function missing"),
    ]:
        result = run(*predicting(home, model, tmp_path / "a.csv"))
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert "a table ends in .csv or .parquet" in run(*predicting(home, "net", tmp_path / "a.txt")).stderr
    assert "no file or folder" in run(*predicting(home, "net", tmp_path / "a.csv", inputs=tmp_path / "none")).stderr
    assert "add --engine ray" in run(*predicting(home, "net", tmp_path / "a.csv", "--address", "auto")).stderr
    assert "known: processes, ray" in run(*predicting(home, "net", tmp_path / "a.csv", "--engine", "spark")).stderr
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------------- real processes
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_leave_what_one_process_leaves(home, plain, tmp_path, workers):
    assert run(*turning(home, tmp_path / "out", "--workers", workers)).exit_code == 1
    assert left_in(tmp_path / "out") == plain


def descendants(pid):
    found = [pid]
    for parent in found:
        try:
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except OSError:
            continue
    return found[1:]


def gone(processes, within=60):
    """Whether they end by themselves; one that still imports what it needs takes its time."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not [pid for pid in processes if Path(f"/proc/{pid}").exists()]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc here")
def test_killed_at_random_it_goes_on_and_leaves_no_process(home, plain, tmp_path):
    rng, out = random.Random(0), tmp_path / "out"
    for _ in range(3):
        process = python("-m", "equiform", *turning(home, out, "--workers", 1), path=Path(__file__).parent)
        began = time.monotonic()
        while not out.exists() and process.poll() is None and time.monotonic() - began < 60:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 4))
        children = descendants(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert gone(children), "its workers end with it"
    assert run(*turning(home, out)).exit_code == 1
    assert left_in(out) == plain
