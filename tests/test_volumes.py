"""Volumes: their kinds and groups to the bit, the canonicalizer, adapted models, fitting, measuring, and bad input."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import equiform
from asserting import QUIET, refused
from equiform import Boxes, Points, Rows, act, adapt, group, inverse
from equiform.canonicalizers import UniformCanonicalizer, VolumeCanonicalizer
from equiform.geometry import Flips, Likeliest
from equiform.geometry.actions import ACTIONS, moved_sizes
from equiform.geometry.kinds import as_kinds
from equiform.geometry.moving import snap
from equiform.images.cubes import cube_view, reduced, shares
from equiform.learning import VolumeAugmentation
from equiform.testing import check_equivariant, equivariance_error
from small_canonicalizers import IMAGES, VOLUMES

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GROUPS = ["O", "Oh", "D2h", "C4z", "C2z"]
CANVASES = [(5, 5, 5), (4, 6, 9), (1, 3, 2)]
OH = group("Oh").elements


def voxels(b: int, *canvas: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.rand(b, 2, *canvas)
    return x > 0.5 if dtype == torch.bool else (x * (1 if dtype.is_floating_point else 200)).to(dtype)


def places(b: int, *canvas: int) -> Tensor:
    return torch.rand(b, 4, 3) * torch.tensor(canvas[::-1])


def corners(b: int, *canvas: int) -> Tensor:
    a, c = places(b, *canvas), places(b, *canvas)
    return torch.cat([torch.minimum(a, c), torch.maximum(a, c)], -1)


def of_size(b: int, *canvas: int) -> Tensor:
    a, c = corners(b, *canvas).split(3, -1)
    return torch.cat([a, c - a], -1)


def in_shares(x: Tensor, *canvas: int) -> Tensor:
    return x / torch.tensor(canvas[::-1]).repeat(x.shape[-1] // 3)


SAMPLES = {
    "volume": [("volume", voxels), ("volume", lambda b, *canvas: voxels(b, *canvas)[:, 0])],
    "volume_mask": [("volume_mask", lambda b, *canvas: voxels(b, *canvas, dtype=torch.uint8))],
    "spacing": [("spacing", lambda b, *canvas: torch.rand(b, 3)), ("spacing", lambda b, *canvas: torch.rand(b, 2, 3))],
    "points": [
        ("points", places),
        (Points(normalized=True), lambda b, *canvas: in_shares(places(b, *canvas), *canvas)),
        (Points(index=True, extra=1), lambda b, *canvas: torch.cat([places(b, *canvas).floor(), torch.rand(b, 4, 1)], -1)),
    ],
    "boxes": [
        ("boxes", corners),
        (Boxes("xywh"), of_size),
        (Boxes("cxcywh", normalized=True), lambda b, *canvas: in_shares(of_size(b, *canvas), *canvas)),
        (Boxes("yxyx", extra=1), lambda b, *c: torch.cat([corners(b, *c)[..., [2, 1, 0, 5, 4, 3]], torch.rand(b, 4, 1)], -1)),
        (Boxes(inclusive=True, padding=-1), lambda b, *c: torch.cat([corners(b, *c).long(), -torch.ones(b, 1, 6).long()], 1)),
    ],
}
EVERY = [pytest.param(*sample, id=f"{name}-{i}") for name, samples in SAMPLES.items() for i, sample in enumerate(samples)]


# ------------------------------------------------------------------------------------------------------- kinds and groups
def test_every_kind_of_volumes_is_here_and_which_way_is_positive():
    assert set(SAMPLES) == {name for name, row in ACTIONS.items() if row.in_volume or (row.on_canvas and row.in_space)}
    x = voxels(1, 3, 4, 5)
    quarter = group("C4z").elements[1:2]  # about z, which runs along d, from x to y
    assert torch.equal(act(quarter, x, "volume"), torch.rot90(x, 1, (-1, -2)))
    assert not torch.equal(act(quarter, x, "volume"), torch.rot90(x, 1, (-2, -1))), "control"
    for axis, name in enumerate("xyz"):
        flip = torch.eye(4)[None].clone()
        flip[0, axis, axis] = -1
        assert torch.equal(act(flip, x, "volume"), x.flip(-1 - axis))
        assert Flips().label(flip[0]) == "flip 180° (" + " ".join(f"-{n}" if n == name else n for n in "xyz") + ")"
    assert (group("O").label(group("O").elements[0]), group("O").label(quarter[0])) == ("0°", "90° (y -x z)")


@pytest.mark.parametrize("name", GROUPS)
def test_groups_of_the_cube_are_closed_and_distinct(name):
    elements = group(name).elements
    assert len(elements) == {"O": 24, "Oh": 48, "D2h": 8, "C4z": 4, "C2z": 2}[name]
    assert torch.equal(elements.abs().sum(-1), torch.ones(len(elements), 4)), "signed permutations"
    x = voxels(1, 2, 3, 4)
    moved = [act(g, x, "volume") for g in elements.split(1)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(moved, 2))


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
@pytest.mark.parametrize(("kind", "make"), EVERY)
def test_identity_composition_and_inverse_to_the_bit(kind, make, canvas, unchecked):
    x = snap(make(1, *canvas), as_kinds(kind), canvas)
    one, other = OH[torch.randperm(48)[:4]].split(1), OH.split(1)
    assert torch.equal(act(torch.eye(4)[None], x, kind, canvas), x)
    for h in one:
        turned, between = act(h, x, kind, canvas), moved_sizes(h, canvas)[0]
        assert torch.equal(act(inverse(h), turned, kind, between), x)
        for g in other:
            assert torch.equal(act(g, turned, kind, between), act(g @ h, x, kind, canvas))
    if len(set(canvas)) == 1:
        g, h = OH[5:6], OH[9:10]
        wrong = act(h @ g, x, kind, canvas)
        assert not torch.equal(act(g, act(h, x, kind, canvas), kind, canvas), wrong), "control: the other order"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int16, torch.uint16, torch.float16, torch.float64], ids=str)
def test_voxels_of_every_dtype_move_by_index_each_row_by_its_own_element(dtype):
    x, g = voxels(6, 4, 4, 4, dtype=dtype), OH[torch.randperm(48)[:6]]
    y = act(g, x, "volume")
    assert y.dtype == dtype
    assert y.is_contiguous()
    assert all(torch.equal(y[i], act(g[i : i + 1], x[i : i + 1], "volume")[0]) for i in range(6))
    y[:] = 0
    assert bool((act(torch.eye(4)[None], x, "volume") != 0).any()), "what came is never written into"


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_points_boxes_and_spacing_go_where_the_voxels_go(canvas, unchecked):
    d, h, w = canvas
    k, i, j = (torch.randint(n, (1,)).item() for n in canvas)
    x = torch.zeros(1, d, h, w)
    x[0, k, i, j] = 1
    spacing = torch.tensor([[0.5, 1.0, 3.0]])
    for g in OH.split(1):
        moved = act(g, x, "volume")
        bright = moved[0].nonzero()[0].flip(0).float()  # x, y, z
        assert torch.equal(act(g, torch.tensor([[[j, i, k]]]) + 0.5, "points", canvas)[0, 0], bright + 0.5)
        assert torch.equal(act(g, torch.tensor([[[j, i, k]]]), Points(index=True), canvas)[0, 0].float(), bright)
        box = torch.tensor([[[j, i, k, j + 1, i + 1, k + 1]]]).float()
        assert torch.equal(act(g, box, "boxes", canvas)[0, 0], torch.cat([bright, bright + 1]))
        # the extent of the whole canvas is the same in millimetres, axis by axis
        extent = act(g, torch.tensor([[w, h, d]]) * spacing, "spacing")
        assert torch.equal(torch.tensor(moved.shape[:0:-1]) * act(g, spacing, "spacing"), extent)


def test_lists_of_volumes_move_with_what_lies_on_them(unchecked):
    g, sizes = OH[[7, 30]], [(3, 4, 5), (6, 2, 4)]
    x = [torch.rand(1, *size) for size in sizes]
    value = {"x": x, "p": torch.rand(2, 4, 3)}
    moved = act(g, value, {"x": Rows("volume"), "p": "points"})
    for i, size in enumerate(sizes):
        assert torch.equal(moved["x"][i], act(g[i : i + 1], x[i][None], "volume")[0])
        assert torch.equal(moved["p"][i], act(g[i : i + 1], value["p"][i : i + 1], "points", size)[0])


# ----------------------------------------------------------------------------------------------------- the canonicalizer
def test_views_are_means_and_turn_with_the_volume():
    x = voxels(2, 6, 9, 12)
    assert torch.allclose(reduced(x[0], 3), nn.functional.avg_pool3d(x[:1], (2, 3, 4))[0].double(), atol=1e-6)
    assert torch.allclose(shares(5, 7).sum(1), torch.ones(7).double() * 7 / 7, atol=1e-12)
    assert torch.equal(shares(5, 7), shares(5, 7).flip(0, 1)), "the same from both ends"
    x[1, :, 2:4, 1] = torch.nan
    view = cube_view(x, 5, 2)
    assert bool(view.isfinite().all())
    assert torch.equal(cube_view(255 * x, 5, 2), view), "blind to the scale"
    for g in OH.split(1):
        assert torch.equal(cube_view(act(g, x, "volume"), 5, 2), act(g, view, "volume"))
    assert not torch.equal(cube_view(x.flip(-1), 5, 2), view), "control"
    assert torch.equal(cube_view(list(x), 5, 2), view)


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("make", VOLUMES.values(), ids=VOLUMES)
def test_poses_follow_and_rows_are_on_their_own(make, name):
    canonicalizer, x, g = make(name).eval(), voxels(4, 8, 8, 8)[:, :1], group(name).random(4)
    pose, turned = canonicalizer(x), canonicalizer(act(g, x, "volume"))
    assert torch.equal(turned.g, g @ pose.g)
    assert torch.equal(turned.scores.sort(1)[0], pose.scores.sort(1)[0])
    assert len(pose.scores.unique()) > 4, "control: no two poses are alike"
    x[1] = torch.nan
    again = canonicalizer(list(x))
    assert torch.equal(again.scores[[0, 2, 3]], pose.scores[[0, 2, 3]])
    assert len(canonicalizer(x[:0]).g) == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_counts_as_the_mean_in_volumes_and_in_images(bad):
    """And a row of nothing else has the confidence of chance, of either."""
    of_volumes, of_images = VOLUMES["volume"]("O").eval(), IMAGES["orbit"]("D4").eval()
    for canonicalizer, x in ((of_volumes, torch.rand(3, 1, 8, 8, 8)), (of_images, torch.rand(3, 3, 12, 12))):
        holes, whole, pose = x.clone(), x.clone(), canonicalizer(x)
        holes[1, ..., 2:5, 3] = bad
        whole[1, ..., 2:5, 3] = torch.nan
        of_channel = whole[1].flatten(1).nanmean(1).reshape(-1, *[1] * (x.ndim - 2))
        whole[1] = torch.where(whole[1].isnan(), of_channel, whole[1])
        assert torch.allclose(canonicalizer.view(holes), canonicalizer.view(whole), atol=1e-3)
        assert not torch.allclose(canonicalizer.view(holes), canonicalizer.view(x), atol=1e-2), "control: they are missing"
        holes[1] = bad
        found = canonicalizer(holes)
        assert found.confidence[1].item() == pytest.approx(1 / len(canonicalizer.elements), rel=1e-5)
        assert (len(found.scores[1].unique()), len(pose.scores[1].unique()) > 1) == (1, True), "control: of others they differ"
        assert torch.equal(found.scores[[0, 2]], pose.scores[[0, 2]])


# ------------------------------------------------------------------------------------------------------- adapted models
class Everything(nn.Module):
    """All kinds of answer; `spacing` decides too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, 3, 3, padding=1))

    def forward(self, volume: Tensor, spacing: Tensor) -> dict[str, Tensor]:
        maps = self.body(volume.float()) * spacing[:, 0].reshape(-1, 1, 1, 1, 1)
        points = maps.mean((3, 4))[:, :, :1] * torch.tensor([1.0, 2, 3]) + 1
        answer = {"scores": maps, "labels": maps.argmax(1), "logits": maps.mean((2, 3, 4)), "points": points}
        return answer | {"boxes": torch.cat([points - 1.3, points + 1.7], -1), "spacing": 2 * spacing}


