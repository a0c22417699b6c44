"""Ready-made canonicalizers: by name wherever one goes, by default for known models, and never untrained in silence."""

import importlib
import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import equiform
from asserting import refused
from equiform import OrbitCanonicalizer, adapt, group, ready, saving
from equiform.canonicalizers.networks import PLANS, MobileNetwork
from equiform.learning.calibration import calibrate
from small_photos import scenes

C4 = group("C4").elements
PHOTOS = [name for name in ready.names() if name.startswith("photos")]


def classifier(x):
    return x.mean((2, 3))


class FourWays(nn.Module):
    """Says which way a view is turned, by where it is bright."""

    outputs = 4

    def forward(self, x):
        h = x.shape[-1] // 2
        up, down = x[..., :h, :].mean((1, 2, 3)), x[..., h:, :].mean((1, 2, 3))
        left, right = x[..., :h].mean((1, 2, 3)), x[..., h:].mean((1, 2, 3))
        return 10 * torch.stack([up - down, left - right, down - up, right - left], 1)


@pytest.mark.parametrize("plan", PLANS)
def test_a_network_by_name_sees_turns_and_is_exact(plan):
    canonicalizer = OrbitCanonicalizer("C4", plan, resolution=32)
    for _ in range(20):  # norms of their own, without which a deep random network says next to nothing
        canonicalizer.scores(canonicalizer.view(torch.rand(8, 3, 32, 32)))
    canonicalizer.eval()
    model = adapt(classifier, "C4", outputs="logits", canonicalizer=canonicalizer)
    x = torch.rand(3, 3, 40, 56)
    assert torch.equal(model.predict(equiform.act(C4[1:2], x)).pose.index, (model.predict(x).pose.index + 1) % 4)
    assert canonicalizer.network.training is False
    folded = canonicalizer.network(x[..., :32, :32])
    canonicalizer.network.train()
    for module in canonicalizer.network.modules():  # the norms as in eval mode, the rest as in training
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    assert torch.allclose(canonicalizer.network(x[..., :32, :32]), folded, atol=1e-4), "norms are folded as they are"


def test_networks_of_several_answers():
    canonicalizer = OrbitCanonicalizer("C4", FourWays(), resolution=16)
    views = canonicalizer.view(equiform.act(C4, scenes(4)))
    whole, drawn = canonicalizer.eval().scores(views), canonicalizer.train().scores(views)
    assert whole.argmax(1).tolist() == drawn.argmax(1).tolist() == [0, 1, 2, 3]
    bad = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))
    bad.outputs = 4
    with pytest.raises(ValueError, match=r"one score per element, \(16, 4\); got shape \(16, 5\)"):
        OrbitCanonicalizer("C4", bad, resolution=16).eval().scores(views)
    refused(ValueError, r"unknown network 'resnet'; known: .*mobilenet", lambda: MobileNetwork("resnet", 4))


def test_calibration_finds_the_temperature_of_the_greatest_likelihood():
    torch.manual_seed(1)
    canonicalizer = OrbitCanonicalizer("C4", FourWays(), resolution=16).eval()
    images = torch.cat([scenes(30), equiform.act(C4[1:2], scenes(10))])  # a quarter of them lies on its side
    temperature, confidence = calibrate(canonicalizer, images), canonicalizer(images).confidence.mean()
    assert abs(float(confidence) - 0.75) < 0.02, "as sure as it is right"
    assert calibrate(canonicalizer, images) == pytest.approx(temperature, rel=0.01), "from where it stands, nothing changes"
    with pytest.raises(TypeError, match="GroupConvCanonicalizer has no temperature"):
        calibrate(equiform.GroupConvCanonicalizer("C4", resolution=16), images)


