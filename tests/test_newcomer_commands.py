"""What every command says to a newcomer: of files that it skipped, of an adapter that is not fitted, of mistyped names."""

import csv
import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

import equiform
from equiform import OrbitCanonicalizer
from equiform.cli import demo, web
from equiform.cli.main import app
from equiform.predictors import references

MODELS = """
from types import SimpleNamespace
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 2))

def masks():
    return lambda x: (x.mean(1, keepdim=True) > 0.5).long()

def named():
    network = net()
    network.config = SimpleNamespace(id2label={0: "cat", 1: "dog"})
    return network

def reader():
    return lambda photos: [{"text": "a", "words": ["a"], "boxes": torch.zeros(1, 4)} for _ in photos]

def segmenter():
    return lambda x: x[:, :2]

def picky():
    return torch.nn.Linear(1, 1)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """models.py; `photos` of two classes; `some`, the same and a broken one; adapters, `new` and one that counts as fitted."""
    home = tmp_path_factory.mktemp("home")
    (home / "models.py").write_text(MODELS)
    rng = np.random.default_rng(0)
    for name in "ab":
        (home / "photos" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (16, 20, 3), dtype=np.uint8)).save(home / "photos" / name / f"{i}.png")
    shutil.copytree(home / "photos", home / "some")
    (home / "some" / "b" / "broken.png").write_text("no photo")
    for name in ("new", "fitted"):
        torch.manual_seed(0)
        canonicalizer = OrbitCanonicalizer("C4", resolution=8)
        canonicalizer.fitted = name == "fitted"
        equiform.adapt(lambda x: x, "C4", outputs="logits", canonicalizer=canonicalizer).save(home / name)
    return home


def calls(home, out, photos="photos", adapter="fitted", net="models.py:net"):
    """Every command that takes a predictor, reads photos or takes an adapter, and what it writes to `out`."""
    net, photos = net if net.startswith(("timm", "torchvision")) else f"{home}/{net}", home / photos
    measured = ("--adapter", home / adapter, "--size", 16)
    return {
        "fit": (net, photos, "--out", out, "--outputs", "logits", "--epochs", 1, "--resolution", 8),
        "evaluate": (net, photos, "--out", out / "r.json", *measured),
        "diagnose": (net, photos, "--out", out / "d.json", *measured),
        "predict": (net, photos, "--out", out / "t.csv", *measured),
        "upright": (photos, "--out", out, "--adapter", home / adapter, "--anyway"),
        "export": (out / "m.pt2", net, *measured),
        "web": (net, *measured),
    }


def fit_text():
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
    return importlib.import_module("fit_text")


READ = ("fit", "evaluate", "diagnose", "predict", "upright")
ADAPTED = ("evaluate", "diagnose", "predict", "upright", "export", "web")
PREDICTOR = ("fit", "evaluate", "diagnose", "predict", "export", "web")


def run(command, *arguments):
    done = CliRunner().invoke(app, [command, *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.mark.parametrize("command", READ)
def test_the_exit_code_is_1_where_files_were_skipped(command, home, tmp_path):
    done = run(command, *calls(home, tmp_path / "some", "some")[command])
    assert done.exit_code == 1, done.output
    assert "skipped 1 file:\n" in done.stderr
    assert "broken.png" in done.stderr
    assert any((tmp_path / "some").iterdir()), "what could be done is done, and kept"
    done = run(command, *calls(home, tmp_path / "all")[command])
    assert (done.exit_code, "skipped" in done.stderr) == (0, False), "control"


@pytest.mark.parametrize("command", ["fit", "evaluate", "diagnose", "predict", "upright", "export"])
def test_earlier_results_are_replaced_where_that_is_said_alone(command, home, tmp_path, unchecked):
    call = calls(home, tmp_path / "out")[command]
    assert run(command, *call).exit_code == 0
    other = {"fit": ("--seed", 5), "upright": ("--at-least", 0.99)}.get(command, ("--adapter", "photos-c4-small"))
    written = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    done = run(command, *call, *other)
    assert (done.exit_code, "--overwrite" in done.stderr) == (2, True), done.output
    assert {path: path.read_bytes() for path in written} == written
    assert run(command, *call, *other, "--overwrite").exit_code == 0, "control"


def test_a_model_of_others_is_found_before_the_fit_and_is_never_replaced(home, tmp_path, monkeypatch):
    monkeypatch.setattr("equiform.cli.main.fit", lambda *given, **options: pytest.fail("was fitted"))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "adapter" / "model.safetensors").write_bytes(safetensors.torch.save({"w": torch.ones(1)}))
    for call in (("fit", *calls(home, tmp_path / "adapter")["fit"]), ("demo", "--out", tmp_path)):
        done = run(*call, "--overwrite")
        assert (done.exit_code, "equiform did not write it: save in a folder of its own" in done.stderr) == (2, True), (
            done.output
        )


def test_the_demo_replaces_its_reports_where_that_is_said_alone(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(demo, "run", lambda *given: ran.append(given))
    for name in ("report.html", "digits.png"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        assert f"{name} is there already: --overwrite replaces it" in run("demo", "--out", folder).stderr
        assert run("demo", "--out", folder, "--overwrite").exit_code == 0
    assert "is a file; a folder is needed" in run("demo", "--out", tmp_path / "digits" / "digits.png").stderr
    assert len(ran) == 2


@pytest.mark.parametrize("empty", [("--adapter", ""), ("--adapter=",), ("--device", "", "--size", 16)])
def test_what_is_empty_is_not_left_out(empty, home, tmp_path):
    """As of a variable of the shell that is not set: the default would answer in silence."""
    done = run("predict", f"{home}/models.py:net", home / "photos", "--out", tmp_path / "a.csv", *empty)
    assert done.exit_code == 2
    assert f"nothing is given after {empty[0]}: is a variable of the shell not set?" in done.stderr
    assert "nothing is given after upright" in run("upright", "", "--out", tmp_path / "out").stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "option", "message"),
    [
        ("fit", ("--size", 10), "--size is of the photos that --teacher and --opinion are shown"),
        ("fit", ("--val", "photos"), "6 of its 6 photos lie in"),
        ("fit", ("--val", "photos/a"), "3 of its 3 photos lie in"),
        ("predict", ("--column", "anything"), "--column anything is for a table of paths, in .csv or .parquet"),
    ],
)
def test_options_that_would_be_ignored_are_refused(command, option, message, home, tmp_path):
    option = (option[0], home / option[1]) if option[0] == "--val" else option
    done = run(command, *calls(home, tmp_path / "out")[command], *option)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_masks_in_a_csv_are_read_again(tmp_path, home):
    """A mask of 224 x 224 has more characters than Python's reader takes unless told."""
    call = ("predict", f"{home}/models.py:masks", home / "photos", "--out", tmp_path / "m.csv", "--outputs", "mask")
    for _ in range(2):
        done = run(*call, "--adapter", home / "fitted")
        assert (done.exit_code, "6 images answered" in done.stdout) == (0, True), done.output


