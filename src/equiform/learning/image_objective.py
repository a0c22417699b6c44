"""The objective for images: thumbnails kept in memory, augmented views of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import TensorDataset

from ..batching.calls import images_of
from ..equivariant import Equivariant
from ..images.files import is_picture, read_squares
from ..predictors.pairs import read_photo
from .augmentation import Augmentation, blended, random_crops, training_views
from .pixel_objective import KEPT, PixelObjective, check_finite
from .priors import prior_loss
from .teacher import Teacher


class ImageObjective(PixelObjective):
    """On views of canonical images, or of ones that a teacher has judged."""

    default = Augmentation()

    def __init__(self, model: Equivariant, prior: str | Tensor, teacher: Teacher | None = None):
        super().__init__(model, prior)
        self.taught, self.least = teacher is not None, 0 if teacher is None else teacher.size

    @property
    def side(self) -> int:
        return round(KEPT * max(self.canonicalizer.view_size, self.least))

    def in_memory(self, data: Any) -> tuple[Any, list[str]]:
        """Files and tensors as one tensor of thumbnails, other data as they are. Raises ValueError for pixels not finite."""
        listed = isinstance(data, list) and bool(data)
        if isinstance(data, (str, Path)) or (listed and all(isinstance(file, (str, Path)) for file in data)):
            return read_squares(data, self.side, self.canonicalizer.read)
        if isinstance(data, np.ndarray):
            data = torch.from_numpy(data)
        if listed and any(is_picture(photo) for photo in data):
            data = [read_photo(photo) for photo in data]
        if listed and all(isinstance(clip, Tensor) and clip.ndim == 4 for clip in data):
            raise ValueError(
                f"a list of {len(data)} tensors such as {tuple(data[0].shape)} is one of clips, or of inputs and targets: "
                "frames are images, torch.cat(clips), and inputs beside targets are a tuple"
            )
        if not isinstance(data, Tensor):
            return data, []
        check_finite(data)
        return torch.cat([self.canonicalizer.squares(part, self.side) for part in data.split(256)]), []

    def taught_by(self, teacher: Teacher, data: Any, seed: int) -> TensorDataset:
        if not isinstance(data, Tensor):
            return super().taught_by(teacher, data, seed)
        posteriors = teacher.posteriors(data, self.canonicalizer.group, seed)
        return TensorDataset(data, (1 - teacher.weight) * self.prior + teacher.weight * posteriors)

    def crops(self, x: Any, num: int, generator: torch.Generator) -> Iterator[Any]:
        """Random crops of batches or lists of square floating-point images; none of others."""
        alike = isinstance(x, list) and len({getattr(image, "shape", None) for image in x}) == 1
        images = torch.stack(x) if alike and isinstance(x[0], Tensor) else x
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.dtype.is_floating_point:
            return
        if images.shape[2] == images.shape[3]:
            group = self.canonicalizer.group
            for _ in range(num):
                cut = random_crops(images, group, images.shape[3], self.default, generator, group.identity(len(images)))
                yield list(cut.to(images.dtype)) if alike else cut.to(images.dtype)

    def orbit(self) -> Float[Tensor, "n 3 3"]:
        return self.canonicalizer.group.finite.elements.to(self.canonicalizer.device)

    def loss(
        self, batch: Any, augmentation: Augmentation | None, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Bool[Tensor, " b"]]:
        canonicalizer, group = self.canonicalizer, self.canonicalizer.group
        taught = batch[1] if self.taught and isinstance(batch, (tuple, list)) and len(batch) == 2 else None
        images = canonicalizer.squares(images_of(batch, self.inputs), self.side).expand(-1, canonicalizer.channels, -1, -1)
        target = self.prior.expand(len(images), -1) if taught is None else taught
        images, target = blended(images, target, augmentation.blend if augmentation else 0.0, generator)
        views, g = training_views(images, group, canonicalizer.view_size, augmentation, generator)
        scores = canonicalizer.scores(views).float()
        target = canonicalizer.target(target, g).to(scores)
        return prior_loss(scores, target), canonicalizer.right(scores, target)
