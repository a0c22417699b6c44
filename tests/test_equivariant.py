"""The contracts of the wrapper (DESIGN.md): equivariant to the bit on the grid, per row, for any predictor, without state."""

import copy
import itertools
import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equiform import Boxes, Equivariant, GroupConvCanonicalizer, Invariant, OrbitCanonicalizer, Rows, act, adapt, group, inverse
from equiform.canonicalizers import Canonicalizer, UniformCanonicalizer
from equiform.canonicalizers.poses import Pose, pose_of
from equiform.equivariant import Prediction
from equiform.geometry.kinds import as_kinds
from equiform.geometry.nested import children, is_container

GRID_GROUPS = ["C1", "C2", "C4", "D1", "D2", "D4"]
KINDS = {"logits": "logits", "mask": "mask", "points": "points", "boxes": "boxes", "flow": "field", "count": "invariant"}


# ---------------------------------------------------------------------------------------------------------- predictors


def _as_float(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x


class Heads(nn.Module):
    """All kinds of answers from features (b, 8, h, w) and pooled features (b, 8)."""

    def __init__(self):
        super().__init__()
        self.classes, self.places = nn.Linear(8, 5), nn.Linear(8, 12)

    def forward(self, features: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        h, w = features.shape[-2:]
        places = self.places(pooled).sigmoid().reshape(-1, 6, 2) * torch.tensor([w, h]).to(pooled)
        low, high = places[:, :3].minimum(places[:, 3:]), places[:, :3].maximum(places[:, 3:])
        logits = self.classes(pooled)
        return {
            "logits": logits,
            "mask": features[:, :3],
            "points": places,
            "boxes": torch.cat([low, high], -1),
            "flow": features[:, 3:5],
            "count": logits.argmax(-1),
        }


class Convolutions(nn.Module):
    """A small convolutional predictor, which knows left from right and up from down."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.first, self.second, self.heads = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), Heads()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.second(self.first(_as_float(image).to(self.first.weight.dtype)).relu())
        return self.heads(features, 3 * features.relu().mean((-2, -1)))


class Attention(nn.Module):
    """A small transformer on 4 x 4 patches with learned positions."""

    def __init__(self):
        super().__init__()
        self.embed, self.positions, self.mix = nn.Linear(3, 8), nn.Parameter(torch.randn(16, 8)), nn.Linear(8, 24)
        self.heads = Heads()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        patches = F.adaptive_avg_pool2d(_as_float(image).to(self.positions.dtype), 4)
        tokens = 3 * self.embed(patches.flatten(2).mT) + self.positions
        q, k, v = self.mix(tokens).chunk(3, -1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v)
        grid = tokens.mT.unflatten(-1, (4, 4))
        return self.heads(F.interpolate(grid, image.shape[-2:], mode="nearest"), tokens.mean(1))


class Only(nn.Module):
    """One of the answers of another predictor."""

    def __init__(self, body: nn.Module, key: str):
        super().__init__()
        self.body, self.key = body, key

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)[self.key]


class Detector(nn.Module):
    """Takes a list of (c, h, w) images, gives one dict per image, with its own number of boxes."""

    def __init__(self):
        super().__init__()
        self.body = Convolutions()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        answers = []
        for image in images:
            answer = self.body(image[None])
            n = 1 + int(10 * answer["points"].sum()) % 3
            answers.append({"boxes": answer["boxes"][0, :n], "scores": answer["logits"][0, :n], "masks": answer["mask"][0]})
        return answers


DETECTIONS = [{"boxes": "boxes", "scores": "invariant", "masks": "mask"}]
PREDICTORS = {"conv": Convolutions, "attention": Attention}
CANONICALIZERS: dict[str, Callable[[str], Canonicalizer]] = {
    "orbit": lambda name: OrbitCanonicalizer(name, resolution=16),
    "group-conv": lambda name: GroupConvCanonicalizer(name, widths=(4, 8), resolution=16),
}


def adapted(
    predictor: Any, name: str = "D4", canonicalizer: str = "orbit", outputs: Any = KINDS, **options: Any
) -> Equivariant:
    """The predictor in eval mode, wrapped with a small canonicalizer."""
    if isinstance(predictor, nn.Module):
        predictor.eval()
    return adapt(predictor, name, outputs=outputs, canonicalizer=CANONICALIZERS[canonicalizer](name), **options)


def photos(b: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Coarse random pictures."""
    x = F.interpolate(torch.rand(b, 3, 4, 4), (h, w), mode="bilinear") + 0.1 * torch.rand(b, 3, h, w)
    return (x / 1.2 * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit: types, keys, shapes, dtypes, values."""
    if is_container(a):
        pairs = itertools.zip_longest(children(a), children(b)) if type(a) is type(b) else [((0, 0), (1, 1))]
        return all(p is not None and q is not None and p[0] == q[0] and same(p[1], q[1]) for p, q in pairs)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def close(a: Any, b: Any, tolerance: float) -> bool:
    flat = [[leaf for _, leaf in children(value)] if is_container(value) else [value] for value in (a, b)]
    return all(torch.allclose(p.double(), q.double(), atol=tolerance) for p, q in zip(*flat, strict=True))


def each_parity(name: str) -> list[Tensor]:
    """The elements of the group, those that keep the canvas apart from those that swap it: a different one per row."""
    elements = group(name).elements
    odd = elements[:, 0, 1].abs() > 0.5
    return [part for part in (elements[~odd], elements[odd]) if len(part)]


@torch.no_grad()
def breaks(model: Callable[..., Any], x: Tensor, g: Tensor, outputs: Any = KINDS) -> bool:
    """Whether model(g.x) differs in any bit from g.model(x)."""
    return not same(model(act(g, x)), act(g, model(x), outputs, tuple(x.shape[-2:])))


# ----------------------------------------------------------------------------------------- contract 1: exact on the grid


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("canvas", [(12, 12), (8, 14), (9, 13)], ids=str)
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
@pytest.mark.parametrize("name", GRID_GROUPS)
def test_any_wrapped_model_is_equivariant_to_the_bit(name, canonicalizer, predictor, canvas, dtype, unchecked):
    """The whole table, without the run-time shape checks, which would take most of its time; the tests below have them."""
    bare = PREDICTORS[predictor]()
    model = adapted(bare, name, canonicalizer)
    for g in each_parity(name):
        x = photos(len(g), *canvas, dtype)
        assert not breaks(model, x, g)
        if name != "C1":
            assert breaks(bare, x, g) or len(g) == 1, "control: the bare predictor is not equivariant"


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_kind_of_answer_alone(predictor, key):
    bare = Only(PREDICTORS[predictor](), key)
    model = adapted(bare, "D4", outputs=KINDS[key])
    for g in each_parity("D4"):
        x = photos(4, 8, 14)
        assert not breaks(model, x, g, KINDS[key])
        assert key == "count" or breaks(bare, x, g, KINDS[key])


@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
@pytest.mark.parametrize("name", ["C4", "D4"])
def test_lists_of_images_of_mixed_sizes_and_detections(name, canonicalizer):
    sizes = [(8, 14), (9, 9), (14, 8), (8, 14), (7, 11), (12, 12), (8, 14), (9, 13)]
    x = [photos(1, *size)[0] for size in sizes]
    bare = Detector()
    model = adapted(bare, name, canonicalizer, DETECTIONS)
    g = group(name).random(len(x), torch.Generator().manual_seed(1))
    y, turned = model(x), model(act(g, x, Rows("image")))
    assert [type(entry) for entry in y] == [dict] * len(x)
    assert len({len(entry["boxes"]) for entry in y}) > 1, "every row with its own number of boxes"

    def by_row(answers: list, elements: Tensor) -> list:
        return [act(elements[i : i + 1], [answers[i]], DETECTIONS, sizes[i])[0] for i in range(len(x))]

    assert same(turned, by_row(y, g))
    assert not same(bare(act(g, x, Rows("image"))), by_row(bare(x), g)), "control"


def test_the_answer_is_what_the_predictor_says_of_the_canonical_form():
    bare, x = Convolutions(), photos(4, 12, 12)
    model = adapted(bare)
    answer = model.predict(x)
    assert isinstance(answer, Prediction)
    upright = act(inverse(answer.pose.g), x)
    expected = act(answer.pose.g, bare(upright), KINDS, (12, 12))
    assert close(answer.output, expected, 1e-4)
    assert same(answer.output, model(x))
    assert same(answer.output["logits"], bare(upright)["logits"])
    assert torch.equal(answer.pose.g, group("D4").elements[answer.pose.index])
    assert len(answer.pose.index.unique()) > 1, "not one pose for all: the test would be blind"


def test_poses_follow_the_input():
    model = adapted(Convolutions())
    x, d4 = photos(8, 12, 12), group("D4").elements
    before, after = model.predict(x).pose, model.predict(act(d4, x)).pose
    assert torch.equal(after.g, d4 @ before.g)
    assert torch.allclose(after.confidence, before.confidence, atol=1e-4)


def test_off_the_grid_the_error_is_measured():
    """C8 on a smooth picture in a disc: the pose is followed, the answer differs by interpolation only."""
    axis = torch.arange(48) - 23.5
    inside = (axis.square()[:, None] + axis.square() < 20**2).float()
    x = F.interpolate(torch.rand(32, 3, 5, 5), (48, 48), mode="bicubic") * inside
    bare = Only(Convolutions(), "logits").eval()
    c8 = group("C8").elements.repeat(4, 1, 1)
    for canonicalizer, share in (("orbit", 0.75), ("group-conv", 0.4)):  # of random networks; chance is 1/8
        model = adapted(bare, "C8", canonicalizer, "logits")
        with torch.no_grad():
            before, after = model.predict(x), model.predict(act(c8, x))
            followed = (after.pose.index == group("C8").index(c8 @ before.pose.g)).float().mean()
            error = (after.output - before.output).abs().mean()
            control = (bare(act(c8, x)) - bare(x)).abs().mean()
        assert followed >= share, canonicalizer
        assert error < 0.5 * control, canonicalizer


# ------------------------------------------------------------------------------------------------------ several poses


@pytest.mark.parametrize("options", [{"top_k": 2}, {"top_k": 8}, {"coverage": 0.3}, {"coverage": 0.9}], ids=str)
def test_several_poses_are_equivariant_too(options):
    model = adapted(Convolutions(), "D4", **options)
    sharpen(model)
    x = photos(8, 12, 12)
    left, right = model(act(group("D4").elements, x)), act(group("D4").elements, model(x), KINDS, (12, 12))
    assert same({k: left[k] for k in ("boxes", "count")}, {k: right[k] for k in ("boxes", "count")})
    assert close(left, right, 1e-5)
    assert not close(adapted(Convolutions())(x), model(x), 1e-5), "control"


def sharpen(model: Equivariant) -> None:
    """Scores far enough apart for posteriors that differ from row to row."""
    with torch.no_grad():
        model.canonicalizer.network.classifier.weight *= 20


def test_top_k_averages_by_the_posterior():
    bare, x = Only(Convolutions(), "mask"), photos(3, 12, 12)
    model = adapted(bare, "C4", outputs="mask", top_k=2)
    pose = model.predict(x).pose
    weight, index = pose.probabilities.topk(2)
    weight = weight / weight.sum(1, keepdim=True)
    elements = group("C4").elements
    expected = sum(
        weight[:, k, None, None, None] * act(elements[index[:, k]], bare(act(inverse(elements[index[:, k]]), x)), "mask")
        for k in range(2)
    )
    assert torch.allclose(model(x), expected, atol=2e-3)
    assert not torch.allclose(adapted(bare, "C4", outputs="mask")(x), expected, atol=2e-3)


@pytest.mark.parametrize("options", [{"top_k": 4}, {"coverage": 0.99}], ids=str)
def test_what_is_never_averaged_takes_one_pose(options):
    """Boxes and lists: another pass could change nothing. The control has a score beside them, which is averaged."""
    rows = []

    def bare(x):
        rows.append(len(x))
        boxes = torch.tensor([[1.0, 2.0, 5.0, 7.0]]).repeat(len(x), 1)
        return {"boxes": boxes, "found": [{"boxes": box[None]} for box in boxes], "score": x.mean((1, 2, 3))}

    def without_score(x):
        return {name: value for name, value in bare(x).items() if name != "score"}

    x, kinds = photos(3, 12, 12), {"boxes": "boxes", "found": [{"boxes": "boxes"}]}
    one = adapted(without_score, "C4", outputs=kinds)
    several = adapt(without_score, "C4", outputs=kinds, canonicalizer=one.canonicalizer, **options)
    assert torch.equal(several(x)["boxes"], one(x)["boxes"])
    assert rows == [3, 3]
    adapted(bare, "C4", outputs=kinds | {"score": "invariant"}, **options)(x)
    assert sum(rows[2:]) > 3


def test_whole_numbers_are_told_to_gain_nothing():
    bare, x = Only(Convolutions(), "mask"), photos(2, 12, 12)
    labels = adapt(lambda y: bare(y).argmax(1), "C4", outputs="mask", top_k=2, canonicalizer=UniformCanonicalizer("C4"))
    with pytest.warns(UserWarning, match="whole numbers are not averaged"):
        y = labels(x)
    assert torch.equal(y, bare(x).argmax(1))
    adapt(bare, "C4", outputs="mask", top_k=2, canonicalizer=UniformCanonicalizer("C4"))(x)  # scores: nothing to tell


def test_logits_are_averaged_as_probabilities():
    bare = Only(Convolutions(), "logits").eval()
    model = adapt(bare, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"), top_k=4)
    x = photos(3, 12, 12)
    each = torch.stack([bare(torch.rot90(x, k, (-2, -1))).softmax(-1) for k in range(4)])
    assert torch.allclose(model(x).log_softmax(-1), each.mean(0).log(), atol=1e-5)
    invariant = adapt(bare, "C4", outputs="invariant", canonicalizer=UniformCanonicalizer("C4"), top_k=4)
    assert torch.allclose(invariant(x), sum(bare(torch.rot90(x, k, (-2, -1))) for k in range(4)) / 4, atol=1e-5)


def test_coverage_runs_the_predictor_only_as_often_as_needed():
    rows = []

    def counting(x: Tensor) -> Tensor:
        rows.append(len(x))
        return x.mean((-2, -1))

    model = adapt(counting, "C4", outputs="invariant", canonicalizer=Fixed([[9.0, 0, 0, 0], [0, 0, 0, 0], [5, 5, -9, -9]]))
    model.coverage = 0.9
    model(photos(3, 8, 8))
    assert sum(rows) == 1 + 4 + 2
    assert max(rows) == 3  # no larger than the caller's batch


class Fixed(Canonicalizer):
    """Scores that do not depend on the image, one row per image."""

    name = "fixed"

    def __init__(self, scores: list[list[float]], group: str = "C4"):
        super().__init__(group)
        self.values = nn.Parameter(torch.tensor(scores, dtype=torch.float32))

    def forward(self, images: Any) -> Pose:
        return pose_of(self.values, self.elements)


# ------------------------------------------------------------------------------------------------- contract 2: per row


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"coverage": 0.6}], ids=str)
@pytest.mark.parametrize("spoilt", ["nan", "infinite", "constant", "symmetric", "turned"])
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
def test_a_strange_row_changes_no_other_row(canonicalizer, spoilt, options):
    model = adapted(Convolutions(), "C4", canonicalizer, **options)
    x = photos(5, 12, 12)
    other = x.clone()
    turned = [torch.rot90(x[2], k, (-2, -1)) for k in range(4)]
    rows = {"nan": math.nan, "infinite": math.inf, "constant": 0.5, "symmetric": sum(turned) / 4, "turned": turned[1]}
    other[2] = torch.as_tensor(rows[spoilt])
    with torch.no_grad():
        before, after = model(x), model(other)
    keep = torch.tensor([0, 1, 3, 4])
    assert same({k: v[keep] for k, v in before.items()}, {k: v[keep] for k, v in after.items()})
    assert not same(before["mask"][2], after["mask"][2]), "control: its own answer does change"


def test_a_symmetric_input_has_invariant_answers_and_little_confidence():
    x = photos(1, 12, 12)
    x = sum(torch.rot90(x, k, (-2, -1)) for k in range(4)) / 4
    x = ((x * 64).round() / 64 + torch.rot90((x * 64).round() / 64, 2, (-2, -1))) / 2
    constant = torch.full((1, 3, 12, 12), 0.3)
    model = adapted(Convolutions(), "C4")
    for symmetric in (x, constant):
        pose = model.predict(symmetric).pose
        assert pose.confidence.item() == pytest.approx(0.25, abs=1e-3)
        assert close(model(torch.rot90(symmetric, 1, (-2, -1)))["logits"], model(symmetric)["logits"], 1e-5)


# --------------------------------------------------------------------------------------- contract 3: any predictor


def quadrants(x: Tensor) -> Tensor:
    """A function of where the light is."""
    half = x.shape[-1] // 2
    return torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], -1)


def test_a_function():
    model = adapt(quadrants, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    x, g = photos(4, 12, 12), group("C4").elements
    assert not breaks(model, x, g, "logits")
    assert breaks(quadrants, x, g, "logits")
    assert not list(model.predictor.parameters()) if isinstance(model.predictor, nn.Module) else model.predictor is quadrants


def test_numpy_in_numpy_out():
    def predictor(x: np.ndarray) -> dict[str, np.ndarray]:
        assert isinstance(x, np.ndarray)
        return {"mask": x[:, :1] * np.linspace(0, 1, x.shape[-1], dtype=x.dtype), "top": x[:, 0, 0].max(-1)}

    outputs = {"mask": "mask", "top": "invariant"}
    model = adapt(predictor, "D4", outputs=outputs, canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    g = group("D4").elements
    x = photos(8, 12, 12).numpy()
    assert same(model(act(g, x)), act(g, model(x), outputs))
    assert not same(predictor(act(g, x)), act(g, predictor(x), outputs))


def test_a_function_that_answers_a_tensor_with_arrays():
    def predictor(x: Tensor) -> np.ndarray:
        return x[..., 0, :].numpy().sum(1)

    model = adapt(predictor, "C4", outputs="invariant", canonicalizer=OrbitCanonicalizer("C4", resolution=16), top_k=2)
    x = photos(4, 12, 12)
    assert isinstance(model(x), np.ndarray)
    assert np.allclose(model(act(group("C4").elements, x)), model(x), atol=1e-5)


class Prompted(nn.Module):
    """Says how bright the image is at points asked for, where the brightest column is, and gives back what it was told."""

    def forward(
        self, image: Tensor, points: Tensor, labels: Tensor | None = None, *, scale: float = 1.0, tag: Any = None
    ) -> dict:
        h, w = image.shape[-2:]
        index = points.floor().long().clamp(min=0)
        at = image.mean(1)[torch.arange(len(image))[:, None], index[..., 1].clamp(max=h - 1), index[..., 0].clamp(max=w - 1)]
        weighed = at * (points[..., 0] + 2 * points[..., 1]) * (1 if labels is None else labels)
        return {"value": scale * weighed, "near": points + 0.25, "tag": tag}


PROMPTS = {"image": "image", "points": "points", "labels": Invariant()}
ANSWERS = {"value": "invariant", "near": "points", "tag": "invariant"}


@pytest.mark.parametrize("canvas", [(12, 12), (9, 14)], ids=str)
def test_prompts_move_with_the_image(canvas, unchecked):
    bare = Prompted()
    model = adapt(bare, "D4", inputs=PROMPTS, outputs=ANSWERS, canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    for g in each_parity("D4"):
        x, p = photos(4, *canvas), torch.randint(0, 8, (4, 5, 2)) + 0.5
        labels = torch.randint(0, 2, (4, 5))
        g_p = act(g, p, "points", canvas)

        def law(f: Callable, g: Tensor = g, x: Tensor = x, p: Tensor = p, g_p: Tensor = g_p, n: Tensor = labels) -> bool:
            left = f(act(g, x), points=g_p, labels=n, scale=2.0, tag="kept")
            return same(left, act(g, f(x, points=p, labels=n, scale=2.0, tag="kept"), ANSWERS, canvas))

        assert law(model)
        assert not law(bare), "control"
        named = model(image=x, points=p, labels=labels, scale=2.0, tag="kept")
        assert same(named, model(x, p, labels, scale=2.0, tag="kept"))
        assert named["tag"] == "kept"
        assert not same(named["value"], model(x, p, labels)["value"]), "scale is passed on"
        assert same(model(x, p)["value"], model(x, p, None)["value"])


def test_prompts_in_one_dict():
    def predictor(batch: dict) -> dict:
        return Prompted()(batch["image"], batch["points"])

    model = adapt(predictor, "C4", inputs={"image": "image", "points": "points"}, outputs=ANSWERS)
    x, p = photos(4, 12, 12), torch.randint(0, 12, (4, 5, 2)) + 0.5
    g = group("C4").elements
    left = model({"image": act(g, x), "points": act(g, p, "points", (12, 12))})
    assert same(left, act(g, model({"image": x, "points": p}), ANSWERS, (12, 12)))


def test_images_through_and_through():
    """Image to image: a denoiser, say, on uint8 and on floats."""

    def smear(x: Tensor) -> Tensor:
        return torch.maximum(x, x.roll(1, -1))

    model = adapt(smear, "D4", outputs="image", canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    for dtype in (torch.uint8, torch.float32):
        for g in each_parity("D4"):
            assert not breaks(model, photos(4, 9, 14, dtype), g, "image")
            assert breaks(smear, photos(4, 9, 14, dtype), g, "image")


def test_dtypes_and_layouts():
    x, d4 = photos(8, 12, 12), group("D4").elements
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        model = adapted(Convolutions().to(dtype))
        answer = model(x.to(dtype))
        assert answer["mask"].dtype == dtype
        left, right = model(act(d4, x.to(dtype))), act(d4, answer, KINDS, (12, 12))
        assert same([left[k] for k in ("mask", "logits", "flow")], [right[k] for k in ("mask", "logits", "flow")])
        assert dtype != torch.float64 or same(left, right), "half precision has no room for coordinates"
    model = adapted(Convolutions())
    assert same(model(x.contiguous(memory_format=torch.channels_last))["count"], model(x)["count"])
    assert not breaks(model, x.contiguous(memory_format=torch.channels_last), d4)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x)["mask"].dtype == torch.bfloat16
        left, right = model(act(d4, x)), act(d4, model(x), KINDS, (12, 12))
    assert same([left[k] for k in ("mask", "logits", "flow")], [right[k] for k in ("mask", "logits", "flow")])
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.predict(x).pose
    assert torch.equal(inside.scores, model.predict(x).pose.scores), "autocast does not blur the pose"


@pytest.mark.parametrize("b", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"coverage": 0.5}], ids=str)
def test_small_batches(b, options):
    for canvas in ((12, 12), (8, 14)):
        model = adapted(Convolutions(), **options)
        x = photos(2, *canvas)[:b]
        answer = model(x)
        assert {k: (v.shape, v.dtype) for k, v in answer.items()} == {
            k: (v.shape, v.dtype) for k, v in model.predictor(x).items()
        }
    assert len(model.predict(x).pose.index) == b


def test_empty_lists():
    model = adapted(Detector(), outputs=DETECTIONS)
    assert model([]) == []


# ---------------------------------------------------------------------- contract 4: no state, no mutation, copies, threads


@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_copies_before_and_after_a_forward(copied, canonicalizer):
    model, x = adapted(Convolutions(), "D4", canonicalizer), photos(3, 8, 14)
    before = copied(model)
    y = model(x)
    after = copied(model)
    assert same(before(x), y)
    assert same(after(x), y)
    with torch.no_grad():
        after.predictor.first.weight.add_(1)
    assert same(model(x), y), "a copy shares nothing"
    assert not same(after(x), y)


def described(module: nn.Module) -> dict[str, Any]:
    """All attributes of all modules inside, by identity or value, and all tensors by value."""
    found: dict[str, Any] = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for name, inner in module.named_modules():
        for key, value in vars(inner).items():
            found[f"{name}.{key}"] = list(value) if isinstance(value, dict) else id(value)
    return found


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"coverage": 0.5}], ids=str)
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
def test_a_forward_leaves_no_trace(canonicalizer, options):
    model = adapted(Convolutions(), "D4", canonicalizer, **options)
    x = photos(3, 8, 14)
    model.canonicalizer.group.elements  # noqa: B018 (a cached property, filled by the constructor)
    before, x_before = described(model), x.clone()
    rng = torch.random.get_rng_state()
    y = model(x)
    model.predict(x)
    after = described(model)
    assert same(before, after)
    assert torch.equal(x, x_before)
    assert torch.equal(torch.random.get_rng_state(), rng)
    for value in y.values():
        value.zero_()
    assert torch.equal(x, x_before), "the answer shares nothing with the input"


def test_the_inputs_of_a_predictor_that_writes_are_safe():
    """A predictor that works in place gets its own copy, in every pose, the identity too."""

    def rude(x: Tensor) -> Tensor:
        x.mul_(0.5)
        return x

    model = adapt(rude, "C4", outputs="image", canonicalizer=UniformCanonicalizer("C4"))
    x = photos(2, 12, 12)
    before = x.clone()
    model(x)
    assert torch.equal(x, before)


def test_threads(unchecked):
    model = adapted(Convolutions(), "D4", top_k=2)
    inputs = [photos(3, 12 + i, 20 - i) for i in range(8)]
    expected, answers = [model(x) for x in inputs], [None] * len(inputs)

    def work(i: int) -> None:
        for _ in range(3):
            answers[i] = model(inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(a, b) for a, b in zip(answers, expected, strict=True))


def test_the_predictor_is_left_alone():
    bare = Convolutions().train()
    weights = {k: v.clone() for k, v in bare.state_dict().items()}
    model = adapt(bare, "D4", outputs=KINDS)
    model(photos(2, 12, 12))
    assert model.predictor is bare
    assert bare.training
    assert model.training
    assert not model.canonicalizer.training
    assert same(dict(bare.state_dict()), weights)
    assert all(p.requires_grad for p in bare.parameters())
    assert not adapt(bare.eval(), "D4", outputs=KINDS).training


# ---------------------------------------------------------------------------------------------------- straight through


@pytest.mark.parametrize("outputs", ["logits", "invariant", "mask", "points", "flow"])
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
def test_in_training_the_value_is_hard_and_the_gradient_reaches_the_canonicalizer(canonicalizer, outputs):
    key = {"invariant": "logits"}.get(outputs, outputs)
    kind = {"flow": "field"}.get(outputs, outputs)
    bare = Only(Convolutions(), key)
    model = adapted(bare, "D4", canonicalizer, kind)
    x = photos(4, 12, 12)
    model.canonicalizer.train()
    answer, pose = model.predict(x)
    with torch.no_grad():
        hard = act(pose.g, bare(act(inverse(pose.g), x)), kind, (12, 12))
    assert torch.allclose(answer, hard, atol=1e-5)
    answer.square().sum().backward()
    gradients = [p.grad for p in model.canonicalizer.parameters() if p.requires_grad]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    model.canonicalizer.eval()
    model.zero_grad()
    model(x).square().sum().backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.canonicalizer.parameters()), "control: eval is hard"


@pytest.mark.parametrize("side", ["input", "output"])
def test_the_straight_through_gradient_is_that_of_the_mean_over_the_posterior(side):
    x, w = photos(2, 6, 6, torch.float64), torch.randn(3, 6, 6, dtype=torch.float64)
    elements = group("C4").elements.double()
    canonicalizer = Fixed([[1.0, 0.2, -0.3, 0.5], [0, 0.1, 0.2, 0.9]]).double()
    if side == "input":  # a linear functional of the canonical form
        model = adapt(lambda image: (image * w).sum((1, 2, 3)), "C4", outputs="invariant", canonicalizer=canonicalizer)
        each = torch.stack([(act(inverse(g[None]), x) * w).sum((1, 2, 3)) for g in elements], 1)
    else:  # an answer that does not depend on the input, moved
        answers = w.expand(2, 3, 6, 6)
        model = adapt(lambda image: answers, "C4", outputs="mask", canonicalizer=canonicalizer)
        each = torch.stack([(act(g[None], answers, "mask") * x).sum((1, 2, 3)) for g in elements], 1)
    canonicalizer.train()
    y = model(x)
    (gradient,) = torch.autograd.grad((y if side == "input" else y * x).sum(), canonicalizer.values)
    scores = canonicalizer.values.detach().requires_grad_()
    (expected,) = torch.autograd.grad((scores.softmax(-1) * each).sum(), scores)
    assert torch.allclose(gradient, expected, atol=1e-9)
    assert expected.abs().max() > 0.01


def test_gradients_reach_the_predictor_and_the_input():
    bare = Only(Convolutions(), "mask").eval()
    model = adapted(bare, outputs="mask", top_k=2)
    x = photos(2, 12, 12).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert bare.body.first.weight.grad.abs().sum() > 0


# -------------------------------------------------------------------------------------------------------------- errors


def test_adapt_errors(unchecked):
    bare = Convolutions()
    for arguments, options, error, message in [
        ((3, "C4"), {"outputs": "mask"}, TypeError, "a predictor is a callable.*got a int"),
        ((bare, "X9"), {"outputs": "mask"}, ValueError, "unknown group 'X9'; known groups"),
        ((bare, "SO2"), {"outputs": "mask"}, ValueError, "SO2 is continuous.*C16"),
        ((bare, "C4"), {}, ValueError, "how the outputs of Convolutions move is not known: pass outputs="),
        ((quadrants, "C4"), {}, ValueError, "outputs of quadrants"),
        (
            (bare, "C4"),
            {"outputs": "masks"},
            ValueError,
            "unknown kind 'masks'; known: axial_vectors, batch, boxes, count, edge_features, edge",
        ),
        ((bare, "C4"), {"outputs": {"a": 3}}, TypeError, "a kind is a name.*got a int"),
        ((bare, "C4"), {"outputs": "mask", "inputs": "picture"}, ValueError, "unknown kind 'picture'"),
        ((bare, "C4"), {"outputs": "mask", "top_k": 5}, ValueError, "1 to 4 for C4; got 5"),
        ((bare, "C4"), {"outputs": "mask", "top_k": 0}, ValueError, "1 to 4 for C4; got 0"),
        ((bare, "C4"), {"outputs": "mask", "top_k": 2.0}, ValueError, "got 2.0"),
        ((bare, "C4"), {"outputs": "mask", "coverage": 0.0}, ValueError, "coverage is a share"),
        ((bare, "C4"), {"outputs": "mask", "coverage": 1.5}, ValueError, "got 1.5"),
        ((bare, "C4"), {"outputs": "mask", "coverage": 0.5, "top_k": 2}, ValueError, "instead of top_k"),
        ((bare, "C4"), {"outputs": "mask", "canonicalizer": OrbitCanonicalizer("D4")}, ValueError, "is for D4, not for C4"),
    ]:
        with pytest.raises(error, match=message):
            adapt(*arguments, **options)
    with pytest.raises(TypeError, match="typo"):
        adapt(bare, "C4", outputs="mask", typo=1)


def test_forward_errors(unchecked):
    x = photos(2, 12, 12)
    model = adapted(Convolutions())
    for call, error, message in [
        (lambda: model(), TypeError, "called without arguments"),
        (lambda: model(x[0]), ValueError, r"one image: x"),
        (lambda: model(torch.rand(2, 4, 8, 8)), ValueError, "3 channels .* 4.*channels=4"),
        (lambda: model(torch.rand(2, 3, 0, 8)), ValueError, "images are empty"),
        (lambda: model(torch.rand(2, 8, 8, 3)), ValueError, "the axis of channels comes before height and width"),
        (lambda: model("picture.png"), TypeError, r"an image is a tensor or an array, got a str \(files .* are for a pair"),
        (lambda: model([x[0], x[1, :, :8]]), TypeError, r"the list 'image' as it came, .*torch.stack\(images\), and call the"),
        (lambda: adapted(Convolutions(), outputs={"logits": "logits"})(x), ValueError, r"output|x\['mask'\]: has no kind"),
        (
            lambda: adapted(Convolutions(), outputs={**KINDS, "more": "mask"})(x),
            ValueError,
            r"\['more'\]: expected by the kinds",
        ),
        (lambda: adapted(Convolutions(), outputs=("mask", "mask"))(x), ValueError, "expected 2 values in a tuple, got 6"),
        (lambda: adapted(Only(Convolutions(), "logits"), outputs="boxes")(x), ValueError, r"boxes have shape .*got \(2, 5\)"),
        (
            lambda: adapt(Prompted(), "C4", outputs=ANSWERS)(x, torch.rand(2, 5, 2)),
            ValueError,
            "'points' holds a tensor but has no",
        ),
        (
            lambda: adapt(Prompted(), "C4", inputs=PROMPTS, outputs=ANSWERS)(x, torch.rand(3, 5, 2)),
            ValueError,
            "expected 2 rows",
        ),
        (lambda: adapt(quadrants, "C4", inputs="points", outputs="logits")(x), ValueError, "no image among the inputs"),
        (lambda: adapted(lambda x: "text", outputs="mask")(x), TypeError, "is for a tensor or an array, got a str"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_kinds_of_a_model_are_kinds():
    model = adapted(Convolutions(), outputs={"boxes": Boxes(), "rest": ["mask", Rows("image")], "r": "regular"})
    assert model.outputs == as_kinds({"boxes": Boxes(), "rest": ["mask", Rows("image")], "r": as_kinds("regular", group("D4"))})
    assert model.group == group("D4")
    assert not model.averages
    assert adapted(Convolutions(), coverage=0.5).averages


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_averaged_logits_stay_finite(dtype):
    def sure(x):
        return torch.tensor([[200.0, 0.0, -200.0]], dtype=dtype).expand(len(x), 3)

    model = adapt(sure, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16), top_k=2)
    answer = model(torch.rand(2, 3, 16, 16))
    assert answer.dtype == dtype
    assert answer.isfinite().all()
    torch.testing.assert_close(answer.float(), sure(answer).float(), atol=1.0, rtol=0.01)


def test_a_tuple_of_photos_comes_back_as_tuples():
    def detector(images):
        assert isinstance(images, tuple)
        return tuple({"boxes": torch.tensor([[1.0, 2.0, 3.0, 4.0]])} for _ in images)

    kinds = Rows({"boxes": "boxes"})
    model = adapt(detector, "C4", outputs=kinds, canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    answer = model((torch.rand(3, 8, 12), torch.rand(3, 9, 9)))
    assert isinstance(answer, tuple)
    assert len(answer) == 2


def test_errors_about_the_answer_speak_of_the_output():
    model = adapt(lambda x: {"a": x}, "C4", outputs={"b": "mask"}, canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    with pytest.raises(ValueError, match=r"^output\['b'\]"):
        model(torch.rand(1, 3, 8, 8))


def test_score_maps_called_logits_are_refused():
    model = adapt(lambda x: x, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    with pytest.raises(ValueError, match=r"looks like a map: say 'image'"):
        model(torch.rand(2, 3, 16, 16))


def test_printing_says_what_the_model_is():
    model = adapt(lambda x: x, "C4", outputs="mask", canonicalizer=OrbitCanonicalizer("C4", resolution=16), coverage=0.9)
    assert "group=C4, inputs='image', outputs='mask', coverage=0.9" in repr(model)


def test_boxes_the_wrong_way_round_are_refused():
    """A turn takes the lesser corner for the first, and would hide it."""
    x, boxes = torch.rand(2, 3, 8, 8), torch.tensor([[[1.0, 1, 5, 5]], [[5, 1, 3, 5]]])
    for kind, value in [(Boxes("yxyx", extra=1), torch.cat([boxes, boxes[..., :1]], -1)), (Boxes(), boxes)]:
        model = adapt(lambda x, boxes: boxes, "C4", inputs={"x": "image", "boxes": kind}, outputs=kind)
        with pytest.raises(ValueError, match=r"input\['boxes'\]: boxes are x1, y1, x2, y2 with x1 <= x2.*got \[5.0, 1.0, 3.0"):
            model(x, value)
    assert model(x, boxes.where(boxes != 5, 3)).shape == boxes.shape  # empty ones, as of padding, will do
