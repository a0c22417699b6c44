"""The canvas of pixels under an element: which elements keep to the grid, and what size the canvas has afterwards."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .isometries import unscaled

Size = tuple[int, int]
GRID_TOLERANCE = 1e-5


def grid_code(g: Float[Tensor, "b 3 3"]) -> list[int]:
    """Per element: k for k quarter turns, 4 + k for a left-right flip followed by them, -1 for anything off the grid."""
    near = g.detach().round()
    on_grid = ((g - near).abs().amax((-2, -1)) < GRID_TOLERANCE) & (near[:, :2, 2] == 0).all(-1)
    cos, sin = near[:, 1, 1], near[:, 0, 1]
    turns = torch.where(sin == 0, 1 - cos, 2 - sin).long()
    code = turns + 4 * (near[:, 0, 0] * cos - near[:, 1, 0] * sin < 0)
    is_turn = (cos.abs() + sin.abs() == 1) & (near[:, :2, :2].abs().sum((-2, -1)) == 2)
    return torch.where(on_grid & is_turn, code, -1).tolist()


def canvas_code(g: Float[Tensor, "b 3 3"]) -> list[int]:
    """The same of the elements without their resizing, which leaves the canvas alone: what becomes of the canvas."""
    codes = grid_code(g)
    return codes if min(codes, default=0) >= 0 else grid_code(unscaled(g))


def moved_size(code: int, size: Size) -> Size:
    """The canvas after the element of that grid code: odd quarter turns swap height and width."""
    return (size[1], size[0]) if code % 4 % 2 and code >= 0 else size


def moved_sizes(g: Float[Tensor, "b 3 3"], size: Size) -> list[Size]:
    """The canvas of every row after its element."""
    return [moved_size(code, size) for code in canvas_code(g)]


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
