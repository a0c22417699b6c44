"""The `equiform` command, as a user types it."""

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import equiform
from asserting import python
from equiform.cli.main import app, demo
from equiform.evaluation import OrbitReport
from equiform.images.files import LabelledImages
from equiform.learning import training

# classes: brighter on the left (0) or at the top (1); a quarter turn counter-clockwise makes left of top
MODELS = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        grey = x.mean(1)
        left = grey[:, :, : x.shape[3] // 2].mean((1, 2)) - grey[:, :, x.shape[3] // 2 :].mean((1, 2))
        top = grey[:, : x.shape[2] // 2].mean((1, 2)) - grey[:, x.shape[2] // 2 :].mean((1, 2))
        return 20 * torch.stack([left, top], 1)

def net():
    return Net()

def backbone():
    pool = torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), pool, torch.nn.Flatten(), torch.nn.Linear(4, 7))

def needs_64():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 2))

def picky():
    def predictor(x):
        raise RuntimeError("no such shape")
    return predictor

def maps():
    return lambda x: x[:, :1]

def heavy():
    raise AssertionError("loaded before the paths were looked at")

def slow():
    import time
    print("ready", flush=True)
    time.sleep(60)
"""
COMMANDS = ("demo", "fit", "evaluate", "diagnose", "upright", "predict", "web", "info")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments, code=0):
    result = run(*arguments)
    assert result.exit_code == code, result.output
    return result


def skipping(*arguments):
    """Of a command that did what it was asked for, but for a file that it could not read."""
    return ok(*arguments, code=1)


def error_of(*arguments):
    """The one line on standard error of a command that fails as expected."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """models.py, photos of two classes, one file of text among them, and an adapter fitted to them by the command."""
    home = tmp_path_factory.mktemp("home")
    (home / "models.py").write_text(MODELS)
    rng = np.random.default_rng(0)
    for name in ("left", "top"):
        (home / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 60, (12, 16, 3), dtype=np.uint8)
            half = pixels[:, :8] if name == "left" else pixels[:6]
            half += 120
            Image.fromarray(pixels).save(home / "photos" / name / f"{i}.png")
    (home / "photos" / "top" / "text.jpg").write_text("no photo")
    skipping(*fit(home, home / "adapter"))
    return home


def fit(home, out, *more):
    options = ("--outputs", "logits", "--epochs", 1, "--resolution", 16)
    return ("fit", f"{home}/models.py:net", home / "photos", "--out", out, *options, *more)


def evaluate(home, *more, predictor="net"):
    return ("evaluate", f"{home}/models.py:{predictor}", home / "photos", "--adapter", home / "adapter", "--size", 16, *more)


# ------------------------------------------------------------------------------------------------- help and versions
def test_help_and_usage():
    overview = ok("--help").stdout
    for command in COMMANDS:
        text = ok(command, "--help").stdout
        assert f"\n  equiform {command}" in text, "an example in a line of its own"
        assert command in overview
        assert "..." not in overview.partition("Commands:")[2], "a summary is cut off"
        assert ok(command, "-h").stdout == text
    assert (run().exit_code, ok("--version").stdout) == (2, f"equiform {equiform.__version__}\n")
    for arguments in (["fit", "--epoch", "3"], ["nothing"], ["evaluate"], ["fit", "p", "i", "--out", "o", "--epochs", "0"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr
        assert "Traceback" not in result.stderr
    assert "--epoch" in run("fit", "--epoch", "3").stderr


@pytest.mark.slow
def test_python_m_equiform_and_light_imports():
    """`python -m equiform`, and no heavy package before a command needs it."""
    heavy = ("lightning", "matplotlib", "PIL", "torchmetrics", "transformers", "sklearn", "huggingface_hub", "gradio")
    program = f"import sys, equiform.cli; print([name for name in {heavy} if name in sys.modules])"
    both = python("-m", "equiform", "--version"), python("-W", "error", "-c", program)
    answers = [process.communicate(timeout=60) for process in both]
    assert answers[0] == (f"equiform {equiform.__version__}\n", "")
    assert answers[1] == ("[]\n", "")


def test_info_of_the_installation_and_of_adapters(home, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", _only_transformers)
    lines = dict(line.split(maxsplit=1) for line in ok("info").stdout.splitlines())
    assert (lines["equiform"], lines["torch"], lines["transformers"]) == (equiform.__version__, torch.__version__, "9.9")
    assert lines["timm"] == "not installed: pip install 'equiform[timm]'"
    assert lines["scikit-learn"] == "not installed: pip install 'equiform[demo]'"
    assert lines["threads"] == str(torch.get_num_threads())
    assert lines["devices"].startswith("cpu")
    assert "C4" in lines["groups"]
    assert "boxes" in lines["kinds"]
    assert "group-conv" in lines["canonicalizers"]
    assert "top5_accuracy" in lines["metrics"]
    assert "text-c4" in lines["ready-made"]
    lines = dict(line.split(maxsplit=1) for line in ok("info", home / "adapter").stdout.splitlines())
    assert lines["canonicalizer"] == "orbit"
    assert json.loads(lines["arguments"]) == {"group": "C4", "resolution": 16, "channels": 3}
    network = equiform.load(home / "adapter", lambda x: x).canonicalizer
    assert int(lines["parameters"].replace(",", "")) >= sum(p.numel() for p in network.parameters())
    assert lines["size"].endswith("MB")


def _only_transformers(package):
    if package == "transformers":
        return "9.9"
    raise __import__("importlib.metadata").metadata.PackageNotFoundError(package)


def test_info_forges_no_row(monkeypatch):
    config = {"note": "kind\nsize  0 MB \x1b[31m", "odd\nsize": 1}
    monkeypatch.setattr("equiform.saving.read", lambda _: (config, {}))
    lines = ok("info", "adapter").stdout.splitlines()
    assert sum(line.startswith("size") for line in lines) == 1
    assert any("kind\\nsize  0 MB \\x1b[31m" in line for line in lines)


# ---------------------------------------------------------------------------------------------------------------- fit
def test_what_fit_saves(home, tmp_path):
    shutil.copytree(home / "photos", tmp_path / "others")
    result = skipping(*fit(home, tmp_path / "a", "--val", tmp_path / "others", "--group", "D4", "--seed", 3))
    assert "skipped 2 files:" in result.stderr  # the text among the photos, and again among those held out
    assert str(home / "photos" / "top" / "text.jpg") in result.stderr
    assert "pose accuracy on" in result.stdout
    assert f"saved in {tmp_path / 'a'}" in result.stdout
    model = equiform.load(tmp_path / "a", lambda x: x)
    assert (model.group.name, model.canonicalizer.resolution, model.outputs.name) == ("D4", 16, "logits")
    again = fit(home, tmp_path / "a", "--group", "D4", "--seed", 3)
    assert "holds an adapter already: --overwrite replaces it" in error_of(*again)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        skipping(*fit(home, tmp_path / name, "--seed", seed, "--overwrite"))
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]


def test_a_teacher_and_an_opinion(home, tmp_path):
    """What each is fitted on is what Python gives: the teacher changes the adapter, the opinion is kept with it."""
    plain, taught = tmp_path / "plain", tmp_path / "taught"
    skipping(*fit(home, plain))
    skipping(*fit(home, taught, "--teacher", f"{home}/models.py:net", "--opinion", "--size", 16))
    assert (plain / "model.safetensors").read_bytes() != (taught / "model.safetensors").read_bytes()
    model = equiform.load(taught, lambda x: x)
    assert model.opinion is not None
    assert equiform.load(plain, lambda x: x).opinion is None
    assert not torch.equal(model.canonicalizer.network.classifier.weight, _weights(plain))
    assert "adapted" in skipping(*evaluate(home, "--top-k", 2, "--adapter", taught)).stdout
    for wrong, message in [
        (("--teacher", f"{home}/models.py:picky"), "picky fails on an image of 16 x 16 pixels (see --size)"),
        (("--teacher", f"{home}/models.py:maps"), "no logits (b, k)"),
    ]:
        assert message in error_of(*fit(home, tmp_path / "b", *wrong, "--size", 16))
    opinion = ("--opinion", "--size", 16, "--outputs")
    call = ("fit", f"{home}/models.py:maps", home / "photos", "--out", tmp_path / "b", "--epochs", 1)
    assert "needs a classifier" in error_of(*call, *opinion, "mask")
    call = ("fit", f"{home}/models.py:picky", home / "photos", "--out", tmp_path / "b", "--epochs", 1)
    assert "picky fails on an image of 16 x 16 pixels" in error_of(*call, *opinion, "logits")
    assert not (tmp_path / "b").exists()


def _weights(adapter):
    return equiform.load(adapter, lambda x: x).canonicalizer.network.classifier.weight


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # the training engine's, where a run goes on
def test_fit_goes_on_from_a_checkpoint(home, tmp_path):
    """A finished run is given back without another step; other options are refused."""
    call = fit(home, tmp_path / "a", "--checkpoint", tmp_path / "run", "--epochs", 2)
    assert "gone on" not in skipping(*call).stderr
    steps = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"]
    assert "holds an adapter already" in error_of(*call), "whatever the checkpoint is of"
    assert f"gone on from the run in {tmp_path / 'run'}" in skipping(*call, "--overwrite").stderr
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == steps
    assert "with epochs=2, now 3" in error_of(*fit(home, tmp_path / "b", "--checkpoint", tmp_path / "run", "--epochs", 3))


def test_a_backbone_is_named_again_to_be_used(home, tmp_path):
    backbone = ("--backbone", f"{home}/models.py:backbone")
    skipping(*fit(home, tmp_path / "a", *backbone))
    images = ("upright", home / "photos" / "left", "--out", tmp_path / "out", "--adapter")
    assert "add --backbone" in error_of(*images, tmp_path / "a")
    ok(*images, tmp_path / "a", *backbone)
    assert "without a backbone" in error_of(*images, home / "adapter", *backbone)
    assert "not take 16 x 16 images (see --resolution)" in error_of(
        *fit(home, tmp_path / "b", "--backbone", backbone[1].replace("backbone", "needs_64"))
    )


def test_fit_refuses_before_it_starts(home, tmp_path):
    net = f"{home}/models.py:net"
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    assert "is a file" in error_of(*fit(home, tmp_path / "file"))
    assert "holds other files" in error_of(*fit(home, tmp_path / "full"))
    assert "unknown group 'Q4'" in error_of(*fit(home, tmp_path / "a", "--group", "Q4"))
    assert "leave --resolution out (photos-so2), or take C16" in error_of(*fit(home, tmp_path / "a", "--group", "SO2"))
    assert "known kinds: axial_vectors, batch" in error_of("fit", net, home / "photos", "--out", tmp_path / "a")
    assert "unknown kind 'sound'" in error_of("fit", net, home / "photos", "--out", tmp_path / "a", "--outputs", "sound")
    assert "known forms: timm:N" in error_of("fit", "resnet", home / "photos", "--out", tmp_path / "a", "--outputs", "logits")
    assert "no file or folder" in error_of("fit", net, tmp_path / "no", "--out", tmp_path / "a", "--outputs", "logits")
    assert "--lr must be a finite number above 0" in error_of(*fit(home, tmp_path / "a", "--lr", 0))
    assert not (tmp_path / "a").exists()


def test_fit_says_what_it_reached(home, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(50):
        shutil.copy(home / "photos" / "top" / f"{i % 4}.png", tmp_path / "photos" / f"{i}.png")
    options = ("--outputs", "logits", "--epochs", 1, "--resolution", 16)
    call = ("fit", f"{home}/models.py:net", tmp_path / "photos", "--out", tmp_path / "a", *options)
    said = ok(*call).stdout
    assert "pose accuracy on 5 photos kept aside: " in said
    assert " after 1 epoch; " in said
    few = skipping(*fit(home, tmp_path / "b")).stdout  # control: too few to keep any aside
    assert "kept aside: " not in few
    assert "nothing was kept aside, so whether more data would help is not known" in few
    assert "defines no 'nett'" in error_of("fit", f"{home}/models.py:nett", *call[2:], "--overwrite")


def test_fit_goes_on_from_a_ready_made_one(home, tmp_path):
    call = ("fit", f"{home}/models.py:net", home / "photos", "--out", tmp_path / "a", "--outputs", "logits", "--epochs", 1)
    assert "going on from photos-c4-small," in skipping(*call, "--start", "photos-c4-small").stdout
    assert "photos" in equiform.saving.read(tmp_path / "a")[0]["card"]["started_from"]
    assert "going on" not in skipping(*call, "--resolution", 16, "--overwrite").stdout
    for wrong, message in [
        (("--start", "photos-c9"), "unknown --start 'photos-c9'; known: photos-c4,"),
        (("--start", "photos-c4", "--resolution", 16), "leave out --resolution, or --start"),
        (("--start", "photos-so2"), "--start photos-so2 is for SO2, not for C4"),
    ]:
        assert message in error_of(*call, *wrong, "--overwrite")


def test_a_transformers_model_is_fitted_and_measured(home, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = pytest.importorskip("small_transformers").vit(image_size=16, num_labels=2)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    ref, options = f"transformers:{tmp_path / 'vit'}", ("--epochs", 1, "--resolution", 16)
    skipping("fit", ref, home / "photos", "--out", tmp_path / "a", "--backbone", ref, *options)  # the kinds are known
    result = skipping("evaluate", ref, home / "photos", "--adapter", tmp_path / "a", "--backbone", ref, "--size", 16)
    assert "adapted" in result.stdout
    result = skipping(
        "evaluate", ref, home / "photos", "--adapter", home / "adapter", "--size", 16
    )  # another predictor's adapter
    assert "adapted" in result.stdout
    assert "fails on an image of 24 x 24 pixels (see --size)" in error_of(
        "evaluate", ref, home / "photos", "--adapter", home / "adapter", "--size", 24
    )


# ----------------------------------------------------------------------------------------------------------- evaluate
def test_evaluate_prints_and_writes_the_table(home, tmp_path):
    files = [tmp_path / "deep" / f"report.{suffix}" for suffix in ("html", "json", "csv")]
    outs = [part for file in files for part in ("--out", file)]
    result = skipping(*evaluate(home, "--baseline", "bare", "--baseline", "orbit-averaging", *outs))
    assert "accuracy over C4, 8 samples" in result.stdout
    assert "skipped 1 file:" in result.stderr
    assert all(f"saved {file}" in result.stdout and file.stat().st_size for file in files)
    report = OrbitReport.load(files[1])
    assert [method.name for method in report.methods] == ["adapted", "bare", "orbit averaging"]
    # the predictor is right upright; a quarter turn counter-clockwise makes left of top and takes left to the bottom
    assert report["bare"].values == [1.0, 0.5, 0.0, 0.5]
    assert len(set(report["adapted"].values)) == 1, "equivariant, whatever it has learnt"


def test_labels(home, tmp_path):
    def upright(labels):
        (tmp_path / "labels.json").write_text(labels)
        skipping(
            *evaluate(home, "--labels", tmp_path / "labels.json", "--out", tmp_path / "r.json", "--overwrite", "--group", "C1")
        )
        return OrbitReport.load(tmp_path / "r.json").upright_of("bare")

    def error(labels):
        (tmp_path / "labels.json").write_text(labels)
        return error_of(*evaluate(home, "--labels", tmp_path / "labels.json"))

    assert LabelledImages(home / "photos", None, 8).index == {"left": 0, "top": 1}
    assert (upright('{"left": 0, "top": 1, "other": 7}'), upright('{"left": 1, "top": 0}')) == (1.0, 0.0)
    assert "says nothing of 1 of 2 subfolders: top" in error('{"left": 0}')
    assert "is not JSON" in error("left: 0")
    assert "class index" in error('{"left": 0, "top": "one"}')
    assert "knows 2 classes, and the class index goes up to 5" in error('{"left": 0, "top": 5}')
    for name in ("left", "top", "right"):
        (tmp_path / "three" / name).mkdir(parents=True)
        Image.new("L", (4, 4), 9).save(tmp_path / "three" / name / "a.png")
    message = error_of("evaluate", f"{home}/models.py:net", tmp_path / "three", "--adapter", home / "adapter", "--size", 16)
    assert "knows 2 classes" in message
    (home / "photos" / "top").rename(home / "top")
    try:
        result = ok(*evaluate(home, "--group", "C1"))
        assert "note: " in result.stderr
        assert "should there be --labels?" in result.stderr
    finally:
        (home / "top").rename(home / "photos" / "top")


def test_options_and_names_in_any_form(home, tmp_path):
    for more in (
        ("--top-k", 2),
        ("--coverage", 0.9),
        ("--normalize", "imagenet"),
        ("--metric", "top5_accuracy", "--group", "C1"),
    ):
        skipping(*evaluate(home, *more, "--out", tmp_path / "r.json", "--overwrite"))
    report = OrbitReport.load(tmp_path / "r.json")
    assert (report.metric, report.group, len(report.elements)) == ("top5_accuracy", "C1", 1)
    skipping(*evaluate(home, "--top-k", 2, "--out", tmp_path / "two.json"))
    assert OrbitReport.load(tmp_path / "two.json")["adapted"].passes == 2
    names = ("--baseline", "orbit averaging", "--baseline", "orbit-averaging", "--baseline", "training free")
    assert "r.json is there already: --overwrite replaces it" in error_of(*evaluate(home, "--out", tmp_path / "r.json"))
    skipping(*evaluate(home, "--metric", "top5-accuracy", *names, "--out", tmp_path / "r.json", "--overwrite"))
    report = OrbitReport.load(tmp_path / "r.json")
    assert [method.name for method in report.methods] == ["adapted", "orbit averaging", "training-free"]
    assert report.metric == "top5_accuracy"


WRONG = {
    "a report ends in .html, .json, .csv": ("--out", "report.pdf"),
    "unknown group 'C0'": ("--group", "C0"),
    "top_k is a number of poses, 1 to 4": ("--top-k", "9"),
    "coverage is a share": ("--coverage", "1.5"),
    "error: no file .; it should hold the class index": ("--labels", "."),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_are_one_line(home, message):
    assert message in error_of(*evaluate(home, *WRONG[message]))


def test_with_no_adapter_named_the_ready_made_one_is_taken(home, tmp_path, monkeypatch):
    monkeypatch.setattr(equiform.ready, "FOLDER", tmp_path)
    monkeypatch.setattr(equiform.ready.table, "FOLDER", tmp_path)
    shutil.copytree(home / "adapter", tmp_path / "photos-c4")
    call = ("evaluate", f"{home}/models.py:net", home / "photos", "--size", 16)
    skipping(*call, "--group", "C8", "--frame", "crop", "--out", tmp_path / "r.json")
    report = OrbitReport.load(tmp_path / "r.json")
    assert (report.frame, report.within, len(report.elements)) == ("crop", None, 8)
    assert "(photos-c4)" in error_of(*call, "--group", "SO2"), "which would take photos-so2, and it is not here"
    assert "unknown frame 'outside'; known: inside, crop" in error_of(*call, "--frame", "outside")
    turning = ok("upright", home / "photos", "--out", tmp_path / "out", "--anyway", code=1)
    assert "8 of 9 images in" in turning.stdout


def test_paths_are_looked_at_first(home, tmp_path):
    """One typo in any of them, before the predictor or the backbone is loaded (the control: with none it is)."""
    (tmp_path / "file").write_text("")
    heavy, good, no = f"{home}/models.py:heavy", home / "photos", tmp_path / "no"
    fitting = ("fit", heavy, good, "--out", tmp_path / "a", "--backbone", heavy)
    for typo, message in [
        (("--val", no), f"no file or folder {no}"),
        (("--checkpoint", tmp_path / "file"), f"--checkpoint {tmp_path / 'file'} is a file"),
        (("--out", tmp_path / "file" / "a"), "nothing can be written in"),
        (("--teacher", f"{no}.py:f"), f"no file {no}.py"),
        (("--backbone", f"{no}.py:f"), f"no file {no}.py"),
        (("--group", "Q4"), "unknown group 'Q4'"),
    ]:
        assert message in error_of(*fitting, *typo)
    assert "loaded before" in error_of(*fitting)
    assert not (tmp_path / "a").exists()
    measuring = ("evaluate", heavy, good, "--adapter", home / "adapter")
    for typo, message in [
        (("--labels", no), f"no file {no}"),
        (("--adapter", no), f"no folder {no}"),
        (("--out", tmp_path / "file" / "r.json"), f"--out {tmp_path / 'file'} is a file"),
        (("--metric", "speed"), "unknown metric 'speed'; known: accuracy, top5_accuracy"),
        (("--baseline", "magic"), "unknown baseline 'magic'; known: bare, orbit averaging"),
        (("--normalize", "cifar"), "unknown normalization 'cifar'; known: auto, imagenet"),
        (("--device", "abacus"), "--device abacus cannot be used here"),
    ]:
        assert message in error_of(*measuring, *typo)
    assert "loaded before" in error_of(*measuring)
    assert "r.json is a folder" in error_of(*measuring, "--out", _folder(tmp_path / "r.json"))
    turning = ("upright", good, "--out", tmp_path / "o", "--adapter", no)
    assert f"--table {tmp_path / 't.csv'} is a folder" in error_of(*turning, "--csv", _folder(tmp_path / "t.csv"))
    assert "a table ends in .csv or .parquet" in error_of(*turning, "--table", tmp_path / "t.txt")
    assert "nothing can be written in" in error_of("upright", good, "--out", tmp_path / "file" / "o", "--adapter", no)


def _folder(path):
    path.mkdir()
    return path


def test_predictors_that_fail_or_map_are_named(home, tmp_path):
    assert "picky fails on an image of 16 x 16 pixels (see --size): RuntimeError: no such shape" in error_of(
        *evaluate(home, predictor="picky")
    )
    flat = error_of("evaluate", f"{home}/models.py:net", home / "photos" / "left", "--adapter", home / "adapter")
    assert "has no subfolders: one for each class" in flat
    # an adapter for masks is refused before anything is measured; the control above is one for classes.
    skipping(*fit(home, tmp_path / "maps", "--outputs", "mask"))
    call = ("evaluate", f"{home}/models.py:maps", home / "photos", "--size", 16, "--adapter")
    message = error_of(*call, tmp_path / "maps")
    assert "outputs that move as 'mask'" in message
    assert "--outputs logits" in message


def test_debug_and_bugs(home, monkeypatch):
    call = evaluate(home, "--group", "C0")
    for arguments in (("--debug", *call), (*call, "--debug"), (call[0], "--debug", *call[1:])):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "Traceback (most recent call last)" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: unknown group 'C0'")
    assert "Traceback" not in run(*call).stderr
    assert "no file or folder --debug" in error_of("upright", "--out", "o", "--adapter", home / "adapter", "--", "--debug")
    # the control: what nobody expected keeps its traceback.
    monkeypatch.setattr("equiform.cli.turning.found_in", lambda *_: {}["key"])
    result = run("upright", home / "photos", "--out", home / "out", "--adapter", home / "adapter")
    assert isinstance(result.exception, KeyError)


# ----------------------------------------------------------------------------------------------------------- diagnose


def test_diagnose_says_what_to_do(home, tmp_path):
    """With an adapter and without, with labels and without."""
    (tmp_path / "labels.json").write_text(json.dumps({"left": 0, "top": 1}))
    call = ("diagnose", f"{home}/models.py:net", home / "photos", "--size", 16)
    for options, metric in [
        ((), "agreement"),
        (("--adapter", home / "adapter"), "agreement"),
        (("--labels", tmp_path / "labels.json"), "accuracy"),
    ]:
        result = skipping(*call, *options, "--out", tmp_path / "found.json", "--overwrite")
        assert "skipped 1 file:" in result.stderr
        found = json.loads((tmp_path / "found.json").read_text())
        assert (found["metric"], found["num_samples"]) == (metric, 8)
        assert f"5. {found['recommendation']}" in result.stdout
        assert found["group"] == "C4"


def test_diagnose_refuses_what_does_not_fit(home, tmp_path):
    call = ("diagnose", f"{home}/models.py:net", home / "photos", "--size", 16)
    assert "leave --backbone timm:x out" in error_of(*call, "--backbone", "timm:x")
    assert "no file or folder" in error_of("diagnose", "timm:x", tmp_path / "no")
    assert "--out" in error_of("diagnose", f"{home}/models.py:heavy", home / "photos", "--out", home)
    assert "picky fails on an image of 16 x 16" in error_of(
        "diagnose", f"{home}/models.py:picky", home / "photos", "--size", 16
    )


# ------------------------------------------------------------------------------------------------- upright and demo
def test_upright_writes_every_image_and_the_table(home, tmp_path):
    result = ok("upright", home / "photos", "--out", tmp_path / "out", "--adapter", home / "adapter", "--anyway", code=1)
    assert f"8 of 9 images in {tmp_path / 'out'}" in result.stdout
    with (tmp_path / "out" / "poses.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["file", "angle", "flip", "confidence", "done", "lossless", "error"]
    assert [Path(row["file"]).is_file() for row in table] == [True] * 9
    for row in table:
        source = Path(row["file"])
        written = tmp_path / "out" / source.relative_to(home / "photos")
        assert written.is_file() != bool(row["error"])
        if not row["error"]:
            quarters = int(row["angle"]) // 90 if row["done"] == "turned" else 0
            turned_back = np.rot90(np.asarray(Image.open(source)), -quarters)
            assert np.array_equal(np.asarray(Image.open(written)), turned_back)


def test_demo_gets_its_options(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(demo, "run", lambda out, seed: calls.append((out, seed)))
    ok("demo", "--out", tmp_path, "--seed", 7)
    ok("demo")
    assert calls == [(tmp_path, 7), (Path("demo-report"), 0)]


# ------------------------------------------------------------------------------------------------------------- Ctrl-C
def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def test_ctrl_c_while_fitting_leaves_nothing(home, tmp_path, monkeypatch):
    """The training engine catches it and exits by itself."""
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(training.PriorTraining, "training_step", interrupt)
    try:
        result = run(*fit(home, tmp_path / "a"))
    finally:
        signal.signal(signal.SIGINT, handler)  # which the engine has switched off
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert not (tmp_path / "a").exists()


def test_ctrl_c_while_writing_leaves_whole_files(home, tmp_path, monkeypatch):
    call = ("upright", home / "photos", "--out", tmp_path / "out", "--adapter", home / "adapter", "--at-least", 0, "--anyway")
    replaced = []

    def replace(self, target, original=Path.replace):
        if len(replaced) == 3:
            raise KeyboardInterrupt
        replaced.append(target)
        return original(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        result = run(*call)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "interrupted")
    left = {path for path in (tmp_path / "out").rglob("*") if path.is_file() and ".poses.job" not in path.parts}
    assert left == {path for path in replaced if path.suffix == ".png"}, "temporary files are gone"
    assert not list((tmp_path / "out" / ".poses.job" / "scratch").iterdir())
    for path in left:
        Image.open(path).load()
    assert "8 of 9 images in" in ok(*call, "--workers", 0, code=1).stdout, "and the same command goes on"


@pytest.mark.slow
def test_an_interrupt_from_outside(home, tmp_path):
    process = python("-m", "equiform", "evaluate", f"{home}/models.py:slow", home / "photos", "--adapter", home / "adapter")
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
