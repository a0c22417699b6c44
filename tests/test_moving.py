"""Nested values moved leaf by leaf, each by its kind."""

import dataclasses
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import Tensor

from equiform import Cyclic, Dihedral, Points, Rows, act, inverse
from equiform.geometry import Tokens
from equiform.geometry.kinds import Kind, as_kinds, from_json, to_json
from equiform.geometry.moving import first_image, image_sizes, snap

QUARTER = Cyclic(4).elements[1:2]
D4 = Dihedral(4).elements
Pair = namedtuple("Pair", ["image", "points"])


@dataclasses.dataclass
class Output:
    image: Tensor
    points: Tensor | None = None
    note: str = "kept"


# ----------------------------------------------------------------------------------------------------------- structures


def parts() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, 5, 8), 5 * torch.rand(2, 4, 2)


STRUCTURES = {
    "dict": (dict, {"image": "image", "points": "points"}),
    "ordered dict": (OrderedDict, {"image": "image", "points": "points"}),
    "list": (lambda **v: list(v.values()), ["image", "points"]),
    "tuple": (lambda **v: tuple(v.values()), ("image", "points")),
    "named tuple": (Pair, ("image", "points")),
    "named tuple by name": (Pair, {"image": "image", "points": "points"}),
    "dataclass": (Output, {"image": "image", "points": "points", "note": "invariant"}),
}


DICTS = ("dict", "ordered dict")


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_keep_their_type(name):
    make, kinds = STRUCTURES[name]
    image, points = parts()
    value = make(image=image, points=points)
    moved = act(QUARTER, value, kinds)
    assert type(moved) is type(value)
    read = [moved.image, moved.points] if hasattr(moved, "image") else list(moved.values() if name in DICTS else moved)
    assert torch.equal(read[0], torch.rot90(image, 1, (-2, -1)))
    assert torch.equal(read[1], act(QUARTER, points, "points", (5, 8))), "the canvas is that of the image"


def test_values_of_other_types():
    image, points = parts()
    assert act(QUARTER, Output(image, None, "said"), {"image": "image", "note": "invariant"}).note == "said"
    nested = {"a": [{"b": (image, points)}, points], "c": None, "loss": 0.25}
    moved = act(QUARTER, nested, {"a": [{"b": ("image", "points")}, "points"], "loss": "invariant"})
    assert torch.equal(moved["a"][0]["b"][0], torch.rot90(image, 1, (-2, -1)))
    assert (moved["c"], moved["loss"]) == (None, 0.25)


def test_one_kind_speaks_for_all_below():
    image = torch.rand(2, 3, 5, 8)
    moved = act(QUARTER, {"a": image, "b": [image, (image,)]}, "image")
    assert torch.equal(moved["b"][1][0], torch.rot90(image, 1, (-2, -1)))


def test_model_outputs_of_transformers():
    utils = pytest.importorskip("transformers.utils")

    @dataclasses.dataclass
    class Answer(utils.ModelOutput):
        loss: Tensor | None = None
        logits: Tensor | None = None
        masks: Tensor | None = None

    value = Answer(logits=torch.rand(2, 3), masks=torch.rand(2, 1, 5, 8))
    moved = act(QUARTER, value, {"logits": "logits", "masks": "mask"})
    assert type(moved) is Answer
    assert list(moved.keys()) == ["logits", "masks"]
    assert torch.equal(moved.masks, torch.rot90(value.masks, 1, (-2, -1)))
    assert moved["masks"] is moved.masks is moved.to_tuple()[1]
    assert torch.equal(moved.logits, value.logits)
    assert value.masks.shape == (2, 1, 5, 8)
    optional = {"logits": "logits", "masks": "mask", "loss": "invariant", "field of another version": "mask"}
    assert torch.equal(act(QUARTER, value, optional).masks, moved.masks), "its fields are optional"
    with pytest.raises(ValueError, match=r"x\['masks'\]: has no kind; known here: 'logits'. Give it a kind, or leave it out"):
        act(QUARTER, value, {"logits": "logits"}, (5, 8))


IMAGE = torch.rand(2, 3, 5, 8)
DIFFERENT = [
    ({"a": IMAGE}, {"a": "image", "b": "mask"}, r"x\['b'\]: expected by the kinds, but the value has only 'a'"),
    ({"a": IMAGE, "c": IMAGE}, {"a": "image"}, r"x\['c'\]: has no kind; known here: 'a'"),
    ((IMAGE, IMAGE), ("image", "mask", "mask"), "x: expected 3 values in a tuple, got 2 values"),
    ([IMAGE, IMAGE, IMAGE], ["image", "mask"], r"x: expected 2 values in a list, got 3 values.*equiform.Rows\(kinds\)"),
    (IMAGE, {"a": "image"}, "x: expected a dict with 'a', got a Tensor"),
    ({"a": (IMAGE, {"b": IMAGE})}, {"a": ("image", {"c": "image"})}, r"x\['a'\]\[1\]\['c'\]: expected by the kinds"),
    ({"a": {"b": torch.rand(2, 7)}}, {"a": {"b": "boxes"}}, r"x\['a'\]\['b'\]: boxes have shape \(b, ..., 4\); got \(2, 7\)"),
    ({"a": torch.rand(3, 4, 4)}, {"a": "image"}, r"x\['a'\]: 2 elements for 'image' of shape \(3, 4, 4\): one element per row"),
    ({"boxes": torch.rand(2, 1, 4)}, {"boxes": "boxes"}, r"x\['boxes'\]: 'boxes' needs the canvas.*canvas=\(height, width\)"),
    (torch.tensor(1.0), "image", r"x: 2 elements for 'image' of shape \(\)"),
    ([IMAGE[0]], Rows("image"), "x: expected one entry per row, 2 in all; got 1"),
    ([{"boxes": torch.rand(3, 4)}, {"boxes": torch.rand(3, 5)}], Rows({"boxes": "boxes"}), r"x\[1\]\['boxes'\]: boxes have"),
]


