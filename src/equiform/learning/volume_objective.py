"""The objective for volumes: small cubes kept in memory, augmented views of them."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..batching.calls import images_of
from .pixel_objective import KEPT, PixelObjective, check_finite
from .priors import prior_loss
from .volume_augmentation import VolumeAugmentation, training_cubes


class VolumeObjective(PixelObjective):
    """On views of canonical volumes."""

    default = VolumeAugmentation()
    what = "volumes"

    @property
    def side(self) -> int:
        return round(KEPT * self.canonicalizer.resolution)

    def in_memory(self, data: Any) -> tuple[Any, list[str]]:
        """A tensor or a list of volumes as one tensor of cubes, other data as they are. Raises ValueError for NaN in them."""
        volumes = torch.from_numpy(data) if isinstance(data, np.ndarray) else data
        listed = isinstance(volumes, list) and bool(volumes) and all(isinstance(x, Tensor) for x in volumes)
        if not isinstance(volumes, Tensor) and not listed:
            return data, []
        check_finite(volumes, self.what)
        return torch.cat([self.canonicalizer.squares(volume[None], self.side) for volume in volumes]), []

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
