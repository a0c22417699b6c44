"""PointNet (Qi et al. 2017, arXiv 1612.00593) without its alignment networks: a predictor that knows aligned clouds."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def shared(widths: tuple[int, ...]) -> nn.Sequential:
    """The same layers for every point of (b, channels, n)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class PointNet(nn.Module):
    """Class logits (b, classes) of clouds (b, n, 3)."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (64, 128, 1024)):
        super().__init__()
        self.points = shared((3, *widths))
        self.head = nn.Sequential(nn.Linear(widths[-1], 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.points(x.mT).amax(2))


class PointNetParts(nn.Module):
    """Part logits (b, n, parts) of every point: what the point is beside what the whole cloud is."""

    def __init__(self, parts: int, widths: tuple[int, ...] = (64, 128, 512)):
        super().__init__()
        self.points = shared((3, *widths))
        self.head = nn.Sequential(shared((2 * widths[-1], 128)), nn.Conv1d(128, parts, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.points(x.mT)
        return self.head(torch.cat([h, h.amax(2, keepdim=True).expand_as(h)], 1)).mT
