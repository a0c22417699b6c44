"""Training views of clouds: augmented, and moved by a random element of the group."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.clouds import Cloud
from ..geometry.groups import Group, homogeneous
from ..geometry.rotations import about_z

FEWEST = 32  # smaller clouds, of particles say, lose no points


@dataclass(frozen=True)
class CloudAugmentation:
    """How training clouds vary: points dropped, ends cut off, stretch, jitter, small turns, turns about z, mirrors.

    `keep`: range of the share of points kept at random; `reach`: of the share kept along a random direction. `stretch`,
    `jitter` and `degrees` (of a turn about any axis) are deviations. `turns`: random multiples of 360/turns degrees about z,
    for data that may come in any of these; `mirror`: half of them mirrored along x, unless the group has reflections.
    """

    keep: tuple[float, float] = (0.4, 1.0)
    reach: tuple[float, float] = (0.8, 1.0)
    stretch: float = 0.2
    jitter: float = 0.01  # in units of the cloud's radius
    degrees: float = 3.0
    turns: int = 1
    mirror: bool = True

    def __post_init__(self) -> None:
        for name in ("keep", "reach"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name} is a range of shares, 0 < low <= high <= 1; got {getattr(self, name)!r}")
        for name in ("stretch", "jitter", "degrees"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a deviation, a number >= 0; got {getattr(self, name)!r}")
        if not isinstance(self.turns, int) or self.turns < 1:
            raise ValueError(f"turns is a whole number >= 1; got {self.turns!r}")


def varied(
    cloud: Cloud, group: Group, augmentation: CloudAugmentation | None, generator: torch.Generator
) -> tuple[Cloud, Float[Tensor, "b 3 3"]]:
    """The clouds augmented and then moved by random elements of the group, and the linear parts of these."""
    b = len(cloud)
    g = group.random(b, generator).double()
    if augmentation is not None:
        cloud = _moved(_thinned(cloud, augmentation, generator), homogeneous(_bent(b, group, augmentation, generator)))
        radius = cloud.mean(cloud.points.square().sum(-1)).sqrt()
        noise = torch.randn(cloud.points.shape, dtype=torch.float64, generator=generator).to(cloud.device)
        cloud = replace(cloud, points=cloud.points + augmentation.jitter * radius[:, None, None] * noise)
    g = g.to(cloud.device)
    return _moved(cloud, g), g[:, :3, :3]


def _moved(cloud: Cloud, g: Float[Tensor, "b 4 4"]) -> Cloud:
    g = g.to(cloud.device)
    vectors = cloud.vectors @ g[:, None, :3, :3].mT
    return replace(cloud, points=cloud.points @ g[:, :3, :3].mT + g[:, None, :3, 3], vectors=vectors)


def _bent(b: int, group: Group, augmentation: CloudAugmentation, generator: torch.Generator) -> Float[Tensor, "b 3 3"]:
    """Random linear maps: stretch and mirror along the axes, a turn about z, a small turn about any axis."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    tilt = group.near_identity(b, float(augmentation.degrees), generator)[:, :3, :3]
    stretch = torch.exp(augmentation.stretch * normal(b, 3))
    if augmentation.mirror and not group.reflections:
        stretch[:, 0] *= torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0)
    turn = 2 * torch.pi / augmentation.turns * torch.randint(augmentation.turns, (b,), generator=generator)
    return tilt @ about_z(turn.double()) @ torch.diag_embed(stretch)


def _thinned(cloud: Cloud, augmentation: CloudAugmentation, generator: torch.Generator) -> Cloud:
    """The cloud with a random share of its points dropped, and those that are furthest along a random direction."""
    b, n = cloud.present.shape
    if n < FEWEST:
        return cloud

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(b, 1, generator=generator)).to(cloud.device)

    kept = torch.rand(b, n, generator=generator).to(cloud.device) < uniform(*augmentation.keep)
    direction = torch.randn(b, 3, 1, dtype=torch.float64, generator=generator).to(cloud.device)
    along = (cloud.points @ direction)[..., 0].masked_fill(~cloud.present, torch.inf)
    rank = along.argsort(1).argsort(1)
    near = rank < uniform(*augmentation.reach) * cloud.present.sum(1, keepdim=True)
    present = cloud.present & kept & near
    enough = present.sum(1, keepdim=True) >= FEWEST // 2
    return replace(cloud, present=torch.where(enough, present, cloud.present))
