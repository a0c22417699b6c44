"""Elements of groups, and the base of all groups.

An element is a homogeneous matrix (d+1, d+1): compose with `@`, invert with `inverse`. In two dimensions x points
right and y down, so a positive (counter-clockwise on the screen) turn by t is [[cos t, sin t], [-sin t, cos t]].
In three, the axes are right-handed and a positive turn about z takes x to y.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


def inverse(g: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """The inverse of similarities (rotation, reflection, scale, translation). Exact for signed permutations."""
    dim = g.shape[-1] - 1
    linear, offset = g[..., :dim, :dim], g[..., :dim, dim:]
    squared_scale = linear.square().sum((-2, -1), keepdim=True) / dim
    back = linear.mT / squared_scale
    result = torch.zeros_like(g)
    result[..., :dim, :dim] = back
    result[..., :dim, dim:] = -(back @ offset)
    result[..., dim, dim] = 1
    return result


def turn(angle: Float[Tensor, " *b"], flip: Tensor | None = None) -> Float[Tensor, "*b 3 3"]:
    """Turns by `angle` radians, counter-clockwise on the screen, after a left-right flip where `flip` is true.

    Multiples of a quarter turn come out exact.
    """
    quarters = angle / (math.pi / 2)
    exact = (quarters - quarters.round()).abs() < 1e-9
    c, s = torch.cos(angle), torch.sin(angle)
    c, s = torch.where(exact, c.round(), c), torch.where(exact, s.round(), s)
    sign = torch.ones_like(c) if flip is None else torch.where(flip, -1.0, 1.0).to(c)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    # adding zero turns -0.0 into 0.0, so that elements print well
    rows = [torch.stack([c * sign, s, zero], -1), torch.stack([-s * sign, c, zero], -1), torch.stack([zero, zero, one], -1)]
    return torch.stack(rows, -2) + 0.0


def homogeneous(linear: Float[Tensor, "*b d d"], offset: Float[Tensor, "*b d"] | None = None) -> Float[Tensor, "*b d+1 d+1"]:
    """The element x -> linear x + offset."""
    d = linear.shape[-1]
    result = torch.zeros(*linear.shape[:-2], d + 1, d + 1, dtype=linear.dtype, device=linear.device)
    result[..., :d, :d] = linear
    result[..., d, d] = 1
    if offset is not None:
        result[..., :d, d] = offset
    return result


PAIRS = 1 << 22  # of elements compared at once


class Group(ABC):
    """Isometries of the plane or of space. `order` and `elements` are None for continuous groups.

    Groups are values: equal by name, hashable, cheap to make. A finite group says `_listed`; a continuous one `_drawn`,
    `_closest` and `finite`. Elements are on the CPU, whatever the default device.
    """

    dim: int
    reflections = False
    translations = False
    on_grid = False  # whether every element moves pixels to pixels (quarter turns, flips, shifts)
    wraps = False  # whether what goes over an edge of the canvas comes back at the opposite one

    def __init__(self, name: str, order: int | None):
        self.name, self.order = name, order

    def __repr__(self) -> str:
        return f"equiform.group({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def _listed(self) -> Float[Tensor, "order n n"]:
        """All elements of a finite group in float64, the identity first."""
        raise ValueError(f"{self.name} is continuous: it has no list of elements")

    def _drawn(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b n n"]:
        """b uniform elements of a continuous group in float64."""
        raise NotImplementedError(f"{type(self).__name__} is continuous and must define _drawn")

    def _closest(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        """The closest elements of a continuous group."""
        raise NotImplementedError(f"{type(self).__name__} is continuous and must define _closest")

    @property
    def finite(self) -> "Group":
        """The group itself where it is finite, else a finite subgroup fine enough to search in its place."""
        if self.order is None:
            raise NotImplementedError(f"{type(self).__name__} is continuous and must define finite")
        return self

    @abstractmethod
    def angles(self, g: Float[Tensor, "b n n"]) -> tuple[list[float], list[bool]]:
        """The angle of each element in degrees, to three digits, and whether it mirrors."""

    @abstractmethod
    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b n n"]:
        """b small random rotations: the jitter of training inputs, which leaves their pose what it was.

        They need not be elements of the group.
        """

    def label(self, g: Float[Tensor, "n n"]) -> str:
        """One element in words: "0°", "90°", "flip 90°" (the flip comes first)."""
        (angle,), (mirrored,) = self.angles(g[None])
        return ("flip " if mirrored else "") + f"{angle:g}°"

    @cached_property
    def elements(self) -> Float[Tensor, "order n n"]:
        """All elements, the identity first; with reflections, element n + k is a left-right flip followed by turn k
        (in space minus rotation k).

        Raises ValueError for a continuous group.
        """
        return self._exact.to(torch.get_default_dtype())

    @cached_property
    def _exact(self) -> Float[Tensor, "order n n"]:
        """The elements in float64."""
        with torch.device("cpu"):
            return self._listed()

    def identity(self, b: int = 1) -> Float[Tensor, "b n n"]:
        """The identity, b times."""
        return torch.eye(self.dim + 1).repeat(b, 1, 1)

    def random(
        self, b: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "b n n"]:
        """b elements drawn uniformly (Haar measure; translations, which no uniform measure has, are normal).

        `dtype`: float64 for data in float64; by default torch's own default.
        """
        if self.order is None:
            drawn = self._drawn(b, generator)
        else:
            drawn = self._exact[torch.randint(self.order, (b,), generator=generator)]
        return drawn.to(torch.get_default_dtype() if dtype is None else dtype)

    def sample(self, num: int = 16) -> Float[Tensor, "m n n"]:
        """The elements equivariance is measured on, float64: all, or `num` of a continuous group drawn with a fixed seed."""
        return self._exact if self.order is not None else self._drawn(num, torch.Generator().manual_seed(0))

    def index(self, g: Float[Tensor, "b n n"]) -> Int[Tensor, " b"]:
        """The index of the nearest element of a finite group (Frobenius distance of the linear parts)."""
        d = self.dim
        elements = self._exact.to(g)[:, :d, :d]
        # part by part, since all pairs of the products of a large group would take gigabytes
        parts = g[:, None, :d, :d].split(max(1, PAIRS // len(elements)))
        return torch.cat([(part - elements).square().sum((-2, -1)).argmin(1) for part in parts])

    def nearest(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        """The element nearest to each matrix; of a continuous group the closest rotation (and flip).

        A translation is kept where the group has translations.
        """
        return self._closest(g) if self.order is None else self._exact.to(g)[self.index(g)]


def check_turns(n: int) -> int:
    """The number of turns. Raises ValueError unless it is a whole number from 1 on."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"a group has n >= 1 turns, a whole number; got {n!r}")
    return n
