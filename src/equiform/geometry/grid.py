"""The canvas of pixels or voxels under an element: which elements keep to the grid, and the size of the canvas afterwards."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .isometries import unscaled

Size = tuple[int, ...]  # (height, width); of a volume (depth, height, width)
GRID_TOLERANCE = 1e-5


def grid_code(g: Float[Tensor, "b 3 3"], shifted: bool = False) -> list[int]:
    """Per element: k for k quarter turns, 4 + k for a left-right flip followed by them, -1 for anything off the grid.

    `shifted`: they may be followed by a shift of whole pixels.
    """
    return grid_codes(g, shifted).tolist()


def grid_codes(g: Float[Tensor, "b 3 3"], shifted: bool = False) -> Int[Tensor, " b"]:
    """The same as a tensor."""
    near = g.detach().round()
    on_grid = ((g - near).abs().amax((-2, -1)) < GRID_TOLERANCE) & (shifted | (near[:, :2, 2] == 0).all(-1))
    cos, sin = near[:, 1, 1], near[:, 0, 1]
    turns = torch.where(sin == 0, 1 - cos, 2 - sin).long()
    code = turns + 4 * (near[:, 0, 0] * cos - near[:, 1, 0] * sin < 0)
    is_turn = (cos.abs() + sin.abs() == 1) & (near[:, :2, :2].abs().sum((-2, -1)) == 2)
    return torch.where(on_grid & is_turn, code, -1)


def canvas_code(g: Float[Tensor, "b 3 3"]) -> list[int]:
    """The same of the elements without their shift and resizing, which leave the canvas alone: what becomes of the canvas."""
    codes = grid_code(g, shifted=True)
    return codes if min(codes, default=0) >= 0 else grid_code(unscaled(g), shifted=True)


def moved_size(code: int, size: Size) -> Size:
    """The canvas after the element of that grid code: odd quarter turns swap height and width."""
    return (size[1], size[0]) if code % 4 % 2 and code >= 0 else size


def moved_sizes(g: Float[Tensor, "b n n"], size: Size | list[Size]) -> list[Size]:
    """The canvas of every row after its element. `size`: the canvas of all rows before, or a list with that of each."""
    sizes: list[Size] = size if isinstance(size, list) else [size] * len(g)
    if g.shape[-1] == 4:
        return [tuple(before[axis] for axis, _ in move) for move, before in zip(voxel_moves(g), sizes, strict=True)]
    return [moved_size(code, before) for code, before in zip(canvas_code(g), sizes, strict=True)]


Move = tuple[tuple[int, bool], ...]


def voxel_moves(g: Float[Tensor, "b 4 4"]) -> list[Move]:
    """Per element and axis of the moved volume (d, h, w): the axis that it was, 0 to 2, and whether it is flipped.

    Raises ValueError for an element that is no symmetry of the cube about the centre, a signed permutation of x, y and z.
    """
    near = g.detach().round()
    linear = near[:, :3, :3]
    is_symmetry = (linear.abs().sum(-1) == 1).all(-1) & (linear.abs().sum(-2) == 1).all(-1) & (near[:, :3, 3] == 0).all(-1)
    if not bool((is_symmetry & ((g - near).abs().amax((-2, -1)) < GRID_TOLERANCE)).all()):
        raise ValueError("volumes move by index, by the symmetries of the cube about their centre: groups O, Oh, D2h, C4z, C2z")
    # coordinates are (x, y, z), the axes of a volume (z, y, x)
    rows = linear.flip(-2, -1)
    axes, signs = rows.abs().argmax(-1).tolist(), (rows.sum(-1) < 0).tolist()
    return [tuple(zip(*one, strict=True)) for one in zip(axes, signs, strict=True)]


def parity(g: Float[Tensor, "b n n"], x: Tensor) -> Tensor:
    """The sign of det R of every element, shaped to be multiplied with x: -1 for reflections.

    Raises ValueError where the numbers of x have no sign.
    """
    if x.dtype == torch.bool or not (x.dtype.is_signed or x.is_complex()):
        raise ValueError(f"a pseudoscalar changes sign under a reflection: {x.dtype} has no sign, use float32 or int64")
    d = g.shape[-1] - 1
    return torch.linalg.det(g[:, :d, :d].double()).sign().to(x).reshape(-1, *[1] * (x.ndim - 1))


def empty_stays(act: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same action, but an empty tensor (b, 0), which has no last axis to check, stays as it is."""

    @wraps(act)
    def moved(g: Tensor, x: Tensor, size: Size | None, **options: Any) -> Tensor:
        return x.clone() if x.ndim == 2 and x.shape[1] == 0 else act(g, x, size, **options)

    return moved