@pytest.mark.parametrize(("value", "kinds", "message"), DIFFERENT)
def test_the_first_leaf_that_differs_is_named(value, kinds, message, unchecked):
    canvas = None if "needs the canvas" in message else (5, 8)
    with pytest.raises(ValueError, match=message):
        act(D4[[1, 3]], value, kinds, canvas)


def test_leaves_of_another_type_are_named():
    with pytest.raises(TypeError, match=r"x\['a'\]: 'mask' is for a tensor or an array, got a str"):
        act(QUARTER, {"a": "text"}, {"a": "mask"})
    with pytest.raises(TypeError, match=r"an image is a tensor or an array, got a float"):
        act(QUARTER, {"a": 0.5}, {"a": "image"})


BAD_ELEMENTS = [torch.eye(3), torch.eye(3).long()[None], torch.eye(5)[None], 90, "C4", np.eye(3)[None]]


@pytest.mark.parametrize("g", BAD_ELEMENTS, ids=["no batch", "int", "5 x 5", "number", "name", "array"])
def test_elements_are_checked_at_the_door(g, unchecked):
    with pytest.raises(
        ValueError, match=r"g must be elements, floating point of shape \(b, 3, 3\), or \(b, 4, 4\) in space; got"
    ):
        act(g, IMAGE)


# ----------------------------------------------------------------------------------------------------------------- numpy


def test_numpy_in_numpy_out():
    x = {"image": IMAGE.numpy(), "mask": (9 * IMAGE[:, :1]).long().numpy(), "boxes": torch.rand(2, 3, 4).double().numpy()}
    kinds = {"image": "image", "mask": "mask", "boxes": "boxes"}
    moved = act(D4[[1, 3]], x, kinds)
    expected = act(D4[[1, 3]], {k: torch.from_numpy(v) for k, v in x.items()}, kinds)
    for key, value in moved.items():
        assert isinstance(value, np.ndarray)
        assert value.dtype == x[key].dtype
        assert np.array_equal(value, expected[key].numpy())
        assert not np.shares_memory(value, x[key])


def test_arrays_that_torch_does_not_take_as_they_are():
    """Read-only (np.asarray of a PIL image) and mirrored arrays (a bgr image), without a warning."""
    plain = np.random.default_rng(0).random((2, 3, 5, 8))
    frozen = plain.copy()
    frozen.flags.writeable = False
    assert np.array_equal(act(QUARTER, frozen), act(QUARTER, plain))
    assert np.array_equal(act(QUARTER, plain[:, ::-1]), act(QUARTER, plain)[:, ::-1])


# ------------------------------------------------------------------------------------------------------------------ rows


def test_rows_move_each_entry_on_its_own_canvas():
    sizes = [(5, 8), (4, 4), (7, 3)]
    images = [torch.rand(3, *size) for size in sizes]
    g = D4[[1, 6, 4]]
    moved = act(g, images, Rows("image"))
    assert isinstance(moved, list)
    for i in range(3):
        assert torch.equal(moved[i], act(g[i : i + 1], images[i][None])[0])
    assert torch.equal(act(QUARTER, images, Rows("image"))[2], torch.rot90(images[2], 1, (-2, -1))), "one for all rows"
    with_boxes = [{"image": image, "boxes": torch.rand(i, 4), "name": f"{i}"} for i, image in enumerate(images)]
    kinds = Rows({"image": "image", "boxes": "boxes", "name": "invariant"})
    answer = act(g, with_boxes, kinds)
    for i in range(3):
        assert torch.equal(answer[i]["boxes"], act(g[i : i + 1], with_boxes[i]["boxes"][None], "boxes", sizes[i])[0])
        assert answer[i]["name"] == f"{i}"
    back = act(inverse(g), answer, kinds)
    assert all(torch.equal(a["image"], b) for a, b in zip(back, images, strict=True))


def test_a_list_of_one_dict_is_one_dict_per_row():
    assert as_kinds([{"boxes": "boxes"}]) == Rows({"boxes": Kind("boxes")})
    boxes = [{"boxes": torch.rand(n, 4)} for n in (2, 0, 3)]
    moved = act(D4[[1, 2, 5]], boxes, [{"boxes": "boxes"}], (5, 8))
    assert torch.equal(moved[2]["boxes"], act(D4[5:6], boxes[2]["boxes"][None], "boxes", (5, 8))[0])
    assert moved[1]["boxes"].shape == (0, 4)


