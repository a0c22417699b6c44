"""Tiles of an image at full resolution, for canonicalizers that must see details, such as letters.

An image is brought to MAX_PIXELS, enlarged ENLARGEMENT times at most, and reduced again by REDUCTION, so that small and large
letters are both of a size that a small network reads at one of the levels. Every level is covered by a grid of half-overlapping
tiles, even about its centre, and the tiles with the strongest edges are kept. Turning or mirroring the image turns or mirrors
every tile to the bit: pixels are rounded to VIEW_STEP, so that the sums which rank the tiles are exact in float64, whatever
their order.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from .views import LARGE, VIEW_STEP, filled, squeezed, standardise, working_dtype

MAX_PIXELS = 2_000_000
ENLARGEMENT = 2.0
REDUCTION = 3
LEAST_SIDE = 12  # levels with a shorter side hold nothing legible


def cut_tiles(image: Shaped[Tensor, "k h w"], side: int, count: int) -> Float[Tensor, "t side side"]:
    """At most `count` tiles of one image, grey, standardised, those with the strongest edges of every level; none if blank."""
    if image.ndim != 3 or image.is_complex() or 0 in image.shape:
        raise ValueError(f"an image has shape (channels, height, width); got {tuple(image.shape)} of {image.dtype}")
    if len(image) not in (1, 3):
        way_out = "the axis of channels comes before height and width" if image.shape[2] in (1, 3) else "make it RGB or grey"
        raise ValueError(f"an image has 3 channels (or 1), (channels, height, width); got {tuple(image.shape)}: {way_out}")
    levels = _levels(image)
    quota = math.ceil(count / len(levels))
    return standardise(torch.cat([_strongest(level, side, quota) for level in levels])[:count])


def tile_view(
    images: Shaped[Tensor, "b k h w"] | Sequence[Tensor], side: int, count: int
) -> Float[Tensor, "b count side side"]:
    """The tiles of every image; where there are fewer than `count`, flat ones (0.5 everywhere) follow."""
    rows = [cut_tiles(image, side, count) for image in images]
    full = [F.pad(tiles, (0, 0, 0, 0, 0, count - len(tiles)), value=0.5) for tiles in rows]
    return torch.stack(full) if full else torch.zeros(0, count, side, side)


def tile_squares(images: Shaped[Tensor, "b k h w"] | Sequence[Tensor], side: int, count: int) -> UInt8[Tensor, "m 1 side side"]:
    """The tiles of all images as bytes, each stretched to the full range: what training keeps of them."""
    tiles = torch.cat([cut_tiles(image, side, count) for image in images])
    low, high = tiles.amin((1, 2), keepdim=True), tiles.amax((1, 2), keepdim=True)
    return ((tiles - low) / (high - low).clamp(min=VIEW_STEP) * 255).round().to(torch.uint8)[:, None]


def dark_ink(tiles: Float[Tensor, "*b s s"]) -> Float[Tensor, "*b s s"]:
    """The tiles with their rarer tone dark, so that light letters on a dark ground look like dark ones on a light ground."""
    skew = (tiles.double() - 0.5).pow(3).mean((-2, -1), keepdim=True)
    skew = (skew / VIEW_STEP).round()  # rounded, since the order of summation must not decide a balance
    return torch.where(skew > 0, 1 - tiles, tiles)


def _levels(image: Tensor) -> list[Float[Tensor, "h w"]]:
    """The standardised image at its working size and its reductions, every side an even number of pixels."""
    height, width = image.shape[1:]
    # the sum of the channels, of large images once they are smaller
    small = height * width <= LARGE
    grey = filled(image[None])[0].sum(0, dtype=working_dtype(image))[None] if small else image
    levels = [_standard(_resized(grey, min(ENLARGEMENT, math.sqrt(MAX_PIXELS / (height * width)))))]
    while min(levels[-1].shape) >= REDUCTION * LEAST_SIDE:
        levels.append(_standard(_resized(levels[-1][None], 1 / REDUCTION)))
    return levels


def _resized(channels: Shaped[Tensor, "k h w"], scale: float) -> Float[Tensor, "h2 w2"]:
    height, width = (max(2, 2 * round(extent * scale / 2)) for extent in channels.shape[1:])
    return squeezed(channels[None], (height, width))[0].sum(0)


def _standard(level: Tensor) -> Tensor:
    # standardised before it is rounded, also where it was before: means of a few rounded pixels are often midway between steps
    return standardise(level).to(working_dtype(level))


def _strongest(level: Float[Tensor, "h w"], side: int, quota: int) -> Float[Tensor, "t side side"]:
    """The tiles that hold the strongest edges: first those stronger than all eight neighbours, so that they spread out."""
    step = side // 2
    counts = [max(1, math.ceil((extent - side) / step) + 1) for extent in level.shape]
    margins = [(side + (n - 1) * step - extent) // 2 for n, extent in zip(counts, level.shape, strict=True)]
    padded = F.pad(level[None, None], (margins[1], margins[1], margins[0], margins[0]), mode="replicate")
    across, down = padded.diff(dim=-1).square(), padded.diff(dim=-2).square()
    energy = F.avg_pool2d(across, (side, side - 1), step) + F.avg_pool2d(down, (side - 1, side), step)
    peak = energy == F.max_pool2d(energy, 3, 1, 1)
    ranked = _order(energy[0, 0], peak[0, 0])[:quota]
    places = [(step * (i // counts[1]), step * (i % counts[1])) for i in ranked.tolist()]
    tiles = [padded[0, 0, y : y + side, x : x + side] for y, x in places]
    return torch.stack(tiles) if tiles else level.new_zeros(0, side, side)


def _order(energy: Float[Tensor, "m n"], peak: Tensor) -> Int[Tensor, " t"]:
    """Tiles by falling energy, peaks first, flat ones left out; among equals the outer ones, wherever the image is turned."""
    rows, columns = (torch.arange(n, dtype=torch.float64, device=energy.device) - (n - 1) / 2 for n in energy.shape)
    outer = (rows.square()[:, None] + columns.square()).flatten()
    order = outer.argsort(descending=True, stable=True)
    order = order[energy.flatten()[order].argsort(descending=True, stable=True)]
    order = order[peak.flatten()[order].to(torch.uint8).argsort(descending=True, stable=True)]
    return order[energy.flatten()[order] != 0]
