"""Canonicalizers of clouds: frames found in the points themselves, so that they turn with them whatever the weights are.

All of it is computed in float64 from a standardised cloud, and independent of the order of the points. Where a cloud does not
define a frame (one point, points on a line, a symmetric body) the frame is still a valid one, and `Pose.certainty` is near 0.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from . import canonicalizers, rotations
from .canonicalizers import Canonicalizer, check_whole
from .cascade import CascadeCanonicalizer
from .clouds import Cloud, cloud_of, standardised
from .groups import AboutZ, Group, Octahedral, SpaceGroup, homogeneous
from .kinds import Kind, Rows
from .networks import OccupancyNetwork, VectorNetwork
from .poses import Pose, pose_of

CLEAR_GAP = 0.05  # axes whose deviations differ by this share of the largest are told apart with full certainty
CLEAR_SHARE = 0.2  # vectors on which this share of the points' lengths agrees count as fully certain
CANCELLED = 1e-4  # below this share the points, such as two alone, cancel, and what is left of the vectors is rounding
FLAT = 1e-3  # a cloud whose least deviation is below this share of its greatest counts as flat, the more the thinner it is


class CloudCanonicalizer(Canonicalizer):
    """From a `Cloud`, points (b, n, 3) or a list of (n, 3), to a `Pose`. Subclasses say `frames` and their `config`."""

    def __init__(self, group: str | Group):
        super().__init__(group)
        if not isinstance(self.group, SpaceGroup):
            raise ValueError(f"clouds of points need a group of space, such as SO3 or E3; got {self.group.name}")
        self.space: SpaceGroup = self.group

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name}

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """`to`, `half` and the like move it to their device and leave its numbers in float64, in which poses are exact."""

        def moved(x: Tensor) -> Tensor:
            y = fn(x)
            return y if y.dtype == x.dtype else x.to(y.device)

        return super()._apply(moved, recurse)

    def frames(
        self, cloud: Cloud
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3 3"], Float[Tensor, " b"], Float[Tensor, "b 3"]]:
        """Of a standardised cloud: scores, the frames they are of, the certainty, and the origin."""
        raise NotImplementedError(f"{type(self).__name__} has no frames of clouds")

    def forward(self, images: Any) -> Pose:
        """The pose of every cloud. Its candidates are the frames, at the cloud's origin where the group has translations."""
        points = Rows(Kind("points")) if isinstance(images, (list, tuple)) else Kind("points")
        cloud = images if isinstance(images, Cloud) else cloud_of(images, points)
        if cloud is None:
            raise ValueError(f"clouds have shape (b, n, 3); got a {type(images).__name__}")
        seen, centroid, radius = standardised(cloud)
        scores, frames, certainty, origin = self.frames(seen)
        certainty = certainty * (thickness(seen) / FLAT**2).clamp(max=1)
        frames = frames.double()
        offset = (centroid + radius[:, None] * origin.double())[:, None].expand(*frames.shape[:-1])
        return pose_of(scores.double(), homogeneous(frames, offset if self.space.translations else None), certainty)

    def _continuous(self) -> None:
        if self.group.order is not None:
            raise ValueError(f"the {self.name} canonicalizer is for continuous groups; {self.group.name} is finite: search it")


def principal_axes(cloud: Cloud, axis: bool = False) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, " b"]]:
    """The axes of greatest to least deviation as a rotation, and the least gap between deviations, in shares of the greatest.

    With `axis`, the third is z and the others are those of x and y. Directions are arbitrary; so are axes of equal deviation.
    """
    with torch.no_grad():  # a sum over pairs of eigenvalues that may coincide has no useful gradient
        p = torch.where(cloud.present[..., None], cloud.points, 0)
        covariance = p.mT @ p / cloud.present.sum(1).clamp(min=1)[:, None, None]
        d = 2 if axis else 3
        values, vectors = torch.linalg.eigh(covariance[:, :d, :d])
        deviation = values.flip(-1).clamp(min=0).sqrt()
        frame = torch.eye(3, dtype=p.dtype, device=p.device).repeat(len(p), 1, 1)
        frame[:, :d, :d] = vectors.flip(-1)
        frame[:, :, 0] *= torch.linalg.det(frame).sign()[:, None]
        gap = (deviation[:, :-1] - deviation[:, 1:]).amin(-1) / deviation[:, 0].clamp(min=1e-300)
    return frame, gap


def thickness(cloud: Cloud) -> Float[Tensor, " b"]:
    """The least variance of the points in any direction, in shares of the greatest: 0 in a plane, on a line, for one point."""
    with torch.no_grad():
        p = torch.where(cloud.present[..., None], cloud.points, 0)
        least, _, greatest = torch.linalg.eigvalsh(p.mT @ p).clamp(min=0).unbind(-1)
        return least / greatest.clamp(min=1e-300)