INPUTS = {"volume": "volume", "spacing": "spacing"}
OUTPUTS = {"scores": "volume", "labels": "volume_mask", "logits": "logits", "points": "points", "boxes": "boxes"}
OUTPUTS |= {"spacing": "spacing"}


@pytest.mark.parametrize(("canvas", "dtype"), [((6, 6, 6), torch.uint8), ((5, 8, 6), torch.float32)], ids=str)
@pytest.mark.parametrize("name", GROUPS)
def test_adapted_models_are_equivariant_to_the_bit(name, canvas, dtype, unchecked):
    predictor, x = Everything().eval(), {"volume": voxels(1, *canvas, dtype=dtype)[:, :1], "spacing": torch.rand(1, 3)}
    for coverage in (None, 0.9) if name == "D2h" else (None,):
        # means of places are rounded where they come to lie, so that those of several poses are not equal to the bit
        outputs = OUTPUTS if coverage is None else OUTPUTS | {"points": Likeliest("points")}
        model = adapt(predictor, name, inputs=INPUTS, outputs=outputs, canonicalizer=VOLUMES["volume"](name), coverage=coverage)
        with torch.no_grad():
            check_equivariant(model, x, name)
            assert float(equivariance_error(predictor, x, name, INPUTS, OUTPUTS)[1:].min()) > 0.01, "control: the bare one"


