"""How points, boxes, vectors and matrices move, on a canvas of pixels or in space."""

import itertools
import math
import warnings

import torch
from jaxtyping import Float, Inexact, Real, Shaped
from torch import Tensor

from .grid import Size, empty_stays, moved_sizes
from .isometries import size_of

BOX_FORMATS = ("xyxy", "xywh", "cxcywh", "yxyx")
ANGLE_UNITS = ("degrees", "radians")
FAR = 1000  # a warning where a turn about the origin moves a cloud by this many times its extent
ROUNDING = 1e-12  # extents below this share are rounding
SAME_SIZE = 1e-6  # sizes nearer to 1 than this are rounding of elements in float32


def _affine(
    g: Tensor, size: Size, normalized: bool, like: Tensor, index: bool = False, border: str | None = None
) -> tuple[Tensor, Tensor]:
    """A (b, d, d) and t (b, d) with p -> A p + t in pixels, or in shares of the canvas. Whole numbers on the grid.

    `index`: of pixel indices, whose canvas reaches from 0 to W - 1. `border`: with "wrap" t is less than a canvas.
    """
    d = len(size)
    a = g[:, :d, :d].double()
    before, after = torch.tensor(size[::-1], dtype=torch.float64, device=g.device), _extents(g, size)
    extent = after
    if index:
        before, after = before - 1, after - 1
    t = g[:, :d, d].double() + after / 2 - (a * (before / 2)).sum(-1)
    if border == "wrap":  # before it is rounded to the precision of places
        t = torch.remainder(t, extent)
    if normalized:
        a, t = a * before / after[:, :, None], t / after
    return a.to(like), t.to(like)


def _extents(g: Tensor, size: Size) -> Float[Tensor, "b d"]:
    """The width and height (and depth) of the canvas of every row after its element."""
    if len(set(size)) == 1:
        return torch.tensor(size, dtype=torch.float64, device=g.device).expand(g.shape[0], -1)
    return torch.tensor([each[::-1] for each in moved_sizes(g, size)], dtype=torch.float64, device=g.device).reshape(
        -1, len(size)
    )


def _beyond(g: Tensor, size: Size, normalized: bool, place: Tensor) -> Tensor:
    """By how many whole canvases each place lies beyond the canvas, in its units: what wrapping takes off."""
    extent = _beside(torch.ones_like(g[:, :-1, -1]) if normalized else _extents(g, size), place).to(place)
    return (place / extent).floor() * extent


def _apply(a: Inexact[Tensor, "b d d"], x: Inexact[Tensor, "b *k d"]) -> Inexact[Tensor, "b *k d"]:
    # a sum of products and not a matmul: exact on the grid whatever the matmul precision is set to, and an infinite
    # coordinate does not spoil the other one
    a = a.reshape(a.shape[0], *[1] * (x.ndim - 2), *a.shape[1:])
    products = a * x[..., None, :]
    return torch.where(a == 0, torch.zeros_like(products), products).sum(-1)


@empty_stays
def act_points(
    g: Float[Tensor, "b n n"],
    x: Real[Tensor, "b *k d"],
    size: Size | None,
    *,
    normalized: bool = False,
    extra: int = 0,
    index: bool = False,
    absent: int | float | None = None,
    border: str | None = None,
) -> Tensor:
    """Move (x, y) points in pixels, or in shares of the canvas; (x, y, z) in voxels; without a canvas, metric ones in space.

    `index`: they are indices of pixels. `extra` numbers behind them (a visibility) stay. `absent`: points stay whose first
    extra number equals it, or without extra numbers every coordinate. With the `border` "wrap" coordinates count modulo the
    canvas. Exact up to rounding; see `snap` for bit-exactness on a canvas.
    """
    d = g.shape[-1] - 1
    _last_axis("points", x, d, extra)
    if d == 3 and size is None:
        if normalized or index:
            raise ValueError("points in space are metric: there is no canvas that they could be shares or indices of")
        place = _unrounded(_points_in_space(g, x[..., :3].double()), x)
    else:
        if size is None:
            raise ValueError("points in the plane need the canvas they live on")
        before = _floating(x[..., :d])
        a, t = _affine(g, size, normalized, before, index, border)
        place = _apply(a, before) + _beside(t, x)
        place = _like(place - _beyond(g, size, normalized, place) if border == "wrap" else place, x)
    moved = torch.cat([place, x[..., d:]], -1)
    mark = x[..., d : d + 1] if extra else x
    return moved if absent is None else torch.where((mark == absent).all(-1, keepdim=True), x, moved)


