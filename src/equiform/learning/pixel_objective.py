"""What the objectives for images and for volumes share: what is kept of the data, and a histogram over the group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..batching.calls import fitting_kinds, images_of
from ..canonicalizers.poses import Pose
from ..equivariant import Equivariant
from ..geometry.moving import first_image
from ..images.files import is_picture
from ..predictors.pairs import read_photo
from .objective import Objective
from .priors import prior as prior_of
from .priors import prior_loss
from .teacher import Teacher

KEPT = 1.5  # side of what is kept of an input for training, in sides of the view: crops down to 2/3 of it lose no detail


class PixelObjective(Objective):
    """Cross-entropy of the posterior with a histogram over the group."""

    what = "images"

    def __init__(self, model: Equivariant, prior: str | Tensor, teacher: Teacher | None = None):
        super().__init__(model)
        self.prior = prior_of(self.canonicalizer.group, prior)

    @property
    def collate(self) -> "SquareCollate":
        return SquareCollate(self.side, self.inputs, self.canonicalizer.squares)

    def before_joint(self, x: Any) -> None:
        images = first_image(x, fitting_kinds(self.inputs, x))
        if not isinstance(images, Tensor) or not images.dtype.is_floating_point:
            came = f"{images.dtype}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise ValueError(f"joint training needs the gradient of floating-point {self.what} in one tensor; got {came}")

    def pose_loss(self, pose: Pose, target: Tensor | None = None) -> Float[Tensor, ""]:
        return prior_loss(pose.scores, self.prior.to(pose.scores))


@dataclass(frozen=True)
class SquareCollate:
    """Samples to a batch of thumbnails, whatever the sizes of their images (a class, so that it can be pickled for workers)."""

    side: int
    inputs: Any
    squares: Callable[[Any, int], Tensor]

    def __call__(self, samples: Sequence[Any]) -> Tensor:
        images = [images_of(sample, self.inputs) for sample in samples]
        images = [read_photo(image) if isinstance(image, (str, Path)) or is_picture(image) else image for image in images]
        return torch.cat([self.squares(image[None] if isinstance(image, Tensor) else image, self.side) for image in images])


def check_finite(images: Tensor | Sequence[Tensor], what: str = "images") -> None:
    """Raise ValueError where one of them holds a pixel that is no finite number."""
    bad = [i for i, image in enumerate(images) if not bool(image.isfinite().all())]
    if bad:
        raise ValueError(
            f"{what} that are not finite: {len(bad)} of {len(images)}, the first at index {bad[0]}: leave them out"
        )