def test_batches_of_which_every_row_is_turned_on_its_own():
    predictor, b = nn.Conv3d(1, 2, 3, padding=1).eval(), 5
    model = adapt(predictor, "Oh", inputs="volume", outputs="volume_mask", canonicalizer=VOLUMES["volume"]("Oh"))
    with torch.no_grad():
        x, g = voxels(b, 6, 6, 6)[:, :1], group("Oh").random(b)
        assert torch.equal(model(act(g, x, "volume")), act(g, model(x), "volume"))
        x = voxels(b, 4, 5, 7)[:, :1]  # which are brought back to canvases that differ: parts of one canvas
        alone = torch.cat([model(row) for row in x.split(1)])
        torch.testing.assert_close(model(x), alone, rtol=0, atol=1e-5)
        sizes = [(4, 5, 6), (3, 3, 4)]
        several = adapt(
            lambda volumes: [predictor(v) for v in volumes],
            "O",
            inputs=Rows("volume"),
            outputs=Rows("volume_mask"),
            canonicalizer=VOLUMES["volume"]("O"),
        )
        x, g = [torch.rand(1, *size) for size in sizes], OH[[3, 17]]
        moved = several(act(g, x, Rows("volume")))
        assert all(torch.equal(a, b) for a, b in zip(moved, act(g, several(x), Rows("volume")), strict=True))
        assert model(torch.rand(0, 1, 4, 4, 4)).shape == (0, 2, 4, 4, 4)


