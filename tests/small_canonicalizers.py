"""One small canonicalizer of every row of the table, for all tests: of images, of clouds of points, and of volumes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import equiform
from equiform import GroupConvCanonicalizer, OrbitCanonicalizer
from equiform.canonicalizers import (
    Canonicalizer,
    CascadeCanonicalizer,
    PolyphaseCanonicalizer,
    PrincipalAxesCanonicalizer,
    ProductCanonicalizer,
    RingCanonicalizer,
    SeamCanonicalizer,
    SearchCanonicalizer,
    TileCanonicalizer,
    UniformCanonicalizer,
    VolumeCanonicalizer,
)
from equiform.canonicalizers.poses import Pose, pose_of
from equiform.geometry import Group
from small_predictors import Classifier


def cascade(group: str | Group) -> CascadeCanonicalizer:
    parts = GroupConvCanonicalizer(group, widths=(4, 8), resolution=16), OrbitCanonicalizer(group, resolution=16)
    return CascadeCanonicalizer(*parts, doubt=0.01)


Make = Callable[[str | Group], Canonicalizer]
IMAGES: dict[str, Make] = {
    "orbit": lambda group: OrbitCanonicalizer(group, resolution=16),
    "group-conv": lambda group: GroupConvCanonicalizer(group, widths=(4, 8), resolution=16),
    "tiles": lambda group: TileCanonicalizer(group, num_tiles=4, widths=(4, 8), resolution=16),
    "energy": lambda group: equiform.EnergyCanonicalizer(group, Classifier().eval()),
    "uniform": UniformCanonicalizer,
    "cascade": cascade,
}
CONTINUOUS: dict[str, Make] = {  # of images, for continuous groups alone
    "ring": lambda group: RingCanonicalizer(group, resolution=32, num_bins=24),
}
PRODUCTS: dict[str, Make] = {  # for the product of a group with three sizes
    "product": lambda group: ProductCanonicalizer(
        OrbitCanonicalizer(group, resolution=16), OrbitCanonicalizer("Scale(0.5,2,3)", resolution=16)
    ),
}
SHIFTS: dict[str, Make] = {  # of images, for cyclic shifts alone
    "seam": SeamCanonicalizer,
    "polyphase": PolyphaseCanonicalizer,
}
CLOUDS: dict[str, Make] = {
    "frame": equiform.FrameCanonicalizer,
    "principal-axes": PrincipalAxesCanonicalizer,
    "search": lambda group: SearchCanonicalizer(group, side=4, width=32),
}
VOLUMES: dict[str, Make] = {
    "volume": lambda group: VolumeCanonicalizer(group, resolution=8),
}


class Fixed(Canonicalizer):
    """Scores that do not depend on the image, one row per image."""

    name = "fixed"

    def __init__(self, scores: list[list[float]] | Tensor, group: str = "C4"):
        super().__init__(group)
        self.values = nn.Parameter(torch.as_tensor(scores, dtype=torch.float32))

    def forward(self, images: Any) -> Pose:
        return pose_of(self.values, self.elements)
