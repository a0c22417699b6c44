"""The contracts of the wrapper (DESIGN.md): equivariant to the bit on the grid, per row, for any predictor, without state."""

import copy
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

import equiform
from asserting import refused, same
from equiform import Boxes, Equivariant, OrbitCanonicalizer, Rows, act, adapt, group, inverse
from equiform.canonicalizers import Canonicalizer, UniformCanonicalizer
from equiform.equivariant import Prediction
from equiform.geometry.kinds import as_kinds
from equiform.geometry.nested import children, is_container
from small_canonicalizers import Fixed
from small_photos import coarse
from small_predictors import KINDS, Attention, Convolutions, Detector, Only, Prompted

GRID_GROUPS = ["C1", "C2", "C4", "D1", "D2", "D4"]


# ---------------------------------------------------------------------------------------------------------- predictors


DETECTIONS = [{"boxes": "boxes", "scores": "invariant", "masks": "mask"}]
PREDICTORS = {"conv": Convolutions, "attention": Attention}
CANONICALIZERS: dict[str, Callable[[str], Canonicalizer]] = {
    "orbit": lambda name: OrbitCanonicalizer(name, resolution=16),
    "group-conv": lambda name: equiform.GroupConvCanonicalizer(name, widths=(4, 8), resolution=16),
}


def adapted(
    predictor: Any, name: str = "D4", canonicalizer: str = "orbit", outputs: Any = KINDS, **options: Any
) -> Equivariant:
    """The predictor in eval mode, wrapped with a small canonicalizer."""
    if isinstance(predictor, nn.Module):
        predictor.eval()
    return adapt(predictor, name, outputs=outputs, canonicalizer=CANONICALIZERS[canonicalizer](name), **options)


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
        x = coarse(len(g), *canvas, dtype)
        assert not breaks(model, x, g)
        if name != "C1":
            assert breaks(bare, x, g) or len(g) == 1, "control: the bare predictor is not equivariant"


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_kind_of_answer_alone(predictor, key):
    bare = Only(PREDICTORS[predictor](), key)
    model = adapted(bare, "D4", outputs=KINDS[key])
    for g in each_parity("D4"):
        x = coarse(4, 8, 14)
        assert not breaks(model, x, g, KINDS[key])
        assert key == "count" or breaks(bare, x, g, KINDS[key])


@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
@pytest.mark.parametrize("name", ["C4", "D4"])
def test_lists_of_images_of_mixed_sizes_and_detections(name, canonicalizer):
    sizes = [(8, 14), (9, 9), (14, 8), (8, 14), (7, 11), (12, 12), (8, 14), (9, 13)]
    x, bare = [coarse(1, *size)[0] for size in sizes], Detector()
    model, g = adapted(bare, name, canonicalizer, DETECTIONS), group(name).random(len(x), torch.Generator().manual_seed(1))
    y, turned = model(x), model(act(g, x, Rows("image")))
    assert (model([]), [type(entry) for entry in y]) == ([], [dict] * len(x))
    assert len({len(entry["boxes"]) for entry in y}) > 1, "every row with its own number of boxes"

    def by_row(answers: list, elements: Tensor) -> list:
        return [act(elements[i : i + 1], [answers[i]], DETECTIONS, sizes[i])[0] for i in range(len(x))]

    assert same(turned, by_row(y, g))
    assert not same(bare(act(g, x, Rows("image"))), by_row(bare(x), g)), "control"