def _points_in_space(g: Tensor, x: Float[Tensor, "b *k 3"]) -> Float[Tensor, "b *k 3"]:
    """In float64, rounded once by the caller, so that map coordinates (millions of metres) keep their precision."""
    turned = _apply(g[:, :3, :3].double(), x)
    if not bool(g[:, :3, 3].any()) and x.numel():
        with torch.no_grad():
            before, after = (p.reshape(len(p) if p.ndim > 2 else 1, -1, 3) for p in (x, turned))
            centroid = before.mean(1)
            extent = (before - centroid[:, None]).norm(dim=-1).amax(1)
            share = extent / (after.mean(1) - centroid).norm(dim=-1)
            far = (share < 1 / FAR) & (share > ROUNDING)
        if bool(far.any()):
            warnings.warn(
                "points far from the origin are turned about the origin, and end far away from where they were: subtract a "
                "common offset first, such as their mean, or use a group with translations (SE3, E3)",
                stacklevel=2,
            )
    return turned + _beside(g[:, :3, 3].double(), x)


@empty_stays
def act_vectors(g: Float[Tensor, "b n n"], x: Shaped[Tensor, "b *k d"], size: Size | None) -> Tensor:
    """Turn arrows: (x, y) in pixels, (x, y, z) in space. A translation leaves them alone; `size` is not needed."""
    d = g.shape[-1] - 1
    _last_axis("vectors", x, d)
    arrows = _floating(x) if d == 2 else _double(x)
    y = _apply(g[:, :d, :d].to(arrows), arrows)
    return _unrounded(y, x) if d == 3 else _like(y, x)


@empty_stays
def act_matrices(g: Float[Tensor, "b n n"], x: Inexact[Tensor, "b *k d d"], size: Size | None) -> Tensor:
    """Turn symmetric matrices (stress, inertia) and other tensors of rank two, R M R^T. `size` is not needed."""
    d = g.shape[-1] - 1
    if x.ndim < 3 or x.shape[-2:] != (d, d):
        raise ValueError(f"matrices have shape (b, ..., {d}, {d}); got {tuple(x.shape)}")
    work = x if d == 2 else _double(x)
    a = g[:, :d, :d].to(work)
    return _apply(a, _apply(a, work).mT).mT.to(x.dtype)


@empty_stays
def act_boxes(
    g: Float[Tensor, "b m m"],
    x: Real[Tensor, "b *k n"],
    size: Size,
    *,
    format: str = "xyxy",
    normalized: bool = False,
    inclusive: bool = False,
    extra: int = 0,
    padding: int | float | None = None,
    border: str | None = None,
) -> Tensor:
    """Move axis-aligned boxes: exact for quarter turns, flips and shifts, the enclosing box for anything else.

    In a volume they have six numbers, three of each corner (or of the centre and the size): "xyxy" is x, y, z, x, y, z.
    `inclusive`: the second corner is the last pixel inside. `extra` numbers behind stay; so do boxes that are all `padding`.
    `border`: with "wrap" the centre counts modulo the canvas, and the size stays: a box across an edge reaches beyond it.
    """
    d = len(size)
    _last_axis("boxes", x, 2 * d, extra)
    before = _floating(x[..., : 2 * d])
    a, t = _affine(g, size, normalized, before, border=border)
    t = _beside(t, x)
    if format == "cxcywh":  # centre and size move apart, so that halves never round
        centre, sides = before.split(d, -1)
        # on the grid |A| swaps or keeps the sizes; off it, it gives the enclosing box
        centre = _apply(a, centre) + t
        beyond = _beyond(g, size, normalized, centre) if border == "wrap" else 0
        moved = torch.cat([centre - beyond, _apply(a.abs(), sides)], -1)
    else:
        low, high = _corners(before, format, inclusive)
        corners = [
            torch.stack([end[..., i] for i, end in enumerate(ends)], -1) for ends in itertools.product((low, high), repeat=d)
        ]
        ends = torch.stack([_apply(a, corner) + t for corner in corners])
        low, high = ends.amin(0), ends.amax(0)
        beyond = _beyond(g, size, normalized, (low + high) / 2) if border == "wrap" else 0
        moved = _from_corners(low - beyond, high - beyond, format, inclusive)
    return _but_padding(torch.cat([_like(moved, x), x[..., 2 * d :]], -1), x, padding, 2 * d)


