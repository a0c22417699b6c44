"""Cyclic shifts modulo the stride of a predictor, by the phase of greatest norm."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..geometry.shifts import MAX_STRIDE
from ..images.views import filled, standardise, working_dtype
from .images import ImageCanonicalizer, Images, canvases, check_shifts
from .poses import Pose, pose_of


class PolyphaseCanonicalizer(ImageCanonicalizer):
    """The shift modulo n whose phase, every n-th pixel of every n-th row, has the greatest norm: nothing to fit.

    Adaptive polyphase sampling (Chaman & Dokmanic 2021, arXiv 2011.14214) of the pixels themselves. What it leaves open are
    shifts by multiples of n: the model is invariant to all cyclic shifts where the predictor is invariant to these (patches or
    strides of n and no sense of place, such as circular padding and a mean over the map). Position embeddings and zero padding
    tell them apart: see `SeamCanonicalizer`. Where two phases tie, the first counts.
    """

    name = "polyphase"
    learns = False
    shifts = True
    max_order = MAX_STRIDE**2

    def __init__(self, group: Any):
        super().__init__(group)
        check_shifts(self)

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name}

    def forward(self, inputs: Images) -> Pose:
        """The pose of every row. Raises ValueError where the canvas is no multiple of n x n pixels."""
        scores = [self._power(images) for images in canvases(inputs, self.group)]
        return pose_of(torch.cat(scores).to(self.device), self.elements)

    def _power(self, images: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """The power of every phase, in shares of their mean. Sums of whole steps, exact in any order."""
        n, (h, w) = round(len(self.elements) ** 0.5), images.shape[-2:]
        if h % n or w % n:
            raise ValueError(
                f"polyphase selection is for canvases of whole strides, {n} x {n} pixels; got {h} x {w}: crop or resize them, "
                f"or take SeamCanonicalizer({self.group.name!r})"
            )
        dtype = working_dtype(images)
        power = (standardise(filled(images).to(dtype)).to(dtype) - 0.5).square().sum(1)
        phases = power.unflatten(2, (-1, n)).unflatten(1, (-1, n)).sum((1, 3)).flatten(1)
        return phases / phases.sum(1, keepdim=True).clamp(min=torch.finfo(phases.dtype).tiny) * phases.shape[1]
