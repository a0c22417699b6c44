"""Group convolutions for C_n and D_n (Cohen & Welling 2016, arXiv 1602.07576), compact and without dependencies.

A feature map on the group is (b, channels, order, h, w). Filters are turned by index for quarter turns and flips, which
makes those layers exact; other elements turn the filter by bilinear sampling on a disc, which is approximate.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...geometry.actions import act_image
from ...geometry.groups import Group, group, inverse


def _turned_filters(elements: Tensor, size: int, on_grid: bool) -> Float[Tensor, "n k k"]:
    """Per element the linear map that turns a flattened size x size filter."""
    basis = torch.eye(size * size, device=elements.device).reshape(1, size * size, size, size)
    turned = torch.cat([act_image(g[None], basis, None) for g in elements])
    maps = turned.flatten(2).mT
    if on_grid:
        return maps
    axis = torch.arange(size, device=elements.device) - (size - 1) / 2
    inside = (axis.square()[:, None] + axis.square()).sqrt() <= size / 2
    return maps * inside.flatten()[:, None] * inside.flatten()


class GroupConv2d(nn.Module):
    """Lifting (from an image) or group convolution (from a map on the group) to (b, out, order, h, w), same padding."""

    maps: Tensor
    sources: Tensor

    def __init__(self, group: Group, into: int, out: int, size: int = 3, *, lifting: bool = False):
        super().__init__()
        elements, n = group.elements, group.elements.shape[0]
        self.size, self.depth = size, 1 if lifting else n
        self.weight = nn.Parameter(torch.randn(out, into, self.depth, size * size) / math.sqrt(into * self.depth * size * size))
        self.register_buffer("maps", _turned_filters(elements, size, group.on_grid), persistent=False)
        # (g.w)(h) = w(g^-1 h): output channel g reads input channel h with the weight of g^-1 h
        products = (inverse(elements)[:, None] @ elements).flatten(0, 1)
        self.register_buffer("sources", group.index(products).reshape(n, n), persistent=False)

    def kernel(self) -> Float[Tensor, "o i k k"]:
        """All turned filters, as the weight of one ordinary convolution: built once per forward."""
        out, into, n = len(self.weight), self.weight.shape[1], len(self.maps)
        weight = self.weight[:, :, self.sources] if self.depth > 1 else self.weight[:, :, None].expand(-1, -1, n, -1, -1)
        turned = torch.einsum("oigdk,glk->ogidl", weight, self.maps)
        return turned.reshape(out * n, into * self.depth, self.size, self.size)

    def forward(self, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o n h w"]:
        y = F.conv2d(x.flatten(1, 2), self.kernel(), padding=self.size // 2)
        return y.unflatten(1, (len(self.weight), -1))


class GroupConvNetwork(nn.Module):
    """Views (b, channels, r, r) to one score per element (b, order); turning the view permutes the scores.

    Exact for quarter turns and flips, because every layer is: odd filters, no strides, 2x2 means to reduce.
    r must be a multiple of 2^len(widths).
    """

    def __init__(self, group_name: str, channels: int = 3, widths: tuple[int, ...] = (8, 16, 24, 32)):
        super().__init__()
        g = group(group_name)
        size = 3 if g.on_grid else 5
        self.reduction = 2 ** len(widths)
        convolutions, norms, into = [], [], channels
        for i, width in enumerate(widths):
            convolutions.append(GroupConv2d(g, into, width, size, lifting=i == 0))
            norms.append(nn.BatchNorm3d(width))
            into = width
        self.convolutions, self.norms = nn.ModuleList(convolutions), nn.ModuleList(norms)
        self.head = nn.Linear(into, 1)

    def forward(self, x: Float[Tensor, "b c r r"]) -> Float[Tensor, "b n"]:
        if x.shape[-1] % self.reduction:
            raise ValueError(f"the resolution must be a multiple of {self.reduction}; got {x.shape[-1]}")
        y = F.avg_pool2d(x, 2)[:, :, None]  # the finest scale costs most and says little about the pose
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = F.relu(norm(convolution(y)))
            if i < len(self.norms) - 1:
                y = F.avg_pool2d(y.flatten(1, 2), 2).unflatten(1, y.shape[1:3])
        return self.head(y.mean((-2, -1)).mT)[..., 0]