def test_orbit_averaging_of_volumes():
    model = adapt(Everything(), "C4z", inputs=INPUTS, outputs=OUTPUTS, canonicalizer=UniformCanonicalizer("C4z"), top_k=4)
    x = {"volume": voxels(2, 4, 4, 4)[:, :1], "spacing": torch.rand(2, 3)}
    with torch.no_grad():
        errors = equivariance_error(model, x, "C4z", outputs={**OUTPUTS, "labels": "invariant", "boxes": "invariant"})
        bare = equivariance_error(model.predictor, x, "C4z", INPUTS, OUTPUTS)
        maps = equivariance_error(lambda volume, spacing: model(volume, spacing)["scores"], x, "C4z", INPUTS, "volume")
    assert float(maps.max()) < 1e-5 < float(bare[1:].min())
    assert len(errors) == 4


# ------------------------------------------------------------------------------------------------- fitting and measuring
def scene(n: int) -> tuple[Tensor, Tensor]:
    """A bright slab at low z, a dim one at low y and a faint one at low x, and its labels."""
    x = 0.1 * torch.randn(n, 1, 8, 10, 12)
    for value, axis in ((3.0, 2), (2.0, 3), (1.0, 4)):
        x.narrow(axis, 0, 3).add_(value)
    return x, (x[:, 0] > 2.5).long()


