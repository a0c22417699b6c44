"""The small square view of an image that canonicalizers look at, the same for every numeric range and every size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from .actions import act_image
from .groups import Group, inverse, turn

VIEW_STEP = 2.0**-12


def square_view(
    images: Shaped[Tensor, "b k h w"] | Sequence[Tensor], resolution: int, channels: int = 3
) -> Float[Tensor, "b c r r"]:
    """The whole image, squeezed to (resolution, resolution) with antialiasing and standardised by `standardise`.

    Every step is computed in float64 and rounded once at the end, so that the view of a turned image is the turned view
    to the bit, although sums run in another order. One channel is repeated to `channels`.
    Raises ValueError for another shape or number of channels.
    """
    if not isinstance(images, Tensor):
        parts = [square_view(image[None], resolution, channels) for image in images]
        return torch.cat(parts) if parts else torch.zeros(0, channels, resolution, resolution)
    if images.ndim != 4 or images.is_complex():
        came = f"{tuple(images.shape)} of {images.dtype}"
        clouds = "; clouds of points: a group of space, such as SO3" if images.ndim == 3 and images.shape[2] == 3 else ""
        raise ValueError(f"images have shape (b, channels, height, width); got {came} (one image: x[None]{clouds})")
    if images.shape[1] not in (1, channels):
        last = images.shape[3] in (1, channels)
        build = f"build it for them, OrbitCanonicalizer(group, channels={images.shape[1]})"
        way_out = "the axis of channels comes before height and width" if last else build
        raise ValueError(f"the canonicalizer looks at {channels} channels (or 1), the images have {images.shape[1]}: {way_out}")
    if 0 in images.shape[2:]:
        raise ValueError(f"images are empty: {tuple(images.shape)}")
    if len(images) == 0:
        return torch.zeros(0, channels, resolution, resolution, device=images.device)
    # a few photos at a time stay in the processor's cache, which the batch as a whole does not
    parts = images.split(4) if images.device.type == "cpu" else [images]
    view = torch.cat([standardise(_squeezed(part, resolution)) for part in parts])
    return view.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)


def _squeezed(images: Tensor, resolution: int) -> Tensor:
    size = (resolution, resolution)
    return F.interpolate(images.to(working_dtype(images)), size=size, mode="bilinear", antialias=True, align_corners=False)


def working_dtype(images: Tensor) -> torch.dtype:
    """float64, in which another order of summation does not show once the result is rounded."""
    return torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def standardise(x: Tensor) -> Float[Tensor, "*b h w"]:
    """Mean 0.5 and deviation 0.25 per image and channel, like a picture in [0, 1]; a constant channel becomes 0.5."""
    centred = x - x.mean((-2, -1), keepdim=True)
    deviation = centred.square().mean((-2, -1), keepdim=True).sqrt()
    flat = deviation <= 1e-6 * x.abs().amax((-2, -1), keepdim=True)
    scaled = torch.where(flat, torch.zeros_like(x), centred / deviation) * 0.25 + 0.5
    return ((scaled / VIEW_STEP).round() * VIEW_STEP).float()


def view_size(group: Group, resolution: int) -> int:
    """The side of the view: the resolution on the grid; twice that elsewhere, to turn it before the last reduction."""
    return resolution if group.on_grid else 2 * resolution


def orbit_views(view: Float[Tensor, "b c s s"], group: Group) -> Float[Tensor, "n b c r r"]:
    """The view turned back by every element, g^-1.x: by index on the grid, otherwise at twice the size and then halved.

    Views of other groups are masked to a disc, so that no corner tells how far they were turned.
    """
    back = inverse(group.elements.to(view))
    turned = [act_image(g.expand(len(view), 3, 3), view, None, border="edge") for g in back]
    if not group.on_grid:
        turned = [disc(F.avg_pool2d(x, 2)) for x in turned]
    return torch.stack(turned)


def squares(images: Any, side: int) -> Tensor:
    """Images squeezed to (b, c, side, side), antialiased; uint8 where they were, else float32.

    Raises ValueError for anything that is no tensor of images and no list of them.
    """
    if isinstance(images, list):
        return torch.cat([squares(image[None], side) for image in images])
    if not isinstance(images, Tensor) or images.ndim != 4 or 0 in images.shape[1:]:
        came = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise ValueError(f"training images have shape (b, channels, height, width); got {came}")
    if images.shape[2:] == (side, side):
        return images if images.dtype == torch.uint8 else images.float()
    small = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else small


@dataclass(frozen=True)
class Augmentation:
    """How training views vary: ranges of the share of the area kept, of the aspect and of a small turn, and odds of the rest.

    `blend`: the odds that another image of the batch shows through, see `blended`.

    Brightness, contrast and tint are missing on purpose: the view is standardised per channel and does not see them.
    """

    area: tuple[float, float] = (0.35, 1.0)
    aspect: float = 1.3
    degrees: float = 10.0
    flip: bool = True  # only where the group has no reflections
    grey: float = 0.15
    mix: float = 0.15  # the deviation with which channels are mixed into each other
    gamma: float = 1.6
    blend: float = 0.5


NO_AUGMENTATION = Augmentation((1.0, 1.0), 1.0, degrees=0.0, flip=False, grey=0.0, mix=0.0, gamma=1.0, blend=0.0)


def blended(
    images: Tensor, targets: Float[Tensor, "b n"], odds: float, generator: torch.Generator
) -> tuple[Tensor, Float[Tensor, "b n"]]:
    """Some images with others of the batch showing through, at most by half, and their targets alike; uint8 becomes [0, 1].

    Both lie in a canonical pose, so the blend does too: mixup (Zhang et al. 2018, arXiv 1710.09412) without its ambiguity. It
    keeps large backbones from memorising few images.
    """
    if odds == 0 or len(images) < 2:
        return images, targets
    other = torch.randperm(len(images), generator=generator)
    weight = 1 - torch.rand(len(images), generator=generator) / 2
    weight = torch.where(torch.rand(len(images), generator=generator) < odds, weight, torch.ones(()))
    w = weight[:, None, None, None].to(images.device)
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    t = weight[:, None].to(targets)
    return w * x + (1 - w) * x[other.to(x.device)], t * targets + (1 - t) * targets[other.to(targets.device)]


def training_views(
    squares: Tensor, group: Group, size: int, augmentation: Augmentation | None, generator: torch.Generator
) -> tuple[Float[Tensor, "b c s s"], Float[Tensor, "b 3 3"]]:
    """Standardised views of whole images squeezed to squares, and the elements by which they were moved.

    Crop, flip (where the group has none), small turn and, off the grid, a random element are one resampling, so that every
    view is resampled alike, the upright one too, and interpolation does not give the pose away.
    """
    g = group.identity(len(squares)) if group.on_grid else group.random(len(squares), generator)
    if augmentation is None:
        augmentation = Augmentation(
            area=(1.0, 1.0), aspect=1.0, degrees=0.0, flip=False, grey=0.0, mix=0.0, gamma=1.0, blend=0.0
        )
    moved = random_crops(squares, group, size, augmentation, generator, g)
    return standardise(_recolour(moved, augmentation, generator)), g


def random_crops(
    squares: Tensor,
    group: Group,
    size: int,
    augmentation: Augmentation,
    generator: torch.Generator,
    g: Float[Tensor, "b 3 3"],
) -> Float[Tensor, "b c s s"]:
    """A crop of each image, flipped and turned a little at random and by g; uint8 comes out in [0, 1]."""
    b = len(squares)
    x = squares.float() / 255 if squares.dtype == torch.uint8 else squares.float()

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=generator)

    side = uniform(*augmentation.area).sqrt()
    stretch = torch.exp(uniform(-1.0, 1.0) * math.log(augmentation.aspect) / 2)
    crop = torch.stack([side * stretch, side / stretch], -1).clamp(max=1)
    centre = torch.stack([uniform(-1.0, 1.0), uniform(-1.0, 1.0)], -1) * (1 - crop)
    odds = 0.5 if augmentation.flip and not group.reflections else 0.0
    mirror = torch.where(uniform(0.0, 1.0) < odds, -1.0, 1.0)
    degrees = min(augmentation.degrees, 90 / group.num_turns)
    back = turn(torch.deg2rad(uniform(-degrees, degrees)))[:, :2, :2] @ inverse(g)[:, :2, :2]
    # target -> source: first turned back, then mirrored, then into the crop
    scale = crop * torch.stack([mirror, torch.ones(b)], -1)
    theta = torch.cat([scale[:, :, None] * back, centre[:, :, None]], -1).to(x)
    # sampled at twice the size and halved where the crop is reduced, against aliasing
    factor = 2 if size < x.shape[-1] else 1
    grid = F.affine_grid(theta, [b, x.shape[1], factor * size, factor * size], align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(moved, factor) if factor > 1 else moved


def _recolour(x: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    if augmentation.grey == augmentation.mix == 0 and augmentation.gamma == 1:
        return x
    b, c = x.shape[:2]
    mixing = torch.eye(c) + augmentation.mix * torch.randn(b, c, c, generator=generator)
    grey = torch.rand(b, generator=generator) < augmentation.grey
    mixing = torch.where(grey[:, None, None], torch.full((c, c), 1 / c), mixing)
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    exponent = augmentation.gamma ** (torch.rand(b, generator=generator) * 2 - 1)
    x = ((x - low) / (high - low).clamp(min=1e-6)) ** exponent.to(x)[:, None, None, None]
    return torch.einsum("bij,bjhw->bihw", mixing.to(x), x)


def disc(x: Float[Tensor, "b c r r"]) -> Float[Tensor, "b c r r"]:
    """The view with everything outside the inscribed circle set to 0.5, softly over two pixels."""
    r = x.shape[-1]
    axis = torch.arange(r, device=x.device, dtype=x.dtype) + 0.5 - r / 2
    radius = (axis.square()[:, None] + axis.square()).sqrt()
    return (x - 0.5) * ((r / 2 - 0.5 - radius) / 2).clamp(0, 1) + 0.5
