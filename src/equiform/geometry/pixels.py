"""How pixels and patch tokens move: by index on the grid, exact for any dtype; off the grid they are resampled.

On the grid are quarter turns and flips, followed by shifts of whole pixels.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from . import groups
from .grid import Size, empty_stays, grid_code, grid_codes, moved_size, moved_sizes, parity

# of grid_sample, which does not know how to wrap: see `_sampled`
BORDERS = {"zeros": "zeros", "edge": "border", "reflect": "reflection", "wrap": "zeros"}
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
FINEST = 16  # samples along each axis of a pixel: images that shrink further alias


CHANNELS = (1, 3, 4)  # of pictures and volumes as they usually come


@empty_stays
def act_image(
    g: Float[Tensor, "b 3 3"],
    x: Tensor,
    size: Size | None,
    *,
    interpolation: str = "bilinear",
    border: str = "zeros",
    pseudoscalar: bool = False,
    motion: str = "any",
) -> Tensor:
    """Move the last two axes of (b, ..., h, w). Exact on the grid, resampled elsewhere, with antialiasing where the image
    shrinks; `size` is not needed.

    `border`: what lies beyond the edge; with "wrap" the opposite one, so that shifts are cyclic. `pseudoscalar`:
    reflections turn the sign too. `motion`: what is known of all elements, see `Group.motion`.
    """
    if x.ndim < 3:
        raise ValueError(f"an image or mask has shape (b, ..., h, w); got {tuple(x.shape)}")
    if motion != "any" and x.shape[-2] == x.shape[-1] and not _may_look(x):
        moved = _moved_unseen(g, x, interpolation, border, motion)
    else:
        moved = _move_pixels(g, x, interpolation, border)
    return moved * parity(g, moved) if pseudoscalar else moved


@empty_stays
def act_clip(
    g: Float[Tensor, "b 3 3"],
    x: Tensor,
    size: Size | None,
    *,
    interpolation: str = "bilinear",
    border: str = "zeros",
    motion: str = "any",
) -> Tensor:
    """Move every frame of (b, frames, channels, h, w) by the element of its row; the options are those of images."""
    if x.ndim != 5:
        one = " (one clip: x[None])" if x.ndim == 4 else ""
        raise ValueError(f"a clip has shape (b, frames, channels, height, width); got {tuple(x.shape)}{one}")
    return act_image(g, x, size, interpolation=interpolation, border=border, motion=motion)


def check_axes(shape: tuple[int, ...]) -> None:
    """Raise ValueError where images of five axes may be volumes: unless they have a few channels after more frames than that.

    Whoever says "clip" or "volume" is not asked, and answers of predictors are not: their maps may have any axes.
    """
    if len(shape) != 5 or (shape[2] in CHANNELS and shape[1] > max(CHANNELS)):
        return
    last = shape[4] in CHANNELS and shape[3] not in CHANNELS
    way_out = (
        "; channels come before height and width: x.movedim(-1, 2) of a clip, x.movedim(-1, 1) of a volume" if last else ""
    )
    raise ValueError(
        f"an image of five axes may be a clip or a volume; got {shape}: say 'clip' of (b, frames, channels, height, width), or "
        f"'volume' of (b, channels, depth, height, width), which moves by groups of space, such as O or C4z{way_out}"
    )


def warn_channels_last(shape: tuple[int, ...]) -> None:
    """Warn where images (b, c, h, w) are most likely (b, h, w, c), and would be turned about the wrong axes."""
    if len(shape) == 4 and shape[3] in (3, 4) and min(shape[1:3]) > 8:
        warnings.warn(
            f"images have shape (b, channels, height, width); got {shape}, {shape[3]} pixels wide: if the axis of channels "
            "comes last, pass x.movedim(-1, 1)",
            stacklevel=3,
        )


def _may_look(x: Tensor) -> bool:
    """Whether elements may be looked at to decide how pixels move: not in a compiled graph, and at the cost of waiting for
    the device elsewhere."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _moved_unseen(g: Tensor, x: Tensor, interpolation: str, border: str, motion: str) -> Tensor:
    """Pixels of a square canvas, without a look at g: as a compiled graph needs it, and an accelerator likes it."""
    if motion == "grid":
        return _gathered(g, x)
    by_index = (grid_codes(g) >= 0).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
    return torch.where(by_index, _gathered(g, x), _resample(g, x, (x.shape[-2], x.shape[-1]), interpolation, border, 1))


