"""What a newcomer gives without knowing better: names joined otherwise, channels last, photos for a reader of text.

What the commands say to the same is in `test_newcomer_commands.py`."""

import copy
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import equiform
from equiform import OrbitCanonicalizer, act, adapt, evaluate, fit, group
from equiform._checks import named
from equiform.canonicalizers import UniformCanonicalizer, tiles
from equiform.evaluation import OrbitReport
from equiform.evaluation.confidence import Confidence
from equiform.evaluation.results import Method
from equiform.geometry.kinds import as_kinds
from equiform.learning import Fit
from equiform.predictors.references import check_resolves
from small_canonicalizers import CLOUDS, CONTINUOUS, IMAGES, PRODUCTS, VOLUMES

X, Y = torch.rand(4, 3, 16, 20), torch.tensor([0, 1, 0, 1])
LAST = X.movedim(1, -1)


def classify(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3))[:, :2]


def small(canonicalizer: equiform.canonicalizers.ImageCanonicalizer | None = None) -> equiform.Equivariant:
    return adapt(classify, "C4", outputs="logits", canonicalizer=canonicalizer or UniformCanonicalizer("C4"))


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("given", ["orbit averaging", "orbit-averaging", "orbit_averaging"])
def test_words_are_joined_as_one_likes(given):
    assert named("baseline", given, ["bare", "orbit averaging"]) == "orbit averaging"
    report = evaluate(
        small(),
        (X, Y),
        baselines=[given, "orbit averaging"],
        metric=given.replace("orbit", "top5").replace("averaging", "accuracy"),
        frame="inside",
    )
    assert [report.metric, *[method.name for method in report.methods]] == ["top5_accuracy", "adapted", "orbit averaging"]


def test_kinds_and_confidences_too():
    assert as_kinds({"a": "edge-vectors", "b": "volume mask"}) == as_kinds({"a": "edge_vectors", "b": "volume_mask"})
    assert equiform.EnergyCanonicalizer("C4", classify, confidence="max-probability").confidence == "max_probability"
    with pytest.raises(ValueError, match=r"unknown kind 'sound'; known: axial_vectors, "):
        as_kinds("sound")


def test_so_are_those_of_ready_made_canonicalizers(tmp_path, monkeypatch):
    same = [equiform.Upright(name).canonicalizer for name in ("photos-c4-small", "photos_c4_small", "photos c4 small")]
    assert len({one.fitted_on for one in same}) == 1
    monkeypatch.chdir(tmp_path)
    small(OrbitCanonicalizer("C4", resolution=8)).save("photos_c4_small")
    assert equiform.load("photos_c4_small", classify).canonicalizer.resolution == 8, "a folder of that name is that folder"
    small(OrbitCanonicalizer("C4", resolution=8)).save("photos-c4-small")
    assert equiform.Upright("photos-c4-small").canonicalizer.resolution != 8, "but for the name itself"
    assert equiform.load("./photos-c4-small", classify).canonicalizer.resolution == 8


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("c4", "C4"),
        ("d8", "D8"),
        ("shift6", "Shift6"),
        ("c4z", "C4z"),
        ("SO(2)", "SO2"),
        ("so2", "SO2"),
        ("SE2", r"Shift16\*C4"),
    ]
    + [("scale", r"Scale\(0.5,2,5\)"), ("rotation", "SO2, or C4 for quarter turns"), ("mirror", "D4")],
)
def test_groups_are_named_that_are_meant(name, meant):
    with pytest.raises(ValueError, match=rf"unknown group .* \(do you mean {meant}\?\); known groups: Cn, Dn"):
        adapt(classify, name, outputs="logits")


@pytest.mark.parametrize("option", [{"baselines": ["orbit avg"]}, {"metric": "top5"}, {"frame": "cropped"}], ids=str)
def test_a_name_that_is_not_known_names_those_that_are(option):
    ((what, name),) = [(key.rstrip("s"), value[0] if isinstance(value, list) else value) for key, value in option.items()]
    with pytest.raises(ValueError, match=f"unknown {what} '{name}'; known: (bare|accuracy|inside), "):
        evaluate(small(), (X, Y), **option)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("prior", ["0.9", [0.9, "a", 1, 1], {}])
def test_a_prior_is_of_numbers(prior):
    for make in (lambda: adapt(classify, "C4", outputs="logits", prior=prior), lambda: equiform.Upright(prior=prior)):
        with pytest.raises(ValueError, match=r"prior is the share that is upright, or a number above 0 for each"):
            make()


