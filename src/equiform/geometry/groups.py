"""Groups and their elements.

An element is a homogeneous matrix (d+1, d+1): compose with `@`, invert with `inverse`. In two dimensions x points
right and y down, so a positive (counter-clockwise on the screen) turn by t is [[cos t, sin t], [-sin t, cos t]].
In three, the axes are right-handed and a positive turn about z takes x to y.
"""

import math
import re
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry import rotations


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


class Group:
    """A group of plane isometries about the centre. `order` and `elements` are None for continuous groups.

    Groups are values: equal by name, hashable, cheap to make.
    """

    dim = 2

    def __init__(self, name: str, order: int | None, *, reflections: bool):
        self.name, self.order, self.reflections = name, order, reflections

    def __repr__(self) -> str:
        return f"equiform.group({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def on_grid(self) -> bool:
        """Whether every element moves pixels to pixels (quarter turns and flips)."""
        return self.order is not None and 4 % self.num_turns == 0

    @property
    def num_turns(self) -> int:
        """The number of rotations of a finite group."""
        if self.order is None:
            raise ValueError(f"{self.name} is continuous: it has no finite number of rotations")
        return self.order // 2 if self.reflections else self.order

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
        n = self.num_turns
        angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
        flips = torch.zeros(n, dtype=torch.bool)
        if self.reflections:
            angles, flips = angles.repeat(2), torch.cat([flips, ~flips])
        return turn(angles, flips)

    def identity(self, b: int = 1) -> Float[Tensor, "b n n"]:
        """The identity, b times."""
        return torch.eye(self.dim + 1).repeat(b, 1, 1)

    def random(
        self, b: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "b n n"]:
        """b elements drawn uniformly (Haar measure; translations, which no uniform measure has, are normal).

        `dtype`: float64 for data in float64; by default torch's own default.
        """
        return self._random(b, generator).to(torch.get_default_dtype() if dtype is None else dtype)

    def sample(self, num: int = 16) -> Float[Tensor, "m n n"]:
        """What laws are measured on, in float64: all elements, or `num` of a continuous group drawn with a fixed seed."""
        return self._exact if self.order is not None else self._random(num, torch.Generator().manual_seed(0))

    def _random(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b n n"]:
        if self.order is not None:
            return self._exact[torch.randint(self.order, (b,), generator=generator)]
        angle = 2 * math.pi * torch.rand(b, dtype=torch.float64, generator=generator)
        flip = torch.rand(b, generator=generator) < (0.5 if self.reflections else 0.0)
        return turn(angle, flip)

    def index(self, g: Float[Tensor, "b 3 3"]) -> Int[Tensor, " b"]:
        """The index of the nearest element of a finite group (Frobenius distance of the linear parts)."""
        elements = self._exact.to(g)[:, :2, :2]
        return (g[:, None, :2, :2] - elements).square().sum((-2, -1)).argmin(1)

    def nearest(self, g: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
        """The element nearest to each matrix. Of a continuous group: the closest turn (and flip)."""
        if self.order is not None:
            return self._exact.to(g)[self.index(g)]
        u, _, vh = torch.linalg.svd(g[:, :2, :2])
        if not self.reflections:
            sign = torch.linalg.det(u @ vh).sign()
            u = torch.stack([u[..., 0], u[..., 1] * sign[:, None]], -1)
        result = self.identity(len(g)).to(g)
        result[:, :2, :2] = u @ vh
        return result

    @staticmethod
    def distance(g: Float[Tensor, "*b 3 3"], h: Float[Tensor, "*b 3 3"]) -> Float[Tensor, " *b"]:
        """The angle in radians, 0 to pi, between two elements; pi between a turn and a reflection. Bi-invariant."""
        a = (g[..., :2, :2].mT @ h[..., :2, :2]).double()
        angle = torch.atan2(a[..., 0, 1] - a[..., 1, 0], a[..., 0, 0] + a[..., 1, 1]).abs()
        return torch.where(torch.linalg.det(a) > 0, angle, torch.full_like(angle, math.pi)).to(g.dtype)


class SpaceGroup(Group):
    """A group of isometries of space: all rotations, those about z, or a finite set of them; with or without translations.

    `matrices` gives the rotations of a finite group, the identity first; with reflections, their negatives follow.
    """

    dim = 3

    def __init__(
        self,
        name: str,
        order: int | None = None,
        matrices: Callable[[], Tensor] | None = None,
        *,
        reflections: bool = False,
        translations: bool = False,
        axis: bool = False,
    ):
        super().__init__(name, order, reflections=reflections)
        self.translations, self.axis, self._matrices = translations, axis, matrices

    @property
    def on_grid(self) -> bool:
        """There are no pixels in space."""
        return False

    @cached_property
    def _exact(self) -> Float[Tensor, "order 4 4"]:
        return homogeneous(self.matrices)

    @property
    def matrices(self) -> Float[Tensor, "order 3 3"]:
        """The linear parts of all elements in float64."""
        if self._matrices is None:
            raise ValueError(f"{self.name} is continuous: it has no list of elements")
        found = self._matrices()
        return torch.cat([found, -found]) + 0.0 if self.reflections else found

    def _random(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b 4 4"]:
        if self.order is not None:
            return super()._random(b, generator)
        if self.axis:
            r = rotations.about_z(2 * math.pi * torch.rand(b, dtype=torch.float64, generator=generator))
        else:
            r = rotations.random_rotations(b, generator)
        if self.reflections:
            r = torch.where(torch.rand(b, 1, 1, generator=generator) < 0.5, -r, r)
        t = torch.randn(b, 3, dtype=torch.float64, generator=generator) if self.translations else None
        return homogeneous(r, t)

    def index(self, g: Float[Tensor, "b 4 4"]) -> Int[Tensor, " b"]:
        """The index of the nearest element of a finite group (Frobenius distance of the linear parts)."""
        elements = self._exact.to(g)[:, :3, :3]
        return (g[:, None, :3, :3] - elements).square().sum((-2, -1)).argmin(1)

    def nearest(self, g: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 4 4"]:
        """The element nearest to each matrix. The translation is kept where the group has translations."""
        if self.order is not None:
            return self._exact.to(g)[self.index(g)]
        linear = g[:, :3, :3]
        if self.axis:  # the plane's own problem: the nearest turn of x and y
            angle = torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])
            return homogeneous(rotations.about_z(angle))
        return homogeneous(rotations.nearest_rotation(linear, self.reflections), g[:, :3, 3] if self.translations else None)

    @staticmethod
    def distance(g: Float[Tensor, "*b 4 4"], h: Float[Tensor, "*b 4 4"]) -> Float[Tensor, " *b"]:
        """sqrt(angle^2 + |translation|^2) of g^-1 h: the angle in radians, 0 to pi, for groups without translations.

        pi between a rotation and a reflection. Left-invariant; bi-invariant without translations.
        """
        apart = (inverse(g.double()) @ h.double())[..., :3, :]
        angle = rotations.rotation_angle(apart[..., :3])
        return torch.hypot(angle, apart[..., 3].norm(dim=-1)).to(g.dtype)


def homogeneous(linear: Float[Tensor, "*b d d"], offset: Float[Tensor, "*b d"] | None = None) -> Float[Tensor, "*b d+1 d+1"]:
    """The element x -> linear x + offset."""
    d = linear.shape[-1]
    result = torch.zeros(*linear.shape[:-2], d + 1, d + 1, dtype=linear.dtype, device=linear.device)
    result[..., :d, :d] = linear
    result[..., d, d] = 1
    if offset is not None:
        result[..., :d, d] = offset
    return result


def _order(n: int) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"a group has n >= 1 turns, a whole number; got {n!r}")
    return n


def Cyclic(n: int) -> Group:
    """C_n: turns by multiples of 360/n degrees."""
    return Group(f"C{_order(n)}", n, reflections=False)


def Dihedral(n: int) -> Group:
    """D_n: the turns of C_n and each of them after a left-right flip."""
    return Group(f"D{_order(n)}", 2 * n, reflections=True)


def SO2() -> Group:
    """SO(2): all turns of the plane."""
    return Group("SO2", None, reflections=False)


def O2() -> Group:
    """O(2): all turns and reflections of the plane."""
    return Group("O2", None, reflections=True)


def SO3() -> SpaceGroup:
    """SO(3): all rotations of space about the origin."""
    return SpaceGroup("SO3")


def O3() -> SpaceGroup:
    """O(3): all rotations and reflections of space about the origin."""
    return SpaceGroup("O3", reflections=True)


def SE3() -> SpaceGroup:
    """SE(3): rotations and translations."""
    return SpaceGroup("SE3", translations=True)


def E3() -> SpaceGroup:
    """E(3): rotations, reflections and translations."""
    return SpaceGroup("E3", reflections=True, translations=True)


def AboutZ(n: int | None = None) -> SpaceGroup:
    """The turns about the z axis: all of them, or those by multiples of 360/n degrees."""
    if n is None:
        return SpaceGroup("SO2z", axis=True)
    return SpaceGroup(f"C{_order(n)}z", n, lambda: _turns_about_z(n))


def _turns_about_z(n: int) -> Tensor:
    # as in the plane, where quarter turns are exact; its y points down
    result = torch.eye(3, dtype=torch.float64).repeat(n, 1, 1)
    result[:, :2, :2] = turn(2 * math.pi * torch.arange(n, dtype=torch.float64) / n)[:, :2, :2].mT
    return result


def Octahedral(reflections: bool = False) -> SpaceGroup:
    """The 24 rotations of the cube, the axes permuted with signs; with reflections, all 48 symmetries."""
    order = 48 if reflections else 24
    return SpaceGroup("Oh" if reflections else "O", order, rotations.octahedral, reflections=reflections)


def Icosahedral(reflections: bool = False) -> SpaceGroup:
    """The 60 rotations of the icosahedron with vertices (0, +-1, +-golden); with reflections, all 120 symmetries."""
    order = 120 if reflections else 60
    return SpaceGroup("Ih" if reflections else "I", order, rotations.icosahedral, reflections=reflections)


NAMED: dict[str, Callable[[], Group]] = {
    "SO2": SO2,
    "O2": O2,
    "SO3": SO3,
    "O3": O3,
    "SE3": SE3,
    "E3": E3,
    "SO2z": AboutZ,
    "O": Octahedral,
    "Oh": lambda: Octahedral(True),
    "I": Icosahedral,
    "Ih": lambda: Icosahedral(True),
}


# how clouds are turned in training and in tests, by the names the literature gives it
PROTOCOLS = {"z/z": ("SO2z", "SO2z"), "z/SO3": ("SO2z", "SO3"), "SO3/SO3": ("SO3", "SO3")}


def protocol(which: "str | Group", part: int) -> "Group":
    """The group by which a protocol turns the clouds of training (part 0) or of the test (part 1); a group as it is.

    Raises ValueError for an unknown one.
    """
    if isinstance(which, str) and "/" in which:
        if which not in PROTOCOLS:
            raise ValueError(f"unknown protocol {which!r}; known: {', '.join(PROTOCOLS)}, or a group")
        which = PROTOCOLS[which][part]
    return group(which)


def group(name: "str | Group") -> Group:
    """The group of that name: "C4", "D4", "SO2", "SO3", "E3", "C4z" (about z), "O" (the cube), ...; a group as it is.

    >>> group("C4").order
    4

    Raises ValueError for an unknown name.
    """
    if isinstance(name, Group):
        return name
    if isinstance(name, str):
        if name in NAMED:
            return NAMED[name]()
        if match := re.fullmatch(r"([CD])([1-9]\d{0,3})", name):
            return (Cyclic if match[1] == "C" else Dihedral)(int(match[2]))
        if match := re.fullmatch(r"C([1-9]\d{0,3})z", name):
            return AboutZ(int(match[1]))
    alike = {known.lower(): known for known in NAMED} | {"z": "SO2z"}
    meant = alike.get(re.sub(r"\W", "", str(name)).lower())
    hint = f" (do you mean {meant}?)" if meant else " (a protocol is for fit and evaluate)" if str(name) in PROTOCOLS else ""
    known = f"Cn and Dn (C4, D4, C8, ...), Cnz (C4z), {', '.join(NAMED)}"
    raise ValueError(f"unknown group {name!r}{hint}; known groups: {known}")
