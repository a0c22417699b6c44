"""The laws of every kind in the table of actions; a kind without a sample here fails."""

import contextlib
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

import equiform
from asserting import refused
from equiform import Boxes, Cyclic, Dihedral, Points, act, group, inverse
from equiform.geometry import Clip, Field, Image, Mask, Regular, RotatedBoxes, Shift, Tokens
from equiform.geometry.actions import (
    ACTIONS,
    act_axial_vectors,
    act_invariant,
    act_pseudoscalars,
    grid_code,
    moved_size,
    moved_sizes,
)
from equiform.geometry.groups import turn
from equiform.geometry.kinds import Kind, as_kinds
from equiform.geometry.moving import snap
from equiform.geometry.scales import resizing
from equiform.geometry.shifts import shift

DTYPES = [torch.uint8, torch.bool, torch.int64, torch.float16, torch.float32, torch.float64, torch.bfloat16]
CANVASES = [(6, 6), (5, 8), (9, 4), (7, 7), (1, 1)]
D4 = Dihedral(4).elements


def pixels(b: int, h: int, w: int, dtype: torch.dtype = torch.float32, channels: int = 3) -> torch.Tensor:
    noise = torch.rand(b, channels, h, w)
    return noise > 0.5 if dtype == torch.bool else (noise * (1 if dtype.is_floating_point else 200)).to(dtype)


def on_canvas(b: int, k: int, h: int, w: int) -> torch.Tensor:
    return torch.rand(b, k, 2) * torch.tensor([w, h])


def xyxy(b: int, h: int, w: int) -> torch.Tensor:
    a, c = on_canvas(b, 4, h, w), on_canvas(b, 4, h, w)
    return torch.cat([torch.minimum(a, c), torch.maximum(a, c)], -1)


def corner_size(b: int, h: int, w: int) -> torch.Tensor:
    box = xyxy(b, h, w)
    return torch.cat([box[..., :2], box[..., 2:] - box[..., :2]], -1)