@pytest.mark.parametrize("command", ADAPTED)
def test_an_adapter_that_is_not_fitted_is_spoken_of_once(command, home, tmp_path, monkeypatch, unchecked):
    monkeypatch.setattr(web, "serve", lambda *_: None)
    for adapter, number in (("new", 1), ("fitted", 0)):
        done = run(command, *calls(home, tmp_path / adapter, adapter=adapter)[command])
        assert done.exit_code == 0, done.output
        assert done.stderr.count("is not fitted, and its poses mean nothing") == number
        assert done.stderr.count("warning: this orbit canonicalizer is not fitted") == number


@pytest.mark.slow
def test_worker_processes_do_not_repeat_it(home, tmp_path, capfd):
    done = run("upright", *calls(home, tmp_path / "out", adapter="new")["upright"], "--workers", 2)
    assert done.exit_code == 0, done.output
    assert (done.stderr + capfd.readouterr().err).count("is not fitted") == 1


def test_text_is_looked_for_by_the_command(home, tmp_path):
    """In photos, of which fewer than eight are too few to stop: it says what to take instead, once."""
    done = run("upright", *calls(home, tmp_path / "out")["upright"], "--adapter", "text-c4")
    assert done.stderr.count("made for text, and sees none in most of these pictures") == 1
    assert "canonicalizer='photos-c4' (--adapter photos-c4)" in done.stderr


