"""The objective for clouds: turned at random, with a weight for each axis of their frame."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..batching.calls import cloud_in
from ..canonicalizers.poses import Pose
from ..equivariant import Equivariant
from ..geometry.groups import AboutZ, Octahedral, SpaceGroup
from .cloud_augmentation import CloudAugmentation, varied
from .objective import Objective
from .priors import frame_distance, frame_loss, frame_prior
from .teacher import Teacher

NEAR = (2 * math.sin(math.radians(20) / 2)) ** 2  # a frame counts as right whose axes are, on average, 20 degrees off at most
APART = 0.1  # elements with frames nearer than this are the same to a prior


class CloudObjective(Objective):
    """The density of the right frame under the posterior, on clouds that were turned at random."""

    default = CloudAugmentation()

    def __init__(self, model: Equivariant, prior: str | Tensor, teacher: Teacher | None = None):
        super().__init__(model)
        self.prior, self.said = frame_prior(prior), prior

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
        cloud, target = varied(cloud, self.canonicalizer.group, augmentation, generator)
        pose = self.canonicalizer(cloud)
        apart = frame_distance(pose.g[:, :3, :3], target, self.prior) / self.prior.sum()
        return self.pose_loss(pose, target), apart < NEAR

    def pose_loss(self, pose: Pose, target: Tensor | None = None) -> Float[Tensor, ""]:
        target = torch.eye(3).to(pose.g).expand(len(pose.g), 3, 3) if target is None else target
        return frame_loss(pose.scores, pose.candidates[..., :3, :3], target, self.prior)