def shares(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    return x / torch.tensor([w, h] * (x.shape[-1] // 2))


def some(b: int, k: int) -> torch.Tensor:
    """One where there is something, else zero."""
    return (torch.rand(b, k, 1) > 0.3).float()


def tokens(b: int, num: int) -> torch.Tensor:
    return torch.randn(b, num, 4)


# per kind of the table: (the kind with its options, b rows of data on a canvas)
Sample = tuple[object, Callable[[int, int, int], torch.Tensor]]
SAMPLES: dict[str, list[Sample]] = {
    "image": [
        *[(kind, pixels) for kind in ("image", Image("nearest", "edge"), Image(pseudoscalar=True))],
        ("image", lambda b, h, w: pixels(b, h, w)[:, 0]),
    ],
    "clip": [(kind, lambda b, h, w: pixels(2 * b, h, w).unflatten(0, (b, 2))) for kind in ("clip", Clip("nearest", "edge"))],
    "mask": [(kind, lambda b, h, w: (9 * pixels(b, h, w, channels=1)).long()) for kind in ("mask", Mask("edge"))],
    "points": [
        ("points", lambda b, h, w: on_canvas(b, 5, h, w)),
        ("points", lambda b, h, w: on_canvas(b, 1, h, w)[:, 0]),
        (Points(normalized=True), lambda b, h, w: shares(on_canvas(b, 6, h, w), h, w).reshape(b, 2, 3, 2)),
        (Points(extra=1), lambda b, h, w: torch.cat([on_canvas(b, 5, h, w), torch.rand(b, 5, 1)], -1)),
        (Points(extra=1, absent=0), lambda b, h, w: torch.cat([on_canvas(b, 5, h, w), some(b, 5)], -1)),
        (Points(index=True), lambda b, h, w: on_canvas(b, 5, h, w).long()),
        (Points(index=True, absent=-1), lambda b, h, w: (1 + on_canvas(b, 5, h, w)) * some(b, 5) - 1),
    ],
    "vectors": [("vectors", lambda b, h, w: torch.randn(b, 5, 2))],
    "axial_vectors": [("axial_vectors", lambda b, h, w: torch.randn(b, 5))],
    "pseudoscalars": [("pseudoscalars", lambda b, h, w: torch.randn(b))],
    "matrices": [("matrices", lambda b, h, w: torch.randn(b, 5, 2, 2)), ("matrices", lambda b, h, w: torch.randn(b, 2, 2))],
    "boxes": [
        ("boxes", xyxy),
        (Boxes("xywh"), corner_size),
        (Boxes("cxcywh"), corner_size),
        (Boxes("yxyx"), lambda b, h, w: xyxy(b, h, w)[..., [1, 0, 3, 2]]),
        (Boxes(inclusive=True), lambda b, h, w: xyxy(b, h, w).long()),
        (
            Boxes(extra=2, padding=0),
            lambda b, h, w: torch.cat([xyxy(b, h, w) * some(b, 4), corner_size(b, h, w)[..., :2]], -1),
        ),
        (Boxes("xyxy", normalized=True), lambda b, h, w: shares(xyxy(b, h, w), h, w)),
        (Boxes("cxcywh", normalized=True), lambda b, h, w: shares(corner_size(b, h, w), h, w)),
    ],
    "rotated_boxes": [
        (kind, lambda b, h, w, n=n: torch.cat([corner_size(b, h, w), (torch.rand(b, 4, n) * 360).round()], -1))
        for kind, n in (("rotated_boxes", 1), (RotatedBoxes(clockwise=True, extra=2, padding=0), 3))
    ],
    "field": [("field", lambda b, h, w: torch.randn(b, 2, h, w)), (Field("nearest"), lambda b, h, w: torch.randn(b, 2, h, w))],
    "tokens": [
        (Tokens(2), lambda b, h, w: tokens(b, 1 + -(-h // 2) * -(-w // 2))),  # what is left over at the edge is padded,
        (Tokens(2, prefix=0, suffix=3), lambda b, h, w: tokens(b, (h // 2) * (w // 2) + 3)),  # or dropped
    ],
    "regular": [(Regular("D4"), lambda b, h, w: torch.randn(b, 8, 2))],
    "invariant": [("invariant", lambda b, h, w: torch.randn(b, 3))],
    "logits": [("logits", lambda b, h, w: torch.randn(b, 3))],
    "features": [("features", lambda b, h, w: torch.randn(b, 5, 3))],
    "presence": [("presence", lambda b, h, w: torch.ones(b, 5, dtype=torch.bool))],
    "edge_features": [("edge_features", lambda b, h, w: torch.randn(b, 2))],
    "edge_vectors": [("edge_vectors", lambda b, h, w: torch.randn(b, 5, 2))],
    "count": [("count", lambda b, h, w: torch.full((b,), b))],
    "batch": [("batch", lambda b, h, w: torch.arange(b) + 1)],
    "edges": [("edges", lambda b, h, w: torch.arange(10).reshape(2, 5))],
}
EVERY = [pytest.param(*sample, id=f"{name}-{i}") for name, samples in SAMPLES.items() for i, sample in enumerate(samples)]
MOVING = [p for p in EVERY if ACTIONS[p.id.rpartition("-")[0]].act is not act_invariant]


def test_every_kind_has_a_sample_and_vorticity_its_sign():
    in_plane = {name for name, row in ACTIONS.items() if row.in_plane}
    assert set(SAMPLES) == in_plane, "a kind in the table of actions needs a row of sample data here"

    def vorticity(flow: torch.Tensor) -> torch.Tensor:
        return (flow[:, 1:, 1:-1, 2:] - flow[:, 1:, 1:-1, :-2]) - (flow[:, :1, 2:, 1:-1] - flow[:, :1, :-2, 1:-1])

    flow, kind = torch.randn(1, 2, 6, 9), Image(pseudoscalar=True)
    assert all(torch.allclose(vorticity(act(g, flow, "field")), act(g, vorticity(flow), kind), atol=1e-6) for g in D4.split(1))


def equal(kind: object, a: torch.Tensor, b: torch.Tensor) -> bool:
    """To the bit; the angles of rotated boxes up to whole turns."""
    if as_kinds(kind).name == "rotated_boxes":
        a, b = (torch.cat([x[..., :4], x[..., 4:5] % 360, x[..., 5:]], -1) for x in (a, b))
    return torch.equal(a, b)


def batches(first: torch.Tensor, second: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """All pairs, as batches with a different pair in every row, whose rows share a canvas after each step."""
    odd = [[i for i, code in enumerate(grid_code(e)) if code % 2 == parity] for e in (first, second) for parity in (0, 1)]
    found = []
    for i in odd[:2]:
        for j in odd[2:]:
            if i and j:
                found.append((first[i].repeat_interleave(len(j), 0), second[j].repeat(len(i), 1, 1)))
    return found


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
@pytest.mark.parametrize(("kind", "make"), EVERY)
def test_identity_composition_and_inverse_to_the_bit(kind, make, canvas, unchecked):
    """The whole table, without the run-time shape checks, which would take most of its time; the tests below have them."""
    for h, g in batches(D4, D4):
        x = snap(make(len(g), *canvas), as_kinds(kind), canvas)
        assert equal(kind, act(Cyclic(4).identity(), x, kind, canvas), x)
        turned, between = act(h, x, kind, canvas), moved_sizes(h, canvas)[0]
        assert equal(kind, act(g, turned, kind, between), act(g @ h, x, kind, canvas))
        assert equal(kind, act(inverse(h), turned, kind, between), x)


def wrapping(kind: object) -> Kind:
    """The kind as models of cyclic shifts have it."""
    return as_kinds(kind, Shift(2))


@pytest.mark.parametrize("canvas", [(8, 8), (4, 16), (5, 6)], ids=str)
@pytest.mark.parametrize(("kind", "make"), [p for p in EVERY if not p.id.startswith("regular")])
def test_turns_flips_and_cyclic_shifts_of_every_kind_to_the_bit(kind, make, canvas, unchecked):
    """By any even number of pixels, so that patches of two fit; shares of a canvas that is no power of two round."""
    kind = wrapping(kind)
    if dict(kind.options).get("normalized") and canvas == (5, 6):
        pytest.skip("shares round")
    for h, g in batches(D4, D4):
        h, g = (e + 2 * torch.randint(-20, 20, e.shape) * torch.tensor([[0, 0, 1.0], [0, 0, 1], [0, 0, 0]]) for e in (h, g))
        x = snap(make(len(g), *canvas), kind, canvas)
        assert equal(kind, act(Cyclic(4).identity(), x, kind, canvas), x)
        moved, between = act(h, x, kind, canvas), moved_sizes(h, canvas)[0]
        assert equal(kind, act(g, moved, kind, between), act(g @ h, x, kind, canvas))
        assert equal(kind, act(inverse(h), moved, kind, between), x)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint16, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("border", ["zeros", "edge", "reflect", "wrap"])
def test_whole_pixels_shift_by_index_whatever_lies_beyond_the_border(border, dtype):
    """Worked against padding; of every dtype, by more than the canvas too. Beside them a fraction of a pixel is resampled."""
    x = pixels(2, 5, 8).mul(200).to(torch.float32 if dtype.itemsize == 1 and dtype.is_floating_point else dtype).to(dtype)
    for right, down in ((3, -2), (-1, 0), (0, 4), (13, 6)):
        g = shift(torch.tensor([[right, down], [down, right]]).float())
        modes = {"zeros": "constant", "edge": "edge", "reflect": "symmetric", "wrap": "wrap"}
        padded = np.pad(x.double().numpy(), [(0, 0), (0, 0), (13, 13), (13, 13)], modes[border])
        rows = [padded[0, :, 13 - down : 18 - down, 13 - right : 21 - right], padded[1, :, 13 - right : 18 - right]]
        rows[1] = rows[1][..., 13 - down : 21 - down]
        far = border == "zeros" and right > 8
        with pytest.warns(UserWarning, match=r"nothing on a canvas of 5 x 8.*wrap") if far else contextlib.nullcontext():
            moved = act(g, x, Image(border=border))
        assert moved.dtype == dtype
        assert torch.equal(moved.double(), torch.from_numpy(np.stack(rows)))
        if dtype == torch.float32 and not far:
            near = act(
                g + 1e-3 * torch.eye(3).roll(1, 1)[None] * torch.tensor([[0.0], [1], [0]]), x / 200, Image(border=border)
            )
            assert torch.allclose(near[..., 1:-1, 1:-1], (moved / 200)[..., 1:-1, 1:-1], atol=0.01)


def test_where_places_go_that_wrap():
    """Worked example on a canvas of 8 x 6 pixels, two to the right and one down: places count modulo the canvas, boxes keep
    their size and go where their centre goes."""
    g, canvas = shift(torch.tensor([[2.0, 1.0]])), (6, 8)

    def moved(places: list[float], kind: object) -> list[float]:
        return act(g, torch.tensor([[places]]), wrapping(kind), canvas)[0, 0].tolist()

    assert moved([7.5, 5.25], "points") == [1.5, 0.25]
    assert moved([7, 5], Points(index=True)) == [1, 0]
    assert moved([0.875, 0.5], Points(normalized=True)) == pytest.approx([0.125, 0.5 + 1 / 6])
    assert moved([1, 1, 3, 2], "boxes") == [3, 2, 5, 3]
    assert moved([4.0, 3, 7, 5], "boxes") == [6, 4, 9, 6], "across the edge: it reaches beyond the canvas"
    assert moved([5.0, 3, 8, 5], "boxes") == [-1, 4, 2, 6], "its centre is beyond the edge"
    assert moved([6.5, 4, 3, 2], Boxes("cxcywh")) == [0.5, 5, 3, 2]
    assert moved([6.5, 4, 3, 2, 30], "rotated_boxes") == [0.5, 5, 3, 2, 30]
    assert moved([3.0, 4], "vectors") == [3, 4], "arrows do not move"
    assert act(g, torch.tensor([[[7.5, 5.25]]]), "points", canvas).tolist() == [[[9.5, 6.25]]], "control: without wrapping"


@pytest.mark.parametrize(("kind", "make"), MOVING)
def test_the_other_order_is_another_element(kind, make):
    """The control of the composition law: D4 does not commute, and every kind but invariants shows it."""
    x = make(1, 7, 7)
    g, h = D4[1:2], D4[5:6]
    if kind == "matrices":  # the two orders of D4 differ by a half turn, which leaves matrices alone
        g, h = Dihedral(8).elements[1:2], Dihedral(8).elements[8:9]
    if ACTIONS[as_kinds(kind).name].act not in (act_pseudoscalars, act_axial_vectors):  # signs do commute
        assert not equal(kind, act(g, act(h, x, kind, (7, 7)), kind, (7, 7)), act(h @ g, x, kind, (7, 7)))
    assert not equal(kind, act(h, x, kind, (7, 7)), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_pixels_of_every_dtype_move_by_index(kind, dtype):
    for h, g in batches(D4, D4):
        x = pixels(len(g), 5, 8, dtype)
        y = act(g, act(h, x, kind), kind)
        assert y.dtype == dtype
        assert torch.equal(y, act(g @ h, x, kind))
        assert torch.equal(y.flatten(1).double().sort(1)[0], x.flatten(1).double().sort(1)[0]), "a permutation of the pixels"


def test_every_element_on_pixels_and_what_is_off_the_grid():
    x = pixels(1, 5, 8)
    for k in range(4):
        assert torch.equal(act(D4[k : k + 1], x), torch.rot90(x, k, (-2, -1)))
        assert torch.equal(act(D4[4 + k : 5 + k], x), torch.rot90(x.flip(-1), k, (-2, -1)))
    assert (grid_code(D4), grid_code(Cyclic(8).elements)) == (list(range(8)), [0, -1, 1, -1, 2, -1, 3, -1])
    e = torch.eye(3)
    shifted, scaled, sheared, flat, near = e.clone(), 2 * e, e.clone(), torch.diag(torch.tensor([1.0, 0, 1])), e.clone()
    shifted[0, 2], sheared[0, 1], scaled[2, 2], near[0, 1] = 1, 1, 1, 1e-6
    assert grid_code(torch.stack([shifted, sheared, scaled, flat, near])) == [-1, -1, -1, -1, 0]
    assert all(moved_size(code, (2, 3)) == ((3, 2) if code in (1, 3, 5, 7) else (2, 3)) for code in range(-1, 8))


# --------------------------------------------------------------------------------------------------- the kinds agree
@pytest.mark.parametrize("g", list(D4.split(1)), ids=lambda g: f"element{grid_code(g)[0]}")
@pytest.mark.parametrize("canvas", [(5, 8), (6, 6), (4, 3)], ids=str)
def test_points_and_arrows_go_where_the_pixels_go(g, canvas):
    h, w = canvas
    where, x = torch.cartesian_prod(torch.arange(h), torch.arange(w)), torch.zeros(h * w, 1, h, w)
    x[torch.arange(h * w), 0, where[:, 0], where[:, 1]] = 1
    centres = where.flip(-1)[:, None] + 0.5
    after, bright = act(g, centres, "points", canvas)[:, 0], torch.stack([image[0].nonzero()[0] for image in act(g, x)])
    assert torch.equal(bright.flip(-1) + 0.5, after)
    assert torch.equal(bright.flip(-1), act(g, where.flip(-1)[:, None], Points(index=True), canvas)[:, 0])
    arrows = centres.flip(0) - centres
    assert torch.equal(act(g, arrows, "vectors")[:, 0], after.flip(0) - after), "arrows are differences of points"
    field = torch.zeros(h * w, 2, h, w)
    field[torch.arange(h * w), :, where[:, 0], where[:, 1]] = arrows[:, 0]
    assert torch.equal(act(g, field, "field")[torch.arange(h * w), :, bright[:, 0], bright[:, 1]], after.flip(0) - after)


def patches(x: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """One class token, and the largest values of every patch, row after row."""
    grid = torch.nn.functional.max_pool2d(x, size).flatten(2).mT
    return torch.cat([torch.full_like(grid[:, :1], -1), grid], 1)


@pytest.mark.parametrize("canvas", [(6, 6), (4, 10)], ids=str)
def test_tokens_go_where_their_patches_go(canvas):
    x = pixels(8, *canvas)
    for code, g in enumerate(D4.split(1)):
        expected = patches(act(g, x), 2)
        assert torch.equal(act(g, patches(x, 2), Tokens(2), canvas), expected)
        assert code == 0 or not torch.equal(patches(x, 2), expected), "control"
    shift = torch.eye(3)[None].clone()
    shift[:, 0, 2] = 4  # pixels: two patches to the right
    assert torch.allclose(act(shift, patches(x, 2), Tokens(2), canvas), patches(act(shift, x), 2), atol=1e-6)


def test_quarter_turns_that_patches_or_rows_do_not_fit(unchecked):
    x, kind = pixels(4, 6, 8), Tokens((3, 2))
    for g in group("D2").elements.split(1):
        assert torch.equal(act(g, patches(x, (3, 2)), kind, (6, 8)), patches(act(g, x), (3, 2)))
    refused(ValueError, "3 x 2 pixels .* a quarter turn: use C2 or D2", lambda: act(D4[1:2], patches(x, (3, 2)), kind, (6, 8)))
    refused(ValueError, r"canvas \(5, 8\) would end .* \[\(5, 8\), \(8, 5\)\].*Rows", lambda: act(D4[:2], pixels(2, 5, 8)))
    refused(ValueError, "different canvases", lambda: act(Cyclic(8).elements[[1, 2]], pixels(2, 5, 8)))


@pytest.mark.parametrize("g", list(D4.split(1)), ids=lambda g: f"element{grid_code(g)[0]}")
def test_boxes_in_every_format_go_where_the_rectangle_goes(g):
    h, w, (x1, y1, x2, y2) = 6, 9, (1, 2, 8, 4)
    mask = torch.zeros(1, 1, h, w, dtype=torch.uint8)
    mask[..., y1:y2, x1:x2] = 1
    moved = act(g, mask, "mask")
    rows, columns = moved[0, 0].nonzero().T
    expected = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    box = torch.tensor([[[x1, y1, x2, y2]]]).float()
    assert torch.equal(act(g, box, "boxes", (h, w))[0, 0], expected)
    last = torch.tensor([0, 0, 1, 1])
    assert torch.equal(act(g, (box - last).long(), Boxes(inclusive=True), (h, w))[0, 0] + last, expected.long())
    for to, back in FORMATS:
        order = slice(None) if to != "yxyx" else [1, 0, 3, 2]
        for normalized in (False, True):
            kind = Boxes(to, normalized)
            scale, size = (torch.tensor([hw[1], hw[0]] * 2)[order] ** int(normalized) for hw in ((h, w), moved.shape[-2:]))
            after = act(g, as_format(box, to) / scale, kind, (h, w))
            assert torch.allclose(back(after * size)[0, 0], expected, atol=1e-5), kind
    points = act(g, box.reshape(1, 2, 2) / torch.tensor([w, h]), Points(normalized=True), (h, w))
    assert torch.allclose(points * torch.tensor(moved.shape[-2:]).flip(0), act(g, box.reshape(1, 2, 2), "points", (h, w)))


def as_format(box: torch.Tensor, to: str) -> torch.Tensor:
    low, high = box.split(2, -1)
    if to == "yxyx":
        return box[..., [1, 0, 3, 2]]
    return {"xyxy": box, "xywh": torch.cat([low, high - low], -1), "cxcywh": torch.cat([(low + high) / 2, high - low], -1)}[to]


FORMATS = [
    ("xyxy", lambda box: box),
    ("yxyx", lambda box: box[..., [1, 0, 3, 2]]),
    ("xywh", lambda box: torch.cat([box[..., :2], box[..., :2] + box[..., 2:]], -1)),
    ("cxcywh", lambda box: torch.cat([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)),
]


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """The four corners (b, 4, 2) of (b, 5) rotated boxes, whose angle is counter-clockwise on the screen, in degrees."""
    centre, size, angle = boxes[:, None, :2], boxes[:, 2:4], boxes[:, 4].deg2rad()[:, None]
    x, y = (torch.tensor([[1, 1, -1, -1], [1, -1, -1, 1]])[:, None] * size.T[:, :, None] / 2).unbind()
    return centre + torch.stack([x * angle.cos() + y * angle.sin(), -x * angle.sin() + y * angle.cos()], -1)


def same_corners(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((torch.cdist(a, b).amin(-1) < 1e-4).all())


@pytest.mark.parametrize("name", ["D4", "C8", "D6", "SO2", "O2"])
def test_rotated_boxes_keep_their_corners_under_every_isometry(name):
    g = group(name).random(20)
    canvas = (50, 50)
    boxes = torch.cat([10 + 30 * torch.rand(20, 2), 1 + 20 * torch.rand(20, 2), 360 * torch.rand(20, 1)], -1)
    moved, expected = act(g, boxes[:, None], "rotated_boxes", canvas)[:, 0], act(g, corners(boxes), "points", canvas)
    assert same_corners(corners(moved), expected)
    assert not same_corners(corners(moved * torch.tensor([1, 1, 1, 1, -1])), expected), "control: the other sign"
    ultralytics = boxes * torch.tensor([1, 1, 1, 1, -math.pi / 180])
    moved = act(g, ultralytics[:, None], RotatedBoxes("radians", clockwise=True), canvas)[:, 0]
    assert same_corners(corners(moved * torch.tensor([1, 1, 1, 1, -180 / math.pi])), expected)


def test_rotated_box_worked_example():
    """A box along x becomes one along the rising diagonal after an eighth turn; its plain box encloses it."""
    eighth = Cyclic(8).elements[1:2]
    moved = act(eighth, torch.tensor([[[15.0, 10, 4, 2, 0]]]), "rotated_boxes", (20, 20))
    r = 5 / math.sqrt(2)
    assert torch.allclose(moved, torch.tensor([[[10 + r, 10 - r, 4, 2, 45]]]), atol=1e-5)
    half = 3 / math.sqrt(2)
    expected = torch.tensor([[[10 + r - half, 10 - r - half, 10 + r + half, 10 - r + half]]])
    assert torch.allclose(act(eighth, torch.tensor([[[13.0, 9, 17, 11]]]), "boxes", (20, 20)), expected, atol=1e-5)
    for to, back in FORMATS:
        box = as_format(torch.tensor([[[13.0, 9, 17, 11]]]), to)
        assert torch.allclose(back(act(eighth, box, Boxes(to), (20, 20))), expected, atol=1e-5), to


# -------------------------------------------------------------------------------------------------------- off the grid
def blobs(at: torch.Tensor, h: int, w: int, width: float = 2.5) -> torch.Tensor:
    """Smooth bumps (b, 1, h, w) around (x, y) points (b, 2)."""
    ys, xs = torch.arange(h) + 0.5, torch.arange(w) + 0.5
    square = (xs - at[:, :1])[:, None].square() + (ys - at[:, 1:])[:, :, None].square()
    return torch.exp(-square / (2 * width**2))[:, None]


def centroid(x: torch.Tensor) -> torch.Tensor:
    h, w = x.shape[-2:]
    share = x / x.sum((-2, -1), keepdim=True)
    xs, ys = torch.arange(w) + 0.5, torch.arange(h) + 0.5
    return torch.cat([(share * xs).sum((-2, -1)), (share * ys[:, None]).sum((-2, -1))], -1)


@pytest.mark.parametrize(("interpolation", "error"), [("bilinear", 0.001), ("bicubic", 0.06), ("nearest", 0.3)])
def test_off_the_grid_pixels_and_points_go_together(interpolation, error):
    """In pixels. Turns, flips, scales and shifts, a different one in each row, on a canvas that is not square."""
    h, w = 41, 56
    at = torch.tensor([[w / 2 + 7.0, h / 2 + 3.0]]).expand(8, 2)
    g = turn(torch.tensor([0.3, 1.0, -2.0, 0.7, 3.0, -0.2, 0.5, 0.0]), torch.arange(8) % 2 == 1)
    g[4:6, :2, :2] *= 1.3
    g[5:, :2, 2] = torch.tensor([2.25, -3.5])
    moved = act(g, blobs(at, h, w), Image(interpolation))
    assert moved.shape[-2:] == (h, w)
    assert (centroid(moved) - act(g, at[:, None], "points", (h, w))[:, 0]).norm(dim=-1).max() < error
    assert (centroid(moved) - at).norm(dim=-1).min() > 1, "control: they did move"


def test_off_the_grid_composition_on_smooth_images():
    """Resampling twice costs up to 6 hundredths of the range on bumps of 2.5 pixels."""
    g, h = group("D8").random(24), group("D8").random(24)
    x = blobs(20 + 10 * torch.rand(24, 2), 48, 48)
    twice, once, wrong = act(g, act(h, x)), act(g @ h, x), act(h @ g, x)
    error = (twice - once).abs().amax((1, 2, 3))
    assert error.max() < 0.08
    assert error.max() > 0.01, "not exact, and not claimed to be"
    assert (twice - wrong).abs().amax((1, 2, 3)).max() > 0.5, "control"
    assert (act(inverse(g), act(g, x)) - x).abs().max() < 0.08


def test_off_the_grid_coordinates_compose_and_boxes_enclose():
    g, h = group("O2").random(30), group("O2").random(30)
    for kind in ("points", "vectors", "rotated_boxes"):
        x = SAMPLES[kind][0][1](30, 9, 12)
        twice = act(g, act(h, x, kind, (9, 12)), kind, (9, 12))
        once, wrong = act(g @ h, x, kind, (9, 12)), act(h @ g, x, kind, (9, 12))
        if kind == "rotated_boxes":
            twice, once = (torch.cat([y[..., :4], y[..., 4:].deg2rad().sin()], -1) for y in (twice, once))
        assert torch.allclose(twice, once, atol=1e-4)
        assert not torch.allclose(twice, wrong, atol=1e-2)
    g, boxes = group("O2").random(30), xyxy(30, 9, 12)
    for corner in (boxes[..., [0, 1]], boxes[..., [0, 3]], boxes[..., [2, 1]], boxes[..., [2, 3]]):
        point, box = act(g, corner, "points", (9, 12)), act(g, boxes, "boxes", (9, 12))
        assert (point >= box[..., :2] - 1e-4).all()
        assert (point <= box[..., 2:] + 1e-4).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_off_the_grid_dtypes_and_labels(dtype):
    eighth, x = Cyclic(8).elements[1:2], pixels(2, 16, 16, dtype)
    image, mask = act(eighth, x), act(eighth, x, "mask")
    assert image.dtype == mask.dtype == dtype
    assert set(mask.unique().tolist()) <= {*x.unique().tolist(), 0}, "a mask keeps its labels"
    reference = act(eighth, x.double())
    close = 0.5 if not dtype.is_floating_point else 0.01
    assert (image.double() - reference).abs().max() <= close


@pytest.mark.parametrize(("dtype", "label"), [(torch.int64, 2**24 + 1), (torch.uint32, 2**32 - 1), (torch.uint16, 2**16 - 1)])
def test_off_the_grid_large_labels_survive(dtype, label):
    x = torch.full((1, 1, 9, 9), label).to(dtype)
    for kind in ("mask", Image(border="edge")):
        assert set(act(Cyclic(8).elements[1:2], x, kind).long().flatten().tolist()) <= {0, label}
    refused(ValueError, r"uint64 pixels .*use int64 or float64", lambda: act(Cyclic(8).elements[1:2], x.to(torch.uint64)))


def test_borders_and_complex_pixels():
    eighth, x = Cyclic(8).elements[1:2], torch.ones(1, 1, 9, 9)
    assert act(eighth, x)[0, 0, 0, 0] == 0
    assert act(eighth, x, Image(border="edge")).min() > 0.999
    assert act(eighth, x, Image(border="reflect")).min() > 0.999
    labels = torch.arange(81).reshape(1, 1, 9, 9) + 1
    assert act(eighth, labels, "mask").min() == 0
    assert set(act(eighth, labels, Mask(border="edge")).unique().tolist()) <= set(range(1, 82))
    arrows = torch.ones(1, 2, 9, 9)
    assert act(eighth, arrows, "field").norm(dim=1).min() == 0
    assert act(eighth, arrows, Field(border="edge")).norm(dim=1).min() > 1.41
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    assert not torch.equal(act(eighth, ramp, Image(border="edge")), act(eighth, ramp, Image(border="reflect")))
    x = torch.randn(2, 3, 9, 9, dtype=torch.complex64)
    for g in (Cyclic(8).elements[1:2], D4[5:6]):
        for kind in ("image", "vectors"):
            y = x[..., :2] if kind == "vectors" else x
            assert torch.equal(act(g, y, kind), torch.complex(act(g, y.real.clone(), kind), act(g, y.imag.clone(), kind)))


def test_mixed_rows_and_images_of_other_ranks():
    x, g = pixels(4, 8, 8), Cyclic(8).elements[[2, 1, 0, 3]]
    together = act(g, x)
    assert torch.equal(together, torch.cat([act(g[i : i + 1], x[i : i + 1]) for i in range(4)]))
    assert torch.equal(together[0], torch.rot90(x[0], 1, (-2, -1)))
    assert torch.equal(together[2], x[2])
    for shape, kind in (
        ((2, 5, 8), "image"),
        ((2, 3, 5, 8), "image"),
        ((2, 3, 4, 5, 8), "clip"),
        ((2, 1, 3, 2, 5, 8), "image"),
    ):
        x = torch.rand(shape)
        assert torch.equal(
            act(D4[[1, 3]], x, kind), torch.stack([torch.rot90(x[0], 1, (-2, -1)), torch.rot90(x[1], 3, (-2, -1))])
        )


# ------------------------------------------------------------------------------------------------------ good manners
@pytest.mark.parametrize("g", [D4[:1], D4[1:2], D4[6:7], Cyclic(8).elements[1:2]], ids=["identity", "turn", "flip", "eighth"])
@pytest.mark.parametrize(("kind", "make"), MOVING)
def test_nothing_is_written_and_nothing_is_shared(kind, make, g):
    if as_kinds(kind).name == "regular" and grid_code(g) == [-1]:
        g = D4[2:3]  # an eighth turn is no element of the group of those channels
    x = make(3, 6, 6)
    before, element_before = x.clone(), g.clone()
    y = act(g, x, kind, (6, 6))
    assert torch.equal(x, before)
    assert torch.equal(g, element_before)
    assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    y.zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize("rows", [D4[[1, 1]], D4[[0, 0]], D4[[1, 3]], D4[[0, 4]]], ids=["turn", "identity", "turns", "mixed"])
def test_channels_last_is_kept(rows):
    x = pixels(2, 5, 8)
    y = act(rows, x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.is_contiguous()
    plain = act(rows, x)
    assert plain.is_contiguous()
    assert torch.equal(y, plain)


def test_empty_batches_and_gradients_of_every_kind():
    for samples in SAMPLES.values():
        kind, make = samples[0]
        x = make(0, 5, 8)
        assert torch.equal(act(D4[:0], x, kind, (5, 8)), x)
        if kind not in ("regular", "edges"):
            assert act(D4[1:2], x, kind, (5, 8)).shape[0] == 0
    for samples in SAMPLES.values():
        kind, make = samples[0]
        x = make(1, 6, 6).double().requires_grad_()
        for g in (D4[5:6], Cyclic(8).elements[1:2]):
            if kind != Regular("D4") or g is D4:
                (gradient,) = torch.autograd.grad((act(g, x, kind, (6, 6)) ** 2).sum(), x)
                assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64], ids=str)
def test_coordinates_keep_their_dtype(dtype):
    box = torch.tensor([[[1, 2, 5, 4]]]).to(dtype)
    for kind, x in (("boxes", box), ("points", box[..., :2]), ("vectors", box[..., :2])):
        for g in (D4[1:2], Cyclic(8).elements[1:2]):
            y, exact = act(g, x, kind, (6, 8)), act(g, x.double(), kind, (6, 8))
            assert y.dtype == dtype
            assert (y.double() - exact).abs().max() <= (0.5 if dtype == torch.int64 else 0.05), "whole numbers are rounded"


def test_what_is_infinite_or_not_there_spoils_nothing():
    y = act(D4[1:2], torch.tensor([[[math.inf, 2.0], [1.0, math.nan]]]), "points", (6, 8))
    assert torch.equal(y.isfinite(), torch.tensor([[[True, False], [False, True]]]))
    assert (y[0, 0, 0], y[0, 1, 1]) == (2, 7)
    x = torch.tensor([[[5.0, 7, 2], [0, 0, 0], [3, 4, 0]]])
    turned = act(D4[2:3], x, Points(extra=1, absent=0), (20, 30))
    assert turned.tolist() == [[[25, 13, 2], [0, 0, 0], [3, 4, 0]]]
    assert act(D4[2:3], x[..., :2] - 1, Points(absent=-1), (20, 30)).tolist() == [[[26, 14], [-1, -1], [28, 17]]]
    turned = act(D4[2:3], torch.tensor([[[2.0, 3, 9, 8, 0.9], [-1, -1, -1, -1, 0]]]), Boxes(extra=1, padding=-1), (20, 30))
    assert torch.equal(turned, torch.tensor([[[21.0, 12, 28, 17, 0.9], [-1, -1, -1, -1, 0]]]))
    assert torch.equal(act(group("SO3").random(1), x, Points(absent=0))[0, 1], x[0, 1])


@pytest.mark.parametrize("kind", ["points", "boxes", "rotated_boxes", "vectors", "matrices", "mask", Points(extra=1)], ids=str)
def test_an_empty_list_moves_to_an_empty_list(kind):
    for g in (D4[1:2], Cyclic(8).elements[1:2]):
        assert act(g, torch.zeros(1, 0), kind, (6, 8)).shape == (1, 0)
        assert act(g, [torch.zeros(0)], equiform.Rows(kind), (6, 8))[0].shape == (0,)
    if kind != "mask":
        assert act(group("SO3").random(1), torch.zeros(1, 0), "points").shape == (1, 0)


def test_radians_taken_for_degrees_are_suspected():
    boxes = torch.cat([corner_size(1, 20, 30), torch.tensor([0.5, -1.5, 1.2, 3.0])[None, :, None]], -1)
    with pytest.warns(UserWarning, match=r"between -pi and pi.*RotatedBoxes\('radians'\)"):
        act(D4[1:2], boxes, "rotated_boxes", (20, 30))
    quiet = [(boxes, RotatedBoxes("radians")), (boxes[:, :2], "rotated_boxes")]
    for angle in (0, 3.2):
        other = boxes.clone()
        other[0, 0, 4] = angle
        quiet.append((other, "rotated_boxes"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x, kind in quiet:
            act(D4[1:2], x, kind, (20, 30))


# ------------------------------------------------------------------------------------------------------------- errors

BAD = [
    ("points", torch.zeros(2, 5, 2, dtype=torch.complex64), "coordinates are real numbers; got torch.complex64"),
    ("pseudoscalars", torch.rand(2, 1, 4, 4), r"looks like a map.*Image\(pseudoscalar=True\)"),
    ("pseudoscalars", torch.zeros(2, dtype=torch.uint8), "torch.uint8 has no sign, use float32 or int64"),
    ("image", torch.rand(2, 5), r"shape \(b, ..., h, w\); got \(2, 5\)"),
    ("points", torch.rand(2, 5, 3), r"points have shape \(b, ..., 2\); got \(2, 5, 3\)"),
    ("points", torch.rand(2), r"points have shape"),
    (Points(extra=1), torch.rand(2, 5, 2), r"points have shape \(b, ..., 3\); got \(2, 5, 2\)"),
    ("vectors", torch.rand(2, 3), "vectors have shape"),
    ("boxes", torch.rand(2, 5), r"boxes have shape \(b, ..., 4\); got \(2, 5\): .*extra=1"),
    ("rotated_boxes", torch.rand(2, 4), r"rotated_boxes have shape \(b, ..., 5\)"),
    ("field", torch.rand(2, 3, 4, 4), r"a field has shape \(b, 2, h, w\).*got \(2, 3, 4, 4\)"),
    ("tokens", torch.rand(2, 5), r"tokens have shape \(b, n, d\); got \(2, 5\)"),
    (
        Tokens(3, 1, 2),
        torch.rand(2, 8, 3),
        "8 tokens, 1 before and 2 after the grid: 5 are no grid of patches of 3 x 3 pixels on a canvas of 4 x 4, "
        "which has 1 x 1 or 2 x 2",
    ),
    (Regular("C4"), torch.rand(2, 8), r"regular channels of C4 have shape \(b, 4, ...\); got \(2, 8\)"),
    ("regular", torch.rand(2, 8), r"use equiform.geometry.Regular\('C4'\)"),
]


@pytest.mark.parametrize(("kind", "x", "message"), BAD, ids=lambda v: str(v)[:20] if isinstance(v, str) else None)
def test_wrong_shapes_say_what_was_expected(kind, x, message, unchecked):
    refused(ValueError, message, lambda: act(D4[1:2], x, kind, (4, 4)))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn])
def test_dtypes_that_torch_itself_cannot_turn(dtype):
    x = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    turned = torch.rot90(x, 1, (-2, -1)).to(torch.float32).to(dtype)
    got = act(group("C4").elements[1:2], x.to(torch.float32).to(dtype), "mask")
    assert (got.dtype, got.to(torch.float64).tolist()) == (dtype, turned.to(torch.float64).tolist())


# ------------------------------------------------------------------------------------------------------- resizings


def resized(*sizes: float) -> torch.Tensor:
    return resizing(torch.tensor(sizes))


@pytest.mark.parametrize("size", [(40, 40), (30, 44)])
def test_places_go_where_resized_pixels_go(size):
    h, w = size
    points = torch.tensor([[[w / 2 + 3.0, h / 2 - 4.0]]]).expand(4, 1, 2)
    g = resized(0.5, 0.8, 1.5, 2.0) @ torch.cat([D4[[0, 0, 6, 2]]])
    spot = torch.zeros(4, 1, *size)
    spot[:, :, h // 2 - 6 : h // 2 - 2, w // 2 + 1 : w // 2 + 5] = 1  # 4 x 4 pixels about the point
    box = torch.cat([points - 2, points + 2], -1)
    moved, place, found = act(g, spot), act(g, points, "points", size), act(g, box, "boxes", size)
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    mass = moved.sum((1, 2, 3))
    centre = torch.stack([(moved[:, 0] * x).sum((1, 2)) / mass, (moved[:, 0] * y).sum((1, 2)) / mass], -1)
    assert torch.allclose(centre, place[:, 0], atol=0.05)
    assert torch.allclose(mass.sqrt(), torch.tensor([2, 3.2, 6, 8]), rtol=0.02), "as large as the box"
    assert torch.allclose(found[:, 0, 2:] - found[:, 0, :2], torch.tensor([2, 3.2, 6, 8])[:, None].expand(4, 2))
    assert torch.allclose((found[:, 0, 2:] + found[:, 0, :2]) / 2, place[:, 0])
    rotated = torch.cat([points, torch.tensor([[[4.0, 2.0, 30.0]]]).expand(4, 1, 3)], -1)
    turned = act(g, rotated, "rotated_boxes", size)
    assert torch.allclose(turned[:, 0, 2:4], rotated[:, 0, 2:4] * torch.tensor([0.5, 0.8, 1.5, 2])[:, None])
    assert torch.allclose(turned[:, 0, :2], place[:, 0])
    assert turned[:2, 0, 4].tolist() == [30, 30]
    arrows = torch.randn(4, 2, *size)
    flow = act(g[:2], arrows[:2], "field") / torch.tensor([0.5, 0.8])[:, None, None, None]
    assert torch.allclose(flow, act(g[:2], arrows[:2]), atol=1e-6), "arrows are resized with their grid"


def test_an_image_that_shrinks_is_antialiased_and_rows_are_alone():
    fine = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)  # stripes as fine as pixels
    inner = (..., slice(28, 36), slice(28, 36))
    for size in (0.5, 0.35, 0.2):
        small = act(resized(size), fine)[inner]
        assert (small - 0.5).abs().max() < 0.3, size
        alone = act(resized(size), fine, Image("nearest"))[inner]
        assert (alone - 0.5).abs().max() == 0.5, "control: a single sample takes one stripe or the other"
    x = torch.rand(3, 2, 20, 24)
    together = act(resized(0.3, 1.7, 0.6), x)
    assert torch.equal(together, torch.cat([act(resized(size), x[i : i + 1]) for i, size in enumerate((0.3, 1.7, 0.6))]))
    assert torch.equal(act(resized(1.0), x[:1]), x[:1])
    counts = (200 * x).to(torch.uint8)
    assert act(resized(0.5), counts[:1]).dtype == torch.uint8
    smooth = torch.nn.functional.avg_pool2d(torch.rand(1, 1, 48, 48), 9, 1, 4)
    back = act(resized(2.0), act(resized(0.5), smooth))
    assert (back - smooth)[..., 13:35, 13:35].abs().mean() < 0.01, "what is smooth comes back"


def test_a_quarter_turn_with_a_resizing_swaps_height_and_width_too():
    g = resized(0.5, 0.5) @ D4[[1, 7]]
    x = torch.rand(2, 3, 20, 32)
    assert act(g, x).shape == (2, 3, 32, 20)
    assert moved_sizes(g, (20, 32)) == [(32, 20)] * 2
    assert torch.allclose(act(g, x), act(D4[[1, 7]], act(resized(0.5), x)), atol=1e-6)
    refused(ValueError, "different canvases", lambda: act(resized(0.5, 0.5) @ D4[[0, 1]], x))
    patches = torch.randn(1, 1 + 5 * 8, 3)
    assert torch.equal(act(g[:1], patches, Tokens(4), (20, 32))[:, 0], patches[:, 0])
    refused(ValueError, "patches of 2 x 4", lambda: act(g[:1], torch.randn(1, 81, 3), Tokens((2, 4)), (20, 32)))
