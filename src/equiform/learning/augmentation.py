"""How training views of images vary."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.groups import Group, inverse, size_of
from ..geometry.pixels import BORDERS, fine, sample_affine
from ..images.views import standardise


@dataclass(frozen=True)
class Augmentation:
    """How training views vary: random resized crops, small turns, flips, grey, mixed channels, gamma, and mixup.

    `area`: range of the share of the area that a crop keeps; `aspect`: at most this aspect ratio; `degrees`: at most this turn.
    `grey` and `blend` (mixup, see `blended`) are probabilities. Brightness, contrast and tint are missing on purpose:
    standardised views do not show them.
    """

    area: tuple[float, float] = (0.35, 1.0)
    aspect: float = 1.3
    degrees: float = 10.0
    flip: bool = True  # only where the group has no reflections
    grey: float = 0.15
    mix: float = 0.15  # the deviation with which channels are mixed into each other
    gamma: float = 1.6
    blend: float = 0.5


def blended(
    images: Tensor, targets: Float[Tensor, "b n"], odds: float, generator: torch.Generator
) -> tuple[Tensor, Float[Tensor, "b n"]]:
    """Mixup (Zhang et al. 2018, arXiv 1710.09412): some images and targets blended with others of the batch.

    The other image has at most half of the weight. Both are in a canonical pose, so the blend is too. It keeps large backbones
    from memorising few images. uint8 becomes [0, 1].
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
    """Standardised views of square thumbnails, and the elements by which they were moved.

    Crop, flip (where the group has none), small turn and, off the grid, a random element are one resampling, so that every
    view is resampled alike, the upright one too, and interpolation does not give the pose away. Where the group resizes, whole
    images are kept, since a crop is a larger picture, and what lies beyond their edges is drawn: black, the edge, a mirror.
    """
    g = group.identity(len(squares)) if group.on_grid else group.anywhere(len(squares), generator)
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
    """A crop of each image (the whole where the group resizes), flipped and turned a little at random, moved by g.

    uint8 comes out in [0, 1].
    """
    b = len(squares)
    x = squares.float() / 255 if squares.dtype == torch.uint8 else squares.float()

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, generator=generator)

    side = uniform(*((1.0, 1.0) if group.resizes else augmentation.area)).sqrt()
    stretch = torch.exp(uniform(-1.0, 1.0) * math.log(augmentation.aspect) / 2)
    crop = torch.stack([side * stretch, side / stretch], -1).clamp(max=1)
    centre = torch.stack([uniform(-1.0, 1.0), uniform(-1.0, 1.0)], -1) * (1 - crop)
    odds = 0.5 if augmentation.flip and not group.reflections else 0.0
    mirror = torch.where(uniform(0.0, 1.0) < odds, -1.0, 1.0)
    back = group.near_identity(b, float(augmentation.degrees), generator)[:, :2, :2] @ inverse(g)[:, :2, :2]
    # target -> source: first turned back, then mirrored, then into the crop
    scale = crop * torch.stack([mirror, torch.ones(b)], -1)
    theta = torch.cat([scale[:, :, None] * back, centre[:, :, None]], -1).to(x)
    if group.resizes:
        return _beyond_edges(x, theta, size, size_of(g.double()), generator)
    # sampled at twice the size and halved where the crop is reduced, against aliasing
    return sample_affine(x, theta, size, fineness=2 if size < x.shape[-1] else 1)


def _beyond_edges(
    x: Float[Tensor, "b c h w"],
    theta: Float[Tensor, "b 2 3"],
    size: int,
    resized: Float[Tensor, " b"],
    generator: torch.Generator,
) -> Float[Tensor, "b c {size} {size}"]:
    """Each image sampled as finely as its own pixels lie, with a border drawn at random around it."""
    borders = torch.randint(len(BORDERS), (len(x),), generator=generator).tolist()
    finenesses = [fine(one * size / x.shape[-1]) for one in resized.tolist()]
    moved = x.new_empty(*x.shape[:2], size, size)
    for both in set(zip(borders, finenesses, strict=True)):
        rows = [i for i, one in enumerate(zip(borders, finenesses, strict=True)) if one == both]
        moved[rows] = sample_affine(x[rows], theta[rows], size, list(BORDERS)[both[0]], both[1])
    return moved


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
