"""DGCNN (Wang et al. 2019, arXiv 1801.07829): edges to the nearest neighbours, found anew in every layer."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def edges(x: Tensor, k: int) -> Tensor:
    """(b, 2 c, n, k): each of the k nearest neighbours' features minus the point's own, beside its own, of (b, c, n)."""
    points = x.mT
    index = torch.cdist(points, points).topk(k, largest=False).indices
    near = points[torch.arange(len(x), device=x.device)[:, None, None], index]
    own = points[:, :, None].expand_as(near)
    return torch.cat([near - own, own], -1).permute(0, 3, 1, 2)


class EdgeConv(nn.Module):
    """(b, outputs, n): the greatest of what is made of the edges of every point."""

    def __init__(self, inputs: int, outputs: int, k: int):
        super().__init__()
        self.k = k
        self.layer = nn.Sequential(nn.Conv2d(2 * inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(edges(x, self.k)).amax(-1)


class DGCNN(nn.Module):
    """Class logits (b, classes) of clouds (b, n, 3), with the published widths."""

    def __init__(self, classes: int, k: int = 20):
        super().__init__()
        widths = (3, 64, 64, 128, 256)
        self.layers = nn.ModuleList(EdgeConv(a, b, k) for a, b in pairwise(widths))
        self.join = nn.Sequential(nn.Conv1d(512, 1024, 1, bias=False), nn.BatchNorm1d(1024), nn.LeakyReLU(0.2))
        self.head = nn.Sequential(
            *(nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512), nn.LeakyReLU(0.2), nn.Dropout(0.5)),
            *(nn.Linear(512, 256), nn.BatchNorm1d(256), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(256, classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.mT, []
        for layer in self.layers:
            h = layer(h)
            found.append(h)
        h = self.join(torch.cat(found, 1))
        return self.head(torch.cat([h.amax(2), h.mean(2)], 1))