def test_the_recipe_writes_the_card_that_is_shown():
    shown = dict(line.split(maxsplit=2)[1:] for line in run("info", "text-c4").stdout.splitlines() if line.startswith("card "))
    assert fit_text().CARD.items() <= shown.items()
    assert shown["made_for"].startswith("text of the Latin script")


@pytest.mark.slow
def test_the_recipe_runs(tmp_path):
    fit_text().main(["--out", str(tmp_path / "a"), "--pictures", "2", "--epochs", "1", "--check-pictures", "1"])
    fit_text().main(
        [
            "--out",
            str(tmp_path / "b"),
            "--start",
            str(tmp_path / "a"),
            *["--pictures", "1", "--epochs", "1", "--check-pictures", "1"],
        ]
    )
    card = equiform.saving.read(tmp_path / "b")[0]["card"]
    assert card == {"pictures": 3, **fit_text().CARD}


@pytest.mark.parametrize("command", PREDICTOR)
def test_a_mistyped_predictor_is_found_at_once(command, home, tmp_path):
    known = {
        "models.py:nett": "nett",
        "model.py:net": "no file",
        "mypkg.mod:net": "is no reference to a predictor; known forms: timm:NAME",
        "timm:resnet5O": "timm",
        "torchvision:restnet50": "torchvision",
    }
    for net, said in known.items():
        done = run(command, *calls(home, tmp_path / "out", net=net)[command])
        assert done.exit_code == 2, net
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert not (tmp_path / "out").exists(), "nothing was fitted, nothing is written"


def test_an_adapter_for_readers_says_so(home, tmp_path):
    """Of a predictor that is none; where the command takes --outputs they say so, and one that reads is run."""
    told = "error: text-c4 is for readers, which take a list of photos and give the text of each"
    for command in ("evaluate", "diagnose", "predict", "export", "web"):
        lines = run(command, *calls(home, tmp_path)[command], "--adapter", "text-c4").stderr.splitlines()
        assert lines[-1].startswith(told), (command, lines)
        assert "--adapter photos-c4" in lines[-1]
        assert ("--outputs logits" in lines[-1]) == (command in ("predict", "web"))
    for i, (net, more) in enumerate((("net", ("--outputs", "logits")), ("reader", ()))):
        call = calls(home, tmp_path / f"{i}", net=f"models.py:{net}")["predict"]
        assert run("predict", *call, "--adapter", "text-c4", *more).exit_code == 0


def test_a_page_with_an_adapter_for_readers(home, monkeypatch):
    shown = []
    monkeypatch.setattr(web, "serve", lambda setup, *others: shown.append(setup))
    done = run("web", f"{home}/models.py:net", "--adapter", "text-c4", "--outputs", "logits", "--size", 16)
    assert done.exit_code == 0, done.output
    assert (shown[0].model.inputs.name, shown[0].model.outputs.name) == ("image", "logits")


def test_export_refuses_what_has_no_graph_by_name(tmp_path):
    done = run("export", tmp_path / "x.pt2", "--adapter", "text-c4")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: the tiles canonicalizer decides by the data how much it computes, and has no graph;")
    assert "photos-c4" in done.stderr