def test_untrained_ones_warn_and_trained_ones_do_not(tmp_path):
    x = scenes()

    def said(canonicalizer):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            adapt(classifier, "C4", outputs="logits", canonicalizer=canonicalizer)(x)
        return " ".join(str(one.message) for one in caught)

    plain = OrbitCanonicalizer("C4", resolution=16)
    first = said(plain)
    assert "not fitted" in first
    assert "photos-c4" in first
    assert said(plain) == "", "once"
    adapt(classifier, "C4", outputs="logits", canonicalizer=plain).save(tmp_path / "plain")
    assert "not fitted" in said(equiform.load(tmp_path / "plain", classifier).canonicalizer), "saved, it is no more fitted"
    scorer = equiform.canonicalizers.scorer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 9)))
    assert "not fitted" in said(OrbitCanonicalizer("C4", scorer))
    assert "not fitted" in said(equiform.canonicalizers.CascadeCanonicalizer(plain, OrbitCanonicalizer("C4", resolution=16)))
    assert said(OrbitCanonicalizer("C4", FourWays(), resolution=16)) == "", "a network of one's own is one's own affair"
    assert said(equiform.canonicalizers.UniformCanonicalizer("C4")) == ""
    model = adapt(classifier, "C4", outputs="logits", canonicalizer=plain)
    equiform.fit(model, x, epochs=1)
    assert said(plain) == ""
    model.save(tmp_path)
    assert said(equiform.load(tmp_path, classifier).canonicalizer) == ""


def test_a_saved_one_goes_in_by_its_folder_and_carries_its_card(tmp_path):
    canonicalizer = OrbitCanonicalizer("C4", "mobilenet-v1-0.25", resolution=32, temperature=1.5).eval()
    half = {name: value.half() if value.is_floating_point() else value for name, value in canonicalizer.state_dict().items()}
    canonicalizer.load_state_dict(half)
    x = scenes(h=32, w=48)
    expected, settings = canonicalizer(x), {"inputs": None, "outputs": None, "top_k": 1, "coverage": None}
    saving.save(tmp_path, canonicalizer.half(), settings, card={"photos": 14465})
    assert json.loads((tmp_path / "config.json").read_text())["card"] == {"photos": 14465}
    for given in (tmp_path, str(tmp_path)):
        model = adapt(classifier, "C4", outputs="logits", canonicalizer=given)
        assert next(model.canonicalizer.parameters()).dtype == torch.float32, "stored in half, computed in full"
        assert torch.equal(model.predict(x).pose.scores, expected.scores)
    model.save(tmp_path / "again")
    assert saving.read(tmp_path / "again")[0]["card"] == {"photos": 14465}
    equiform.fit(model, x, epochs=1, enable_progress_bar=False)
    model.save(tmp_path / "again")
    assert saving.read(tmp_path / "again")[0]["card"] == {"started_from": {"photos": 14465}}
    refused(ValueError, "C4, not for D4: adapt to", lambda: adapt(classifier, "D4", outputs="logits", canonicalizer=tmp_path))
    refused(ValueError, r"outputs of classifier.*outputs=", lambda: equiform.load(tmp_path, classifier))
    refused(FileNotFoundError, r"photos-c9.*text-c4", adapt, classifier, "C4", outputs="logits", canonicalizer="photos-c9")


@pytest.mark.parametrize(
    "group_name, shape, message",
    [
        ("SO3", (2, 9, 3), "is for C4, not for SO3: adapt to 'C4', or fit one for SO3; photos-c4 was fitted on 1,234 photos"),
        ("C4", (2, 9, 3), r"clouds of points: a group of space.*fitted on 1,234 photos in colour"),
        ("C4", (2, 5, 40, 40), r"looks at 3 channels \(or 1\), the images have 5.*grey ones \(1 channel\) are fine"),
        ("C4", (2, 1, 20, 31), None),
    ],
)
def test_what_a_ready_made_one_is_not_for(tmp_path, monkeypatch, unchecked, group_name, shape, message):
    monkeypatch.setattr(ready, "FOLDER", tmp_path)
    monkeypatch.setattr(ready.table, "FOLDER", tmp_path)
    settings = {"inputs": None, "outputs": None, "top_k": 1, "coverage": None}
    saving.save(tmp_path / "photos-c4", OrbitCanonicalizer("C4", resolution=16), settings, card={"photos": 1234})
    ask = lambda: adapt(lambda x: x.mean((2, 3)), group_name, outputs="logits", canonicalizer="photos-c4")(torch.rand(shape))  # noqa: E731
    if message is None:
        assert ask().shape == (2, 1)
    else:
        with pytest.raises(ValueError, match=message):
            ask()