@pytest.mark.parametrize("none", [{}, [], (), {"a": {}}])
def test_no_kinds_are_refused(none):
    for name in ("inputs", "outputs"):
        with pytest.raises(ValueError, match=rf"{name} are kinds, such as 'logits' or .*; got none"):
            adapt(classify, "C4", **{"inputs": "image", "outputs": "logits"} | {name: none})


@pytest.mark.usefixtures("unchecked")
def test_what_is_loaded_has_a_name():
    for wrong in (5, None):
        with pytest.raises(TypeError, match=rf"a ready-made adapter, such as photos-c4; got {wrong}"):
            equiform.load(wrong, classify)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrong", [{"lr": float("inf")}, {"lr": float("nan")}, {"lr": 0}, {"seed": 10**30}, {"seed": -1}], ids=str
)
def test_numbers_of_a_fit_are_looked_at_first(wrong):
    model = small(OrbitCanonicalizer("C4", resolution=8))
    with pytest.raises(ValueError, match=r"(lr|seed) must be a "):
        fit(model, X, epochs=1, **wrong)
    if "seed" in wrong:
        with pytest.raises(ValueError, match="seed must be a whole number"):
            equiform.diagnose(model, X, **wrong)


# ------------------------------------------------------------------------------------------------------- channels last


@pytest.mark.parametrize(
    "data", [LAST, LAST.numpy(), list(LAST), torch.utils.data.TensorDataset(LAST)], ids=["tensor", "array", "list", "dataset"]
)
def test_fit_says_that_channels_come_first(data):
    with pytest.raises(ValueError, match=r"the images have 16: the axis of channels comes before .*x\.movedim\(-1, -3\)"):
        fit(small(OrbitCanonicalizer("C4", resolution=8)), data, epochs=1)


@pytest.mark.parametrize("x", [LAST, LAST.numpy()], ids=["tensor", "array"])
def test_act_warns_of_channels_that_come_last(x):
    quarter = group("C4").elements[1:2]
    with pytest.warns(UserWarning, match=r"got \(4, 16, 20, 3\), 3 pixels wide: .*x\.movedim\(-1, 1\)"):
        act(quarter, x)
    with warnings.catch_warnings():  # controls
        warnings.simplefilter("error")
        for fine in (X, X.numpy(), torch.rand(2, 3, 5, 3), torch.rand(2, 20, 16, 16)):
            act(quarter, fine)


def test_upright_says_how_photos_come():
    step = equiform.Upright("photos-c4-small")
    for x in (LAST, LAST[0], list(LAST)):
        with pytest.raises(ValueError, match=r"the images have 16: the axis of channels comes before .*x\.movedim\(-1, -3\)"):
            step(x)
    with pytest.raises(ValueError, match=r"got \(4, 16, 20, 3\): of several photos pass a list, list\(x\)"):
        step(LAST.numpy())
    assert [photo.shape[-1] for photo in step(list(LAST.numpy()))] == [3] * 4  # control: arrays are channels last


@torch.no_grad()
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("group", ["C4", "SO2", "C4*Scale(0.5,2,5)"])
def test_one_image_whose_channels_come_last(group):
    """What is advised is what helps."""
    model = adapt(classify, group, outputs="logits")
    model.canonicalizer.fitted = True
    with pytest.raises(
        ValueError, match=r"\(one image whose channels come last: x\.movedim\(-1, 0\)\[None\]; clouds of points"
    ):
        model(LAST[0])
    with pytest.raises(ValueError, match=r"\(one image: x\[None\]\)"):  # control
        model(X[0])
    assert model(LAST[0].movedim(-1, 0)[None]).shape == (1, 2)
    assert equiform.Upright("photos-c4-small")(LAST[0].movedim(-1, -3)).shape[0] == 3


def test_shifts_say_that_channels_come_first():
    model = adapt(classify, "Shift8", outputs="logits")
    with pytest.raises(ValueError, match=r"the axis of channels comes before"):
        model(LAST)
    with pytest.raises(ValueError, match=r"take 'Shift6' at most"):  # control
        model(torch.rand(2, 3, 6, 8))


# ------------------------------------------------------------------------------------------------- pictures of no text


@torch.no_grad()
def test_a_reader_of_text_is_in_doubt_about_photos():
    data = pytest.importorskip("skimage.data")
    canonicalizer = adapt(classify, "C4", outputs="logits", canonicalizer="text-c4").canonicalizer
    canonicalizer.card = None  # of what it says to photos see below
    photos = [torch.from_numpy(np.array(getattr(data, name)())) for name in ("astronaut", "camera", "grass", "cat")]
    photos = [photo[None] if photo.ndim == 2 else photo.movedim(-1, 0) for photo in photos]
    page = torch.from_numpy(data.page())[None]
    for turn in group("C4").elements.split(1)[1:3]:
        poses = [canonicalizer(act(turn, picture[None])) for picture in (*photos, page)]
        assert max(float(pose.confidence) for pose in poses[:-1]) < 0.4
        assert (float(poses[-1].confidence) > 0.95, torch.equal(poses[-1].g, turn)) == (True, True), "control"
        upright = [canonicalizer(picture[None]) for picture in photos]  # in doubt, and equivariant nevertheless
        assert all(torch.equal(pose.g, turn @ first.g) for pose, first in zip(poses, upright, strict=False))


