"""Training objectives: the data kept, the views drawn from them, and the loss against a prior."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..canonicalizers.poses import Pose
from ..equivariant import Equivariant
from .data import Collate
from .teacher import Teacher


class Objective(ABC):
    """What a canonicalizer of images or of clouds is trained on."""

    default: Any  # the augmentation by default
    lr = 1e-3  # the learning rate by default
    prior: Tensor
    taught: bool = False  # whether each input comes with a target of its own

    def __init__(self, model: Equivariant):
        self.canonicalizer: Any = model.canonicalizer
        self.inputs = model.inputs

    @property
    def side(self) -> int:
        """The side of the thumbnails that are kept of images, 0 for other inputs."""
        return 0

    @property
    def collate(self) -> Collate | None:
        """Makes a batch of samples, where the data are not kept in memory."""
        return None

    def augmentation(self, given: Any) -> Any:
        """The augmentation: the one given, "default", or None. Raises TypeError for one of other inputs."""
        if given == "default":
            return self.default
        if given is not None and not isinstance(given, type(self.default)):
            wanted, came = type(self.default).__name__, type(given).__name__
            raise TypeError(f"the {self.canonicalizer.name} canonicalizer needs a {wanted}; got a {came}")
        return given

    def in_memory(self, data: Any) -> tuple[Any, list[str]]:
        """The data as they are kept in memory, and a line for each file that was skipped."""
        return data, []

    def taught_by(self, teacher: Teacher, data: Any, seed: int) -> Any:
        """The data with the targets of a teacher."""
        raise TypeError("a teacher needs a tensor or a folder of images, and no task_loss")

    def before_joint(self, x: Any) -> None:  # noqa: B027  (nothing to do unless a subclass does)
        """What comes before a step of joint training. Raises ValueError where the arguments cannot be trained on."""

    def crops(self, x: Any, num: int, generator: torch.Generator) -> Iterator[Any]:
        """Random crops of images, resized to the size of the whole; none of other inputs."""
        yield from ()

    @abstractmethod
    def orbit(self) -> Float[Tensor, "n d d"]:
        """The identity, and the elements that the prior tells from it."""

    @abstractmethod
    def loss(self, batch: Any, augmentation: Any, generator: torch.Generator) -> tuple[Float[Tensor, ""], Bool[Tensor, " b"]]:
        """The loss on views of a batch, and per row whether the likeliest pose is the right one."""

    @abstractmethod
    def pose_loss(self, pose: Pose, target: Tensor | None = None) -> Float[Tensor, ""]:
        """The loss of poses against the prior, or against the prior moved to `target`."""
