"""Mobile networks: depthwise separable convolutions, for views of photos and for pretrained weights.

MobileNet (Howard et al. 2017, arXiv 1704.04861), inverted residuals (Sandler et al. 2018, arXiv 1801.04381), and
EfficientNet-Lite (EfficientNet, Tan & Le 2019, arXiv 1905.11946, without squeeze and excitation). Padding is symmetric.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Stage(NamedTuple):
    """Blocks of one width; the first of them has the stride. `expansion` 0: a block of the first MobileNet."""

    expansion: int
    kernel: int
    stride: int
    width: int
    blocks: int


class Plan(NamedTuple):
    """An architecture: the width of the first convolution, the stages, and the width of a last 1x1 convolution (0: none)."""

    stem: int
    stages: tuple[Stage, ...]
    head: int


PLANS = {
    "efficientnet-lite0": Plan(
        32,
        (
            Stage(1, 3, 1, 16, 1),
            Stage(6, 3, 2, 24, 2),
            Stage(6, 5, 2, 40, 2),
            Stage(6, 3, 2, 80, 3),
            Stage(6, 5, 1, 112, 3),
            Stage(6, 5, 2, 192, 4),
            Stage(6, 3, 1, 320, 1),
        ),
        1280,
    ),
    "mobilenet-v1-0.25": Plan(
        8,
        (
            Stage(0, 3, 1, 16, 1),
            Stage(0, 3, 2, 32, 1),
            Stage(0, 3, 1, 32, 1),
            Stage(0, 3, 2, 64, 1),
            Stage(0, 3, 1, 64, 1),
            Stage(0, 3, 2, 128, 1),
            Stage(0, 3, 1, 128, 5),
            Stage(0, 3, 2, 256, 1),
            Stage(0, 3, 1, 256, 1),
        ),
        0,
    ),
}


class NormedConv(nn.Module):
    """A convolution, its batch norm, and ReLU6 where `active`. In eval mode the norm is folded into the weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, active: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm, self.active = nn.BatchNorm2d(outputs), active

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = self.norm(self.conv(x)) if self.training else self._folded(x)
        return F.relu6(y, inplace=True) if self.active else y

    def _folded(self, x: Tensor) -> Tensor:
        # one pass over the feature maps instead of two; the weights are small beside them
        norm, conv = self.norm, self.conv
        mean: Any = norm.running_mean
        variance: Any = norm.running_var
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        weight = conv.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, norm.bias - mean * scale, conv.stride, conv.padding, groups=conv.groups)


class Block(nn.Module):
    """Expansion, depthwise and pointwise convolution, with a residual connection where the shapes allow it."""

    def __init__(self, inputs: int, stage: Stage, stride: int):
        super().__init__()
        width, first_mobilenet = inputs * max(stage.expansion, 1), stage.expansion == 0
        widen = [NormedConv(inputs, width)] if stage.expansion > 1 else []
        depthwise = NormedConv(width, width, stage.kernel, stride, width)
        self.body = nn.Sequential(*widen, depthwise, NormedConv(width, stage.width, active=first_mobilenet))
        self.residual = not first_mobilenet and stride == 1 and inputs == stage.width

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetwork(nn.Module):
    """A mobile network from views (b, channels, r, r) in [0, 1] to `outputs` numbers each.

    `plan`: the name of an architecture of `PLANS`. Raises ValueError for an unknown one.
    """

    def __init__(self, plan: str, outputs: int, *, channels: int = 3, dropout: float = 0.2):
        super().__init__()
        if plan not in PLANS:
            raise ValueError(f"unknown network {plan!r}; known: {', '.join(PLANS)}, or a module")
        self.outputs = outputs
        stem, stages, head = PLANS[plan]
        layers: list[nn.Module] = [NormedConv(channels, stem, 3, 2)]
        inputs = stem
        for stage in stages:
            for i in range(stage.blocks):
                layers.append(Block(inputs, stage, stage.stride if i == 0 else 1))
                inputs = stage.width
        if head:
            layers.append(NormedConv(inputs, head))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(head or inputs, outputs))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's stubs forget it)

    def forward(self, x: Float[Tensor, "b c r r"]) -> Float[Tensor, "b n"]:
        return self.classifier(self.features(2 * x - 1).mean((-2, -1)))
