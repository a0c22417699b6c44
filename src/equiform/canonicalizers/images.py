"""The base of canonicalizers of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .._checks import check_whole
from ..geometry.arrays import as_tensor
from ..geometry.groups import Group, Shift
from ..images.clips import as_frames
from ..images.files import read_square
from ..images.views import check_channels, square_view, squares, view_size
from .base import Canonicalizer
from .poses import Pose, pose_of

Images = Tensor | np.ndarray | Sequence[Tensor]
MAX_RESOLUTION, MAX_CHANNELS, MAX_WIDTH = 2048, 512, 4096


class ImageCanonicalizer(Canonicalizer):
    """From images (b, c, h, w), or a list of (c, h, w), to a `Pose`. Subclasses define `scores` of views and `config`.

    Clips (b, t, c, h, w) have one pose for all frames. A view is what `view` makes of an image, usually a thumbnail. Training
    keeps thumbnails of the whole data set in memory.
    """

    continuous = False  # whether it is for continuous groups
    shifts = False  # whether it finds shifts, which views in another resolution do not show to the pixel
    ready_made: ClassVar[Mapping[str, str]] = {"C4": "photos-c4", "SO2": "photos-so2"}

    def __init__(self, group: str | Group, resolution: int = 64, channels: int = 3):
        super().__init__(group)
        if self.group.dim != 2:
            name = self.group.name
            raise ValueError(
                f"the {self.name} canonicalizer looks at images, {name} moves clouds: use SearchCanonicalizer({name!r}), or of "
                f"volumes VolumeCanonicalizer({name!r})"
            )
        if self.group.translations and not self.shifts:
            way_out = (
                f"use SeamCanonicalizer({self.group.name!r})" if isinstance(self.group, Shift) else "take one for each factor"
            )
            raise ValueError(
                f"the {self.name} canonicalizer looks at thumbnails, which do not show the shifts of {self.group.name} to the "
                f"pixel: {way_out}"
            )
        if not self.continuous:
            self._check_finite(f", or RingCanonicalizer({self.group.name!r})")
        check_whole(most=MAX_RESOLUTION, resolution=resolution)
        check_whole(most=MAX_CHANNELS, channels=channels)
        self.resolution, self.channels = resolution, channels

    def config(self) -> dict[str, Any]:
        return super().config() | {"resolution": self.resolution, "channels": self.channels}

    @property
    def view_size(self) -> int:
        """The side of the views that `scores` takes."""
        return view_size(self.group, self.resolution)

    @property
    def enough(self) -> int | None:
        """Four times the side of the thumbnail, which its antialiasing does not see."""
        return None if self.shifts else 4 * self.view_size

    def view(self, images: Images) -> Float[Tensor, "b c s s"]:
        """What the canonicalizer looks at: a standardised square thumbnail of the whole image."""
        return self._square(images)

    def _square(self, images: Images, in_disc: bool = False) -> Float[Tensor, "b c s s"]:
        images = as_tensor(images) if isinstance(images, np.ndarray) else images
        try:
            view = square_view(images, self.view_size, self.channels, in_disc=in_disc)
        except ValueError as error:
            raise ValueError(f"{error}{self.fitted_on and '; '}{self.fitted_on}") from None
        # photos may be on another device: files are read on the CPU
        return view.to(self.device)

    def squares(self, images: Any, side: int) -> Tensor:
        """Square thumbnails of whole images, which training keeps and draws views from.

        Raises ValueError for another number of channels."""
        made = squares(images, side)
        for image in images[:1] if isinstance(images, Tensor) else images:
            check_channels(image.shape, self.channels)
        return made

    def read(self, file: Path, side: int) -> Tensor:
        """The thumbnails of one image file."""
        return read_square(file, side)

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        """One score per element and row: how much the view, brought back by that element, looks like canonical input."""
        raise TypeError(f"{type(self).__name__} has no scores of views")

    def target(self, prior: Float[Tensor, "*b n"], g: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b n"]:
        """The target of the scores of canonical views moved by g: the prior (one, or one per row) moved, p'(h) = p(g^-1 h)."""
        return self.group.carried(prior.to(g).expand(len(g), -1), g)

    def right(self, scores: Float[Tensor, "b n"], target: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
        """Whether the likeliest pose is the right one."""
        return pose_of(scores, self.elements).index == target.argmax(1)

    def forward(self, inputs: Images) -> Pose:
        """The pose of every image; of clips the likeliest one by the mean over frames of their log-posteriors."""
        images, num_frames = as_frames(inputs, self.channels)
        pose = self.find(images)
        if num_frames == 1:
            return pose
        # the scores are log-posteriors but for a constant of each frame
        scores = pose.scores.unflatten(0, (-1, num_frames)).mean(1)
        return pose_of(scores, self.group.refined(scores))

    def find(self, inputs: Images) -> Pose:
        """The pose of every image, clips aside."""
        view = self.view(inputs)
        if view.shape[0] == 0:
            return pose_of(torch.zeros(0, self.num_poses, device=view.device), self.elements)
        # a small network gains nothing from half precision, which would blur the scores
        with torch.autocast(view.device.type, enabled=self.training and torch.is_autocast_enabled(view.device.type)):
            scores = self.scores(view).float()
        return pose_of(scores, self.group.refined(scores))

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.dtype.is_floating_point), torch.float32)


def canvases(images: Images, group: Group) -> list[Tensor]:
    """Images as batches (b, c, h, w) of one canvas, the frames of clips as channels.

    Raises ValueError where a canvas is smaller than the shifts of the group.
    """
    batches = [image[None] for image in images] if isinstance(images, (list, tuple)) else [as_tensor(images)]
    most = group.n if isinstance(group, Shift) else 1
    for x in batches:
        if x.ndim not in (4, 5) or 0 in x.shape[1:]:
            raise ValueError(f"images have shape (b, channels, height, width); got {tuple(x.shape)}")
        h, w = x.shape[-2:]
        if most > min(h, w):
            last = x.ndim == 4 and w in (1, 3, 4) and x.shape[1] >= most
            way_out = (
                "the axis of channels comes before height and width, x.movedim(-1, 1)"
                if last
                else f"take 'Shift{min(h, w)}' at most, or larger images"
            )
            raise ValueError(
                f"{group.name} shifts by up to {most - 1} pixels, more than a canvas of {h} x {w} has room for: {way_out}"
            )
    return [x.flatten(1, -3) for x in batches] or [torch.zeros(0, 1, most, most)]


def check_shifts(canonicalizer: Canonicalizer) -> None:
    """Raise ValueError unless its group is one of cyclic shifts."""
    if not isinstance(canonicalizer.group, Shift):
        came = canonicalizer.group.name
        raise ValueError(f"the {canonicalizer.name} canonicalizer finds cyclic shifts, such as Shift(16); got {came}")


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The widths of a network's stages. Raises ValueError where one is no whole number, or there are none."""
    if not isinstance(widths, (list, tuple)) or not 1 <= len(widths) <= 8:
        raise ValueError(f"widths are 1 to 8 whole numbers; got {widths!r}")
    for width in widths:
        check_whole(most=MAX_WIDTH, widths=width)
    return tuple(widths)