def test_groups_that_fit_has_no_network_for(home, tmp_path):
    def said(*options):
        done = run("fit", *calls(home, tmp_path / "out")["fit"][:-2], *options)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        return done.stderr

    assert "leave --start out (photos-so2), or take C16" in said("--group", "SO2", "--start", "none")
    assert "leave --resolution out (photos-so2), or take C16" in said("--group", "SO2", "--resolution", 8)
    assert "for finite groups: take D16" in said("--group", "O2")
    assert said("--group", "SO2", "--start", "photos-c4").endswith("not for SO2: leave it out\n")
    for group in ("E3", "Shift16", "O", "C4*Shift4"):
        assert f"--group {group}: photos are turned, as by C4, D4, C16 or SO2; others are fitted in P" in said("--group", group)


def test_a_segmenter_is_told_what_to_say(home, tmp_path):
    predict = ("predict", *calls(home, tmp_path, net="models.py:segmenter")["predict"])
    done = run(*predict)
    assert done.exit_code == 2
    assert "--outputs mask for a segmenter" in done.stderr
    assert "--size" not in done.stderr
    assert run(*predict, "--outputs", "mask").exit_code == 0, "control"
    fails = run("predict", *calls(home, tmp_path / "no", net="models.py:picky")["predict"]).stderr
    assert "fails on an image of 16 x 16 pixels (see --size)" in fails


def test_poses_that_cannot_be_found_are_spoken_of(home, tmp_path):
    def said(group):
        return run("evaluate", *calls(home, tmp_path / group)["evaluate"], "--group", group).stderr

    for group in ("D4", "C8", "Shift4"):
        assert f"finds poses of C4; other poses of {group} are measured, and not found\n" in said(group)
    for group in ("C4", "C2"):
        assert "not found" not in said(group), "control"


@pytest.mark.parametrize(
    ("command", "option", "wrong"),
    [(command, "--seed", seed) for command in ("fit", "diagnose", "demo") for seed in ("9" * 23, "-1")]
    + [(command, "--size", 100_000) for command in ("fit", "evaluate", "diagnose", "predict", "export", "web")],
)
def test_numbers_have_a_range(home, tmp_path, command, option, wrong):
    call = ("--out", tmp_path) if command == "demo" else calls(home, tmp_path)[command]
    done = run(command, *call, option, wrong)
    assert (done.exit_code, f"Invalid value for '{option}': " in done.stderr) == (2, True), done.output


def test_a_learning_rate_is_finite(home, tmp_path):
    done = run("fit", *calls(home, tmp_path / "out")["fit"], "--lr", "inf")
    assert (done.exit_code, done.stderr) == (2, "error: --lr must be a finite number above 0; got inf\n")


@pytest.mark.usefixtures("unchecked")
def test_letters_are_taken_alike(home, tmp_path, monkeypatch):
    letters = str.title
    monkeypatch.setattr(
        references, "efficientnet_lite0", lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))
    )
    monkeypatch.setitem(references.LOADERS, references.LITE0, lambda _: references.efficientnet_lite0())
    assert run("predict", letters("efficientnet-lite0"), *calls(home, tmp_path)["predict"][1:]).exit_code == 0
    exported = run(
        "export", tmp_path / letters("x.pt2"), *calls(home, tmp_path)["export"][1:-4], "--adapter", letters("photos-c4-small")
    )
    assert exported.exit_code == 0, exported.output
    more = ("--baseline", letters("orbit-averaging"), "--frame", letters("inside"), "--normalize", letters("none"))
    assert run("evaluate", *calls(home, tmp_path)["evaluate"], *more).exit_code == 0
    start = run("fit", *calls(home, tmp_path / "fit")["fit"], "--start", letters("none"))
    assert start.exit_code == 0, start.output


@pytest.mark.parametrize("option", ["predictor", "--out", "--group", "--metric", "--baseline"])
def test_long_arguments_are_quoted_in_part(home, tmp_path, option):
    call, long = ["evaluate", *calls(home, tmp_path)["evaluate"]], "x" * 5000
    call = [call[0], long, *call[2:]] if option == "predictor" else [*call, option, long]
    done = run(*call)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "x" * 100 in done.stderr
    assert len(done.stderr) < 1300
    assert " characters) ... " in done.stderr
    assert "characters)" not in run("evaluate", *calls(home, tmp_path)["evaluate"], "--group", "Q4").stderr, "control"


