"""How training views of volumes vary."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.groups import Group
from ..geometry.voxels import sample_volume
from ..images.views import standardise


@dataclass(frozen=True)
class VolumeAugmentation:
    """How training views of volumes vary: crops of another shape, small turns, gamma and noise.

    `length`: range of the share of each axis that a crop keeps, each axis by its own, so that shapes are stretched too;
    `degrees`: the deviation of a turn about any axis; `noise`: in deviations of the view, at most. Brightness and contrast are
    missing on purpose: standardised views do not show them.
    """

    length: tuple[float, float] = (0.75, 1.0)
    degrees: float = 5.0
    gamma: float = 1.6
    noise: float = 0.3

    def __post_init__(self) -> None:
        low, high = self.length
        if not 0 < low <= high <= 1:
            raise ValueError(f"length is a range of shares, 0 < low <= high <= 1; got {self.length!r}")
        for name, least in (("degrees", 0), ("noise", 0), ("gamma", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is a number from {least} on; got {getattr(self, name)!r}")


STILL = VolumeAugmentation((1.0, 1.0), 0.0, 1.0, 0.0)


def training_cubes(
    cubes: Float[Tensor, "b c s s s"],
    group: Group,
    side: int,
    augmentation: VolumeAugmentation | None,
    generator: torch.Generator,
) -> Float[Tensor, "b c r r r"]:
    """Standardised views of cubes in the canonical pose. Crop, stretch and turn are one resampling, alike for every view."""
    augmentation = STILL if augmentation is None else augmentation
    b = len(cubes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(b, *shape, generator=generator)

    length = uniform(*augmentation.length, 3)
    centre = uniform(-1.0, 1.0, 3) * (1 - length)
    turned = group.near_identity(b, float(augmentation.degrees), generator)[:, :3, :3].float()
    source = torch.cat([length[:, :, None] * turned, centre[:, :, None]], -1).to(cubes)
    views = sample_volume(cubes.float(), source, side)
    low, high = views.amin((1, 2, 3, 4), keepdim=True), views.amax((1, 2, 3, 4), keepdim=True)
    exponent = augmentation.gamma ** uniform(-1.0, 1.0, 1, 1, 1, 1).to(views)
    views = _standardised(((views - low) / (high - low).clamp(min=1e-6)) ** exponent)
    deviation = 0.25 * uniform(0.0, augmentation.noise, 1, 1, 1, 1)
    return _standardised(views + (deviation * torch.randn(views.shape, generator=generator)).to(views))


def _standardised(views: Float[Tensor, "b c r r r"]) -> Float[Tensor, "b c r r r"]:
    return standardise(views.flatten(2)[..., None]).reshape(views.shape)