class PrincipalAxesCanonicalizer(CloudCanonicalizer):
    """Training-free: principal axes, with every choice of their directions a candidate (4 for SO(3), 8 for O(3), 2 about z).

    `scores="skewness"`: directions in which the points reach further score higher, `sharpness` times the sum of the third
    moments. `scores="equal"`: none is preferred, for frame averaging (Puny et al. 2022, arXiv 2110.03336): `top_k` = all of
    them in `adapt`; with fewer, an arbitrary one answers.
    """

    name = "principal-axes"
    learns = False

    def __init__(self, group: str | Group, *, scores: str = "skewness", sharpness: float = 4.0):
        super().__init__(group)
        self._continuous()
        if scores not in ("skewness", "equal"):
            raise ValueError(f"unknown scores {scores!r}; known: skewness, equal")
        if not isinstance(sharpness, float | int) or not 0 <= sharpness < math.inf:
            raise ValueError(f"sharpness is a number >= 0; got {sharpness!r}")
        self.how, self.sharpness = scores, sharpness
        signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=torch.float64)
        allowed = signs[:, 2] == 1 if self.space.axis else torch.ones(8, dtype=torch.bool)
        proper = signs.prod(1) > 0
        self.register_buffer("signs", signs[allowed & (proper | self.space.reflections)], persistent=False)

    signs: Tensor

    def config(self) -> dict[str, Any]:
        return super().config() | {"scores": self.how, "sharpness": self.sharpness}

    @property
    def num_poses(self) -> int:
        return len(self.signs)

    def frames(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frame, gap = principal_axes(cloud, self.space.axis)
        along = cloud.points @ frame
        deviation = cloud.mean(along.square()).sqrt().clamp(min=1e-6)
        skewness = cloud.mean((along / deviation[:, None]) ** 3) * (1 if self.how == "skewness" else 0)
        scores = self.sharpness * skewness @ self.signs.T
        candidates = frame[:, None] * self.signs[:, None]
        return scores, candidates, (gap / CLEAR_GAP).clamp(max=1), torch.zeros_like(frame[:, 0])


class FrameCanonicalizer(CloudCanonicalizer):
    """One frame from the vectors of a vector-neuron network; Kaba et al. 2023, arXiv 2211.06489, sec. 5.

    `vectors`, `features`: how many further vectors (velocities) and numbers (charges) each point has among the inputs.
    `method`: "gram-schmidt" or "procrustes" (the nearest rotation). `origin`: "centroid" or "learned", for SE(3) and E(3).
    `spread`: in training every frame is turned a little further at random, by angles of that deviation in degrees (and where
    the group has reflections, mirrored as often as not). A predictor that learns with it then knows the surroundings of its
    frames and does not memorise the data in one frame alone; as dropout, it is off in eval mode.
    """

    name = "frame"

    def __init__(
        self,
        group: str | Group,
        *,
        vectors: int = 0,
        features: int = 0,
        width: int = 16,
        depth: int = 2,
        method: str = "gram-schmidt",
        origin: str = "centroid",
        spread: float = 0.0,
    ):
        super().__init__(group)
        self._continuous()
        check_whole(0, vectors=vectors, features=features)
        check_whole(width=width, depth=depth)
        if not isinstance(spread, float | int) or not 0 <= spread <= 180:
            raise ValueError(f"spread is a deviation in degrees, 0 to 180; got {spread!r}")
        for what, value, known in (("method", method, METHODS), ("origin", origin, ORIGINS)):
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        if origin == "learned" and not self.space.translations:
            raise ValueError(f"a learned origin is for groups with translations, SE3 and E3; got {self.group.name}")
        self.arguments = {"vectors": vectors, "features": features, "width": width, "depth": depth}
        self.method, self.origin, self.spread = method, origin, spread
        self.network = VectorNetwork(4, **self.arguments)

    def config(self) -> dict[str, Any]:
        return super().config() | self.arguments | {"method": self.method, "origin": self.origin, "spread": self.spread}

    @property
    def num_poses(self) -> int:
        return 1

    def frames(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        expected = (self.arguments["vectors"], self.arguments["features"])
        if (cloud.vectors.shape[2], cloud.features.shape[2]) != expected:
            raise ValueError(
                f"the canonicalizer looks at {expected[0]} vectors and {expected[1]} features of each point, the inputs have "
                f"{cloud.vectors.shape[2]} and {cloud.features.shape[2]}: FrameCanonicalizer(group, vectors=..., features=...)"
            )
        vectors, share = self.network(cloud)
        # the points on a line that is the same from both ends cancel, and the principal axes still follow it
        cancelled = (share[:, 0] < CANCELLED)[:, None, None]
        frame, certainty = self._frame(torch.where(cancelled, principal_axes(cloud, self.space.axis)[0], vectors[:, :3].mT))
        needed = 1 if self.space.axis else 3 if self.space.reflections else 2
        certainty = certainty * (share[:, :needed].amin(-1) / CLEAR_SHARE).clamp(max=1)
        if self.training and self.spread:
            frame = frame @ self._further(len(frame)).to(frame)
        origin = vectors[:, 3] if self.origin == "learned" else torch.zeros_like(vectors[:, 3])
        scores = torch.zeros(len(cloud), 1, dtype=frame.dtype, device=frame.device)
        return scores, frame[:, None], certainty.detach(), origin

    def _further(self, b: int) -> Float[Tensor, "b 3 3"]:
        angle = math.radians(self.spread) * torch.randn(b, dtype=torch.float64)
        turn = rotations.about_z(angle) if self.space.axis else rotations.about_any_axis(angle)
        return torch.where(torch.rand(b, 1, 1) < 0.5, -turn, turn) if self.space.reflections else turn

    def _frame(self, columns: Float[Tensor, "b 3 3"]) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, " b"]]:
        if self.space.axis:
            x, y = columns[:, 0, 0], columns[:, 1, 0]
            return rotations.about_z(torch.atan2(y, x)), torch.hypot(x, y) / columns[:, :, 0].norm(dim=-1).clamp(min=1e-300)
        if self.method == "gram-schmidt":
            # the first vector is z, which is what most data are aligned by, and not the product of two that may not be known
            frame, certainty = rotations.gram_schmidt(columns, self.space.reflections)
            return frame[..., [1, 2, 0]], certainty
        singular = torch.linalg.svdvals(columns.detach())
        # where the second vanishes (for O(3) the third), or cancels against a mirrored third, there is no nearest one
        third = torch.where(torch.linalg.det(columns.detach()) < 0, -singular[:, 2], singular[:, 2])
        clear = singular[:, 2] if self.space.reflections else singular[:, 1] + third
        return rotations.nearest_rotation(columns, self.space.reflections), (clear / singular[:, 0].clamp(min=1e-300)).clamp(
            max=1
        )