def test_the_answer_is_that_of_the_canonical_form_and_of_symmetric_input_too():
    bare, x = Convolutions(), coarse(4, 12, 12)
    model = adapted(bare)
    answer = model.predict(x)
    assert isinstance(answer, Prediction)
    upright = act(inverse(answer.pose.g), x)
    assert close(answer.output, act(answer.pose.g, bare(upright), KINDS, (12, 12)), 1e-4)
    assert same(answer.output, model(x))
    assert same(answer.output["logits"], bare(upright)["logits"])
    assert torch.equal(answer.pose.g, group("D4").elements[answer.pose.index])
    assert len(answer.pose.index.unique()) > 1, "not one pose for all: the test would be blind"
    x = coarse(1, 12, 12)
    x = sum(torch.rot90(x, k, (-2, -1)) for k in range(4)) / 4
    x = ((x * 64).round() / 64 + torch.rot90((x * 64).round() / 64, 2, (-2, -1))) / 2
    constant, model = torch.full((1, 3, 12, 12), 0.3), adapted(Convolutions(), "C4")
    for symmetric in (x, constant):
        assert model.predict(symmetric).pose.confidence.item() == pytest.approx(0.25, abs=1e-3)
        assert close(model(torch.rot90(symmetric, 1, (-2, -1)))["logits"], model(symmetric)["logits"], 1e-5)


def test_off_the_grid_the_error_is_measured():
    """C8 on a smooth picture in a disc: the pose is followed, the answer differs by interpolation only."""
    axis = torch.arange(48) - 23.5
    inside = (axis.square()[:, None] + axis.square() < 20**2).float()
    x = F.interpolate(torch.rand(32, 3, 5, 5), (48, 48), mode="bicubic") * inside
    bare, c8 = Only(Convolutions(), "logits").eval(), group("C8").elements.repeat(4, 1, 1)
    for canonicalizer, share in (("orbit", 0.75), ("group-conv", 0.4)):  # of random networks; chance is 1/8
        model = adapted(bare, "C8", canonicalizer, "logits")
        with torch.no_grad():
            before, after = model.predict(x), model.predict(act(c8, x))
            followed = (after.pose.index == group("C8").index(c8 @ before.pose.g)).float().mean()
            error, control = (after.output - before.output).abs().mean(), (bare(act(c8, x)) - bare(x)).abs().mean()
        assert followed >= share, canonicalizer
        assert error < 0.5 * control, canonicalizer


# ------------------------------------------------------------------------------------------------------ several poses
@pytest.mark.parametrize("options", [{"top_k": 2}, {"top_k": 8}, {"coverage": 0.3}, {"coverage": 0.9}], ids=str)
def test_several_poses_are_equivariant_too(options):
    model = adapted(Convolutions(), "D4", **options)
    sharpen(model)
    x = coarse(8, 12, 12)
    left, right = model(act(group("D4").elements, x)), act(group("D4").elements, model(x), KINDS, (12, 12))
    assert same({k: left[k] for k in ("boxes", "count")}, {k: right[k] for k in ("boxes", "count")})
    assert close(left, right, 1e-5)
    assert not close(adapted(Convolutions())(x), model(x), 1e-5), "control"


def sharpen(model: Equivariant) -> None:
    """Scores far enough apart for posteriors that differ from row to row."""
    with torch.no_grad():
        model.canonicalizer.network.classifier.weight *= 20


