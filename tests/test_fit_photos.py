"""The recipe of the ready-made canonicalizers of photos: from a folder to a file, and its views."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from equiform import OrbitCanonicalizer, saving
from equiform.canonicalizers import RingCanonicalizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))
import fit_photos
from photo_views import Views


@pytest.mark.slow
@pytest.mark.parametrize("name", ["photos-c4-small", "photos-so2"])
def test_ready_made_files_are_made_by_their_recipe(name, tmp_path, monkeypatch):
    monkeypatch.setitem(fit_photos.MAKE, "photos-so2", lambda: RingCanonicalizer("SO2", resolution=32))
    monkeypatch.setitem(
        fit_photos.MAKE, "photos-c4-small", lambda: OrbitCanonicalizer("C4", "mobilenet-v1-0.25", resolution=32)
    )
    rng = np.random.default_rng(0)
    for i in range(32):
        (tmp_path / "photos" / f"source{i % 2}").mkdir(parents=True, exist_ok=True)
        sky = np.linspace(255, 0, 48)[:, None, None] * rng.random(3) + 0 * np.zeros((48, 60, 3))
        Image.fromarray(sky.astype(np.uint8)).save(tmp_path / "photos" / f"source{i % 2}" / f"{i}.png")
    folded = {}
    for index, (conv, norm) in enumerate(layers(fit_photos.MAKE["photos-c4-small"]().network)):
        folded[f"features.{index}.weight"] = conv.weight.detach().clone(memory_format=torch.contiguous_format)
        folded[f"features.{index}.bias"] = norm.bias.detach().clone()
    save_file(folded, tmp_path / "folded.safetensors")
    backbone = ["--backbone", str(tmp_path / "folded.safetensors")] if name == "photos-c4-small" else []
    places = [str(tmp_path / "photos"), "--name", name, "--out", str(tmp_path / "out")]
    fit_photos.main([*places, "--epochs", "1", "--batch-size", "8", "--resolution", "24", *backbone])
    # and further, over whole orbits
    fit_photos.main([*places, "--start", str(tmp_path / "out"), "--orbits", "--epochs", "1", "--batch-size", "8"])
    card = json.loads((tmp_path / "out" / "config.json").read_text())["card"]
    assert card["sources"] == ["source0", "source1"]
    assert card["photos"] + card["kept_aside_for_the_temperature"] == 32
    canonicalizer = saving.restore(tmp_path / "out", fit_photos.read, None)[0]
    assert (canonicalizer.temperature, canonicalizer.resolution) == (card["temperature"], 32)
    assert canonicalizer([torch.rand(3, 40, 50)]).confidence.isfinite().all()


def layers(network):
    """The convolutions of a mobile network with their norms."""
    return zip(
        [m for m in network.features.modules() if isinstance(m, nn.Conv2d)],
        [m for m in network.features.modules() if isinstance(m, nn.BatchNorm2d)],
        strict=True,
    )


def test_views_of_photos_are_turned_as_they_say():
    """Of one photo bright above: by quarter turns, and at any angle in a disc."""
    photo = np.repeat((np.linspace(250, 5, 96)[:, None, None] + np.zeros((1, 120, 1))), 3, -1).astype(np.uint8)
    for views, apart in ((Views(32), 0.35), (Views(32, any_angle=True), 0.35)):
        drawn = [views.draw(photo, random.Random(i)) for i in range(40)]
        x = views.batch([view for view, _ in drawn]).mean(1) - 0.5
        axis = torch.arange(32) - 15.5
        up, left = -(x * axis[:, None]).sum((1, 2)), -(x * axis).sum((1, 2))
        angle = torch.tensor([angle for _, angle in drawn])
        found = torch.atan2(left, up)
        error = torch.atan2((found - angle).sin(), (found - angle).cos()).abs()
        assert float(error.median()) < apart, "counter-clockwise as act turns"


@pytest.mark.parametrize("name", ["photos-c4-small", "photos-so2"])
def test_whole_orbits_are_fitted_to_what_the_canonicalizer_answers(name, monkeypatch):
    """The mean that is trained is the mean that is used, up to a factor: the same pose, for every quarter turn of a view."""
    torch.manual_seed(0)
    canonicalizer = fit_photos.MAKE[name]().eval()
    canonicalizer.resolution = 32
    x = canonicalizer.view(torch.rand(3, 3, 40, 40))
    trained = fit_photos.WholeOrbit(canonicalizer, 1e-3)._answer(x).log_softmax(1)
    assert torch.allclose(trained, canonicalizer.scores(x).float().log_softmax(1), atol=1e-3)
