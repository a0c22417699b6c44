"""What a newcomer gives without knowing better: names joined otherwise, channels last, photos for a reader of text."""

import warnings

import numpy as np
import pytest
import torch

import equiform
from equiform import OrbitCanonicalizer, act, adapt, evaluate, fit, group
from equiform._checks import named
from equiform.canonicalizers import UniformCanonicalizer

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


@pytest.mark.parametrize("option", [{"baselines": ["orbit avg"]}, {"metric": "top5"}, {"frame": "cropped"}], ids=str)
def test_a_name_that_is_not_known_names_those_that_are(option):
    ((what, name),) = [(key.rstrip("s"), value[0] if isinstance(value, list) else value) for key, value in option.items()]
    with pytest.raises(ValueError, match=f"unknown {what} '{name}'; known: (bare|accuracy|inside), "):
        evaluate(small(), (X, Y), **option)


# ------------------------------------------------------------------------------------------------------- channels last


@pytest.mark.parametrize(
    "data", [LAST, LAST.numpy(), list(LAST), torch.utils.data.TensorDataset(LAST)], ids=["tensor", "array", "list", "dataset"]
)
def test_fit_says_that_channels_come_first(data):
    with pytest.raises(ValueError, match=r"the images have 16: the axis of channels comes before .*x\.movedim\(-1, 1\)"):
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


def test_shifts_say_that_channels_come_first():
    model = adapt(classify, "Shift8", outputs="logits")
    with pytest.raises(ValueError, match=r"the axis of channels comes before"):
        model(LAST)
    with pytest.raises(ValueError, match=r"take 'Shift6' at most"):  # control
        model(torch.rand(2, 3, 6, 8))


# ------------------------------------------------------------------------------------------------- pictures of no text


def test_a_reader_of_text_is_in_doubt_about_photos():
    data = pytest.importorskip("skimage.data")
    canonicalizer = adapt(classify, "C4", outputs="logits", canonicalizer="text-c4").canonicalizer
    photos = [torch.from_numpy(np.array(getattr(data, name)())) for name in ("astronaut", "camera", "grass", "cat")]
    photos = [photo[None] if photo.ndim == 2 else photo.movedim(-1, 0) for photo in photos]
    page = torch.from_numpy(data.page())[None]
    for turn in group("C4").elements.split(1)[:3:2]:
        poses = [canonicalizer(act(turn, picture[None])) for picture in (*photos, page)]
        assert max(float(pose.confidence) for pose in poses[:-1]) < 0.4
        assert (float(poses[-1].confidence) > 0.95, torch.equal(poses[-1].g, turn)) == (True, True), "control"
        upright = [canonicalizer(picture[None]) for picture in photos]  # in doubt, and equivariant nevertheless
        assert all(torch.equal(pose.g, turn @ first.g) for pose, first in zip(poses, upright, strict=False))
