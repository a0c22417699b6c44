"""One small canonicalizer of every row of the table, for all tests: of images, and of clouds of points."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equiform import EnergyCanonicalizer, FrameCanonicalizer, GroupConvCanonicalizer, OrbitCanonicalizer
from equiform.canonicalizers import (
    Canonicalizer,
    CascadeCanonicalizer,
    PrincipalAxesCanonicalizer,
    RingCanonicalizer,
    SearchCanonicalizer,
    TileCanonicalizer,
    UniformCanonicalizer,
)
from equiform.geometry import Group


class Classifier(nn.Module):
    """Sees where things are."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(6 * self.body(x.float()).relu().mean((-2, -1)))


class CloudClassifier(nn.Module):
    """Not equivariant to anything but the order of the points."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 5)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.double()).mean(1)


def cascade(group: str | Group) -> CascadeCanonicalizer:
    parts = GroupConvCanonicalizer(group, widths=(4, 8), resolution=16), OrbitCanonicalizer(group, resolution=16)
    return CascadeCanonicalizer(*parts, doubt=0.01)


Make = Callable[[str | Group], Canonicalizer]
IMAGES: dict[str, Make] = {
    "orbit": lambda group: OrbitCanonicalizer(group, resolution=16),
    "group-conv": lambda group: GroupConvCanonicalizer(group, widths=(4, 8), resolution=16),
    "tiles": lambda group: TileCanonicalizer(group, num_tiles=4, widths=(4, 8), resolution=16),
    "energy": lambda group: EnergyCanonicalizer(group, Classifier().eval()),
    "uniform": UniformCanonicalizer,
    "cascade": cascade,
}
CONTINUOUS: dict[str, Make] = {  # of images, for continuous groups alone
    "ring": lambda group: RingCanonicalizer(group, resolution=32, num_bins=24),
}
CLOUDS: dict[str, Make] = {
    "frame": FrameCanonicalizer,
    "principal-axes": PrincipalAxesCanonicalizer,
    "search": lambda group: SearchCanonicalizer(group, side=4, width=32),
}


def photos(b: int, h: int = 12, w: int = 12) -> Tensor:
    return torch.rand(b, 3, h, w)