class Known(NamedTuple):
    """Elements as plain numbers: what is known before a graph is traced. `codes`: on the grid; `finest`: see `fine`."""

    matrices: list[list[list[float]]]
    codes: list[int]
    finest: list[int]


def known(g: Float[Tensor, "n 3 3"]) -> Known:
    """Elements without shifts that will move whole batches, with what decides how. Looked at here, once."""
    return Known(g.tolist(), grid_code(g), [fine(size) for size in groups.size_of(g.double()).tolist()])


def act_known(elements: Known, x: Float[Tensor, "b c s s"], border: str) -> list[Tensor]:
    """A square canvas moved by each element, as `act_image` does; by the identity it is x itself."""
    size = (x.shape[-2], x.shape[-1])
    moved = []
    for matrix, code, fineness in zip(*elements, strict=True):
        if code >= 0:
            moved.append(_turned(x, code) if code else x)
        else:
            g = torch.tensor(matrix, dtype=x.dtype, device=x.device).expand(x.shape[0], 3, 3)
            moved.append(_resample(g, x, size, "bilinear", border, fineness))
    return moved


def _turned(x: Tensor, code: int, rows: int = -2, columns: int = -1) -> Tensor:
    return torch.rot90(x.flip(columns) if code >= 4 else x, code % 4, (rows, columns))


def _gathered(g: Tensor, x: Tensor) -> Tensor:
    """Pixels of a square canvas by their source, for elements on the grid. Slower on a CPU than a turn of each row.

    Shifts wrap, since those of groups on the grid do.
    """
    side = x.shape[-1]
    centre = torch.arange(side, dtype=torch.float64, device=x.device) + 0.5 - side / 2
    place = torch.stack([centre.expand(side, side), centre[:, None].expand(side, side)], -1).flatten(0, 1)
    back = groups.inverse(g.double())
    source = (place @ back[:, :2, :2].mT + back[:, None, :2, 2] + (side / 2 - 0.5)).round().long() % side
    index = (source[..., 1] * side + source[..., 0]).reshape(g.shape[0], *[1] * (x.ndim - 3), side * side)
    return x.flatten(-2).gather(-1, index.expand(*x.shape[:-2], -1)).reshape(x.shape)


def _move_pixels(g: Tensor, x: Tensor, interpolation: str, border: str) -> Tensor:
    codes = grid_code(g, shifted=True)
    if all(code >= 0 for code in codes):
        return _shift_rows(g[:, :2, 2], _move_rows(codes, x), border)
    if all(code < 0 for code in codes):
        return _resampled(g, x, interpolation, border)
    rows = [_move_pixels(element, row, interpolation, border) for element, row in zip(g.split(1), x.split(1), strict=True)]
    one_canvas({tuple(row.shape[-2:]) for row in rows}, x)
    return torch.cat(rows)


@empty_stays
def act_mask(g: Float[Tensor, "b 3 3"], x: Tensor, size: Size | None, *, border: str = "zeros", motion: str = "any") -> Tensor:
    """Move a mask, label map or score map (b, ..., h, w). Nearest pixel off the grid."""
    return act_image(g, x, size, interpolation="nearest", border=border, motion=motion)


def one_canvas(canvases: set, x: Tensor, axes: int = 2) -> None:
    """Raise ValueError where the rows of x, whose canvas is its last axes, would end with different canvases."""
    if len(canvases) > 1:
        raise ValueError(
            f"the rows of a batch with canvas {tuple(x.shape[-axes:])} would end with different canvases {sorted(canvases)}: "
            f"move rows with equal canvases together, or pass a list of {'images' if axes == 2 else 'volumes'} with "
            f"equiform.Rows({'image' if axes == 2 else 'volume'!r})"
        )


# dtypes that torch does not flip, moved as others of the same size
STAND_INS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
STAND_INS |= dict.fromkeys((torch.float8_e4m3fn, torch.float8_e5m2), torch.uint8)


def _move_rows(codes: list[int], x: Tensor) -> Tensor:
    if x.dtype in STAND_INS:
        return _move_rows(codes, x.view(STAND_INS[x.dtype])).view(x.dtype)
    channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if channels_last:  # work in the order of the memory, and give the same order back
        x = x.permute(0, 2, 3, 1)
    rows, columns = (1, 2) if channels_last else (-2, -1)

    if len(set(codes)) <= 1:
        result = _turned(x, codes[0], rows, columns) if codes and codes[0] else x.clone()
    else:
        height, width = x.shape[rows], x.shape[columns]
        one_canvas({moved_size(code, (height, width)) for code in codes}, x)
        result = torch.cat([_turned(x[i : i + 1], code, rows, columns) for i, code in enumerate(codes)])
    result = result.contiguous()
    return result.permute(0, 3, 1, 2) if channels_last else result


