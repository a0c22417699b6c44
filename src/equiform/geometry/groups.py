"""The groups by name, and those of the plane. A new group is one class and one row of `GROUPS`."""

import math
import re
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .isometries import Group, Product, check_turns, factors_of, homogeneous, inverse, size_of, turn, turn_to, unscaled
from .scales import Scale
from .shifts import Shift
from .space_groups import E3, O3, SE3, SO3, AboutZ, Flips, Icosahedral, Octahedral, Similarity, SpaceGroup

__all__ = [
    "E3",
    "GROUPS",
    "O2",
    "O3",
    "PROTOCOLS",
    "SE3",
    "SO2",
    "SO3",
    "AboutZ",
    "Cyclic",
    "Dihedral",
    "Flips",
    "Group",
    "Icosahedral",
    "Octahedral",
    "PlaneGroup",
    "Product",
    "Scale",
    "Shift",
    "Similarity",
    "SpaceGroup",
    "factors_of",
    "group",
    "homogeneous",
    "inverse",
    "known_groups",
    "protocol",
    "size_of",
    "turn",
    "turn_to",
    "unscaled",
]


class PlaneGroup(Group):
    """Turns about the centre of the plane, all or by multiples of 360/num_turns degrees, with or without flips."""

    dim = 2

    def __init__(self, name: str, num_turns: int | None, *, reflections: bool = False):
        super().__init__(name, None if num_turns is None else num_turns * (1 + reflections))
        self.num_turns, self.reflections = num_turns, reflections
        self.on_grid = num_turns is not None and 4 % num_turns == 0

    def _listed(self) -> Float[Tensor, "order 3 3"]:
        n = self.num_turns
        if n is None:
            return super()._listed()
        angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
        flips = torch.zeros(n, dtype=torch.bool)
        if self.reflections:
            angles, flips = angles.repeat(2), torch.cat([flips, ~flips])
        return turn(angles, flips)

    def _drawn(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b 3 3"]:
        angle = 2 * math.pi * torch.rand(b, dtype=torch.float64, generator=generator)
        flip = torch.rand(b, generator=generator) < (0.5 if self.reflections else 0.0)
        return turn(angle, flip)

    def _closest(self, g: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
        u, _, vh = torch.linalg.svd(g[:, :2, :2])
        if not self.reflections:
            sign = torch.linalg.det(u @ vh).sign()
            u = torch.stack([u[..., 0], u[..., 1] * sign[:, None]], -1)
        return homogeneous(u @ vh)

    @property
    def finite(self) -> Group:
        return self if self.order else Dihedral(16) if self.reflections else Cyclic(16)

    def angles(self, g: Float[Tensor, "b 3 3"]) -> tuple[list[float], list[bool]]:
        """The turn, counter-clockwise on the screen, 0 to 360 degrees, after the flip where there is one."""
        angle = torch.rad2deg(torch.atan2(g[:, 0, 1], g[:, 1, 1])) % 360
        return [round(float(a), 3) % 360 for a in angle], (torch.linalg.det(g) < 0).tolist()

    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b 3 3"]:
        """Turns by at most `degrees`, and by at most a quarter of the way to the next element of a finite group."""
        most = degrees if self.num_turns is None else min(degrees, 90 / self.num_turns)
        return turn(torch.deg2rad(2 * most * torch.rand(b, generator=generator) - most))

    @staticmethod
    def distance(g: Float[Tensor, "*b 3 3"], h: Float[Tensor, "*b 3 3"]) -> Float[Tensor, " *b"]:
        """The angle in radians, 0 to pi, between two elements; pi between a turn and a reflection. Bi-invariant."""
        a = (g[..., :2, :2].mT @ h[..., :2, :2]).double()
        angle = torch.atan2(a[..., 0, 1] - a[..., 1, 0], a[..., 0, 0] + a[..., 1, 1]).abs()
        return torch.where(torch.linalg.det(a) > 0, angle, torch.full_like(angle, math.pi)).to(g.dtype)


class Cyclic(PlaneGroup):
    """C_n: turns by multiples of 360/n degrees."""

    def __init__(self, n: int):
        super().__init__(f"C{check_turns(n)}", n)


class Dihedral(PlaneGroup):
    """D_n: the turns of C_n and each of them after a left-right flip."""

    def __init__(self, n: int):
        super().__init__(f"D{check_turns(n)}", n, reflections=True)


class SO2(PlaneGroup):
    """SO(2): all turns of the plane."""

    def __init__(self) -> None:
        super().__init__("SO2", None)


class O2(PlaneGroup):
    """O(2): all turns and reflections of the plane."""

    def __init__(self) -> None:
        super().__init__("O2", None, reflections=True)


# every group by its name; n in a name is a whole number, which the class is called with, and so are numbers in brackets
GROUPS: dict[str, Callable[..., Group]] = {
    "Cn": Cyclic,
    "Dn": Dihedral,
    "Cnz": AboutZ,
    "SO2": SO2,
    "O2": O2,
    "SO3": SO3,
    "O3": O3,
    "SE3": SE3,
    "E3": E3,
    "Similarity": Similarity,
    "SO2z": AboutZ,
    "O": Octahedral,
    "Oh": lambda: Octahedral(True),
    "I": Icosahedral,
    "Ih": lambda: Icosahedral(True),
    "D2h": Flips,
    "Shiftn": Shift,
    "Scale(low,high,steps)": Scale,
}


# how clouds are turned in training and in testing, by the names of the literature
PROTOCOLS = {"z/z": ("SO2z", "SO2z"), "z/SO3": ("SO2z", "SO3"), "SO3/SO3": ("SO3", "SO3")}


def protocol(which: "str | Group", part: int) -> "Group":
    """The group by which a protocol turns the clouds in training (part 0) or in testing (part 1). A group is returned as it is.

    Raises ValueError for an unknown one.
    """
    if isinstance(which, str) and "/" in which:
        if which not in PROTOCOLS:
            raise ValueError(f"unknown protocol {which!r}; known: {', '.join(PROTOCOLS)}, or a group")
        which = PROTOCOLS[which][part]
    return group(which)


def group(name: "str | Group") -> Group:
    """The group of that name: "C4", "D4", "SO2", "SO3", "E3", "C4z" (about z), "O" (the cube), "Shift16" (cyclic shifts),
    "Scale(0.5,2,5)", or a product such as "C4*Scale(0.5,2,5)". A `Group` comes back.

    Examples:
        >>> group("C4").order
        4
        >>> group("C4*Scale(0.5,2,5)").order
        20

    Raises ValueError for an unknown name.
    """
    if isinstance(name, Group):
        return name
    if isinstance(name, str):
        if "*" in name:
            factors = [factor.strip() for factor in name.split("*")]
            if "" in factors:
                raise _unknown(name)
            return Product(*map(group, factors))
        if name in GROUPS and "n" not in name:
            return GROUPS[name]()
        if called := re.fullmatch(r"(\w+)\(([^()]*)\)", name):
            return _called(name, called[1], called[2])
        found = re.fullmatch(NUMBERED, name)
        if found and f"{found[1]}n{found[3]}" in GROUPS:
            return GROUPS[f"{found[1]}n{found[3]}"](int(found[2]))
    raise _unknown(name)


def _called(name: str, known: str, numbers: str) -> Group:
    """The group of a name such as "Scale(0.5,2,5)"."""
    row = next((row for row in GROUPS if row.startswith(f"{known}(") and row.count(",") == numbers.count(",")), None)
    try:
        values = [float(number) if re.search("[.e]", number) else int(number) for number in numbers.split(",")]
    except ValueError:
        raise _unknown(name) from None
    if row is None:
        raise _unknown(name)
    return GROUPS[row](*values)


def _unknown(name: object) -> ValueError:
    said = str(name)
    bare = re.sub(r"\W", "", said).lower()
    alike = {known.lower(): known for known in GROUPS} | ALIKE
    meant = alike.get(bare) or WORDS.get(re.sub(r"\d", "", bare))
    if (found := re.fullmatch(NUMBERED, bare)) and f"{found[1]}n{found[3]}" in alike:
        meant = alike[f"{found[1]}n{found[3]}"].replace("n", found[2])
    called = re.fullmatch(r"(\w*[^\W\d])\(([1-9]\d{0,3})\)", said)  # as the class is: Shift(16)
    meant = f"{called[1]}{called[2]}" if called and f"{called[1]}n" in GROUPS else meant
    hint = f" (do you mean {meant}?)" if meant else " (a protocol is for fit and evaluate)" if said in PROTOCOLS else ""
    if (none := re.fullmatch(r"(\D+)\d+(\D*)", said)) and f"{none[1]}n{none[2]}" in GROUPS:
        hint = f" (n is from 1 to 9999, such as {none[1]}{4}{none[2]})"
    return ValueError(f"unknown group {name!r}{hint}; known groups: {known_groups()}")


NUMBERED = r"(\D+)([1-9]\d{0,3})(\D*)"  # such as C16z

# what groups are called elsewhere, in small letters: what there is of it here; and words, whatever numbers stand beside them
ALIKE = {"z": "SO2z", "flips": "D2h", "se2": "Shift16*C4", "e2": "Shift16*D4", "t2": "Shift16", "sim3": "Similarity"}
WORDS: dict[str, str] = dict.fromkeys(("scale", "scales", "scaling", "size", "sizes"), "Scale(0.5,2,5)")
WORDS |= dict.fromkeys(("shift", "shifts", "translation", "translations"), "Shift16")
WORDS |= dict.fromkeys(("rotation", "rotations", "turn", "turns"), "SO2, or C4 for quarter turns")
WORDS |= dict.fromkeys(("mirror", "flip", "reflection", "reflections"), "D4")


def known_groups() -> str:
    """The names of all groups, for messages."""
    return f"{', '.join(GROUPS)}, with n such as in C4, D4, C8, C4z, Shift16, and products such as C4*Scale(0.5,2,5)"
