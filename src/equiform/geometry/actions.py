"""How each kind of data moves under g. The only module that knows about pixels.

Frame: x right, y down; pixel (i, j) covers [j, j+1] x [i, i+1]; g acts about the canvas centre (W/2, H/2).
Convention: g moves the content, (g.f)(p) = f(g^-1 p), so act(g, act(h, x)) == act(g @ h, x).
Quarter turns and flips move pixels by index (exact for any dtype) and swap height and width for odd turns;
everything else is resampled on an unchanged canvas.
In three dimensions (elements (b, 4, 4)) points are metric, about the origin, and there is no canvas.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional as F

from ..geometry import groups

Size = tuple[int, int]
GRID_TOLERANCE = 1e-5
BORDERS = {"zeros": "zeros", "edge": "border", "reflect": "reflection"}
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
BOX_FORMATS = ("xyxy", "xywh", "cxcywh")


# ------------------------------------------------------------------------------------------------- where things go


def grid_code(g: Float[Tensor, "b 3 3"]) -> list[int]:
    """Per element: k for k quarter turns, 4 + k for a left-right flip followed by them, -1 for anything off the grid."""
    near = g.detach().round()
    on_grid = ((g - near).abs().amax((-2, -1)) < GRID_TOLERANCE) & (near[:, :2, 2] == 0).all(-1)
    cos, sin = near[:, 1, 1], near[:, 0, 1]
    turns = torch.where(sin == 0, 1 - cos, 2 - sin).long()
    code = turns + 4 * (near[:, 0, 0] * cos - near[:, 1, 0] * sin < 0)
    is_turn = (cos.abs() + sin.abs() == 1) & (near[:, :2, :2].abs().sum((-2, -1)) == 2)
    return torch.where(on_grid & is_turn, code, -1).tolist()


def moved_size(code: int, size: Size) -> Size:
    """The canvas after the element of that grid code: odd quarter turns swap height and width."""
    return (size[1], size[0]) if code % 4 % 2 and code >= 0 else size


def moved_sizes(g: Float[Tensor, "b 3 3"], size: Size) -> list[Size]:
    """The canvas of every row after its element."""
    return [moved_size(code, size) for code in grid_code(g)]


def _affine(g: Tensor, size: Size, normalized: bool, like: Tensor) -> tuple[Tensor, Tensor]:
    """A (b, 2, 2) and t (b, 2) with p -> A p + t in pixels, or in shares of the canvas. Whole numbers on the grid."""
    a = g[:, :2, :2].double()
    before = torch.tensor([size[1], size[0]], dtype=torch.float64, device=g.device)
    after = torch.tensor([(w, h) for h, w in moved_sizes(g, size)], dtype=torch.float64, device=g.device).reshape(-1, 2)
    t = g[:, :2, 2].double() + after / 2 - (a * (before / 2)).sum(-1)
    if normalized:
        a, t = a * before / after[:, :, None], t / after
    return a.to(like), t.to(like)


def _apply(a: Float[Tensor, "b d d"], x: Float[Tensor, "b *k d"]) -> Float[Tensor, "b *k d"]:
    # a sum of products and not a matmul: exact on the grid whatever the matmul precision is set to, and an infinite
    # coordinate does not spoil the other one
    a = a.reshape(len(a), *[1] * (x.ndim - 2), *a.shape[1:])
    products = a * x[..., None, :]
    return torch.where(a == 0, torch.zeros_like(products), products).sum(-1)


# --------------------------------------------------------------------------------------------- one function a kind


def act_image(
    g: Float[Tensor, "b 3 3"], x: Tensor, size: Size | None, *, interpolation: str = "bilinear", border: str = "zeros"
) -> Tensor:
    """Move the last two axes of (b, ..., h, w). Exact on the grid, resampled elsewhere; `size` is not needed."""
    if x.ndim < 3:
        raise ValueError(f"an image or mask has shape (b, ..., h, w); got {tuple(x.shape)}")
    codes = grid_code(g)
    if all(code >= 0 for code in codes):
        return _move_rows(codes, x)
    if all(code < 0 for code in codes):
        return _resample(g, x, interpolation, border)
    rows = [
        _move_rows([code], x[i : i + 1]) if code >= 0 else _resample(g[i : i + 1], x[i : i + 1], interpolation, border)
        for i, code in enumerate(codes)
    ]
    _one_canvas({tuple(row.shape[-2:]) for row in rows}, x)
    return torch.cat(rows)


def act_mask(g: Float[Tensor, "b 3 3"], x: Tensor, size: Size | None, *, border: str = "zeros") -> Tensor:
    """Move a mask, label map or score map (b, ..., h, w). Nearest pixel off the grid."""
    return act_image(g, x, size, interpolation="nearest", border=border)


def _one_canvas(canvases: set, x: Tensor) -> None:
    if len(canvases) > 1:
        raise ValueError(
            f"the rows of a batch with canvas {tuple(x.shape[-2:])} would end with different canvases {sorted(canvases)}: "
            "move rows with equal canvases together, or pass a list of images with equiform.Rows('image')"
        )


# torch moves these only as other numbers of the same size
STAND_INS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
STAND_INS |= dict.fromkeys((torch.float8_e4m3fn, torch.float8_e5m2), torch.uint8)


def _move_rows(codes: list[int], x: Tensor) -> Tensor:
    if x.dtype in STAND_INS:
        return _move_rows(codes, x.view(STAND_INS[x.dtype])).view(x.dtype)
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if channels_last:  # work in the order of the memory, and give the same order back
        x = x.permute(0, 2, 3, 1)
    rows, columns = (1, 2) if channels_last else (-2, -1)

    def moved(part: Tensor, code: int) -> Tensor:
        if code >= 4:
            part = part.flip(columns)
        return torch.rot90(part, code % 4, (rows, columns))

    if len(set(codes)) <= 1:
        result = moved(x, codes[0]) if codes and codes[0] else x.clone()
    else:
        height, width = x.shape[rows], x.shape[columns]
        _one_canvas({moved_size(code, (height, width)) for code in set(codes)}, x)
        result = torch.cat([moved(x[i : i + 1], code) for i, code in enumerate(codes)])
    result = result.contiguous()
    return result.permute(0, 3, 1, 2) if channels_last else result


def _resample(g: Tensor, x: Tensor, interpolation: str, border: str) -> Tensor:
    h, w = x.shape[-2:]
    # labels beyond 2^24 would not survive float32
    work = torch.float64 if x.dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
    back = groups.inverse(g.double())
    ys = torch.arange(h, dtype=torch.float64, device=x.device) + 0.5 - h / 2
    xs = torch.arange(w, dtype=torch.float64, device=x.device) + 0.5 - w / 2
    # the source of target pixel p is g^-1 p, in the units of grid_sample: -1 and 1 are the edges of the canvas
    grid_x = back[:, 0, 0, None, None] * xs + back[:, 0, 1, None, None] * ys[:, None] + back[:, 0, 2, None, None]
    grid_y = back[:, 1, 0, None, None] * xs + back[:, 1, 1, None, None] * ys[:, None] + back[:, 1, 2, None, None]
    grid = torch.stack([grid_x * 2 / w, grid_y * 2 / h], -1).to(work)
    flat = x.reshape(len(x), -1, h, w).to(work)
    y = F.grid_sample(flat, grid, mode=interpolation, padding_mode=BORDERS[border], align_corners=False).reshape(x.shape)
    if x.dtype.is_floating_point:
        return y.to(x.dtype)
    if x.dtype == torch.bool:
        return y >= 0.5
    limits = torch.iinfo(x.dtype)
    return y.round().clamp(limits.min, limits.max).to(x.dtype)


def act_points(
    g: Float[Tensor, "b n n"], x: Real[Tensor, "b *k d"], size: Size | None, *, normalized: bool = False, extra: int = 0
) -> Tensor:
    """Move (x, y) points in pixels, or in shares of the canvas; in space metric (x, y, z), which need no canvas.

    `extra` numbers behind them (a visibility) stay. Every element to rounding; see `snap` for bit-exactness in the plane.
    """
    d = g.shape[-1] - 1
    _last_axis("points", x, d + extra)
    place = _floating(x[..., :d])
    if d == 3:
        if normalized:
            raise ValueError("points in space are metric: there is no canvas that they could be shares of")
        y = _apply(g[:, :3, :3].to(place), place) + g[:, :3, 3].to(place).reshape(len(g), *[1] * (x.ndim - 2), 3)
        return torch.cat([_unrounded(y, x), x[..., 3:]], -1)
    if size is None:
        raise ValueError("points in the plane need the canvas they live on")
    a, t = _affine(g, size, normalized, place)
    y = _apply(a, place) + t.reshape(len(t), *[1] * (x.ndim - 2), 2)
    return torch.cat([_like(y, x), x[..., 2:]], -1)


def act_vectors(g: Float[Tensor, "b n n"], x: Real[Tensor, "b *k d"], size: Size | None) -> Tensor:
    """Turn arrows: (x, y) in pixels, (x, y, z) in space. A translation leaves them alone; `size` is not needed."""
    d = g.shape[-1] - 1
    _last_axis("vectors", x, d)
    y = _apply(g[:, :d, :d].to(_floating(x)), _floating(x))
    return _unrounded(y, x) if d == 3 else _like(y, x)


def act_matrices(g: Float[Tensor, "b n n"], x: Float[Tensor, "b *k d d"], size: Size | None) -> Tensor:
    """Turn symmetric matrices (stress, inertia) and other tensors of rank two, R M R^T. `size` is not needed."""
    d = g.shape[-1] - 1
    if x.ndim < 3 or x.shape[-2:] != (d, d):
        raise ValueError(f"matrices have shape (b, ..., {d}, {d}); got {tuple(x.shape)}")
    a = g[:, :d, :d].to(x)
    return _apply(a, _apply(a, x).mT).mT


def act_boxes(
    g: Float[Tensor, "b 3 3"], x: Real[Tensor, "b *k 4"], size: Size, *, format: str = "xyxy", normalized: bool = False
) -> Tensor:
    """Move axis-aligned boxes: exact for quarter turns and flips, the enclosing box for anything else."""
    _last_axis("boxes", x, 4)
    a, t = _affine(g, size, normalized, _floating(x))
    t = t.reshape(len(t), *[1] * (x.ndim - 2), 2)
    first, second = _floating(x).split(2, -1)
    if format == "cxcywh":  # centre and size move apart, so that halves never round
        # on the grid |A| swaps or keeps the sizes; off it, it gives the enclosing box
        return _like(torch.cat([_apply(a, first) + t, _apply(a.abs(), second)], -1), x)
    far = second if format == "xyxy" else first + second
    corners = [torch.stack([u[..., 0], v[..., 1]], -1) for u in (first, far) for v in (first, far)]
    moved = torch.stack([_apply(a, corner) + t for corner in corners])
    low, high = moved.amin(0), moved.amax(0)
    return _like(torch.cat([low, high if format == "xyxy" else high - low], -1), x)


def act_rotated_boxes(g: Float[Tensor, "b 3 3"], x: Real[Tensor, "b *k 5"], size: Size) -> Tensor:
    """Move (cx, cy, w, h, angle) boxes, the angle counter-clockwise in degrees. Exact for every isometry."""
    _last_axis("rotated_boxes", x, 5)
    angle = torch.rad2deg(torch.atan2(g[:, 0, 1].double(), g[:, 1, 1].double()))
    angle, sign = (v.reshape(len(g), *[1] * (x.ndim - 2), 1).to(_floating(x)) for v in (angle, torch.linalg.det(g.double())))
    turned = sign * _floating(x)[..., 4:] + angle
    return torch.cat([act_points(g, x[..., :2], size), x[..., 2:4], _like(turned, x)], -1)


def act_field(
    g: Float[Tensor, "b 3 3"],
    x: Float[Tensor, "b 2 h w"],
    size: Size | None,
    *,
    interpolation: str = "bilinear",
    border: str = "zeros",
) -> Tensor:
    """Move a grid of (x, y) arrows in pixels (optical flow): the grid as an image, the arrows as vectors."""
    if x.ndim != 4 or x.shape[1] != 2:
        raise ValueError(f"a field has shape (b, 2, h, w), channels x and y; got {tuple(x.shape)}")
    moved = act_image(g, x, size, interpolation=interpolation, border=border)
    return act_vectors(g, moved.movedim(1, -1), size).movedim(-1, 1)


def act_tokens(
    g: Float[Tensor, "b 3 3"], x: Tensor, size: Size, *, patch: Size = (16, 16), prefix: int = 1, suffix: int = 0
) -> Tensor:
    """Move the patch tokens of (b, prefix + h w + suffix, d) as the pixels of an (h, w) image; the others stay."""
    if x.ndim != 3:
        raise ValueError(f"tokens have shape (b, n, d); got {tuple(x.shape)}")
    if patch[0] != patch[1] and any(moved_size(code, (1, 2)) != (1, 2) for code in grid_code(g)):
        raise ValueError(f"patches of {patch[0]} x {patch[1]} pixels are no such patches after a quarter turn: use C2 or D2")
    num = x.shape[1] - prefix - suffix
    h, w = _token_grid(num, size, patch, f"{x.shape[1]} tokens, {prefix} before and {suffix} after the grid")
    # the same element in the unit of a patch, since a translation is in pixels
    unit = torch.tensor([patch[1], patch[0], 1], dtype=torch.float64, device=g.device)
    grid = x[:, prefix : prefix + num].mT.unflatten(2, (h, w))
    moved = act_image(g.double() * unit / unit[:, None], grid, None).flatten(2).mT
    return torch.cat([x[:, :prefix], moved, x[:, prefix + num :]], 1)


def _token_grid(num: int, size: Size, patch: Size, came: str) -> Size:
    """Rows and columns of the patches of a canvas: networks drop what is left over at its edge, or pad it to a patch."""
    grids = [(size[0] // patch[0], size[1] // patch[1]), (-(-size[0] // patch[0]), -(-size[1] // patch[1]))]
    for h, w in grids:
        if h * w == num:
            return h, w
    raise ValueError(
        f"{came}: {num} are no grid of patches of {patch[0]} x {patch[1]} pixels on a canvas of {size[0]} x {size[1]}, "
        f"which has {' or '.join(f'{h} x {w}' for h, w in dict.fromkeys(grids))}"
    )


def act_regular(g: Float[Tensor, "b 3 3"], x: Tensor, size: Size | None, *, group: str | None = None) -> Tensor:
    """Permute group channels, axis 1 of (b, order, ...): (g.f)(h) = f(g^-1 h). Exact; g must be in the group."""
    if group is None:
        raise ValueError("regular channels need their group: use equiform.Regular('C4'), or the group of the model")
    elements = groups.group(group).elements.to(g)
    if x.ndim < 2 or x.shape[1] != len(elements):
        raise ValueError(f"regular channels of {group} have shape (b, {len(elements)}, ...); got {tuple(x.shape)}")
    sources = groups.inverse(g)[:, None] @ elements
    index = groups.group(group).index(sources.flatten(0, 1)).reshape(len(g), len(elements))
    if float((sources - elements[index]).abs().max() if len(g) else 0) > 1e-3:
        raise ValueError(f"regular channels of {group} move by elements of {group} alone")
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def act_invariant(g: Float[Tensor, "b n n"], x: Any, size: Size | None) -> Any:
    """Leave it as it is."""
    return x


def _last_axis(name: str, x: Tensor, n: int) -> None:
    if x.ndim < 2 or x.shape[-1] != n:
        raise ValueError(f"{name} have shape (b, ..., {n}); got {tuple(x.shape)}")


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype.is_floating_point else x.double()


def _like(y: Tensor, x: Tensor) -> Tensor:
    return (y if x.dtype.is_floating_point else y.round()).to(x.dtype)


def _unrounded(y: Tensor, x: Tensor) -> Tensor:
    # voxels turned in space are no voxels: to round them would be to change the cloud
    return y.to(x.dtype if x.dtype.is_floating_point else torch.get_default_dtype())


class Row(NamedTuple):
    """What there is to know of a kind: its action, whether it needs the canvas, may be averaged, and moves in space too.

    `places`: how many numbers of the last axis are places on the canvas, and may be rounded as such.
    """

    act: Callable[..., Any]
    on_canvas: bool = False
    averaged: bool = True
    places: int = 0
    in_space: bool = False


ACTIONS = {
    "image": Row(act_image),
    "mask": Row(act_mask),
    "points": Row(act_points, on_canvas=True, places=2, in_space=True),
    "vectors": Row(act_vectors, in_space=True),
    "matrices": Row(act_matrices, in_space=True),
    "boxes": Row(act_boxes, on_canvas=True, averaged=False, places=4),
    "rotated_boxes": Row(act_rotated_boxes, on_canvas=True, averaged=False, places=4),
    "field": Row(act_field),
    "tokens": Row(act_tokens, on_canvas=True),
    "regular": Row(act_regular),
    "invariant": Row(act_invariant, in_space=True),
    "logits": Row(act_invariant, in_space=True),
    # of clouds: numbers of the points that canonicalizers look at, which points of a padded batch are there, the cloud of
    # every point of a flat batch, pairs of its points, and numbers of those
    "features": Row(act_invariant, in_space=True),
    "presence": Row(act_invariant, averaged=False, in_space=True),
    "batch": Row(act_invariant, averaged=False, in_space=True),
    "edges": Row(act_invariant, averaged=False, in_space=True),
    "edge_features": Row(act_invariant, in_space=True),
    "edge_vectors": Row(act_vectors, in_space=True),
    # how many rows there are, for a predictor that is told
    "count": Row(act_invariant, averaged=False, in_space=True),
}
