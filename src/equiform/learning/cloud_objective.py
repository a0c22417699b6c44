"""The objective for clouds: turned at random, with a weight for each axis of their frame."""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..batching.calls import cloud_in
from ..canonicalizers.poses import Pose
from ..equivariant import Equivariant
from ..geometry.clouds import Cloud, standardised
from ..geometry.groups import AboutZ, Octahedral, SpaceGroup, homogeneous, unscaled
from .cloud_augmentation import CloudAugmentation, varied
from .objective import Objective
from .priors import frame_distance, frame_loss, frame_prior
from .teacher import Teacher

NEAR = (2 * math.sin(math.radians(20) / 2)) ** 2  # a frame counts as right whose axes are, on average, 20 degrees off at most
APART = 0.1  # elements with frames nearer than this are the same to a prior


class CloudObjective(Objective):
    """The density of the right frame under the posterior, on clouds that were turned at random."""

    default = CloudAugmentation()
    lr = 2e-3

    def __init__(self, model: Equivariant, prior: str | Tensor, teacher: Teacher | None = None):
        super().__init__(model)
        self.prior, self.said = frame_prior(prior), prior
        self.total, self.number = 0.0, 0  # of the logarithms of radii

    def augmentation(self, given: Any) -> Any:
        """By default with quarter turns about z where that is all the prior says: streets and walls run along x or y."""
        upright = given == "default" and isinstance(self.said, str) and self.said == "upright"
        return replace(self.default, turns=4) if upright else super().augmentation(given)

    def orbit(self) -> Float[Tensor, "n 4 4"]:
        """Of a continuous group, among the rotations of the cube or quarter turns. Raises ValueError where none are left."""
        group: SpaceGroup = self.canonicalizer.group
        elements = (group if group.order else AboutZ(4) if group.axis else Octahedral(group.reflections)).elements
        apart = frame_distance(elements[:, :3, :3], torch.eye(3), self.prior)
        if not bool((apart > APART).any()):
            raise ValueError(
                f"the prior {self.said!r} takes all of {group.name} as alike, which leaves nothing to learn: use 'identity'"
            )
        return torch.cat([elements[:1], elements[apart > APART]]).to(self.canonicalizer.device)

    def loss(
        self, batch: Any, augmentation: CloudAugmentation | None, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Bool[Tensor, " b"]]:
        cloud = cloud_in(batch, self.inputs)
        if not bool((cloud.points.isfinite().all(-1) | ~cloud.present).all()):
            raise ValueError("a cloud of the data is not finite: leave it out")
        if self.canonicalizer.training:
            self._learn_radius(cloud)
        cloud, target = varied(cloud, self.canonicalizer.group, augmentation, generator)
        pose = self.canonicalizer(cloud)
        apart = frame_distance(self._frames(pose.g), self._frames(homogeneous(target)), self.prior) / self.prior.sum()
        return self.pose_loss(pose, target), apart < NEAR

    def before_joint(self, x: Any) -> None:
        """The clouds are in the size that the predictor knows: they are turned, and resized, after this."""
        self._learn_radius(cloud_in(x, self.inputs))

    def _learn_radius(self, cloud: Cloud) -> None:
        """Where the group resizes, the canonical size becomes the geometric mean of the radii of all clouds so far."""
        if not self.canonicalizer.group.resizes:
            return
        _, _, radius = standardised(cloud)
        self.total, self.number = self.total + float(radius.log().sum()), self.number + len(cloud)
        self.canonicalizer.radius.fill_(math.exp(self.total / self.number))

    def _frames(self, g: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 3 3"]:
        """The turns of poses, without their resizing."""
        return (unscaled(g) if self.canonicalizer.group.resizes else g)[..., :3, :3]

    def pose_loss(self, pose: Pose, target: Tensor | None = None) -> Float[Tensor, ""]:
        target = torch.eye(3).to(pose.g).expand(len(pose.g), 3, 3) if target is None else target
        return frame_loss(pose.scores, self._frames(pose.candidates), self._frames(homogeneous(target)), self.prior)
