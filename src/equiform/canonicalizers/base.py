"""The base of what finds poses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .._checks import check_whole
from ..geometry import groups
from ..geometry.arrays import as_tensor
from ..geometry.groups import Group
from ..images.files import read_square
from ..images.views import square_view, squares, view_size
from .poses import Pose, pose_of

Images = Tensor | np.ndarray | Sequence[Tensor]


class Canonicalizer(nn.Module):
    """From images (b, c, h, w), or a list of (c, h, w), to a `Pose`. Subclasses say `scores` of views and their `config`.

    A view is what `view` makes of an image; training works on views, so that it can keep a whole data set of them.
    """

    name = ""
    learns = True
    estimates = True  # whether its poses are right or wrong
    images_alone = False  # whether it cannot look at clouds
    _place: Tensor

    def __init__(self, group: str | Group, resolution: int = 64, channels: int = 3):
        super().__init__()
        self.group = groups.group(group)
        if self.images_alone and self.group.dim == 3:
            name = self.group.name
            raise ValueError(
                f"the {self.name} canonicalizer looks at images, {name} moves clouds: use SearchCanonicalizer({name!r})"
            )
        if self.group.order is None and self.group.dim == 2:
            raise ValueError(
                f"{self.group.name} is continuous and canonicalizers score finite groups: take a fine one, such as "
                f"{'D16' if self.group.reflections else 'C16'}"
            )
        check_whole(resolution=resolution, channels=channels)
        self.resolution, self.channels = resolution, channels
        self.register_buffer("_place", torch.zeros(1), persistent=False)  # follows the module from device to device

    @property
    def elements(self) -> Float[Tensor, "n d d"]:
        """The elements, in full precision whatever the weights are, on the device of the canonicalizer."""
        return self.group.elements.to(self._place.device)

    @property
    def num_poses(self) -> int:
        """The number of candidates for a pose."""
        return len(self.elements)

    @property
    def device(self) -> torch.device:
        """Where the canonicalizer computes."""
        return self._place.device

    @property
    def predictor_passes(self) -> int:
        """How often the predictor runs for the pose of one row."""
        return 0

    def config(self) -> dict[str, Any]:
        """The arguments that build this canonicalizer again, but for a network of the caller's own."""
        return {"group": self.group.name, "resolution": self.resolution, "channels": self.channels}

    @property
    def view_size(self) -> int:
        """The side of the views that `scores` takes."""
        return view_size(self.group, self.resolution)

    def view(self, images: Images) -> Float[Tensor, "b c s s"]:
        """What the canonicalizer looks at: the whole image in a small square, standardised."""
        images = as_tensor(images) if isinstance(images, np.ndarray) else images
        # photos may lie elsewhere than the canonicalizer: files are read on the processor, models may be on a GPU
        return square_view(images, self.view_size, self.channels).to(self._place.device)

    def squares(self, images: Any, side: int) -> Tensor:
        """What training keeps of a batch of images, to draw views from: the whole images, squeezed to squares."""
        return squares(images, side)

    def read(self, file: Path, side: int) -> Tensor:
        """The squares of one image file."""
        return read_square(file, side)

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        """One score per element and row: how much the view, brought back by that element, looks like canonical input."""
        raise TypeError(f"{type(self).__name__} has no scores of views")

    def forward(self, images: Images) -> Pose:
        """The pose of every image."""
        view = self.view(images)
        if len(view) == 0:
            return pose_of(torch.zeros(0, len(self.elements), device=view.device), self.elements)
        # a few small layers gain nothing from half precision, and poses would be blurred by it
        with torch.autocast(view.device.type, enabled=self.training and torch.is_autocast_enabled(view.device.type)):
            return pose_of(self.scores(view).float(), self.elements)

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.dtype.is_floating_point), torch.float32)
