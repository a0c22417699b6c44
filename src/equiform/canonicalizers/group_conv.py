"""Poses of images in one pass of a group-convolution network."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..geometry.groups import Group
from ..images.views import disc
from .images import ImageCanonicalizer, check_widths
from .networks import GroupConvNetwork

MAX_GROUP = 64


class GroupConvCanonicalizer(ImageCanonicalizer):
    """One pass of a group-convolution network; exact for quarter turns and flips, approximate for other elements.

    Kaba et al. 2023, arXiv 2211.06489, sec. 4, with the layers of Cohen & Welling 2016. The resolution is a multiple of 16
    with the default widths.
    """

    name = "group-conv"

    def __init__(
        self,
        group: str | Group,
        *,
        widths: Sequence[int] = (8, 16, 24, 32),
        resolution: int = 64,
        channels: int = 3,
    ):
        super().__init__(group, resolution, channels)
        if self.num_poses > MAX_GROUP:  # the kernels grow with the square of it
            raise ValueError(f"group convolutions are for at most {MAX_GROUP} elements; {group} has {self.num_poses}")
        self.widths = check_widths(widths)
        if resolution % 2 ** len(widths):
            raise ValueError(f"resolution must be a multiple of {2 ** len(widths)} for {len(widths)} widths; got {resolution}")
        self.network = GroupConvNetwork(self.group.name, channels, self.widths)

    def config(self) -> dict[str, Any]:
        return super().config() | {"widths": list(self.widths)}

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        if not self.group.on_grid:
            view = disc(nn.functional.avg_pool2d(view, 2))
        return self.network(view.to(self._dtype()))
