"""Rotations and reflections of space as 3 x 3 matrices: drawn, measured, found from vectors, and those of two polyhedra.

A frame is an orthogonal matrix whose columns are its axes. Everything keeps the dtype of its input. Degenerate vectors give a
valid frame too, with certainty 0.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

UNDEFINED = 1e-6  # sums of singular values below it are rounding, and so would a gradient be


def random_rotations(b: int, generator: torch.Generator | None = None) -> Float[Tensor, "b 3 3"]:
    """Rotations drawn uniformly (Haar measure), in float64: unit quaternions from four normal numbers (Shoemake 1992)."""
    q = torch.randn(b, 4, dtype=torch.float64, generator=generator)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def about_z(angle: Float[Tensor, " *b"]) -> Float[Tensor, "*b 3 3"]:
    """Turns by `angle` radians about the z axis, counter-clockwise seen from its tip: x goes to y at a quarter turn."""
    c, s, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [torch.stack([c, -s, zero], -1), torch.stack([s, c, zero], -1), torch.stack([zero, zero, one], -1)]
    return torch.stack(rows, -2)


def about_any_axis(angle: Float[Tensor, " b"], generator: torch.Generator | None = None) -> Float[Tensor, "b 3 3"]:
    """Turns by `angle` radians about axes drawn uniformly."""
    base = random_rotations(len(angle), generator).to(angle)
    return base @ about_z(angle) @ base.mT


def rotation_angle(r: Float[Tensor, "*b 3 3"]) -> Float[Tensor, " *b"]:
    """The angle of a rotation in radians, 0 to pi, accurate at both ends; pi for anything with a negative determinant."""
    axis = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1)
    angle = torch.atan2(axis.norm(dim=-1), r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)
    return torch.where(torch.linalg.det(r) > 0, angle, torch.full_like(angle, math.pi))


def nearest_rotation(m: Float[Tensor, "*b 3 3"], reflections: bool = False) -> Float[Tensor, "*b 3 3"]:
    """The rotation nearest to a matrix in the Frobenius norm (Procrustes); with `reflections`, the orthogonal matrix.

    The gradient is finite everywhere, and zero along directions in which the nearest rotation is not unique.
    """
    u, s, vh = torch.linalg.svd(m.detach())
    if not reflections:
        sign = torch.linalg.det(u @ vh).sign()[..., None]
        u = torch.cat([u[..., :2], u[..., 2:] * sign[..., None]], -1)
        s = torch.cat([s[..., :2], s[..., 2:] * sign], -1)
    # the gradient by hand, since that of the SVD divides by differences of singular values, and this one by their sums
    sums = s[..., :, None] + s[..., None, :]
    rate = torch.where(sums > UNDEFINED * s[..., :1, None].clamp(min=1), 1 / sums, 0)
    turn = u.mT @ m @ vh.mT
    turn = rate * (turn - turn.mT)
    return u @ vh + u @ (turn - turn.detach()) @ vh


def octahedral() -> Float[Tensor, "24 3 3"]:
    """The rotations of the cube, float64, the identity first: the signed permutations of determinant 1."""
    found = []
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)):
        m = torch.zeros(3, 3, dtype=torch.float64)
        m[list(order), range(3)] = torch.tensor(signs, dtype=torch.float64)
        if torch.linalg.det(m) > 0:
            found.append(m)
    return torch.stack(found)


def icosahedral() -> Float[Tensor, "60 3 3"]:
    """The rotations of the icosahedron with vertices (0, +-1, +-golden) and so on, float64, the identity first."""
    golden = (1 + math.sqrt(5)) / 2
    axis = torch.tensor([0.0, 1.0, golden], dtype=torch.float64)
    x, y, z = (axis / axis.norm()).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    fifth = torch.eye(3, dtype=torch.float64) + math.sin(0.4 * math.pi) * cross + (1 - math.cos(0.4 * math.pi)) * cross @ cross
    found = torch.eye(3, dtype=torch.float64)[None]
    # with the turn about one vertex, the half turn about x and the one that takes x to y to z generate all of them
    generators = torch.stack([fifth, torch.diag(torch.tensor([1.0, -1.0, -1.0])).double(), found[0][[1, 2, 0]]])
    while len(found) < 60:
        products = torch.cat([found, (found[:, None] @ generators).flatten(0, 1)])
        distance = (products[:, None] - products).abs().amax((-2, -1))
        first = torch.tril(distance < 1e-9).long().argmax(1) == torch.arange(len(products))
        found = products[first]
    return found


# --------------------------------------------------------------------------------------------------- vectors to frames

TINY = 1e-12


def gram_schmidt(v: Float[Tensor, "*b 3 3"], reflections: bool = False) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, " *b"]]:
    """A frame from the three columns of v, and its certainty: the sine between the first two, 0 where one of them is missing.

    The third axis is the cross product of the first two; with `reflections`, on the side of the third column, and the certainty
    is at most the share of that column that points out of their plane.
    A zero vector, or one parallel to another, is replaced by a free axis, so that the result is always a frame.
    """
    first, one = _unit(v[..., 0], torch.zeros_like(v[..., 0]))
    across = v[..., 1] - (v[..., 1] * first).sum(-1, keepdim=True) * first
    # once more, since what is left of nearly parallel vectors is mostly rounding
    across = across - (across * first).sum(-1, keepdim=True) * first
    second, two = _unit(across, first, v[..., 1].norm(dim=-1))
    third = torch.linalg.cross(first, second)
    length = v[..., 1].norm(dim=-1)
    certainty = torch.where(length > 0, across.norm(dim=-1) / torch.where(length > 0, length, 1), 0)
    if reflections:
        side = (third * v[..., 2]).sum(-1)
        third = torch.where((side < 0)[..., None], -third, third)
        certainty = torch.minimum(certainty, side.abs() / v[..., 2].norm(dim=-1).clamp(min=1e-300))
    return torch.stack([first, second, third], -1), certainty * (one & two)


def _unit(v: Tensor, away: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """v / |v|, and whether there was a direction; else the coordinate axis least along `away`, made orthogonal to it."""
    length = v.norm(dim=-1)
    there = length > TINY * (1 if size is None else size.clamp(min=1e-300))
    axis = torch.nn.functional.one_hot(away.abs().argmin(-1), 3).to(v)
    axis = axis - (axis * away).sum(-1, keepdim=True) * away
    v = torch.where(there[..., None], v, axis)
    return v / v.norm(dim=-1, keepdim=True), there