# ------------------------------------------------------------------------------------------------------------------ snap


def test_snap_makes_quarter_turns_exact():
    canvas, kind = (333, 517), as_kinds("points")
    p = torch.rand(1, 2000, 2) * 500
    once = snap(p, kind, canvas)

    def there_and_back(x: Tensor) -> Tensor:
        return act(D4[3:4], act(QUARTER, x, "points", canvas), "points", (517, 333))

    assert torch.equal(there_and_back(once), once)
    assert not torch.equal(there_and_back(p), p), "control: without it they are rounded"
    assert torch.equal(snap(once, kind, canvas), once)
    assert (once - p).abs().max() <= 2**10 * torch.finfo(torch.float32).eps
    assert (
        torch.equal(snap(p.numpy(), kind, canvas), once.numpy())
        if False
        else np.array_equal(snap(p.numpy(), kind, canvas), once)
    )


def test_snap_touches_coordinates_only():
    x = {
        "image": torch.rand(2, 1, 3, 3),
        "v": torch.rand(2, 5),
        "half": torch.rand(2, 4).half(),
        "whole": torch.ones(2, 4).long(),
    }
    kinds = as_kinds({"image": "image", "v": "invariant", "half": "boxes", "whole": "boxes"})
    after = snap(x, kinds, (9, 9))
    assert all(after[key] is x[key] for key in x)
    tokens = torch.rand(2, 5, 3)
    assert snap(tokens, Tokens(4), (9, 9)) is tokens, "they need the canvas and are no places on it"
    rotated = torch.rand(1, 3, 5)
    assert torch.equal(snap(rotated, as_kinds("rotated_boxes"), (9, 9))[..., 4], rotated[..., 4])
    assert not torch.equal(snap(rotated, as_kinds("rotated_boxes"), (9, 9)), rotated)
    seen = snap(rotated[..., :3], Points(extra=1), (9, 9))
    assert torch.equal(seen[..., 2], rotated[..., 2])
    assert not torch.equal(seen[..., :2], rotated[..., :2])


def test_numbers_behind_a_point_stay(unchecked):
    p = torch.rand(2, 5, 4) * 5
    moved = act(D4[[1, 7]], p, Points(extra=2), (5, 8))
    assert torch.equal(moved[..., :2], act(D4[[1, 7]], p[..., :2], "points", (5, 8)))
    assert torch.equal(moved[..., 2:], p[..., 2:])
    assert from_json(to_json(Points(extra=2))) == Points(extra=2)
    assert from_json({"kind": "points", "normalized": True}) == Points(normalized=True), "as saved by 0.1"
    for extra in (-1, 1.0):
        with pytest.raises(ValueError, match="extra is how many numbers"):
            Points(extra=extra)


def test_a_canvas_for_every_row_of_a_list():
    boxes = [torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(0, 4), torch.tensor([[1.0, 2, 3, 4]])]
    canvases = [(6, 8), (5, 5), (9, 4)]
    moved = act(D4[[1, 2, 0]], boxes, Rows("boxes"), canvases)
    assert moved[0].tolist() == [[2, 5, 4, 7]], "a quarter turn puts x where y was, and 8 - x where x was"
    assert moved[1].shape == (0, 4)
    assert torch.equal(moved[2], boxes[2])
    assert torch.equal(act(QUARTER, torch.stack([boxes[0], boxes[2]]), "boxes", [(6, 8)] * 2)[0], moved[0])
    together = act(D4[[1, 0]], torch.stack([boxes[0], boxes[2]]), "boxes", [(6, 8), (9, 4)])
    assert torch.equal(together, torch.stack([moved[0], moved[2]]))
    coarse = [{"map": torch.rand(1, 3, 4), "boxes": boxes[0]}]
    got = act(QUARTER, coarse, Rows({"map": "image", "boxes": "boxes"}), (6, 8))[0]["boxes"]
    assert torch.equal(got, moved[0]), "on the canvas that is given, not on that of a coarser map beside them"
    with pytest.raises(ValueError, match=r"needs the canvas.*or a list of them by row"):
        act(QUARTER, torch.stack([boxes[0]] * 3), "boxes", [(6, 8), (9, 4)])


def test_snap_lets_the_gradient_through():
    p = torch.rand(1, 3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad((snap(p, as_kinds("points"), (64, 64)) * 3).sum(), p)
    assert torch.equal(gradient, torch.full_like(p, 3))


def test_first_image_and_sizes():
    kinds = as_kinds({"p": "points", "image": "image", "more": "image"})
    value = {"p": torch.rand(2, 1, 2), "image": IMAGE, "more": torch.rand(2, 3, 4, 4)}
    assert first_image(value, kinds) is IMAGE
    assert image_sizes(value, kinds) == [(5, 8), (5, 8)]
    assert first_image(value["p"], kinds["p"]) is None
    listed = [torch.rand(3, 2, 4), torch.rand(3, 5, 5)]
    assert image_sizes(listed, Rows(Kind("image"))) == [(2, 4), (5, 5)]
