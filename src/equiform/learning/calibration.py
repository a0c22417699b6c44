"""Calibrated confidence: one temperature for the scores, fitted on held-out inputs."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..canonicalizers.images import ImageCanonicalizer
from ..equivariant import Equivariant
from ..geometry.moving import act
from ..images.files import UnreadableImage, find_images
from ..images.views import central_square
from ..predictors.pairs import read_photo
from .priors import prior, prior_loss

RANGE = (0.02, 50.0)  # of temperatures


@torch.no_grad()
def calibrate(model: Equivariant | ImageCanonicalizer, images: Any) -> float:
    """Set the temperature of a canonicalizer of images, in place, and return it.

    images: upright ones that it was not fitted on: a tensor (n, c, h, w), a list of photos, or a folder. Where turning an image
    permutes its scores they are enough; for a continuous group each is turned by an element drawn with a seed. The temperature
    maximises the likelihood (Guo et al. 2017, arXiv 1706.04599, sec. 4.2). Unreadable files are left out.
    Raises TypeError for a canonicalizer without a temperature, ValueError without images.
    """
    canonicalizer: Any = model.canonicalizer if isinstance(model, Equivariant) else model
    if not hasattr(canonicalizer, "temperature"):
        raise TypeError(f"{type(canonicalizer).__name__} has no temperature; OrbitCanonicalizer and RingCanonicalizer have")
    generator = torch.Generator().manual_seed(0)
    seen = [_turned(canonicalizer, batch, generator) for batch in _batches(images)]
    if not seen:
        raise ValueError("there are no images to calibrate on")
    scores = torch.cat([canonicalizer.scores(canonicalizer.view(batch)) for batch, _ in seen]).double()
    scores = scores * canonicalizer.temperature
    g = torch.cat([g for _, g in seen]).to(scores)
    target = canonicalizer.target(prior(canonicalizer.group, "identity"), g).to(scores)
    canonicalizer.temperature = _likeliest(scores, target)
    return canonicalizer.temperature


def _turned(canonicalizer: Any, batch: Any, generator: torch.Generator) -> tuple[Any, Float[Tensor, "b 3 3"]]:
    """The images as they are, of a continuous group the squares in their middle turned; and by which elements."""
    if canonicalizer.group.order is not None:
        return batch, canonicalizer.group.identity(len(batch))
    g = canonicalizer.group.random(len(batch), generator=generator)
    return [act(element[None], central_square(x)[None].float())[0] for element, x in zip(g, batch, strict=True)], g


def _batches(images: Any) -> Any:
    if isinstance(images, Tensor):
        yield from images.split(32)
        return
    for photo in images if isinstance(images, (list, tuple)) else find_images(images):
        try:
            yield [read_photo(photo)]
        except UnreadableImage:
            continue


def _likeliest(scores: Float[Tensor, "b n"], target: Float[Tensor, "b n"]) -> float:
    """The temperature of the least cross-entropy, which has one minimum in 1 / temperature: by golden section."""

    def loss(inverse: float) -> float:
        return float(prior_loss(scores * inverse, target))

    low, high, golden = 1 / RANGE[1], 1 / RANGE[0], (5**0.5 - 1) / 2
    for _ in range(60):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return round(2 / (low + high), 4)
