"""Whose each entry is: taken by row, moved by its row, put together again in order, averaged over the poses of its row."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from equiform import Boxes, Invariant, Logits, OrbitCanonicalizer, Rows, act, adapt, evaluate, group, inverse
from equiform.batching.answers import averaged, can_average
from equiform.canonicalizers.base import Canonicalizer
from equiform.canonicalizers.poses import Pose, pose_of
from equiform.geometry import Likeliest, Per
from equiform.geometry.arrays import as_tensor
from equiform.geometry.kinds import Kind, as_kinds, from_json, to_json

C4 = group("C4").elements
SCORES = torch.tensor([[0.0, 2, 1, -5], [3.0, 0, 0.5, -9], [-9.0, 0, -9, 1]])  # likeliest 1, 0, 3; then 2, 2, 1


class Known(Canonicalizer):
    """The pose of a picture by its number, which it has at every pixel but one."""

    name = "known"

    def __init__(self):
        super().__init__("C4")

    def forward(self, inputs: Any) -> Pose:
        return pose_of(torch.stack([SCORES[numbered(image)] for image in inputs]), self.elements)


def numbered(image: Tensor) -> int:
    return int(as_tensor(image).median())


def pictures(h: int = 4, w: int = 4, b: int = 3) -> Tensor:
    x = torch.arange(b)[:, None, None, None].expand(-1, 3, h, w).float().clone()
    x[..., 0, 1] += 0.4
    return x


def known(predictor: Any, outputs: Any = "invariant", **options: Any) -> Any:
    return adapt(predictor, "C4", outputs=outputs, canonicalizer=Known(), **options)


def numbers(x: Tensor) -> list[int]:
    return [numbered(image) for image in x]


def told(x: Tensor) -> Tensor:
    """Five numbers of a picture, which no turn leaves alone."""
    weight = torch.linspace(-3, 7, 5 * x.shape[-2] * x.shape[-1]).reshape(5, x.shape[-2], x.shape[-1]).sin()
    return torch.stack([x[:, 0].mul(one).sum((1, 2)) for one in weight], -1)


@dataclasses.dataclass(frozen=True)
class Frozen:
    boxes: Any
    count: int = dataclasses.field(init=False, default=0)


# --------------------------------------------------------------------------------------------------- arguments by row

PER_ROW = {
    "a list of words": (["a", "bb", "ccc"], "invariant", lambda q: [len(one) for one in q]),
    "a tuple of tensors": (tuple(torch.arange(5)[: n + 1] for n in range(3)), "invariant", lambda q: [len(one) for one in q]),
    "a tensor": (torch.arange(3), Invariant(), lambda q: q.tolist()),
    "an array of words": (np.array(["a", "bb", "ccc"]), Per("row", "invariant"), lambda q: [len(one) for one in q]),
    "transposed": (torch.arange(6).reshape(2, 3), Invariant(axis=1), lambda q: q[1].tolist()),
    "numbers in a list": ([4, 5, 6], Rows("invariant"), list),
}


@pytest.mark.parametrize("name", PER_ROW)
@pytest.mark.parametrize("top_k", [1, 2])
def test_arguments_go_with_their_rows(name, top_k):
    question, kind, read = PER_ROW[name]

    def asked(x: Tensor, q: Any) -> Tensor:
        return torch.tensor([n + 10.0 * one for n, one in zip(numbers(x), read(q), strict=True)])

    model = known(asked, inputs={"x": "image", "q": kind}, top_k=top_k)
    for x in (pictures(), pictures(4, 6)):  # the second is two sub-batches: one canvas each
        assert torch.allclose(model(x, question), asked(x, question))


@pytest.mark.parametrize(
    "given", [torch.ones(3), torch.ones(3, 2).numpy(), [1, 2, 3], (9, 8), ["a", "b"], [torch.ones(2)]], ids=str
)
def test_what_may_be_shared_or_by_row_is_refused(given):
    model = known(lambda x, w: told(x), inputs={"x": "image", "w": "invariant"})
    with pytest.raises(ValueError, match=r"input\['w'\].*Invariant\(axis=None\) where all rows share it"):
        model(pictures(4, 6), given)
    with pytest.raises(ValueError, match=r"the argument 'w' holds a .* but has no kind.*inputs=\{'w'"):
        known(lambda x, w: told(x))(pictures(), given)


@pytest.mark.parametrize("b", [1, 2, 3])
def test_class_weights_are_shared_whatever_the_batch(b):
    weights, seen = torch.tensor([1.0, 2, 3]), []

    def weighed(x: Tensor, w: Tensor, tag: str = "") -> Tensor:
        seen.append(w.clone())
        return told(x)[:, : len(w)] * w.mul_(2)

    model = known(weighed, inputs={"x": "image", "w": Invariant(axis=None)}, top_k=2)
    model(pictures(4, 6, b), weights, tag="a number or a word needs no kind")
    assert len(seen) > 1
    assert all(torch.equal(w, torch.tensor([1.0, 2, 3])) for w in (*seen, weights)), "what a predictor writes is its own"


def test_one_whole_batch_needs_no_answer():
    """Nothing is taken apart: as many weights as rows are right either way."""
    model = known(lambda x, w: x.mean((1, 2, 3))[:, None] * w, inputs={"x": "image", "w": "invariant"})
    assert model(pictures(), torch.ones(3)).shape == (3, 3)


def test_images_of_other_shapes_are_named(unchecked):
    for x, expected in ((torch.rand(8, 8), r"got \(8, 8\).*x\[None, None\]"), ([torch.rand(8, 8)], r"got \(8, 8\)")):
        with pytest.raises(ValueError, match=expected):
            known(told)(x)
    with pytest.raises(TypeError, match=r"masked array.*x\.filled"):
        known(told)(np.ma.masked_less(np.ones((1, 3, 4, 4)), 2))
    big = pictures().numpy().astype(">f4")
    assert torch.equal(known(lambda x: told(torch.as_tensor(x)))(big), known(told)(pictures()))


# ----------------------------------------------------------------------------------------------------- answers by row

BOXES = torch.tensor([[0.0, 1, 2, 3]])
ANSWERS = {
    "words": (lambda x: [f"{n}" for n in numbers(x)], "invariant", lambda y: y == ["0", "1", "2"]),
    "words in a dict": (lambda x: {"t": [f"{n}" for n in numbers(x)]}, "invariant", lambda y: y == {"t": ["0", "1", "2"]}),
    "an array of words": (
        lambda x: np.array([f"{n}" for n in numbers(x)]),
        "invariant",
        lambda y: y.tolist() == ["0", "1", "2"],
    ),
    "a tuple of numbers": (lambda x: tuple(numbers(x)), "invariant", lambda y: y == (0, 1, 2)),
    "a tuple of tensors": (lambda x: (told(x),) * 3, "invariant", lambda y: torch.equal(y[1][1], told(pictures(4, 6))[1])),
    "a tuple by row": (
        lambda x: tuple(torch.ones(n) for n in numbers(x)),
        "invariant",
        lambda y: list(map(len, y)) == [0, 1, 2],
    ),
    "a generator": (lambda x: (n for n in numbers(x)), "invariant", lambda y: y == [0, 1, 2]),
    "a loss": (lambda x: {"loss": float(len(x)), "n": told(x)}, "invariant", lambda y: y["loss"] == pytest.approx(5 / 3)),
    "a list of tensors": (
        lambda x: [torch.arange(n) for n in numbers(x)],
        "invariant",
        lambda y: list(map(len, y)) == [0, 1, 2],
    ),
    "boxes of all images": (
        lambda x: {"boxes": BOXES.repeat(3, 1), "image_id": torch.tensor([0, 0, len(x) - 1])},
        {"boxes": "boxes", "image_id": "invariant"},
        lambda y: sorted(y["image_id"].tolist()) == [0, 0, 1, 1, 1, 2],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_come_back_in_the_order_of_the_rows(name):
    predictor, outputs, right = ANSWERS[name]
    assert right(known(predictor, outputs)(pictures(4, 6)))


@pytest.mark.parametrize(("name", "kind"), [("whose", "batch"), ("image_id", "invariant")])
def test_boxes_of_all_images_turn_with_their_own(name, kind):
    def found(x: Tensor, *whose: int) -> dict:
        return {"boxes": BOXES.repeat(3, 1), name: torch.tensor(whose or [2, 0, 2]), "scores": torch.tensor([0.1, 0.2, 0.3])}

    kinds = {"boxes": "boxes", "scores": "invariant", name: kind}
    boxes = known(found, kinds)(pictures())["boxes"]
    assert torch.equal(boxes, torch.cat([act(C4[k : k + 1], BOXES, "boxes", (4, 4)) for k in (3, 1, 3)]))
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2.*Invariant\(\)"):
        known(lambda x: found(x, 7, 8, 9), kinds)(pictures())


REFUSED = {
    "a list of boxes": (lambda x: [BOXES.repeat(len(x), 1)] * len(x), "boxes", r"Rows\('boxes'\).*\['boxes', \.\.\.\]"),
    "a tuple of boxes": (lambda x: (BOXES.repeat(len(x), 1),) * len(x), "boxes", r"Rows\('boxes'\).*\['boxes', \.\.\.\]"),
    "none for some": (lambda x: {"m": x if x.shape[-1] > 4 else None}, "image", r"\['m'\]: None for some rows"),
    "other keys": (lambda x: {f"{x.shape[-1]}": x}, "image", "return the same for all"),
    "other numbers": (lambda x: BOXES.repeat(len(x), x.shape[-1], 1), "boxes", r"shape \(\d, 4\) for some .*Rows\('boxes'\)"),
    "a fixed number": (lambda x: torch.rand(7), "invariant", r"one entry per row, or the same .*Invariant\(axis=None\)"),
    "a number": (lambda x: {"n": numbers(x)[0]}, "invariant", "then 1, for sub-batches of .* one entry per row"),
    "too many logits": (lambda x: torch.rand(8, 5), "logits", r"logits have one entry per row, \d in all; got shape \(8, 5\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_answers_that_are_not_clear_are_refused(name, unchecked):
    predictor, outputs, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        known(predictor, outputs)(torch.cat([pictures(4, 6), pictures(4, 6, 2)[1:]])[[0, 2, 1, 3]])


def test_answers_of_other_makes():
    frozen = known(lambda x: Frozen(BOXES.expand(len(x), 1, 4)), {"boxes": "boxes", "count": "invariant"})(pictures())
    assert type(frozen) is Frozen
    assert torch.equal(frozen.boxes[0], act(C4[1:2], BOXES[None], "boxes", (4, 4))[0])
    spectrum = known(lambda x: torch.complex(x, 2 * x), "image", top_k=2)(pictures())
    assert torch.allclose(spectrum, torch.complex(pictures(), 2 * pictures()))
    assert act(group("C8").elements[1:2], spectrum, "image").dtype == spectrum.dtype
    big = known(lambda x: x[:, :1].numpy().astype(">f4"), "mask")(pictures())
    assert np.array_equal(big, pictures()[:, :1])
    empty = known(lambda x: [{"boxes": torch.tensor([])} for _ in x], [{"boxes": "boxes"}])(pictures())
    assert [one["boxes"].shape for one in empty] == [(0,)] * 3


def test_a_traced_model_would_keep_its_pose():
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace would keep the pose.*torch\.compile"), pytest.warns():
        torch.jit.trace(known(told), (pictures(),), check_trace=False)


# -------------------------------------------------------------------------------------------------- average by owner


def poses(predictor: Any, x: Tensor, kind: Any = "invariant") -> Tensor:
    """The answers for the two likeliest poses of each row, moved back (b, 2, ...), and their weights (b, 2)."""
    index = SCORES[: len(x)].topk(2).indices
    moved = [act(C4[k], predictor(act(inverse(C4[k]), x)), kind) for k in index.T]
    return torch.stack(moved, 1)


WEIGHT = SCORES.topk(2).values.softmax(-1)[..., None]
MEANS = {
    "invariant": lambda each: (each * WEIGHT).sum(1),
    "logits": lambda each: (each.softmax(-1) * WEIGHT).sum(1).log() + (each.logsumexp(-1, keepdim=True) * WEIGHT).sum(1),
}


@pytest.mark.parametrize("name", MEANS)
def test_average_by_kind(name):
    x = pictures()
    expected = MEANS[name](poses(told, x))
    assert torch.allclose(known(told, name, top_k=2)(x), expected, atol=1e-3)
    assert np.allclose(known(lambda x: told(x).numpy(), name, top_k=2)(x), expected, atol=1e-3)
    transposed = {"invariant": Invariant, "logits": Logits}[name](axis=1)
    assert torch.allclose(known(lambda x: told(x).T, transposed, top_k=2)(x), known(told, name, top_k=2)(x).T)
    assert not torch.allclose(known(told, name)(x), expected, atol=1e-3), "control: the likeliest pose alone"


def test_sigmoids_are_averaged_one_by_one():
    x, weight = torch.randn(4, 3) * 30, torch.tensor([0.75, 0.25, 0.5, 0.5])
    ranks = [torch.tensor([0, 2]), torch.tensor([1, 3])]
    mean = averaged(x, "sigmoid", weight, torch.tensor([0, 0, 1, 1]), ranks)
    expected = (x.double().sigmoid() * weight[:, None]).reshape(2, 2, 3).sum(1).logit()
    assert torch.allclose(mean.double(), expected, rtol=1e-4, atol=1e-4)
    sure = averaged(
        torch.full((2, 1), 200.0), "sigmoid", weight[:2], torch.tensor([0, 0]), [torch.tensor([0]), torch.tensor([1])]
    )
    assert sure.item() == pytest.approx(200), "in logarithms nothing is lost"


def test_the_likeliest_pose_answers_for_what_is_not_to_be_averaged():
    x, kinds = pictures(), Likeliest({"masks": "image", "boxes": [Boxes(), Rows("boxes")]})
    assert repr(kinds["masks"]) == "image(averaged=False)"
    assert kinds["boxes"][1] == Rows(Kind("boxes"))
    assert can_average(as_kinds({"a": "mask"}))
    assert not can_average(kinds)
    for kind, predictor in (
        ("mask", lambda x: x > 1.2),
        (kinds["masks"], lambda x: x * x),
        ("invariant", lambda x: told(x).long()),
    ):
        beside = known(lambda x: {"x": predictor(x), "y": told(x)}, {"x": kind, "y": "invariant"}, top_k=2)  # noqa: B023
        assert torch.equal(beside(x)["x"], known(predictor, kind)(x))


def test_said_owners_are_kinds():
    kind = Per("row", "vectors")
    assert (repr(kind), from_json(to_json(kind))) == ("vectors(per='row')", kind)
    assert Per("point", {"a": "vectors", "b": Rows("boxes")})["b"] == Rows(Kind("boxes"))
    with pytest.raises(ValueError, match="unknown owner 'graph'; known: row, point, edge"):
        Per("graph", "vectors")


# --------------------------------------------------------------------------------------------------------- in evaluate


def test_a_tensor_is_the_list_of_its_rows(unchecked):
    model = adapt(
        lambda images: [{"boxes": torch.tensor([[1.0, 1, 4, 4]])} for _ in images],
        "C4",
        inputs=Rows("image"),
        outputs=Rows({"boxes": "boxes"}),
    )
    x = torch.rand(2, 3, 16, 24)
    for answer, expected in zip(model(x), model(list(x)), strict=True):
        assert torch.equal(answer["boxes"], expected["boxes"])
    with pytest.raises(TypeError, match=r"x: a list with an entry per row is expected; got a Tensor.*collate_fn"):
        act(C4[1:2], x, Rows("image"))
    truth = [{"boxes": torch.tensor([[1.0, 1, 4, 4]])}] * 2
    loader = torch.utils.data.DataLoader([*zip(x, truth, strict=True)], batch_size=2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"target: a list with an entry per row is expected; got a dict.*collate_fn"):
        evaluate(model, loader, metric="box_map")
    with pytest.raises(ValueError, match=r"targets of this metric are labels, one tensor; got a list of dict: .* box_map"):
        evaluate(model, (list(x), truth))


def test_shared_answers_are_of_one_shape(unchecked):
    model = adapt(lambda x: torch.rand(2 * len(x), 5), "C4", outputs="invariant", canonicalizer=OrbitCanonicalizer("C4"))
    with pytest.raises(ValueError, match=r"one entry per row, or the same for all, of one shape"):
        model(torch.rand(15, 3, 16, 24))
