"""Kinds as values, and nested values moved leaf by leaf."""

import dataclasses
import json
import math
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import Tensor

from equiform import (
    Boxes,
    Cyclic,
    Dihedral,
    Field,
    Image,
    Invariant,
    Likeliest,
    Logits,
    Mask,
    Points,
    Regular,
    Rows,
    Tokens,
    act,
    group,
    inverse,
)
from equiform.actions import ACTIONS, BORDERS, BOX_FORMATS, INTERPOLATIONS
from equiform.kinds import Kind, as_kinds, from_json, to_json
from equiform.moving import find_logits, first_image, image_sizes, snap
from equiform.poses import choose
from equiform.rows import average, join, take

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


# ------------------------------------------------------------------------------------------------------- kinds as values


def test_names_become_kinds():
    assert as_kinds("mask") == Kind("mask")
    assert as_kinds({"a": ["mask", (Boxes(),)]}) == {"a": [Kind("mask"), (Boxes(),)]}
    assert as_kinds("regular", group("D4")) == Regular("D4")
    assert as_kinds(Rows("regular"), group("D4")) == Rows(Regular("D4"))
    assert repr(Kind("mask")) == "'mask'"
    assert repr(Boxes("xywh")) == "boxes(format='xywh', normalized=False)"


def test_unknown_kinds_and_options_list_the_known_ones(unchecked):
    with pytest.raises(ValueError, match=f"unknown kind 'pixels'; known: {', '.join(sorted(ACTIONS))}"):
        as_kinds("pixels")
    with pytest.raises(ValueError, match="unknown kind 'pixels'"):
        act(QUARTER, {"a": IMAGE}, {"a": "pixels"})
    for bad in (3, None, Boxes, torch.rand(2)):
        with pytest.raises(TypeError, match=r"a kind is a name, a Kind, or a dict, list or tuple of them; got a "):
            as_kinds({"a": bad})
    for make, message in [
        (lambda: Image("cubic"), f"unknown interpolation 'cubic'; known: {', '.join(INTERPOLATIONS)}"),
        (lambda: Image(border="wrap"), f"unknown border 'wrap'; known: {', '.join(BORDERS)}"),
        (lambda: Field("cubic"), "unknown interpolation 'cubic'"),
        (lambda: Field(border="wrap"), "unknown border 'wrap'"),
        (lambda: Mask("wrap"), "unknown border 'wrap'"),
        (lambda: Tokens(0), "patch is a whole number from 1 on; got 0"),
        (lambda: Tokens(2, prefix=-1), "prefix is a whole number from 0 on; got -1"),
        (lambda: Invariant(axis=-1), "axis is a number from 0 on, or None where .*; got -1"),
        (lambda: Boxes("yolo"), f"unknown format 'yolo'; known: {', '.join(BOX_FORMATS)}"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


OPTIONS = [
    *[Kind(name) for name in ACTIONS],
    *[Image(i, b) for i in INTERPOLATIONS for b in BORDERS],
    *[Boxes(f, n) for f in BOX_FORMATS for n in (False, True)],
    *[Tokens(14), Tokens((2, 3), 5, 1), Invariant(None), Invariant(1), Logits(1), Likeliest("mask"), Likeliest(Tokens(8))],
    *[Points(True), Field("nearest", "edge"), Mask("reflect"), Regular("D4"), Rows("image"), Rows({"boxes": "boxes"})],
    *[{"a": "mask", "b": ["points", ("boxes", Boxes("xywh"))]}, ("image", "points"), Rows((Rows("mask"), "boxes"))],
]


@pytest.mark.parametrize("kinds", OPTIONS, ids=repr)
def test_json_round_trip(kinds):
    kinds = as_kinds(kinds)
    assert from_json(json.loads(json.dumps(to_json(kinds)))) == kinds


def test_json_tells_kinds_apart():
    texts = [str(to_json(as_kinds(kinds))) for kinds in OPTIONS]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    "value", [{"kind": "smell"}, {"kind": 3}, {"rows": 1}, "mask", None, {}, {"list": {}}, {"set": []}], ids=str
)
def test_json_of_something_else(value):
    with pytest.raises(ValueError, match="not the description of a kind"):
        from_json(value)


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


# ---------------------------------------------------------------------------------------------------------- rows of values


def test_first_image_and_sizes():
    kinds = as_kinds({"p": "points", "image": "image", "more": "image"})
    value = {"p": torch.rand(2, 1, 2), "image": IMAGE, "more": torch.rand(2, 3, 4, 4)}
    assert first_image(value, kinds) is IMAGE
    assert image_sizes(value, kinds) == [(5, 8), (5, 8)]
    assert first_image(value["p"], kinds["p"]) is None
    listed = [torch.rand(3, 2, 4), torch.rand(3, 5, 5)]
    assert image_sizes(listed, Rows(Kind("image"))) == [(2, 4), (5, 5)]


def test_take_and_join_are_each_others_inverse():
    kinds = as_kinds({"x": "image", "rows": Rows("points"), "n": "invariant", "a": "invariant"})
    value = {"x": torch.rand(5, 3, 2, 2), "rows": [torch.rand(i, 2) for i in range(5)], "n": 3, "a": np.arange(5)}
    rows = [torch.tensor([3, 0]), torch.tensor([1, 4, 2])]
    parts = [take(value, kinds, part, 5) for part in rows]
    assert torch.equal(parts[0]["x"], value["x"][[3, 0]])
    assert [len(entry) for entry in parts[1]["rows"]] == [1, 4, 2]
    assert parts[0]["n"] == 3
    back = join(parts, kinds, rows)
    assert torch.equal(back["x"], value["x"])
    assert [len(entry) for entry in back["rows"]] == list(range(5))
    assert np.array_equal(back["a"], value["a"])
    losses = join([torch.tensor(1.0), torch.tensor(2.0)], Kind("invariant"), rows)
    assert losses == pytest.approx((2 * 1.0 + 3 * 2.0) / 5), "a number per sub-batch is averaged over rows"


def test_what_all_rows_share_is_shared_even_where_there_are_as_many():
    """As many texts as images: nothing but the kind tells that a text is no row."""
    kinds = {"texts": Invariant(axis=None), "per row": Kind("invariant"), "transposed": Logits(axis=1)}
    value = {"texts": torch.rand(4, 6), "per row": torch.rand(4, 6), "transposed": torch.rand(7, 4)}
    rows = [torch.tensor([2, 0]), torch.tensor([3, 1])]
    parts = [take(value, kinds, part, 4) for part in rows]
    assert parts[1]["texts"] is value["texts"]
    assert torch.equal(parts[1]["per row"], value["per row"][[3, 1]])
    assert torch.equal(parts[1]["transposed"], value["transposed"][:, [3, 1]])
    back = join(parts, kinds, rows)
    assert all(torch.equal(back[key], value[key]) for key in value)
    two = {"texts": torch.rand(2, 6)}  # as many as rows in each part
    assert torch.equal(join([two, two], kinds["texts"], rows)["texts"], two["texts"])
    arrays = {key: tensor.numpy() for key, tensor in value.items()}
    assert np.array_equal(take(arrays, kinds, rows[0], 4)["transposed"], arrays["transposed"][:, [2, 0]])


def test_average_of_transposed_and_shared_answers():
    chosen = choose(torch.tensor([[2.0, 1.0, -5.0], [0.0, 3.0, 0.5]]), top_k=2)
    x = torch.rand(4, 3)
    for kind, transposed in ((Kind("invariant"), Invariant(axis=1)), (Kind("logits"), Logits(axis=1))):
        assert torch.equal(average(x.T, transposed, chosen), average(x, kind, chosen).T)
    assert average(x, Invariant(axis=None), chosen) is x
    assert find_logits({"t": x.T, "l": x}, {"t": Logits(axis=1), "l": Logits()}) is x


def test_the_likeliest_pose_answers_for_what_is_not_to_be_averaged():
    chosen = choose(torch.tensor([[2.0, 1.0, -5.0], [0.0, 3.0, 0.5]]), top_k=2)
    x = torch.rand(4, 3, 2, 2)
    kinds = Likeliest({"masks": "image", "boxes": [Boxes(), Rows("boxes")]})
    assert repr(kinds["masks"]) == "image(averaged=False)"
    assert kinds["boxes"][1] == Rows(Kind("boxes"))
    assert torch.equal(average(x, kinds["masks"], chosen), x[[0, 2]])
    assert not torch.equal(average(x, Kind("image"), chosen), x[[0, 2]]), "control"
    assert torch.equal(act(QUARTER, x, kinds["masks"]), torch.rot90(x, 1, (-2, -1))), "it moves like the others"


def test_average_by_kind():
    scores = torch.tensor([[2.0, 1.0, -5.0], [0.0, 3.0, 0.5]])
    chosen = choose(scores, top_k=2)
    w = torch.stack([s.topk(2).values.softmax(0) for s in scores])
    x = torch.rand(4, 3)
    pairs = x.reshape(2, 2, 3)
    mean = (pairs * w[..., None]).sum(1)
    assert torch.allclose(average(x, Kind("invariant"), chosen), mean, atol=1e-3)
    assert np.allclose(average(x.numpy(), Kind("invariant"), chosen), mean, atol=1e-3)
    expected = (pairs.softmax(-1) * w[..., None]).sum(1).log()
    assert torch.allclose(average(x, Kind("logits"), chosen), expected, atol=1e-3)
    for kind, value in [("boxes", torch.rand(4, 3, 4)), ("invariant", torch.arange(4)), ("mask", torch.rand(4, 1, 2, 2) > 0.5)]:
        assert torch.equal(average(value, Kind(kind), chosen), value[[0, 2]]), "the likeliest pose answers"
    assert average([1, 2, 3, 4], Rows(Kind("invariant")), chosen) == [1, 3]
    assert (
        average({"tag": "a", "n": torch.tensor(2.0)}, {"tag": Kind("invariant"), "n": Kind("invariant")}, chosen)["tag"] == "a"
    )
    assert not math.isclose(mean[0, 0], pairs[0, 0, 0]), "control: the mean is not the likeliest"