@torch.no_grad()
def test_a_reader_of_text_says_once_that_it_sees_none():
    data = pytest.importorskip("skimage.data")
    photo, page = torch.from_numpy(data.astronaut()).movedim(-1, 0), torch.from_numpy(data.page())[None].expand(3, -1, -1)
    blank = torch.full((3, 80, 60), 255, dtype=torch.uint8)
    reader = equiform.load("text-c4", lambda photos: [{"text": "", "words": [], "boxes": torch.zeros(0, 4)} for _ in photos])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for few in ([page], [page, photo], [page, photo, page], [blank], [page, blank, blank], []):  # controls
            reader(few)
    with pytest.warns(
        UserWarning, match="made for text, and sees none in most of .* canonicalizer='photos-c4' .--adapter photos-c4.$"
    ):
        reader([page, photo, photo])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader([photo])  # once


def test_the_threshold_is_the_one_that_was_chosen():
    kept = json.loads((Path(__file__).parents[1] / "benchmarks" / "results" / "text_or_photo.json").read_text())
    assert kept["chosen"]["suspected"] == tiles.SUSPECTED
    closest = min(kept["chosen"]["curve"], key=lambda row: abs(row["photos"] - row["lost"]))
    assert closest["suspected"] == tiles.SUSPECTED


# ------------------------------------------------------------------------------------------------------------- not fitted


MADE = [(make, group, X) for make in IMAGES.values() for group in ("C4", "D4")]
MADE += [(make, "SO2", X) for make in CONTINUOUS.values()] + [(make, "C4", X) for make in PRODUCTS.values()]
MADE += [(make, "SO3", torch.randn(4, 9, 3)) for make in CLOUDS.values()]
MADE += [(make, "O", torch.rand(2, 1, 8, 8, 8)) for make in VOLUMES.values()]
NEED_NO_FIT = {"energy", "uniform", "principal-axes"}


@pytest.mark.parametrize(("make", "name", "x"), MADE, ids=lambda value: value if isinstance(value, str) else "")
def test_it_is_said_once_that_a_canonicalizer_is_not_fitted(make, name, x):
    canonicalizer = make(name)
    kinds = {"inputs": "volume"} if x.ndim == 5 else {}
    for again in (False, True):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            adapt(lambda x: x.flatten(1)[:, :2], canonicalizer.group, outputs="logits", canonicalizer=canonicalizer, **kinds)(x)
        messages = [str(one.message) for one in told if "is not fitted, and its poses mean nothing" in str(one.message)]
        assert len(messages) == (canonicalizer.name not in NEED_NO_FIT and not again)
    for module in canonicalizer.modules():
        module.fitted = True
    assert not canonicalizer.untrained, "control"


def test_upright_says_it_too():
    canonicalizer = OrbitCanonicalizer("C4", resolution=8)
    for number in (1, 0):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            equiform.Upright(canonicalizer)(X[0])
        assert len([one for one in told if "is not fitted" in str(one.message)]) == number


@pytest.mark.parametrize("make", [UniformCanonicalizer, lambda group: equiform.EnergyCanonicalizer(group, classify)])
def test_what_has_nothing_to_fit_says_so(make):
    with pytest.raises(ValueError, match=r"has nothing to learn: the model needs no fit; .* adapt with an OrbitCanonicalizer$"):
        fit(small(make("C4")), X)


# ------------------------------------------------------------------------------------------- training in one's own loop


def in_training(canonicalizer: equiform.canonicalizers.ImageCanonicalizer) -> equiform.Equivariant:
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)).train()
    return adapt(net, "C4", outputs="logits", canonicalizer=canonicalizer)


def fitted() -> OrbitCanonicalizer:
    canonicalizer = OrbitCanonicalizer("C4", resolution=8)
    canonicalizer.fitted = True
    return canonicalizer


def step(model: equiform.Equivariant) -> None:
    torch.nn.functional.cross_entropy(model(X), Y).backward()