METHODS, ORIGINS = ("gram-schmidt", "procrustes"), ("centroid", "learned")


class SearchCanonicalizer(CloudCanonicalizer):
    """Scores a finite set of poses and refines each: any network may look at a canonical form, and the whole stays equivariant.

    For continuous groups the candidates are the principal axes turned by the 24 rotations of the cube (about z: by four), which
    leaves no choice of order or direction of the axes to chance; each is then turned a little by what the network says of it.
    For finite groups of space the candidates are the elements, and none is turned.
    """

    name = "search"

    searched: Tensor

    def __init__(self, group: str | Group, *, side: int = 8, width: int = 192):
        super().__init__(group)
        check_whole(2, side=side, width=width)
        self.side, self.width = side, width
        turns = AboutZ(4) if self.space.axis else Octahedral(self.space.reflections)
        self.register_buffer("searched", (self.space if self.space.order else turns).matrices, persistent=False)
        self.network = OccupancyNetwork(side, width)

    def config(self) -> dict[str, Any]:
        return super().config() | {"side": self.side, "width": self.width}

    @property
    def num_poses(self) -> int:
        return len(self.searched)

    def frames(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        origin = torch.zeros(len(cloud), 3, dtype=torch.float64, device=cloud.device)
        if self.group.order:
            scores, _ = self.network(cloud, self.searched)
            return scores, self.searched.expand(len(cloud), -1, -1, -1), torch.ones_like(origin[:, 0]), origin
        frame, gap = principal_axes(cloud, self.space.axis)
        scores, six = self.network(replace(cloud, points=cloud.points @ frame), self.searched)
        six = six.double()
        if self.space.axis:
            refined = rotations.about_z(torch.atan2(six[..., 1, 0], six[..., 0, 0]))
        else:
            refined, _ = rotations.gram_schmidt(torch.cat([six, torch.zeros_like(six[..., :1])], -1))
        return scores, frame[:, None] @ self.searched @ refined, (gap / CLEAR_GAP).clamp(max=1), origin


CANONICALIZERS: dict[str, type[Canonicalizer]] = canonicalizers.CANONICALIZERS | {
    cls.name: cls for cls in (CascadeCanonicalizer, FrameCanonicalizer, PrincipalAxesCanonicalizer, SearchCanonicalizer)
}
