"""Groups of isometries of space."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from . import rotations
from .isometries import Group, check_turns, homogeneous, inverse, size_of, turn, unscaled


class SpaceGroup(Group):
    """Isometries of space: all rotations about the origin, with or without reflections and translations; or similarities."""

    dim = 3
    axis = False  # whether every element keeps the z axis

    def __init__(self, name: str, order: int | None = None, *, reflections: bool = False, translations: bool = False):
        super().__init__(name, order)
        self.reflections, self.translations = reflections, translations

    @property
    def matrices(self) -> Float[Tensor, "order 3 3"]:
        """The linear parts of all elements of a finite group in float64."""
        return self._exact[:, :3, :3]

    def _rotations(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b 3 3"]:
        return rotations.random_rotations(b, generator)

    def _drawn(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b 4 4"]:
        r = self._rotations(b, generator)
        if self.reflections:
            r = torch.where(torch.rand(b, 1, 1, generator=generator) < 0.5, -r, r)
        t = torch.randn(b, 3, dtype=torch.float64, generator=generator) if self.translations else None
        if self.resizes:
            r = r * (torch.randn(b, 1, 1, dtype=torch.float64, generator=generator) / 2).exp()
        return homogeneous(r, t)

    def _closest(self, g: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 4 4"]:
        closest = rotations.nearest_rotation(g[:, :3, :3], self.reflections)
        if self.resizes:
            closest = closest * size_of(g)[:, None, None]
        return homogeneous(closest, g[:, :3, 3] if self.translations else None)

    @property
    def finite(self) -> Group:
        return self if self.order else Octahedral(self.reflections)

    def angles(self, g: Float[Tensor, "b 4 4"]) -> tuple[list[float], list[bool]]:
        """The angle of the rotation about its axis, whichever that is, 0 to 180 degrees, without the mirroring."""
        determinant = torch.linalg.det(linear := unscaled(g.double())[:, :3, :3])
        angle = torch.rad2deg(rotations.rotation_angle(linear * determinant.sign()[:, None, None]))
        return [round(float(a), 3) for a in angle], (determinant < 0).tolist()

    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b 4 4"]:
        """Turns about any axis, whose angles have a deviation of `degrees`, in float64."""
        angle = torch.deg2rad(torch.tensor(degrees)) * torch.randn(b, dtype=torch.float64, generator=generator)
        return homogeneous(rotations.about_any_axis(angle, generator))

    @staticmethod
    def distance(g: Float[Tensor, "*b 4 4"], h: Float[Tensor, "*b 4 4"]) -> Float[Tensor, " *b"]:
        """sqrt(angle^2 + |translation|^2 + log(size)^2) of g^-1 h: the angle in radians, 0 to pi, for groups of turns alone.

        pi between a rotation and a reflection. Left-invariant; bi-invariant without translations.
        """
        whole = inverse(g.double()) @ h.double()
        apart = unscaled(whole)[..., :3, :]
        angle = rotations.rotation_angle(apart[..., :3])
        return torch.hypot(torch.hypot(angle, apart[..., 3].norm(dim=-1)), size_of(whole).log()).to(g.dtype)


class SO3(SpaceGroup):
    """SO(3): all rotations of space about the origin."""

    def __init__(self) -> None:
        super().__init__("SO3")


class O3(SpaceGroup):
    """O(3): all rotations and reflections of space about the origin."""

    def __init__(self) -> None:
        super().__init__("O3", reflections=True)


class SE3(SpaceGroup):
    """SE(3): rotations and translations."""

    def __init__(self) -> None:
        super().__init__("SE3", translations=True)


class E3(SpaceGroup):
    """E(3): rotations, reflections and translations."""

    def __init__(self) -> None:
        super().__init__("E3", reflections=True, translations=True)


class Similarity(SpaceGroup):
    """The similarities of space: E(3) and resizings, x -> s R x + t with s > 0.

    The size of a cloud is its root mean square radius about its centroid, so that all is exact in floats. Vectors (velocities,
    forces) are resized as differences of points are, matrices twice; whatever has other units, such as an energy, is
    "invariant" only where the predictor does not mean them. Drawn sizes are log-normal, since no uniform measure has them.
    """

    resizes = True

    def __init__(self) -> None:
        super().__init__("Similarity", reflections=True, translations=True)


class AboutZ(SpaceGroup):
    """The turns about the z axis: all of them, or those by multiples of 360/n degrees."""

    axis = True

    def __init__(self, n: int | None = None):
        super().__init__("SO2z" if n is None else f"C{check_turns(n)}z", n)

    def _listed(self) -> Float[Tensor, "order 4 4"]:
        if self.order is None:
            return super()._listed()
        # as in the plane, where quarter turns are exact; its y points down
        result = torch.eye(4, dtype=torch.float64).repeat(self.order, 1, 1)
        angles = 2 * math.pi * torch.arange(self.order, dtype=torch.float64) / self.order
        result[:, :2, :2] = turn(angles)[:, :2, :2].mT
        return result

    def _rotations(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b 3 3"]:
        return rotations.about_z(2 * math.pi * torch.rand(b, dtype=torch.float64, generator=generator))

    def _closest(self, g: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 4 4"]:
        # the nearest rotation of x and y
        angle = torch.atan2(g[:, 1, 0] - g[:, 0, 1], g[:, 0, 0] + g[:, 1, 1])
        return homogeneous(rotations.about_z(angle))

    @property
    def finite(self) -> Group:
        return self if self.order else AboutZ(4)


class Octahedral(SpaceGroup):
    """The 24 rotations of the cube, the axes permuted with signs; with reflections, all 48 symmetries."""

    def __init__(self, reflections: bool = False):
        super().__init__("Oh" if reflections else "O", 48 if reflections else 24, reflections=reflections)

    def _listed(self) -> Float[Tensor, "order 4 4"]:
        return homogeneous(_with_negatives(rotations.octahedral(), self.reflections))

    def label(self, g: Float[Tensor, "4 4"]) -> str:
        """As of other groups, and where x, y and z go, since many elements turn by one angle: "90° (y -x z)"."""
        return super().label(g) + _axes_after(g)


class Flips(SpaceGroup):
    """The eight flips of x, y and z, the point group D2h: no axis changes its place, and so no canvas its shape."""

    def __init__(self) -> None:
        super().__init__("D2h", 8, reflections=True)

    def _listed(self) -> Float[Tensor, "order 4 4"]:
        signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
        return homogeneous(_with_negatives(torch.diag_embed(signs), True))

    def label(self, g: Float[Tensor, "4 4"]) -> str:
        """As of other groups, and where x, y and z go: "flip 180° (-x y z)"."""
        return super().label(g) + _axes_after(g)


class Icosahedral(SpaceGroup):
    """The 60 rotations of the icosahedron with vertices (0, +-1, +-golden); with reflections, all 120 symmetries."""

    def __init__(self, reflections: bool = False):
        super().__init__("Ih" if reflections else "I", 120 if reflections else 60, reflections=reflections)

    def _listed(self) -> Float[Tensor, "order 4 4"]:
        return homogeneous(_with_negatives(rotations.icosahedral(), self.reflections))


def _axes_after(g: Float[Tensor, "4 4"]) -> str:
    """Where x, y and z go, in brackets; nothing for the identity."""
    columns = g[:3, :3].round().long().T.tolist()
    goes = ["-"[: -sum(column)] + "xyz"[[abs(n) for n in column].index(1)] for column in columns]
    return "" if goes == [*"xyz"] else f" ({' '.join(goes)})"


def _with_negatives(matrices: Float[Tensor, "n 3 3"], reflections: bool) -> Float[Tensor, "m 3 3"]:
    return torch.cat([matrices, -matrices]) + 0.0 if reflections else matrices