def _shift_rows(t: Float[Tensor, "b 2"], x: Tensor, border: str) -> Tensor:
    """Each row shifted by (x, y) whole pixels."""
    if not bool(t.any()):
        return x
    if x.dtype in STAND_INS:
        return _shift_rows(t, x.view(STAND_INS[x.dtype]), border).view(x.dtype)
    h, w = x.shape[-2:]
    by = t.round().long().tolist()
    if border == "zeros" and any(abs(right) >= w or abs(down) >= h for right, down in by):
        warnings.warn(
            f"shifts of up to {max(abs(n) for each in by for n in each)} pixels leave nothing on a canvas of {h} x {w}: "
            "shift by less than the canvas, or say Image(border='wrap') for cyclic shifts",
            stacklevel=2,
        )
    moved = []
    for row, (right, down) in zip(x.split(1), by, strict=True):
        (ys, y_inside), (xs, x_inside) = sources(h, down, border), sources(w, right, border)
        inside = (y_inside[:, None] & x_inside).to(x.device)
        row = row.index_select(-2, ys.to(x.device)).index_select(-1, xs.to(x.device))
        moved.append(torch.where(inside, row, torch.zeros_like(row)) if border == "zeros" else row)
    return torch.cat(moved)


def sources(n: int, by: int, border: str) -> tuple[Tensor, Tensor]:
    """For each of n pixels in a line that is shifted `by` pixels, the index of the one it shows, and whether that is inside."""
    index = torch.arange(n) - by
    inside = (index >= 0) & (index < n)
    if border == "wrap":
        return index % n, inside
    if border == "reflect":
        index = index % (2 * n)
        return torch.minimum(index, 2 * n - 1 - index), inside
    return index.clamp(0, n - 1), inside


def _resampled(g: Tensor, x: Tensor, interpolation: str, border: str) -> Tensor:
    """Rows by how finely they are sampled: an image that shrinks as finely as its own pixels lie, whatever the others do."""
    canvases = set(moved_sizes(g, (x.shape[-2], x.shape[-1])))
    one_canvas(canvases, x)
    canvas = next(iter(canvases))
    sizes = [1.0] * len(g) if interpolation == "nearest" else groups.size_of(g.double()).tolist()
    fineness = [fine(size) for size in sizes]
    if len(set(fineness)) == 1:
        return _resample(g, x, canvas, interpolation, border, fineness[0])
    result = x.new_empty((*x.shape[:-2], *canvas))
    for each in set(fineness):
        rows = torch.tensor([i for i, one in enumerate(fineness) if one == each], device=x.device)
        result[rows] = _resample(g[rows.to(g.device)], x[rows], canvas, interpolation, border, each)
    return result


def fine(size: float) -> int:
    """How many samples along each axis a pixel of an image takes that is resized by that factor."""
    return min(max(math.ceil(1 / max(size, 1e-9) - 0.01), 1), FINEST)


def _resample(g: Tensor, x: Tensor, canvas: Size, interpolation: str, border: str, fineness: int) -> Tensor:
    if x.is_complex():
        parts = _resample(g, torch.view_as_real(x).movedim(-1, 1), canvas, interpolation, border, fineness)
        return torch.view_as_complex(parts.movedim(1, -1).contiguous())
    if x.dtype == torch.uint64:
        raise ValueError("uint64 pixels are not resampled, since float64 cannot hold them all: use int64 or float64")
    h, w = x.shape[-2:]
    # numbers beyond 2^24 would not survive float32
    work = torch.float64 if x.dtype in (torch.float64, torch.int32, torch.int64, torch.uint32) else torch.float32
    back = groups.inverse(g.double())
    ys = torch.arange(canvas[0], dtype=torch.float64, device=x.device) + 0.5 - canvas[0] / 2
    xs = torch.arange(canvas[1], dtype=torch.float64, device=x.device) + 0.5 - canvas[1] / 2

    def grid(dx: float, dy: float) -> Tensor:
        # the source of target pixel p is g^-1 p, in the units of grid_sample: -1 and 1 are the edges of the canvas
        u, v = xs + dx, (ys + dy)[:, None]
        grid_x = back[:, 0, 0, None, None] * u + back[:, 0, 1, None, None] * v + back[:, 0, 2, None, None]
        grid_y = back[:, 1, 0, None, None] * u + back[:, 1, 1, None, None] * v + back[:, 1, 2, None, None]
        return torch.stack([grid_x * 2 / w, grid_y * 2 / h], -1).to(work)

    flat = x.reshape(x.shape[0], -1, h, w).to(work)
    y = _averaged(lambda dx, dy: _sampled(flat, grid(dx, dy), interpolation, border), fineness)
    y = y.reshape(*x.shape[:-2], *canvas)
    if x.dtype.is_floating_point:
        return y.to(x.dtype)
    if x.dtype == torch.bool:
        return y >= 0.5
    limits = torch.iinfo(x.dtype)
    return y.round().clamp(limits.min, limits.max).to(x.dtype)


