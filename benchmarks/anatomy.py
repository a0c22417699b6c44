"""A synthetic anatomy: bodies of ellipsoids without mirror symmetry, random in shape, contrast, noise and shading, with labels.

Upright is: x (w) from the right of the body to its left, y (h) from front to back, z (d) from the feet up.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SHAPE = (32, 40, 36)  # depth, height, width: no cube
CLASSES = ("background", "liver", "spleen", "kidney", "heart", "spine")


class Organ(NamedTuple):
    """An ellipsoid of a body that reaches from -1 to 1: class (0: none of its own), centre, radii, brightness."""

    label: int
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    brightness: float


# liver, spleen, kidneys and heart are alike in brightness: where they lie tells them apart, not how bright they are
ORGANS = (
    Organ(0, (0, 0, 0), (0.88, 0.72, 0.95), 0.35),
    Organ(0, (0.05, -0.15, -0.45), (0.55, 0.4, 0.35), 0.45),
    Organ(5, (0, 0.45, 0), (0.14, 0.14, 0.85), 0.9),
    Organ(1, (-0.38, -0.1, 0.12), (0.4, 0.42, 0.27), 0.65),
    Organ(2, (0.55, 0.2, 0.18), (0.18, 0.26, 0.18), 0.68),
    Organ(3, (-0.36, 0.36, -0.24), (0.15, 0.14, 0.2), 0.66),
    Organ(3, (0.36, 0.36, -0.12), (0.15, 0.14, 0.2), 0.66),
    Organ(4, (0.14, -0.28, 0.6), (0.26, 0.22, 0.2), 0.64),
)


def body(generator: torch.Generator, shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor]:
    """One body, float32 (1, d, h, w), and its labels, uint8 (d, h, w)."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    axes = [(torch.arange(n) + 0.5) * 2 / n - 1 for n in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    place = torch.stack([x, y, z], -1)
    # the whole body is tilted a little, stretched and out of the middle
    tilt = torch.linalg.matrix_exp(0.07 * _skew(normal(3)))
    place = (place - 0.05 * normal(3)) @ tilt * torch.exp(0.07 * normal(3))
    image, labels = torch.zeros(shape), torch.zeros(shape, dtype=torch.uint8)
    for organ in ORGANS:
        centre = torch.tensor(organ.centre) + 0.04 * normal(3)
        radii = torch.tensor(organ.radii) * torch.exp(0.12 * normal(3))
        inside = ((place - centre) / radii).square().sum(-1) < 1
        image[inside] = organ.brightness * float(torch.exp(0.12 * normal(1)))
        if organ.label:
            labels[inside] = organ.label
    shading = F.interpolate(0.15 * normal(1, 1, 3, 3, 3), shape, mode="trilinear", align_corners=True)[0, 0].exp()
    blurred = F.avg_pool3d(image[None, None], 3, 1, 1)[0, 0]
    return (blurred * shading + 0.06 * normal(*shape))[None], labels


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def bodies(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Volumes (n, 1, d, h, w) and labels (n, d, h, w), the same for one seed."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = zip(*(body(generator) for _ in range(num)), strict=True)
    return torch.stack(images), torch.stack(labels)
