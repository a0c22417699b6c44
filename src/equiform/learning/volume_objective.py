"""The objective for volumes: small cubes kept in memory, augmented views of them, a histogram over the group."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..batching.calls import fitting_kinds, images_of
from ..canonicalizers.poses import Pose
from ..equivariant import Equivariant
from ..geometry.moving import first_image
from .image_objective import SquareCollate, check_finite
from .objective import Objective
from .priors import prior as prior_of
from .priors import prior_loss
from .teacher import Teacher
from .volume_augmentation import VolumeAugmentation, training_cubes

CUBE = 1.5  # side of the cubes kept for training, in sides of the view: crops down to 2/3 of it lose no detail


class VolumeObjective(Objective):
    """Cross-entropy of the posterior with a histogram over the group, on views of canonical volumes."""

    default = VolumeAugmentation()

    def __init__(self, model: Equivariant, prior: str | Tensor, teacher: Teacher | None = None):
        super().__init__(model)
        self.prior = prior_of(self.canonicalizer.group, prior)

    @property
    def side(self) -> int:
        return round(CUBE * self.canonicalizer.resolution)

    @property
    def collate(self) -> SquareCollate:
        return SquareCollate(self.side, self.inputs, self.canonicalizer.squares)

    def in_memory(self, data: Any) -> tuple[Any, list[str]]:
        """A tensor or a list of volumes as one tensor of cubes, other data as they are. Raises ValueError for NaN in them."""
        volumes = torch.from_numpy(data) if isinstance(data, np.ndarray) else data
        listed = isinstance(volumes, list) and bool(volumes) and all(isinstance(x, Tensor) for x in volumes)
        if not isinstance(volumes, Tensor) and not listed:
            return data, []
        check_finite(volumes, "volumes")
        return torch.cat([self.canonicalizer.squares(volume[None], self.side) for volume in volumes]), []

    def check_joint(self, x: Any) -> None:
        volumes = first_image(x, fitting_kinds(self.inputs, x))
        if not isinstance(volumes, Tensor) or not volumes.dtype.is_floating_point:
            came = f"{volumes.dtype}" if isinstance(volumes, Tensor) else f"a {type(volumes).__name__}"
            raise ValueError(f"joint training needs the gradient of floating-point volumes in one tensor; got {came}")

    def orbit(self) -> Float[Tensor, "n 4 4"]:
        return self.canonicalizer.group.elements.to(self.canonicalizer.device)

    def loss(
        self, batch: Any, augmentation: VolumeAugmentation | None, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Bool[Tensor, " b"]]:
        canonicalizer = self.canonicalizer
        kept = canonicalizer.squares(images_of(batch, self.inputs), self.side)
        views = training_cubes(kept, canonicalizer.group, canonicalizer.resolution, augmentation, generator)
        scores = canonicalizer.scores(views).float()
        target = self.prior.to(scores).expand_as(scores)
        return prior_loss(scores, target), canonicalizer.right(scores, target)

    def pose_loss(self, pose: Pose, target: Tensor | None = None) -> Float[Tensor, ""]:
        return prior_loss(pose.scores, self.prior.to(pose.scores))
