"""The base of canonicalizers of clouds of points."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.clouds import Cloud, cloud_of, standardised
from ..geometry.groups import Group, SpaceGroup, homogeneous
from ..geometry.kinds import Kind, Rows
from .base import Canonicalizer
from .poses import Pose, pose_of

FLAT = 1e-3  # a cloud whose least deviation is below this share of its greatest counts as flat, the more the thinner it is


class CloudCanonicalizer(Canonicalizer):
    """From a `Cloud`, points (b, n, 3) or a list of (n, 3), to a `Pose`. Subclasses define `frames` and `config`."""

    def __init__(self, group: str | Group):
        super().__init__(group)
        if not isinstance(self.group, SpaceGroup):
            raise ValueError(f"clouds of points need a group of space, such as SO3 or E3; got {self.group.name}")
        self.space: SpaceGroup = self.group
        if self.group.resizes:
            self.register_buffer("radius", torch.ones((), dtype=torch.float64))

    radius: Tensor  # of the canonical form of a group that resizes: its root mean square radius, which `fit` learns

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """`to`, `half` and the like move it to their device and leave its numbers in float64, in which poses are exact."""

        def moved(x: Tensor) -> Tensor:
            y = fn(x)
            return y if y.dtype == x.dtype else x.to(y.device)

        return super()._apply(moved, recurse)

    @abstractmethod
    def frames(
        self, cloud: Cloud
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3 3"], Float[Tensor, " b"], Float[Tensor, "b 3"]]:
        """Of a standardised cloud: scores, the frame of each score, the certainty, and the origin."""

    def forward(self, inputs: Any) -> Pose:
        """The pose of every cloud. Its candidates are the frames, at the cloud's origin where the group has translations."""
        points = Rows(Kind("points")) if isinstance(inputs, (list, tuple)) else Kind("points")
        cloud = inputs if isinstance(inputs, Cloud) else cloud_of(inputs, points)
        if cloud is None:
            raise ValueError(f"clouds have shape (b, n, 3); got a {type(inputs).__name__}")
        seen, centroid, radius = standardised(cloud)
        scores, frames, certainty, origin = self.frames(seen)
        certainty = certainty * (thickness(seen) / FLAT**2).clamp(max=1)
        frames = frames.double()
        if self.group.resizes:
            frames = frames * (radius / self.radius)[:, None, None, None]
        offset = (centroid + radius[:, None] * origin.double())[:, None].expand(*frames.shape[:-1])
        return pose_of(scores.double(), homogeneous(frames, offset if self.space.translations else None), certainty)

    def _continuous(self) -> None:
        if self.group.order is not None:
            raise ValueError(f"the {self.name} canonicalizer is for continuous groups; {self.group.name} is finite: search it")


def thickness(cloud: Cloud) -> Float[Tensor, " b"]:
    """The least variance of the points in any direction, in shares of the greatest: 0 in a plane, on a line, for one point."""
    with torch.no_grad():
        p = torch.where(cloud.present[..., None], cloud.points, 0)
        least, _, greatest = torch.linalg.eigvalsh(p.mT @ p).clamp(min=0).unbind(-1)
        return least / greatest.clamp(min=1e-300)