def test_what_would_steer_a_terminal_is_escaped(home, tmp_path):
    done = run("evaluate", *calls(home, tmp_path)["evaluate"], "--group", "C\x1b[31m4\x07", "--metric", "a\x00b")
    assert done.stderr.rstrip("\n").isprintable()
    assert "\\x00" in done.stderr


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "no such name", "a" * 70 + ".b"])
def test_a_host_that_is_not_of_this_machine(home, tmp_path, monkeypatch, host):
    monkeypatch.setattr(web, "serve", lambda *a: None)
    web_of = ("web", *calls(home, tmp_path)["web"], "--host")
    done = run(*web_of, host)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: the page cannot be served at '{host}', which is no address of this machine (")
    assert done.stderr.endswith("): leave --host out, or 0.0.0.0 for all its addresses\n")
    assert [run(*web_of, here).exit_code for here in ("127.0.0.1", "localhost", "0.0.0.0")] == [0, 0, 0], "control"


def test_names_are_joined_as_one_likes(home, tmp_path):
    def report(number, *options):
        out = tmp_path / f"{number}"
        assert run("evaluate", *calls(home, out)["evaluate"], *options).exit_code == 0
        return json.loads((out / "r.json").read_text())

    for i, joined in enumerate("_- "):
        names = [word.replace("-", joined) for word in ("top5-accuracy", "orbit-averaging", "training-free")]
        kept = report(i, "--metric", names[0], "--baseline", names[1], "--baseline", names[2])
        assert kept["metric"] == "top5_accuracy"
        assert [method["name"] for method in kept["methods"]] == ["adapted", "orbit averaging", "training-free"]
        start = "photos-c4-small".replace("-", joined)
        fitting = calls(home, tmp_path / f"fit{i}")["fit"][:-2]
        assert "going on from photos-c4-small," in run("fit", *fitting, "--start", start).stdout
        kind = run("fit", *calls(home, tmp_path / f"kind{i}")["fit"], "--outputs", f"edge{joined}vectors")
        assert kind.exit_code == 0, kind.output
        assert equiform.load(tmp_path / f"kind{i}", lambda x: x).outputs.name == "edge_vectors"


def test_the_least_confidence_is_not_nothing(home, tmp_path):
    done = run("upright", *calls(home, tmp_path / "out")["upright"])
    assert "left alone (confidence below 0.5)" in done.stdout
    done = run("upright", *calls(home, tmp_path / "all")["upright"], "--at-least", 0)
    assert "left alone" not in done.stdout, "control"


def test_jpegs_that_would_lose_a_little_are_spoken_of_before(home, tmp_path, monkeypatch):
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "x.JPG")
    say = "note: JPEGs that are turned will be encoded again; without loss: pip install 'equiform[jpeg]'"
    for place, installed in (("a", True), ("b", False)):
        monkeypatch.setattr("equiform.cli.turning.find_spec", lambda name, found=installed: found or None)
        done = run("upright", tmp_path / "x.JPG", "--out", tmp_path / place, "--adapter", home / "fitted", "--anyway")
        assert (say in done.stderr) == (not installed)
    assert say not in run("upright", home / "photos", "--out", tmp_path / "c", "--adapter", home / "fitted", "--anyway").stderr


def test_the_pixels_that_a_file_is_given_are_spoken_of(home, tmp_path):
    for command in ("evaluate", "diagnose", "predict"):
        call = calls(home, tmp_path / command)[command]
        assert run(command, *call).stderr.count("models.py:net is given RGB in [0, 1]") == 1
        assert "is given RGB" not in run(command, *call, "--normalize", "none", "--overwrite").stderr


def test_classes_are_named_where_the_names_are_known(home, tmp_path):
    assert run("predict", *calls(home, tmp_path, net="models.py:named")["predict"]).exit_code == 0
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["class"], row["name"]) for row in rows} <= {("0", "cat"), ("1", "dog")}
    assert len(rows) == 6
