"""Scores cubes of volumes by three-dimensional convolutions."""

from jaxtyping import Float
from torch import Tensor, nn


def _conv(into: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(into, out, 3, stride, 1, bias=False), nn.BatchNorm3d(out), nn.ReLU(inplace=True))


class VolumeNetwork(nn.Module):
    """A small network from cubes (b, channels, r, r, r) to one score per row; every width halves the resolution."""

    def __init__(self, channels: int = 1, widths: tuple[int, ...] = (8, 16, 32)):
        super().__init__()
        self.widths = tuple(widths)
        inputs = (channels, *widths)
        self.features = nn.Sequential(*(_conv(into, out, 2) for into, out in zip(inputs, widths, strict=False)))
        self.mix = nn.Sequential(_conv(widths[-1], widths[-1], 1))
        self.classifier = nn.Linear(widths[-1], 1)

    def forward(self, x: Float[Tensor, "b c r r r"]) -> Float[Tensor, " b"]:
        return self.classifier(self.mix(self.features(x)).mean((-3, -2, -1)))[:, 0]