class Threshold(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Knows upright scenes alone: what is bright counts where z is low."""
        labels = (x[:, 0] > 2.5).long()
        labels[:, x.shape[2] // 2 :] = 0
        return labels


def test_fit_save_load_and_evaluate(tmp_path):
    x, labels = scene(24)
    labels[:, 4:] = 0
    model = adapt(Threshold(), "O", inputs="volume", outputs="volume_mask", canonicalizer=VOLUMES["volume"]("O"))
    history = equiform.fit(model, list(x[:16]), val=x[16:], epochs=12, lr=3e-3, batch_size=4, **QUIET).history
    assert history[-1]["loss"] < history[0]["loss"] / 3
    report = equiform.evaluate(model, (x[16:20], labels[16:20]), metric="dice", baselines=["bare"])
    assert (report.pose_accuracy, report.upright, report.mean, report.equivariance_error) == (1, 1, 1, 0)
    assert report["bare"].worst < 0.7 < 1 == report.upright_of("bare")
    assert len(set(report.elements)) == 24
    d, h, w = moved_sizes(group("O").elements[1:2], (8, 10, 12))[0]
    assert report.samples[1].image.shape == (max(d, h), w + w + h + 2, 3), "three slices, across d, h and w"
    assert report.samples[1].canonical.shape == (10, 12 + 12 + 10 + 2, 3)
    report.save(tmp_path / "report.html")
    assert "4 inputs and canonical forms, 0 wrong" in (tmp_path / "report.html").read_text("utf-8")
    model.save(tmp_path / "adapter")
    again = equiform.load(tmp_path / "adapter", Threshold())
    assert torch.equal(again.predict(x).pose.scores, model.predict(x).pose.scores)
    assert again.inputs == model.inputs
    assert again.canonicalizer.fitted
    before = model.canonicalizer.temperature
    assert equiform.learning.calibrate(model, x[16:]) != before


def test_joint_training_reaches_the_canonicalizer():
    predictor = nn.Conv3d(1, 2, 3, padding=1)
    model = adapt(predictor, "C4z", inputs="volume", outputs="volume", canonicalizer=VOLUMES["volume"]("C4z"))
    x, labels = scene(4)
    before = [p.detach().clone() for p in model.canonicalizer.parameters()]
    equiform.fit(model, (x, labels), task_loss=nn.functional.cross_entropy, prior_weight=0.0, epochs=1, batch_size=2, **QUIET)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.canonicalizer.parameters(), strict=True))


# ------------------------------------------------------------------------------------------------------------ bad input
def small(name: str = "O", **options: object) -> equiform.Equivariant:
    return adapt(lambda x: x, name, inputs="volume", outputs="volume_mask", canonicalizer=VOLUMES["volume"](name), **options)


def spaced(spacing: object) -> Tensor:
    inputs = {"x": "volume", "s": "spacing"}
    return adapt(lambda x, s: x, "O", inputs=inputs, outputs="volume", canonicalizer=VOLUMES["volume"]("O"))(X, spacing)


def labelled() -> equiform.Equivariant:
    canonicalizer = VOLUMES["volume"]("D2h")
    return adapt(lambda x: (x[:, 0] > 0.5).long(), "D2h", inputs="volume", outputs="volume_mask", canonicalizer=canonicalizer)


X = torch.rand(2, 1, 6, 7, 8)
REFUSED = {
    "channels last": (lambda: small()(X.movedim(1, -1)), r"\(2, 6, 7, 8, 1\) have 6: the axis of channels comes before depth"),
    "channels last, of colour": (
        lambda: small()(torch.rand(2, 24, 32, 32, 3)),
        r"\(2, 24, 32, 32, 3\) have 24: the axis of channels .*x.movedim\(-1, 1\); for 3 channels .*channels=3",
    ),
    "a clip": (lambda: small()(torch.rand(2, 12, 3, 8, 8)), r"channels=12\); clips \(b, frames, .*plane and inputs='clip'"),
    "channels": (lambda: small()(X.expand(-1, 2, -1, -1, -1)), r"looks at 1 channel, .* have 2: build it.*channels=2"),
    "one volume": (
        lambda: small()(X[0]),
        r"volumes have shape .*; got \(1, 6, 7, 8\) of torch.float32 \(one volume: x\[None\]; pictures: .*C4",
    ),
    "a slice": (
        lambda: small()(X[0, 0]),
        r"volumes have shape .*; got \(6, 7, 8\) \(one volume of one channel: x\[None, None\]",
    ),
    "spacing": (
        lambda: act(OH[:2], torch.rand(2, 2), "spacing"),
        r"\(b, 3\), the size of a voxel along x, y, z .*got \(2, 2\)",
    ),
    "spacings of rows": (lambda: spaced(torch.rand(2, 2)), r"input\['s'\]: spacing has shape \(b, 3\).*got \(2, 2\)"),
    "one spacing": (
        lambda: spaced(torch.rand(3)),
        r"got \(3,\) \(of one volume s\[None\], of all rows alike s.expand\(b, 3\)\)",
    ),
    "spacings of fewer rows": (lambda: spaced(torch.rand(1, 3)), r"'spacing' of shape \(1, 3\): expected 2 rows"),
    "a list of numbers": (lambda: spaced([1.0, 2.0, 3.0]), r"a list of 3 numbers beside 2 rows: say Rows.* or pass a tensor$"),
    "a picture's group": (lambda: adapt(abs, "C4", inputs="volume", outputs="logits"), "'volume' moves in space.*C4.*O, Oh"),
    "a picture's elements": (lambda: act(group("C4").elements[1:2], X, "volume"), "'volume' moves by groups of space, .*O or"),
    "pictures": (lambda: adapt(abs, "O", inputs="image", outputs="logits"), "'image' does not move in space.*kind 'volume'"),
    "volumes as images": (lambda: adapt(abs, "C4", outputs="logits")(X), r"got \(2, 1, 6, 7, 8\): .*'volume' of"),
    "any rotation": (lambda: adapt(abs, "SO3", inputs="volume", outputs="logits"), "by index.* O, Oh, D2h, C4z .*got SO3"),
    "off the grid": (lambda: act(group("C8z").elements[1:2], X[:1], "volume"), "by index, by the symmetries of the cube"),
    "shifted": (lambda: act(OH[:1] + torch.eye(4).roll(3, 1) * torch.eye(4)[3], X, "volume"), "about their centre"),
    "a canvas of two": (lambda: act(OH[:1], torch.rand(1, 4, 3), "points", (6, 7)), r"\(depth, height, width\).*got \(6, 7\)"),
    "boxes without a canvas": (lambda: act(OH[:1], torch.rand(1, 4, 6), "boxes"), "the canvas.*depth, height, width"),
    "boxes of clouds": (lambda: adapt(abs, "O", outputs="boxes"), "'boxes' lies on a volume, .*inputs='volume'"),
    "no inputs": (lambda: adapt(abs, "O", outputs="volume"), "outputs: 'volume' lies on a volume, .* pass inputs='volume'"),
    "no inputs, and a picture's group": (lambda: adapt(abs, "C4", outputs="volume_mask"), "C4 turns pictures.*inputs='volume'"),
    "no metric": (
        lambda: equiform.evaluate(labelled(), (X, labelled()(X))),
        r"no logits .* torch.int64 of shape \(2, 6, 7, 8\): of label maps take metric='dice'",
    ),
    "boxes of four": (lambda: act(OH[:1], torch.rand(1, 4, 4), "boxes", (6, 7, 8)), r"\(b, ..., 6\); got \(1, 4, 4\)"),
    "canvases": (lambda: act(OH[[0, 4]], X, "volume"), r"canvas \(6, 7, 8\) would end .*list of volumes .*Rows\('volume'\)"),
    "a map": (lambda: act(OH[:1], X[:, :1], "logits", (6, 7, 8)), "looks like a map: say 'volume' .* 'volume_mask'"),
    "flips": (lambda: group("flips"), "do you mean D2h"),
    "outputs": (lambda: adapt(abs, "O", inputs="volume"), "how the outputs of .* 'volume_mask' for a segmenter of volumes"),
    "angles": (lambda: equiform.evaluate(small(), (X, X), group=[0, 90]), r"volumes are turned by a group .*got \[0, 90\]"),
    "nan": (lambda: equiform.fit(small(), X / 0), "volumes that are not finite: 2 of 2"),
    "group": (lambda: equiform.fit(small(), X, group="O", task_loss=abs), "group turns clouds .*got volumes"),
    "length": (lambda: VolumeAugmentation(length=(0.9, 0.5)), r"length is a range.*got \(0.9, 0.5\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_in_one_line(what, unchecked):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_other_types_are_refused(unchecked):
    refused(
        TypeError,
        "VolumeAugmentation; got a Augmentation",
        equiform.fit,
        small(),
        X,
        augmentation=equiform.learning.Augmentation(),
    )
    refused(TypeError, "training volumes are .*got a str", VolumeCanonicalizer("O").squares, "volume", 8)
    assert np.array_equal(small()(X.numpy()), small()(X).numpy())


# ----------------------------------------------------------------------------------------------- recipes/orient_volume.py
@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel", reason="NIfTI files need nibabel: pip install 'equiform[volumes]'")


def nifti(nibabel, path: Path, element: Tensor | None = None):
    """A file whose axes point to R, A and S; with an element, its voxels and its affine moved alike."""
    x = torch.rand(8, 10, 12, generator=torch.Generator().manual_seed(0)).numpy()
    image = nibabel.Nifti1Image(x.transpose(2, 1, 0), np.diag([2.0, 3.0, 4.0, 1.0]))
    if element is not None:
        to, flip = element[:3, :3].abs().argmax(0), element[:3, :3].sum(0)  # by axis of the file
        image = image.as_reoriented(np.stack([to.numpy(), flip.numpy()], -1))
    nibabel.save(image, path)
    return image


def test_a_mask_comes_back_in_the_frame_of_the_file(nibabel, tmp_path):
    from recipes.orient_volume import content_codes, oriented, read, segmented

    def low(volume: Tensor, spacing: Tensor) -> Tensor:
        """Bright voxels in the first millimetres of x: of no turned volume the same ones."""
        near = (torch.arange(volume.shape[-1]) + 0.5) * spacing[0, 0] < 9
        return ((volume[:, 0] > 0.5) & near).long()

    small("Oh").save(tmp_path / "adapter")
    model = oriented(low, tmp_path / "adapter")
    nifti(nibabel, tmp_path / "upright.nii")
    _, x, s = read(tmp_path / "upright.nii")
    upright, pose = segmented(model, x, s)
    many = segmented(oriented(lambda volume, spacing: 1001 * low(volume, spacing), tmp_path / "adapter"), x, s)[0]
    assert np.array_equal(many, 1001 * upright.astype(int)), "labels above 255 keep their numbers"
    bare = []
    for g in OH[[0, 5, 11, 29, 40]].split(1):
        image = nifti(nibabel, tmp_path / "turned.nii", g[0])
        _, volume, spacing = read(tmp_path / "turned.nii")
        assert torch.equal(volume, act(g, x, "volume"))
        assert torch.equal(spacing, act(g, s, "spacing"))
        mask, moved = segmented(model, volume, spacing)
        expected = act(g, torch.from_numpy(upright.transpose(2, 1, 0).copy())[None], "volume_mask")
        assert np.array_equal(mask, expected[0].numpy().transpose(2, 1, 0))
        assert torch.equal(moved.g, g @ pose.g)
        bare.append(torch.equal(low(volume, spacing), act(g, low(x, s), "volume_mask")))
        # what an upright volume shows moves as the axes that the header tells
        as_told = replace(pose, g=g)
        assert content_codes(as_told, "RAS") == "".join(nibabel.aff2axcodes(image.affine))
    assert bare == [True, True, False, False, False], "control: but for the identity and a turn about x"
    assert content_codes(replace(pose, g=OH[:1]), "LPS") == "LPS"


def test_the_recipe_runs_and_refuses_in_one_line(nibabel, tmp_path, monkeypatch, capsys):
    from recipes import orient_volume

    small("O").save(tmp_path / "adapter")
    (tmp_path / "mine.py").write_text("def network():\n    return lambda volume: (volume[:, 0] > 0.5).long()\n")
    nifti(nibabel, tmp_path / "scan.nii.gz")
    tilted = np.diag([1.0, 1, 1, 1])
    tilted[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    nibabel.save(nibabel.Nifti1Image(torch.rand(6, 7, 8).numpy(), tilted), tmp_path / "oblique.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 8, 2), np.float32), np.eye(4)), tmp_path / "series.nii")
    adapt(lambda x: x, "O", outputs="invariant").save(tmp_path / "clouds")
    for name, answer in {"soft": "volume[:, 0]", "one": "volume", "floats": "(volume[:, 0] > 0.5).float()"}.items():
        (tmp_path / f"{name}.py").write_text(f"def network():\n    return lambda volume: {answer}\n")
    colour = np.zeros((6, 7, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "colour.nii")
    (tmp_path / "text.nii.gz").write_bytes(b"text")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 8), np.float32), np.eye(4)), tmp_path / "half.nii")
    whole = (tmp_path / "half.nii").read_bytes()
    (tmp_path / "half.nii").write_bytes(whole[: len(whole) // 2])
    flat = bytearray((tmp_path / "series.nii").read_bytes())
    flat[40:50], flat[280:296] = np.array([3, 6, 7, 8, 1], np.int16).tobytes(), bytes(16)  # three axes; of x no direction
    (tmp_path / "flat.nii").write_bytes(flat)

    def run(file: str, *more: str, adapter: str = "adapter", segmenter: str = "mine") -> str:
        arguments = ["--adapter", str(tmp_path / adapter), "--segmenter", f"{tmp_path / segmenter}.py:network"]
        arguments += ["--out", str(tmp_path / "mask.nii.gz"), *more]
        monkeypatch.setattr(sys, "argv", ["orient_volume.py", str(tmp_path / file), *arguments])
        orient_volume.main()
        return capsys.readouterr().out

    assert "the header says RAS" in run("scan.nii.gz") or "as the header says" in run("scan.nii.gz")
    mask, scan = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(mask.affine, scan.affine)
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(scan.dataobj) > 0.5)
    assert "confidence" in run("oblique.nii", "--oblique")
    run("scan.nii.gz", segmenter="floats")
    assert np.array_equal(nibabel.load(tmp_path / "mask.nii.gz").dataobj, mask.dataobj), "whole numbers are labels"
    for bad in (["--out", str(tmp_path / "mask.png")], ["--out", str(tmp_path / "none" / "mask.nii")], ["--canonical", "RLS"]):
        refused(SystemExit, "2", run, "scan.nii.gz", *bad)
        assert bad[1] in capsys.readouterr().err
    for file, options, message in [
        (
            "oblique.nii",
            {},
            r"oblique, .* 11\.5 degrees off .*signed permutation.*resample_to_output.*as it lies with --oblique",
        ),
        ("series.nii", {}, r"one volume of three axes is expected; got the shape \(6, 7, 8, 2\): .*slicer"),
        ("colour.nii", {}, r"colour.nii: voxels are real numbers; got .*'R'"),
        ("text.nii.gz", {}, "text.nii.gz is not a gzip file"),
        ("half.nii", {}, "could the file be damaged"),
        ("flat.nii", {}, "an axis without a direction"),
        ("scan.nii.gz", {"segmenter": "soft"}, r"scores of one class are no labels; got \(1, 8, 10, 12\) .*> threshold"),
        ("scan.nii.gz", {"segmenter": "one"}, r"scores of one class are no labels; got \(1, 1, 8, 10, 12\)"),
        ("scan.nii.gz", {"adapter": "clouds"}, "is an adapter of 'search'; one of volumes is expected"),
    ]:
        refused(SystemExit, message, run, file, **options)


def test_the_mask_keeps_the_codes_and_units_of_the_header_and_spacing_is_that_of_the_affine(nibabel, tmp_path):
    from recipes.orient_volume import mask_image, read, says

    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    image = nibabel.Nifti1Image((100 * torch.rand(6, 7, 8)).short().numpy(), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(0.5, 3)
    image.header["pixdim"][1:4] = 1  # which nobody reads where there is an sform
    nibabel.save(image, tmp_path / "scan.nii")
    scan, volume, spacing = read(tmp_path / "scan.nii")
    assert spacing.tolist() == [[2, 3, 4]]
    mask = mask_image((volume[0, 0].numpy().transpose(2, 1, 0) > 20).astype(np.uint8), scan)
    nibabel.save(mask, tmp_path / "mask.nii")
    kept = nibabel.load(tmp_path / "mask.nii")
    assert np.array_equal(kept.affine, scan.affine)
    assert [int(kept.header[code]) for code in ("qform_code", "sform_code")] == [1, 4]
    assert (kept.header.get_xyzt_units()[0], kept.get_data_dtype()) == ("mm", np.uint8)
    assert np.array_equal(kept.dataobj, mask.dataobj), "without the scan's slope"
    assert says(scan) == "LAS"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None), tmp_path / "unsaid.nii")
    assert says(nibabel.load(tmp_path / "unsaid.nii")) == "", "a header without codes says nothing"
