"""The small photos of all tests: noise, coarse pictures, scenes that have an upright pose, marked ones, photos as read."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from equiform.predictors.pairs import read_photo


def noise(b: int, h: int = 12, w: int = 12, dtype: torch.dtype = torch.uint8) -> Tensor:
    return (torch.rand(b, 3, h, w) * (255 if dtype == torch.uint8 else 1)).to(dtype)


def scenes(b: int = 4, h: int = 48, w: int = 48) -> Tensor:
    """Bright above."""
    return 0.05 * torch.rand(b, 3, h, w) + torch.linspace(1, 0, h)[:, None]


def make_photo(size: tuple[int, int] = (50, 80), seed: int = 0) -> Tensor:
    """A coarse picture as a processor of photos takes it."""
    small = (np.random.default_rng(seed).random((5, 5, 3)) * 255).astype(np.uint8)
    return read_photo(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def coarse(b: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Coarse random pictures."""
    x = F.interpolate(torch.rand(b, 3, 4, 4), (h, w), mode="bilinear") + 0.1 * torch.rand(b, 3, h, w)
    return (x / 1.2 * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)


def skies(n: int, size: int = 24, seed: int = 0) -> torch.Tensor:
    """Pictures with a bright top and a little noise: the simplest thing that has an upright pose."""
    generator, ramp = torch.Generator().manual_seed(seed), torch.linspace(1, 0, size)[:, None].expand(size, size)
    noise = 0.2 * torch.rand(n, 3, size, size, generator=generator)
    return ((ramp + noise) / 1.2 * 255).round().to(torch.uint8)


def pictures(n: int = 12, size: int = 8) -> tuple[Tensor, Tensor]:
    """Of two classes, bright above or below, with a mark at the top left; and their labels."""
    generator = torch.Generator().manual_seed(0)
    x, labels = 0.2 * torch.rand(n, 1, size, size, generator=generator), torch.arange(n) % 2
    x[labels == 0, :, 1 : size // 2] += 0.5
    x[labels == 1, :, size // 2 : -1] += 0.5
    x[:, :, 0, 0] = 5.0
    return x, labels