def _averaged(sample: Callable[[float, float], Tensor], fineness: int) -> Tensor:
    """The mean of samples at places spread evenly over a pixel, against aliasing; one sample at its centre."""
    steps = [(i + 0.5) / fineness - 0.5 for i in range(fineness)]
    total = sample(steps[0], steps[0])
    for i in range(1, fineness**2):
        total = total + sample(steps[i % fineness], steps[i // fineness])
    return total / fineness**2 if fineness > 1 else total


def _sampled(x: Tensor, grid: Tensor, interpolation: str, border: str) -> Tensor:
    if border == "wrap":
        h, w = x.shape[-2:]
        # as far beyond each edge as bicubic looks
        x = x[..., torch.arange(-2, h + 2, device=x.device) % h, :][..., torch.arange(-2, w + 2, device=x.device) % w]
        grid = (torch.remainder(grid + 1, 2) - 1) * torch.tensor([w / (w + 4), h / (h + 4)]).to(grid)
    return F.grid_sample(x, grid, mode=interpolation, padding_mode=BORDERS[border], align_corners=False)


def sample_affine(
    x: Float[Tensor, "b c h w"], source: Float[Tensor, "b 2 3"], side: int, border: str = "reflect", fineness: int = 1
) -> Float[Tensor, "b c {side} {side}"]:
    """Squares of x, bilinear: place p of a square shows the place source (p, 1) of x, where -1 and 1 are the edges of both.

    `fineness`: the number of samples along each axis of a pixel, whose mean it is.
    """
    grid = F.affine_grid(source, [len(x), x.shape[1], side * fineness, side * fineness], align_corners=False)
    moved = _sampled(x, grid, "bilinear", border)
    return F.avg_pool2d(moved, fineness) if fineness > 1 else moved


def act_tokens(
    g: Float[Tensor, "b 3 3"],
    x: Tensor,
    size: Size,
    *,
    patch: Size = (16, 16),
    prefix: int = 1,
    suffix: int = 0,
    border: str = "zeros",
    motion: str = "any",
) -> Tensor:
    """Move the patch tokens of (b, prefix + h w + suffix, d) as the pixels of an (h, w) image; the others stay.

    Exact where the shift is by whole patches; others are resampled.
    """
    if x.ndim != 3:
        raise ValueError(f"tokens have shape (b, n, d); got {tuple(x.shape)}")
    if patch[0] != patch[1] and any(canvas != (1, 2) for canvas in moved_sizes(g, (1, 2))):
        raise ValueError(f"patches of {patch[0]} x {patch[1]} pixels do not fit the grid after a quarter turn: use C2 or D2")
    num = x.shape[1] - prefix - suffix
    h, w = _token_grid(num, size, patch, f"{x.shape[1]} tokens, {prefix} before and {suffix} after the grid")
    # the same element in the unit of a patch, since a translation is in pixels
    unit = torch.tensor([patch[1], patch[0], 1], dtype=torch.float64, device=g.device)
    grid = x[:, prefix : prefix + num].mT.unflatten(2, (h, w))
    moved = act_image(g.double() * unit / unit[:, None], grid, None, border=border, motion=motion).flatten(2).mT
    return torch.cat([x[:, :prefix], moved, x[:, prefix + num :]], 1)


def _token_grid(num: int, size: Size, patch: Size, came: str) -> Size:
    """The grid of patches with `num` cells: networks drop the remainder at the edge of the canvas, or pad it to a patch."""
    grids = [(size[0] // patch[0], size[1] // patch[1]), (-(-size[0] // patch[0]), -(-size[1] // patch[1]))]
    for h, w in grids:
        if h * w == num:
            return h, w
    raise ValueError(
        f"{came}: {num} are no grid of patches of {patch[0]} x {patch[1]} pixels on a canvas of {size[0]} x {size[1]}, "
        f"which has {' or '.join(f'{h} x {w}' for h, w in dict.fromkeys(grids))}"
    )
