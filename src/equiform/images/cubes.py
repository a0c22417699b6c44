"""Cubes: the standardised small views of volumes that canonicalizers look at, alike for every numeric range and every size."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..geometry.groups import Group, inverse
from ..geometry.pixels import CHANNELS
from ..geometry.voxels import act_volume
from .views import standardise, working_dtype

SLAB = 1 << 22  # voxels of a volume that are reduced at once


def cube_view(
    volumes: Shaped[Tensor, "b k d h w"] | Sequence[Tensor], resolution: int, channels: int = 1
) -> Float[Tensor, "b c r r r"]:
    """A cube of the whole volume: the mean over each of r^3 equal boxes, standardised by `standardise`.

    Every step is computed in float64 and rounded once at the end, so that the view of a turned volume is the turned view to the
    bit. One channel is repeated to `channels`. Voxels that are not finite count as the mean of their channel.
    Raises ValueError for another shape or number of channels.
    """
    if not isinstance(volumes, Tensor):
        parts = [cube_view(volume[None], resolution, channels) for volume in volumes]
        return torch.cat(parts) if parts else torch.zeros(0, channels, *[resolution] * 3)
    _check(volumes, channels)
    if len(volumes) == 0:
        return torch.zeros(0, channels, *[resolution] * 3, device=volumes.device)
    cubes = torch.stack([reduced(volume, resolution) for volume in volumes])
    flat = standardise(cubes.flatten(2)[..., None])
    return flat.reshape(cubes.shape).expand(-1, channels, -1, -1, -1).contiguous()


def _check(volumes: Tensor, channels: int) -> None:
    if volumes.ndim != 5 or volumes.is_complex():
        came = f"{tuple(volumes.shape)} of {volumes.dtype}"
        way_out = "pictures: a group of the plane, such as C4, and inputs='image'"
        raise ValueError(f"volumes have shape (b, channels, depth, height, width); got {came} (one volume: x[None]; {way_out})")
    if volumes.shape[1] not in (1, channels):
        raise ValueError(_way_out(tuple(volumes.shape), channels))
    if 0 in volumes.shape[2:]:
        raise ValueError(f"volumes are empty: {tuple(volumes.shape)}")


def _way_out(shape: tuple[int, ...], channels: int) -> str:
    """What is wrong with volumes of another number of channels, and what to do."""
    num, last = shape[1], shape[4]
    build = "build it for them, VolumeCanonicalizer(group, channels={})"
    if last in (1, channels) or (last in CHANNELS and num not in CHANNELS):
        advice = "the axis of channels comes before depth, height and width: x.movedim(-1, 1)"
        advice += "" if last in (1, channels) else f"; for {last} channels {build.format(last)}"
    elif shape[2] in CHANNELS and num not in CHANNELS:
        advice = f"{build.format(num)}; clips (b, frames, channels, height, width): a group of the plane and inputs='clip'"
    else:
        advice = build.format(num)
    seen = "1 channel" if channels == 1 else f"{channels} channels (or 1)"
    return f"the canonicalizer looks at {seen}, the volumes {shape} have {num}: {advice}"


def reduced(volume: Shaped[Tensor, "c d h w"], side: int) -> Float[Tensor, "c s s s"]:
    """The mean of a volume over each of side^3 equal boxes, in float64: voxels count by the share of them that lies inside."""
    dtype = working_dtype(volume)
    fill = _finite_mean(volume, dtype)
    of_w, of_h, of_d = (shares(n, side).to(volume.device, dtype) for n in reversed(volume.shape[1:]))
    slabs = volume.split(max(1, SLAB // (volume.shape[2] * volume.shape[3])), 1)
    planes = [of_h @ (_filled(slab.to(dtype), fill) @ of_w.mT) for slab in slabs]
    return torch.einsum("sd,cdhw->cshw", of_d, torch.cat(planes, 1))


def shares(n: int, side: int) -> Float[Tensor, "s n"]:
    """The weights by which n voxels make `side` boxes of equal length: the share of each box that a voxel fills."""
    box, voxel = torch.arange(side)[:, None], torch.arange(n)
    # in units of 1 / (n side) of the length, whole numbers, so that the weights are the same from both ends
    overlap = torch.minimum((box + 1) * n, (voxel + 1) * side) - torch.maximum(box * n, voxel * side)
    return overlap.clamp(min=0).double() / n


def _finite_mean(volume: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The mean of the finite voxels of every channel, 0 where there are none; None where all are finite."""
    if not volume.dtype.is_floating_point or bool(volume.isfinite().all()):
        return None
    finite = volume.isfinite()
    total = torch.where(finite, volume, 0).to(dtype).sum((1, 2, 3), keepdim=True)
    return total / finite.sum((1, 2, 3), keepdim=True).clamp(min=1)


def _filled(part: Tensor, fill: Tensor | None) -> Tensor:
    return part if fill is None else torch.where(part.isfinite(), part, fill)


def orbit_cubes(view: Float[Tensor, "b c r r r"], group: Group) -> Float[Tensor, "n b c r r r"]:
    """The view turned back by every element, g^-1.x, by index."""
    return torch.stack([act_volume(g, view, None) for g in inverse(group.elements).split(1)])


def cubes(volumes: Any, side: int, channels: int = 1) -> Float[Tensor, "b c s s s"]:
    """Volumes reduced to cubes in float32, which training keeps. Raises ValueError or TypeError for anything else."""
    if isinstance(volumes, list):
        return torch.cat([cubes(volume[None], side, channels) for volume in volumes])
    if not isinstance(volumes, Tensor):
        raise TypeError(
            f"training volumes are a tensor (b, channels, depth, height, width), or a list; got a {type(volumes).__name__}"
        )
    _check(volumes, channels)
    if volumes.shape[2:] != (side,) * 3:
        volumes = torch.stack([reduced(volume, side) for volume in volumes])
    return volumes.float().expand(-1, channels, -1, -1, -1)
