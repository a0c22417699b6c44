"""Views: the standardised thumbnails that canonicalizers look at, alike for every numeric range and every size."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from ..geometry.groups import Group, inverse
from ..geometry.pixels import Known, act_known, known

VIEW_STEP = 2.0**-12
FLAT = 1e-6  # a deviation below this share of the mean is rounding
LARGE, SLICE = 1 << 22, 1 << 18  # pixels of an image that is reduced in slices, and of a slice


def square_view(
    images: Shaped[Tensor, "b k h w"] | Sequence[Tensor], resolution: int, channels: int = 3, *, in_disc: bool = False
) -> Float[Tensor, "b c r r"]:
    """A square thumbnail: the whole image, resized with antialiasing and standardised by `standardise`.

    `in_disc`: of its central square instead, standardised over the inscribed disc; only the disc may be looked at.

    Every step is computed in float64 and rounded once at the end, so that the view of a turned image is the turned view
    to the bit, although sums run in another order. One channel is repeated to `channels`. Pixels that are not finite do not
    count, and large images take little more memory than they have.
    Raises ValueError for another shape or number of channels.
    """
    if not isinstance(images, Tensor):
        parts = [square_view(image[None], resolution, channels, in_disc=in_disc) for image in images]
        return torch.cat(parts) if parts else torch.zeros(0, channels, resolution, resolution)
    if images.ndim != 4 or images.is_complex():
        came = f"{tuple(images.shape)} of {images.dtype}"
        raise ValueError(f"images have shape (b, channels, height, width); got {came} ({_of_one(images.shape, channels)})")
    check_channels(images.shape[1:], channels)
    if 0 in images.shape[2:]:
        raise ValueError(f"images are empty: {tuple(images.shape)}")
    if images.shape[0] == 0:
        return torch.zeros(0, channels, resolution, resolution, device=images.device)
    # a few photos at a time stay in the processor's cache, which the batch as a whole does not
    parts = images.split(4) if images.device.type == "cpu" and not torch.compiler.is_compiling() else [images]
    if in_disc:
        parts = [central_square(part) for part in parts]
    inside = (radius(resolution) < resolution / 2).to(images.device) if in_disc else None
    view = torch.cat([standardise(squeezed(part, (resolution, resolution)), inside) for part in parts])
    return view.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)


def _of_one(shape: Sequence[int], channels: int) -> str:
    """How one image is passed, whose channels may come last, or a cloud."""
    clouds = "; clouds of points: a group of space, such as SO3" if len(shape) == 3 and shape[2] == 3 else ""
    last = len(shape) == 3 and shape[0] not in (1, channels) and shape[2] in (1, channels)
    return ("one image whose channels come last: x.movedim(-1, 0)[None]" if last else "one image: x[None]") + clouds


def check_channels(shape: Sequence[int], channels: int) -> None:
    """Raise ValueError where an image (c, h, w) of that shape has another number of channels, or none, or has them last."""
    if len(shape) != 3 or shape[0] in (1, channels):
        return
    build = f"build it for them, OrbitCanonicalizer(group, channels={shape[0]})"
    way_out = "the axis of channels comes before height and width, x.movedim(-1, -3)" if shape[2] in (1, channels) else build
    raise ValueError(f"the canonicalizer looks at {channels} channels (or 1), the images have {shape[0]}: {way_out}")


def squeezed(images: Shaped[Tensor, "b k h w"], size: tuple[int, int]) -> Float[Tensor, "b k m n"]:
    """Images resized with antialiasing, in float64.

    A pixel that is not finite counts as the mean of those of its channel that are; a channel without any is constant.
    """
    # a graph cannot look before it decides, and a look makes the host wait for an accelerator
    if images.dtype.is_floating_point and (torch.compiler.is_compiling() or images.device.type != "cpu"):
        return _resized(images, size, _finite_mean(images))
    small = _resized(images, size)
    if images.dtype.is_floating_point and not bool(small.isfinite().all()):
        small = _resized(images, size, _finite_mean(images))
    return small


def _resized(images: Tensor, size: tuple[int, int], fill: Tensor | None = None) -> Tensor:
    height, width = images.shape[2:]
    if torch.compiler.is_compiling():
        return _weighed(_working(images, fill), size)
    if height * width <= LARGE:
        return _interpolated(_working(images, fill), size)
    # in slices across the longer side, since a copy in float64 takes eight times the memory of bytes; always as rows, since
    # torch resizes a single column to a single column wrongly
    if height < width:
        return _resized(images.mT, (size[1], size[0]), fill).mT.contiguous()
    # written in place, since small results among the freed slices would leave no room for the next
    narrow = torch.empty(*images.shape[:3], size[1], dtype=working_dtype(images), device=images.device)
    done = 0
    for part in _slices(images):
        rows = _interpolated(_working(part, fill), (part.shape[2], size[1]))
        narrow[:, :, done : done + len(rows[0, 0])] = rows
        done += len(rows[0, 0])
    return _interpolated(narrow, size)


def _interpolated(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def _weighed(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The same as two products of matrices, which other runtimes know in float64 too."""
    down, right = (_weights(n, m).to(x) for n, m in zip(x.shape[2:], size, strict=True))
    return down @ (x @ right.T)


def _weights(n: int, m: int) -> Float[Tensor, "m n"]:
    """What each of n pixels in a line counts for each of m: a triangle as wide as the pixels that become one."""
    centre = (torch.arange(m, dtype=torch.float64) + 0.5) * (n / m)
    away = torch.arange(n, dtype=torch.float64) + 0.5 - centre[:, None]
    weight = (1 - away.abs() / max(n / m, 1.0)).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)