def test_a_training_of_ones_own_warns_once():
    model = in_training(fitted())
    with pytest.warns(UserWarning, match=r"does not train its canonicalizer as fit does.*fit\(model, data, task_loss=loss\)"):
        step(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model)  # once
        in_training(fitted())(X)  # controls: no training, none to be done, a canonicalizer that is to stay, and fit itself
        step(in_training(UniformCanonicalizer("C4")))
        frozen = in_training(fitted())
        frozen.canonicalizer.requires_grad_(False)
        step(frozen)
        options = {"epochs": 1, "enable_progress_bar": False, "task_loss": torch.nn.functional.cross_entropy}
        fit(in_training(fitted()), (X, Y), train_predictor=True, **options)


@pytest.mark.parametrize("stays", [False, True])
def test_lightnings_trainer_warns_once(stays):
    lightning = pytest.importorskip("lightning")
    model = in_training(fitted())
    model.canonicalizer.requires_grad_(not stays)

    class Training(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.model.parameters(), lr=0.1)

    before = copy.deepcopy(model.state_dict())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), 2)
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        lightning.Trainer(max_steps=4, accelerator="cpu", **dict.fromkeys(off, False)).fit(Training(), loader)
    said = [one for one in told if "fit(model, data, task_loss=loss)" in str(one.message)]
    assert len(said) == (not stays)
    moved = {name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"predictor"}, "as the warning says"


# ----------------------------------------------------------------------------------------------------- what fit reached


@pytest.mark.parametrize(
    ("losses", "trained", "found", "said"),
    [
        ([1.0, 0.8, 0.6, 0.4], 0.9, 0.9, "still falling: more epochs may help$"),
        ([1.0, 0.5, 0.4, 0.4], 0.9, 0.6, r"in training \(0\.90\) than on .*: more data would help$"),
        ([1.0, 0.5, 0.4, 0.4], 0.9, 0.9, "more would hardly help"),
        ([1.0, 0.5], 0.9, None, "2 epochs are too few .*; nothing was kept aside"),
    ],
)
def test_the_history_says_what_would_help(losses, trained, found, said):
    aside = {} if found is None else {"pose_accuracy": found}
    history = [{"epoch": i, "loss": loss, "training_accuracy": trained, **aside} for i, loss in enumerate(losses)]
    assert re.search(said, Fit(history).advice)
    assert str(Fit(history, ["a.jpg"])).startswith(f"{len(history)} epoch")
    assert "1 files skipped, the last: loss " in str(Fit(history, ["a.jpg"]))


# ---------------------------------------------------------------------------------------------- an adapter that guesses


def report(values: list[float], pose: float, confidence: float, bare: list[float]) -> OrbitReport:
    sure = Confidence.of(torch.full((100,), confidence), torch.arange(100) < 100 * pose)
    methods = [Method("adapted", values, pose_accuracy=pose, confidence=sure), Method("bare", bare)]
    return OrbitReport("accuracy", "C4", ["0", "90", "180", "270"], [0, 90, 180, 270], [False] * 4, 25, methods)


def test_a_report_says_that_the_adapter_guesses():
    guessing = report([0.5] * 4, 0.25, 0.3, [0.9, 0.4, 0.3, 0.4])
    guesses, worse = guessing.doubts
    assert "poses are found 0.25 of the time at a confidence of 0.30, and chance is 0.25" in guesses
    assert "worse than the bare one: 0.500 against 0.900" in worse
    assert f"WARNING: {worse}" in " ".join(str(guessing).split())  # the lines below the table are folded
    (turned,) = report([0.88] * 4, 0.5, 0.95, [0.9, 0.4, 0.3, 0.4]).doubts
    assert "poses are found 0.50 of the time at a confidence of 0.95: are the inputs upright?" in turned
    good = report([0.88] * 4, 0.9, 0.9, [0.9, 0.4, 0.3, 0.4])  # control
    assert (good.doubts, "WARNING" in str(good)) == ([], False)


# ------------------------------------------------------------------------------------------------- references, mistyped


def test_a_function_that_is_not_there_is_found_at_once(tmp_path):
    (tmp_path / "models.py").write_text("def net():\n    raise AssertionError('was run')\n")
    check_resolves(f"{tmp_path}/models.py:net")
    with pytest.raises(ValueError, match=r"models\.py defines no 'nett'; it defines: net "):
        check_resolves(f"{tmp_path}/models.py:nett")
    (tmp_path / "broken.py").write_text("def net(:\n")
    with pytest.raises(ValueError, match=r"broken\.py is no Python file"):
        check_resolves(f"{tmp_path}/broken.py:net")
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"^transformers:nope/nopenope cannot be loaded: "):
        check_resolves("transformers:nope/nopenope")
    (tmp_path / "again.py").write_text("from os.path import *\n")  # control: it may be among these
    check_resolves(f"{tmp_path}/again.py:net")