def test_averages_are_by_the_posterior_and_of_probabilities():
    bare, x = Only(Convolutions(), "mask"), coarse(3, 12, 12)
    model = adapted(bare, "C4", outputs="mask", top_k=2)
    weight, index = model.predict(x).pose.probabilities.topk(2)
    weight, elements = weight / weight.sum(1, keepdim=True), group("C4").elements
    expected = sum(
        weight[:, k, None, None, None] * act(elements[index[:, k]], bare(act(inverse(elements[index[:, k]]), x)), "mask")
        for k in range(2)
    )
    assert torch.allclose(model(x), expected, atol=2e-3)
    assert not torch.allclose(adapted(bare, "C4", outputs="mask")(x), expected, atol=2e-3)
    bare = Only(Convolutions(), "logits").eval()
    model = adapt(bare, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"), top_k=4)
    x = coarse(3, 12, 12)
    each = torch.stack([bare(torch.rot90(x, k, (-2, -1))).softmax(-1) for k in range(4)])
    assert torch.allclose(model(x).log_softmax(-1), each.mean(0).log(), atol=1e-5)
    invariant = adapt(bare, "C4", outputs="invariant", canonicalizer=UniformCanonicalizer("C4"), top_k=4)
    assert torch.allclose(invariant(x), sum(bare(torch.rot90(x, k, (-2, -1))) for k in range(4)) / 4, atol=1e-5)


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

    x, kinds = coarse(3, 12, 12), {"boxes": "boxes", "found": [{"boxes": "boxes"}]}
    one = adapted(without_score, "C4", outputs=kinds)
    several = adapt(without_score, "C4", outputs=kinds, canonicalizer=one.canonicalizer, **options)
    assert torch.equal(several(x)["boxes"], one(x)["boxes"])
    assert rows == [3, 3]
    adapted(bare, "C4", outputs=kinds | {"score": "invariant"}, **options)(x)
    assert sum(rows[2:]) > 3


def test_passes_no_more_than_needed_and_whole_numbers_told():
    rows = []

    def counting(x: Tensor) -> Tensor:
        rows.append(len(x))
        return x.mean((-2, -1))

    model = adapt(counting, "C4", outputs="invariant", canonicalizer=Fixed([[9.0, 0, 0, 0], [0, 0, 0, 0], [5, 5, -9, -9]]))
    model.coverage = 0.9
    model(coarse(3, 8, 8))
    assert sum(rows) == 1 + 4 + 2
    assert max(rows) == 3  # no larger than the caller's batch
    bare, x = Only(Convolutions(), "mask"), coarse(2, 12, 12)
    labels = adapt(lambda y: bare(y).argmax(1), "C4", outputs="mask", top_k=2, canonicalizer=UniformCanonicalizer("C4"))
    with pytest.warns(UserWarning, match="whole numbers are not averaged"):
        y = labels(x)
    assert torch.equal(y, bare(x).argmax(1))
    adapt(bare, "C4", outputs="mask", top_k=2, canonicalizer=UniformCanonicalizer("C4"))(x)  # scores: nothing to tell


# ------------------------------------------------------------------------------------------------- contract 2: per row
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"coverage": 0.6}], ids=str)
@pytest.mark.parametrize("spoilt", ["nan", "infinite", "constant", "symmetric", "turned"])
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
def test_a_strange_row_changes_no_other_row(canonicalizer, spoilt, options):
    model, x = adapted(Convolutions(), "C4", canonicalizer, **options), coarse(5, 12, 12)
    other, turned = x.clone(), [torch.rot90(x[2], k, (-2, -1)) for k in range(4)]
    rows = {"nan": math.nan, "infinite": math.inf, "constant": 0.5, "symmetric": sum(turned) / 4, "turned": turned[1]}
    other[2] = torch.as_tensor(rows[spoilt])
    with torch.no_grad():
        before, after = model(x), model(other)
    keep = torch.tensor([0, 1, 3, 4])
    assert same({k: v[keep] for k, v in before.items()}, {k: v[keep] for k, v in after.items()})
    assert not same(before["mask"][2], after["mask"][2]), "control: its own answer does change"


# --------------------------------------------------------------------------------------- contract 3: any predictor
def quadrants(x: Tensor) -> Tensor:
    """A function of where the light is."""
    half = x.shape[-1] // 2
    return torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], -1)