def _corners(box: Tensor, format: str, inclusive: bool) -> tuple[Tensor, Tensor]:
    first, second = box.split(box.shape[-1] // 2, -1)
    if format == "yxyx":
        first, second = first.flip(-1), second.flip(-1)
    return first, first + second if format == "xywh" else second + 1 if inclusive else second


def _from_corners(low: Tensor, high: Tensor, format: str, inclusive: bool) -> Tensor:
    if format == "yxyx":
        low, high = low.flip(-1), high.flip(-1)
    return torch.cat([low, high - low if format == "xywh" else high - 1 if inclusive else high], -1)


def _but_padding(moved: Tensor, x: Tensor, padding: int | float | None, n: int = 4) -> Tensor:
    """`moved`, with boxes whose first n numbers are all padding as they were."""
    return moved if padding is None else torch.where((x[..., :n] == padding).all(-1, keepdim=True), x, moved)


@empty_stays
def act_rotated_boxes(
    g: Float[Tensor, "b 3 3"],
    x: Real[Tensor, "b *k n"],
    size: Size,
    *,
    unit: str = "degrees",
    clockwise: bool = False,
    extra: int = 0,
    padding: int | float | None = None,
    border: str | None = None,
) -> Tensor:
    """Move (cx, cy, w, h, angle) boxes, the angle counter-clockwise in degrees. Exact for every similarity (radians round).

    `extra` numbers behind stay; so do boxes whose first four are all `padding`. `border`: as of boxes.
    """
    _last_axis("rotated_boxes", x, 5, extra)
    if unit == "degrees":
        _suspect_radians(x[..., 4])
    angle = torch.atan2(g[:, 0, 1].double(), g[:, 1, 1].double()) * (-1 if clockwise else 1)
    angle = torch.rad2deg(angle) if unit == "degrees" else angle
    # the sides of isometries stay to the bit
    scale = size_of(g.double())
    scale = torch.where((scale - 1).abs() < SAME_SIZE, torch.ones_like(scale), scale)
    sign = torch.linalg.det(g.double()) / scale.square()
    angle, sign, scale = (_beside(v[:, None].to(_floating(x)), x) for v in (angle, sign, scale))
    turned = sign * _floating(x)[..., 4:5] + angle
    sides = _like(scale * _floating(x)[..., 2:4], x)
    moved = torch.cat([act_points(g, x[..., :2], size, border=border), sides, _like(turned, x), x[..., 5:]], -1)
    return _but_padding(moved, x, padding)


def _suspect_radians(angles: Tensor) -> None:
    if angles.numel() < 3 or not angles.dtype.is_floating_point:
        return
    size = angles.detach().abs()
    if bool(((size > 0) & (size <= math.pi + 1e-3)).all()):
        warnings.warn(
            "all angles of these rotated boxes lie between -pi and pi: if they are radians and not degrees, say "
            "RotatedBoxes('radians'), with clockwise=True if they are so",
            stacklevel=2,
        )


def _last_axis(name: str, x: Tensor, n: int, extra: int | None = None) -> None:
    """Raise ValueError unless x is (b, ..., n + extra); `extra`: how many numbers follow the places, which are real."""
    wanted = n + (extra or 0)
    if x.ndim < 2 or x.shape[-1] != wanted:
        more = x.shape[-1] - n if x.ndim > 1 and extra is not None else 0
        hint = f": where {more} more numbers follow, such as a score, say extra={more}" if more > 0 else ""
        raise ValueError(f"{name} have shape (b, ..., {wanted}); got {tuple(x.shape)}{hint}")
    if extra is not None and x.is_complex():
        raise ValueError(f"{name} are real numbers; got {x.dtype}")


def _beside(t: Float[Tensor, "b k"], x: Tensor) -> Tensor:
    """Numbers of every row, shaped to be added to x (b, ..., n)."""
    return t.reshape(t.shape[0], *[1] * (x.ndim - 2), t.shape[1])


def _is_whole(x: Tensor) -> bool:
    return not (x.dtype.is_floating_point or x.is_complex())


def _floating(x: Tensor) -> Tensor:
    return x.double() if _is_whole(x) else x


def _double(x: Tensor) -> Tensor:
    return x.to(torch.complex128) if x.is_complex() else x.double()


def _like(y: Tensor, x: Tensor) -> Tensor:
    return (y.round() if _is_whole(x) else y).to(x.dtype)


def _unrounded(y: Tensor, x: Tensor) -> Tensor:
    # turned voxel coordinates are no whole numbers any more, and are not rounded
    return y.to(torch.get_default_dtype() if _is_whole(x) else x.dtype)