@pytest.mark.parametrize("name", PHOTOS)
def test_ready_made_ones_for_photos_are_small_whole_and_sure_of_little_that_has_no_up(name):
    folder = ready.FOLDER / name
    limit = {"photos-c4": 10e6, "photos-c4-small": 1.2e6, "photos-so2": 12e6}[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= limit
    card = json.loads((folder / "config.json").read_text())["card"]
    assert {"photos", "sources", "backbone", "licence", "figures", "limits"} <= set(card)
    canonicalizer, settings = saving.restore(name, classifier, None)
    assert (settings["outputs"], canonicalizer.fitted) == (None, True)
    if name == "photos-c4-small":
        assert sum(p.numel() for p in canonicalizer.parameters()) <= 0.3e6
    odd = [torch.rand(3, 20, 20), torch.full((3, 64, 64), 0.4), torch.rand(3, 200, 200), torch.rand(1, 64, 64)]
    confidence = canonicalizer(odd).confidence.detach()
    assert confidence.isfinite().all()
    assert (confidence < 0.8).all(), "tiny, of one colour, noise: low confidence and no error"
    assert math.isclose(float(confidence[1]), 1 / canonicalizer.num_poses, abs_tol=0.3)


@pytest.mark.parametrize("name", PHOTOS)
def test_neither_noise_nor_another_save_tells_the_pose(monkeypatch, name, shared):
    """No shortcut by blocks or interpolation: on noise the pose is found by chance; one re-save moves next to no photo."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    probe = importlib.import_module("ready")
    canonicalizer = saving.restore(name, classifier, None)[0]
    noise = probe.on_noise(canonicalizer, 120)
    assert abs(noise["found"] - noise["chance"]) < 4 * (noise["chance"] * (1 - noise["chance"]) / 120) ** 0.5
    photos = probe.pictures(shared / "data" / "coco128" / "images")[:40]
    assert abs(probe.after_a_save(canonicalizer, photos)) <= 2 / 40


def test_the_default_is_the_full_one_where_it_is_there(tmp_path, monkeypatch):
    assert ready.DEFAULTS == {"C4": "photos-c4", "SO2": "photos-so2"}
    assert [ready.default(name) for name in ("C4", "D4")] == ["photos-c4" if "photos-c4" in PHOTOS else None, None]
    (tmp_path / "photos-c4").mkdir()
    (tmp_path / "photos-c4" / "config.json").write_text("{}")
    monkeypatch.setattr(ready.table, "FOLDER", tmp_path)
    assert (ready.names(), ready.default("C4")) == ([], None), "a card without weights is none"


@pytest.mark.skipif("photos-c4" not in PHOTOS, reason="no ready-made canonicalizer for photos in this checkout")
def test_known_models_of_images_take_the_ready_made_one():
    transformers = pytest.importorskip("transformers")
    import small_transformers

    vit = transformers.ViTForImageClassification(small_transformers.vit(patch_size=16)).eval()
    for group_name, name in ready.DEFAULTS.items():
        if name in PHOTOS:
            canonicalizer = adapt(vit, group_name).canonicalizer
            assert (canonicalizer.fitted, canonicalizer.group.name) == (True, group_name)
    assert not adapt(vit, "D4").canonicalizer.fitted, "there is none for flips"
    assert not adapt(classifier, "C4", outputs="logits").canonicalizer.fitted, "nor is a function known to take photos"