def test_functions_of_tensors_and_arrays():
    model = adapt(quadrants, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    x, g = coarse(4, 12, 12), group("C4").elements
    assert not breaks(model, x, g, "logits")
    assert breaks(quadrants, x, g, "logits")
    assert not list(model.predictor.parameters()) if isinstance(model.predictor, nn.Module) else model.predictor is quadrants

    def predictor(x: np.ndarray) -> dict[str, np.ndarray]:
        assert isinstance(x, np.ndarray)
        return {"mask": x[:, :1] * np.linspace(0, 1, x.shape[-1], dtype=x.dtype), "top": x[:, 0, 0].max(-1)}

    outputs = {"mask": "mask", "top": "invariant"}
    model = adapt(predictor, "D4", outputs=outputs, canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    g, x = group("D4").elements, coarse(8, 12, 12).numpy()
    assert same(model(act(g, x)), act(g, model(x), outputs))
    assert not same(predictor(act(g, x)), act(g, predictor(x), outputs))

    def predictor(x: Tensor) -> np.ndarray:
        return x[..., 0, :].numpy().sum(1)

    model = adapt(predictor, "C4", outputs="invariant", canonicalizer=OrbitCanonicalizer("C4", resolution=16), top_k=2)
    x = coarse(4, 12, 12)
    assert isinstance(model(x), np.ndarray)
    assert np.allclose(model(act(group("C4").elements, x)), model(x), atol=1e-5)


PROMPTS = {"image": "image", "points": "points", "labels": equiform.Invariant()}
ANSWERS = {"value": "invariant", "near": "points", "tag": "invariant"}


@pytest.mark.parametrize("canvas", [(12, 12), (9, 14)], ids=str)
def test_prompts_move_with_the_image(canvas, unchecked):
    bare = Prompted()
    model = adapt(bare, "D4", inputs=PROMPTS, outputs=ANSWERS, canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    for g in each_parity("D4"):
        x, p = coarse(4, *canvas), torch.randint(0, 8, (4, 5, 2)) + 0.5
        labels, g_p = torch.randint(0, 2, (4, 5)), act(g, p, "points", canvas)

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


def test_dtypes_and_layouts():
    x, d4 = coarse(8, 12, 12), group("D4").elements
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
        model, x = adapted(Convolutions(), **options), coarse(2, *canvas)[:b]
        answer = model(x)
        assert {k: (v.shape, v.dtype) for k, v in answer.items()} == {
            k: (v.shape, v.dtype) for k, v in model.predictor(x).items()
        }
    assert len(model.predict(x).pose.index) == b


# ---------------------------------------------------------------------- contract 4: no state, no mutation, copies, threads
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_copies_before_and_after_a_forward(copied, canonicalizer):
    model, x = adapted(Convolutions(), "D4", canonicalizer), coarse(3, 8, 14)
    before, y, after = copied(model), model(x), copied(model)
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
    model, x = adapted(Convolutions(), "D4", canonicalizer, **options), coarse(3, 8, 14)
    model.canonicalizer.group.elements  # noqa: B018 (a cached property, filled by the constructor)
    before, x_before = described(model), x.clone()
    rng, y = torch.random.get_rng_state(), model(x)
    model.predict(x)
    assert same(before, described(model))
    assert torch.equal(x, x_before)
    assert torch.equal(torch.random.get_rng_state(), rng)
    for value in y.values():
        value.zero_()
    assert torch.equal(x, x_before), "the answer shares nothing with the input"


def test_inputs_and_predictors_are_left_alone():
    """A predictor that works in place gets its own copy, in every pose, the identity too."""

    def rude(x: Tensor) -> Tensor:
        x.mul_(0.5)
        return x

    model = adapt(rude, "C4", outputs="image", canonicalizer=UniformCanonicalizer("C4"))
    x = coarse(2, 12, 12)
    before = x.clone()
    model(x)
    assert torch.equal(x, before)
    bare = Convolutions().train()
    weights, model = {k: v.clone() for k, v in bare.state_dict().items()}, adapt(bare, "D4", outputs=KINDS)
    model(coarse(2, 12, 12))
    assert model.predictor is bare
    assert bare.training
    assert model.training
    assert not model.canonicalizer.training
    assert same(dict(bare.state_dict()), weights)
    assert all(p.requires_grad for p in bare.parameters())
    assert not adapt(bare.eval(), "D4", outputs=KINDS).training


def test_threads(unchecked):
    model, inputs = adapted(Convolutions(), "D4", top_k=2), [coarse(3, 12 + i, 20 - i) for i in range(8)]
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


# ---------------------------------------------------------------------------------------------------- straight through
@pytest.mark.parametrize("outputs", ["logits", "invariant", "mask", "points", "flow"])
@pytest.mark.parametrize("canonicalizer", CANONICALIZERS)
def test_in_training_the_value_is_hard_and_the_gradient_reaches_the_canonicalizer(canonicalizer, outputs):
    key, kind = {"invariant": "logits"}.get(outputs, outputs), {"flow": "field"}.get(outputs, outputs)
    bare = Only(Convolutions(), key)
    model, x = adapted(bare, "D4", canonicalizer, kind), coarse(4, 12, 12)
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
    x, w = coarse(2, 6, 6, torch.float64), torch.randn(3, 6, 6, dtype=torch.float64)
    elements, canonicalizer = group("C4").elements.double(), Fixed([[1.0, 0.2, -0.3, 0.5], [0, 0.1, 0.2, 0.9]]).double()
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
    model, x = adapted(bare, outputs="mask", top_k=2), coarse(2, 12, 12).requires_grad_()
    model(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert bare.body.first.weight.grad.abs().sum() > 0


# -------------------------------------------------------------------------------------------------------------- errors
def test_errors(unchecked):
    bare = Convolutions()
    for arguments, options, error, message in [
        ((3, "C4"), {"outputs": "mask"}, TypeError, "a predictor is a callable.*got a int"),
        ((bare, "X9"), {"outputs": "mask"}, ValueError, "unknown group 'X9'; known groups"),
        ((bare, "C4"), {}, ValueError, "how the outputs of Convolutions move is not known: pass outputs="),
        ((quadrants, "C4"), {}, ValueError, "outputs of quadrants"),
        ((bare, "C4"), {"outputs": "masks"}, ValueError, "unknown kind 'masks'; known: axial_vectors, batch, boxes"),
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
        refused(error, message, adapt, *arguments, **options)
    refused(TypeError, "typo", lambda: adapt(bare, "C4", outputs="mask", typo=1))
    x, model = coarse(2, 12, 12), adapted(Convolutions())
    for call, error, message in [
        (lambda: model(), TypeError, "called without arguments"),
        (lambda: model(x[0]), ValueError, r"one image: x"),
        (lambda: model(torch.rand(2, 4, 8, 8)), ValueError, "3 channels .* 4.*channels=4"),
        (lambda: model(torch.rand(2, 3, 0, 8)), ValueError, "images are empty"),
        (lambda: model(torch.rand(2, 8, 8, 3)), ValueError, "the axis of channels comes before height and width"),
        (lambda: model("picture.png"), TypeError, r"an image is a tensor or an array, got a str \(files .* are for a pair"),
        (lambda: model([x[0], x[1, :, :8]]), TypeError, r"the list 'image' as it came, .*torch.stack\(images\), and call the"),
        (lambda: adapted(Convolutions(), outputs={"logits": "logits"})(x), ValueError, r"output|x\['mask'\]: has no kind"),
        (lambda: adapted(Convolutions(), outputs={**KINDS, "more": "mask"})(x), ValueError, r"\['more'\]: expected"),
        (lambda: adapted(Convolutions(), outputs=("mask", "mask"))(x), ValueError, "expected 2 values in a tuple, got 6"),
        (lambda: adapted(Only(Convolutions(), "logits"), outputs="boxes")(x), ValueError, r"boxes have shape .*got \(2, 5\)"),
        (lambda: adapt(Prompted(), "C4", outputs=ANSWERS)(x, torch.rand(2, 5, 2)), ValueError, "'points' holds a tensor"),
        (lambda: adapt(Prompted(), "C4", inputs=PROMPTS, outputs=ANSWERS)(x, torch.rand(3, 5, 2)), ValueError, "2 rows"),
        (lambda: adapt(quadrants, "C4", inputs="points", outputs="logits")(x), ValueError, "no image among the inputs"),
        (lambda: adapted(lambda x: "text", outputs="mask")(x), TypeError, "is for a tensor or an array, got a str"),
        (lambda: adapted(lambda x: {"a": x}, outputs={"b": "mask"})(x), ValueError, r"^output\['b'\]"),
        (lambda: adapted(lambda x: x, outputs="logits")(x), ValueError, r"looks like a map: say 'image'"),
    ]:
        refused(error, message, call)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_averaged_logits_stay_finite(dtype):
    def sure(x):
        return torch.tensor([[200.0, 0.0, -200.0]], dtype=dtype).expand(len(x), 3)

    model = adapt(sure, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16), top_k=2)
    answer = model(torch.rand(2, 3, 16, 16))
    assert answer.dtype == dtype
    assert answer.isfinite().all()
    torch.testing.assert_close(answer.float(), sure(answer).float(), atol=1.0, rtol=0.01)


def test_tuples_dicts_and_kinds_of_a_model():
    def detector(images):
        assert isinstance(images, tuple)
        return tuple({"boxes": torch.tensor([[1.0, 2.0, 3.0, 4.0]])} for _ in images)

    model = adapt(detector, "C4", outputs=Rows({"boxes": "boxes"}), canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    answer = model((torch.rand(3, 8, 12), torch.rand(3, 9, 9)))
    assert isinstance(answer, tuple)
    assert len(answer) == 2

    def predictor(batch: dict) -> dict:
        return Prompted()(batch["image"], batch["points"])

    model = adapt(predictor, "C4", inputs={"image": "image", "points": "points"}, outputs=ANSWERS)
    x, p = coarse(4, 12, 12), torch.randint(0, 12, (4, 5, 2)) + 0.5
    g = group("C4").elements
    left = model({"image": act(g, x), "points": act(g, p, "points", (12, 12))})
    assert same(left, act(g, model({"image": x, "points": p}), ANSWERS, (12, 12)))
    model = adapted(Convolutions(), outputs={"boxes": Boxes(), "rest": ["mask", Rows("image")], "r": "regular"})
    assert model.outputs == as_kinds({"boxes": Boxes(), "rest": ["mask", Rows("image")], "r": as_kinds("regular", group("D4"))})
    assert model.group == group("D4")
    assert not model.averages
    assert adapted(Convolutions(), coverage=0.5).averages
    assert "group=D4, inputs='image', outputs='mask', coverage=0.9" in repr(adapted(len, outputs="mask", coverage=0.9))


def test_boxes_the_wrong_way_round_are_refused():
    """A turn takes the lesser corner for the first, and would hide it."""
    x, boxes = torch.rand(2, 3, 8, 8), torch.tensor([[[1.0, 1, 5, 5]], [[5, 1, 3, 5]]])
    for kind, value in [(Boxes("yxyx", extra=1), torch.cat([boxes, boxes[..., :1]], -1)), (Boxes(), boxes)]:
        model = adapt(lambda x, boxes: boxes, "C4", inputs={"x": "image", "boxes": kind}, outputs=kind)
        refused(ValueError, r"input\['boxes'\]: boxes are x1, y1, x2, y2 with x1 <= x2.*got \[5.0, 1.0, 3.0", model, x, value)
    assert model(x, boxes.where(boxes != 5, 3)).shape == boxes.shape  # empty ones, as of padding, will do


def test_prompts_on_the_float_grid_are_exact_and_others_are_rounded_once():
    """On a canvas that is no power of two, by every element at once."""
    canvas, g = (321, 321), group("D4").elements
    model = adapted(lambda image, points: points.sin() * image.mean((1, 2, 3))[:, None, None], outputs="invariant")
    model.inputs = as_kinds({"image": "image", "points": "points"})
    x, raw = coarse(8, *canvas), 321 * torch.rand(8, 40, 2, dtype=torch.float64)
    points = {"raw": raw.float(), "sixteenths": (raw * 16).round().float() / 16, "whole": raw.long()}
    error = {}
    for name, p in points.items():
        answer = model(x, p)
        error[name] = float((model(act(g, x), act(g, p, "points", canvas)) - answer).abs().max() / answer.abs().max())
    assert (error["sixteenths"], error["whole"]) == (0, 0)
    assert 0 < error["raw"] < 1e-4, "control: these were rounded before the model saw them"
