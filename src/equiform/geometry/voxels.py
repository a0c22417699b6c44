"""How volumes move: by index, exact for any dtype and any canvas, under the symmetries of the cube.

Frame: x along the last axis (w), y along h, z along d; voxel (k, i, j) of (d, h, w) covers [j, j+1] x [i, i+1] x [k, k+1], and
g acts about the centre (W/2, H/2, D/2). A quarter turn about z takes x to y, as it does points of space.
"""

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional as F

from .grid import Move, Size, voxel_moves
from .pixels import STAND_INS, one_canvas


def act_volume(g: Float[Tensor, "b 4 4"], x: Tensor, size: Size | None) -> Tensor:
    """Permute and flip the last three axes of (b, ..., d, h, w), and its canvas with them. `size` is not needed.

    One element moves all rows.

    Raises ValueError for an element that is no symmetry of the cube, and where rows would end with different canvases.
    """
    if x.ndim < 4:
        raise ValueError(f"a volume has shape (b, ..., depth, height, width); got {tuple(x.shape)}")
    if x.dtype in STAND_INS:
        return act_volume(g, x.view(STAND_INS[x.dtype]), size).view(x.dtype)
    moves = voxel_moves(g)
    if len(set(moves)) <= 1:
        return (_moved(x, moves[0]) if moves else x).clone(memory_format=torch.contiguous_format)
    parts = [_moved(part, move) for part, move in zip(x.split(1), moves, strict=True)]
    one_canvas({tuple(part.shape[-3:]) for part in parts}, x, 3)
    return torch.cat(parts)


def _moved(x: Tensor, move: Move) -> Tensor:
    first = x.ndim - 3
    x = x.permute(*range(first), *[first + axis for axis, _ in move])
    flipped = [first + place for place, (_, flip) in enumerate(move) if flip]
    return x.flip(flipped) if flipped else x


def act_spacing(g: Float[Tensor, "b 4 4"], x: Real[Tensor, "b *k 3"], size: Size | None) -> Tensor:
    """The size of a voxel along x, y and z, (b, ..., 3): permuted with the axes, without their signs. `size` is not needed."""
    check_spacing(tuple(x.shape))
    # axis i of (z, y, x) is what axis `source` was; reversed they are those of (x, y, z)
    sources = torch.tensor([[2 - axis for axis, _ in move[::-1]] for move in voxel_moves(g)], dtype=torch.long, device=x.device)
    return x.gather(-1, sources.reshape(len(g), *[1] * (x.ndim - 2), 3).expand_as(x))


def check_spacing(shape: tuple[int, ...]) -> None:
    """Raise ValueError where spacings are not of three axes, or have none for rows."""
    if len(shape) < 2 or shape[-1] != 3:
        way_out = " (of one volume s[None], of all rows alike s.expand(b, 3))" if shape == (3,) else ""
        raise ValueError(f"spacing has shape (b, 3), the size of a voxel along x, y, z (w, h, d); got {shape}{way_out}")


def sample_volume(
    x: Float[Tensor, "b c d h w"], source: Float[Tensor, "b 3 4"], side: int
) -> Float[Tensor, "b c {side} {side} {side}"]:
    """Cubes of x, trilinear: place p of a cube shows the place source (p, 1) of x, where -1 and 1 are the faces of both."""
    grid = F.affine_grid(source, [len(x), x.shape[1], side, side, side], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