def _working(part: Tensor, fill: Tensor | None) -> Tensor:
    part = part.to(working_dtype(part))
    return part if fill is None else torch.where(part.isfinite(), part, fill)


def _finite_mean(images: Tensor) -> Float[Tensor, "b k 1 1"]:
    """The mean of the finite pixels of every channel, 0 where there are none."""
    total = torch.zeros(*images.shape[:2], 1, 1, dtype=working_dtype(images), device=images.device)
    number = torch.zeros_like(total)
    for part in _slices(images if images.shape[2] >= images.shape[3] else images.mT):
        finite = part.isfinite()
        total += torch.where(finite, part, 0).to(total).sum((2, 3), keepdim=True)
        number += finite.sum((2, 3), keepdim=True)
    return total / number.clamp(min=1)


def filled(images: Shaped[Tensor, "b k h w"]) -> Shaped[Tensor, "b k h w"]:
    """Images with pixels that are not finite replaced by the mean of the finite ones of their channel."""
    if not images.dtype.is_floating_point or bool(images.isfinite().all()):
        return images
    return _working(images, _finite_mean(images))


def _slices(images: Tensor) -> tuple[Tensor, ...]:
    """Rows of all images, about SLICE pixels of each."""
    return images.split(max(1, SLICE // images.shape[3]), 2)


def working_dtype(images: Tensor) -> torch.dtype:
    """float64: once the result is rounded, the order of summation makes no difference."""
    return torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def central_square(images: Shaped[Tensor, "*b h w"]) -> Shaped[Tensor, "*b s t"]:
    """The central square, as large as the shorter side.

    Where the margins would differ by a pixel, one row or column less, so that it stays central when the image is turned.
    """
    h, w = images.shape[-2:]
    top, left = max(0, h - w + 1) // 2, max(0, w - h + 1) // 2
    return images[..., top : h - top, left : w - left]


def radius(size: int) -> Float[Tensor, "r r"]:
    """How far the centre of each pixel of a (size, size) view is from the centre of the view."""
    axis = torch.arange(size) + 0.5 - size / 2
    return (axis.square()[:, None] + axis.square()).sqrt()


def standardise(x: Tensor, inside: Tensor | None = None) -> Float[Tensor, "*b h w"]:
    """Mean 0.5 and deviation 0.25 per image and channel, like a picture in [0, 1]; a constant channel becomes 0.5.

    `inside` (h, w): the pixels that count for the mean and the deviation.
    """
    number = x.shape[-2] * x.shape[-1] if inside is None else inside.sum()
    mean = (x if inside is None else x * inside).sum((-2, -1), keepdim=True) / number
    x = x - mean
    norm = torch.linalg.vector_norm(x if inside is None else x * inside, dim=(-2, -1), keepdim=True)
    deviation = norm / number**0.5
    scale = torch.where(deviation <= FLAT * mean.abs(), 0, 0.25 / VIEW_STEP / deviation)
    # in place, since every pass over the pixels in float64 counts
    return x.mul_(scale).add_(0.5 / VIEW_STEP).round_().float() * VIEW_STEP


def ranged(x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Pixels in shares of the range of their channel, in float64; a constant channel becomes 0. Whatever the normalisation."""
    x = x.to(working_dtype(x))
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return (x - low) / torch.where(high > low, high - low, 1)


def view_size(group: Group, resolution: int) -> int:
    """The side of the view: the resolution on the grid; off the grid twice that, so that it is turned before it is halved."""
    return resolution if group.on_grid else 2 * resolution


def back(group: Group) -> Known:
    """How `orbit_views` turn: by the inverse of every element."""
    return known(inverse(group.elements))


def orbit_views(view: Float[Tensor, "b c s s"], group: Group, turns: Known | None = None) -> list[Float[Tensor, "b c r r"]]:
    """The view turned back by every element, g^-1.x: by index on the grid, otherwise at twice the size and then halved.

    Views of other groups are masked to a disc, so that no corner tells how far they were turned. `turns`: `back(group)`, which
    a graph that is traced cannot find out.
    """
    turns = back(group) if turns is None else turns
    if group.resizes:  # where a resized view ends there is nothing: its edge drawn out would look like something
        turned = [x + 0.5 for x in act_known(turns, view - 0.5, "zeros")]
    else:
        turned = act_known(turns, view, "edge")
    return turned if group.on_grid else [disc(F.avg_pool2d(x, 2)) for x in turned]


def squares(images: Any, side: int) -> Tensor:
    """Square thumbnails (b, c, side, side), antialiased; uint8 of uint8, else float32.

    Raises ValueError for anything that is no tensor of images and no list of them.
    """
    if isinstance(images, list):
        return torch.cat([squares(image[None], side) for image in images])
    if not isinstance(images, Tensor) or images.ndim != 4 or 0 in images.shape[1:]:
        came = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        clips = "; of clips every frame is one, x.flatten(0, 1)" if isinstance(images, Tensor) and images.ndim == 5 else ""
        raise ValueError(f"training images have shape (b, channels, height, width); got {came}{clips}")
    if images.shape[2:] == (side, side):
        return images if images.dtype == torch.uint8 else images.float()
    small = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else small


def disc(x: Float[Tensor, "b c r r"]) -> Float[Tensor, "b c r r"]:
    """The view with everything outside the inscribed circle set to 0.5, softly over two pixels."""
    r = x.shape[-1]
    return (x - 0.5) * ((r / 2 - 0.5 - radius(r).to(x)) / 2).clamp(0, 1) + 0.5
