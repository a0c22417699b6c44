"""Vector neurons: channels that are vectors of space and turn with the input. Exact for every rotation and reflection.

After Deng et al. 2021, arXiv 2104.12229: linear maps over channels without a bias, a nonlinearity along learned directions,
normalisation on the lengths alone. There are no neighbourhoods: points exchange information through means over the
cloud, which is cheap, does not depend on their order and has no ties.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...geometry.clouds import Cloud

SMALL = 1e-2  # squared lengths below it stay small, so that the rounding of short vectors is not blown up


class VectorLinear(nn.Module):
    """A linear map of channels; no bias, since a fixed vector would not turn."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, dtype=torch.float64) / inputs**0.5)

    def forward(self, v: Float[Tensor, "*b c 3"]) -> Float[Tensor, "*b k 3"]:
        return F.linear(v.mT, self.weight).mT  # one matrix product over all points; channels stay next to each other in memory


class VectorReLU(nn.Module):
    """Removes the component against a learned direction (Deng et al. 2021, eq. 6), all but `slope` of it."""

    def __init__(self, channels: int, slope: float = 0.2):
        super().__init__()
        self.direction, self.slope = VectorLinear(channels, channels), slope

    def forward(self, v: Float[Tensor, "*b c 3"]) -> Float[Tensor, "*b c 3"]:
        d = self.direction(v)
        against = (v * d).sum(-1, keepdim=True).clamp(max=0) / (d.square().sum(-1, keepdim=True) + SMALL)
        return torch.addcmul(v, against, d, value=self.slope - 1)


class VectorNorm(nn.Module):
    """Vectors in units of their root mean square length over the channels, times a learned scale each."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, dtype=torch.float64))

    def forward(self, v: Float[Tensor, "*b c 3"]) -> Float[Tensor, "*b c 3"]:
        squared = v.square().sum(-1, keepdim=True).mean(-2, keepdim=True)
        return v * (self.scale * (squared + SMALL).rsqrt())


class VectorNetwork(nn.Module):
    """From clouds to `outputs` vectors each, and the agreement of the points on them, 0 (they cancel) to 1.

    `vectors`, `features`: the further vectors and the numbers that each point comes with.
    """

    def __init__(self, outputs: int, *, vectors: int = 0, features: int = 0, width: int = 16, depth: int = 2):
        super().__init__()
        sources = 1 + vectors
        # numbers that no rotation changes: every product of a point's vectors, and its features
        numbers = sources * (sources + 1) // 2 + features
        self.sources, self.width = sources, width
        self.gates = nn.Sequential(nn.Linear(numbers, 32), nn.SiLU(), nn.Linear(32, width * sources)).double()
        self.mixes = nn.ModuleList(VectorLinear(width, width) for _ in range(depth))
        self.contexts = nn.ModuleList(VectorLinear(width, width) for _ in range(depth))
        self.bends = nn.ModuleList(VectorReLU(width) for _ in range(depth))
        self.norms = nn.ModuleList(VectorNorm(width) for _ in range(depth))
        self.out = VectorLinear(width, outputs)

    def forward(self, cloud: Cloud) -> tuple[Float[Tensor, "b k 3"], Float[Tensor, "b k"]]:
        source = torch.cat([cloud.points[:, :, None], cloud.vectors], 2).to(self.out.weight)
        i, j = torch.triu_indices(self.sources, self.sources)
        numbers = torch.cat([(source[:, :, i] * source[:, :, j]).sum(-1), cloud.features.to(source)], -1)
        gates = self.gates(numbers).unflatten(-1, (self.width, self.sources))
        v = (source.mT @ gates.mT).mT
        for mix, context, bend, norm in zip(self.mixes, self.contexts, self.bends, self.norms, strict=True):
            v = norm(bend(mix(v) + context(cloud.mean(v))[:, None]))
        v = self.out(v)
        mean, length = cloud.mean(v), cloud.mean(v.detach().square().sum(-1).sqrt())
        return mean, mean.norm(dim=-1) / length.clamp(min=1e-12)
