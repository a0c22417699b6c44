"""Training-free poses of images: the one in which the predictor is most confident."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .._checks import named
from ..geometry.groups import Group, inverse
from ..geometry.moving import act
from ..geometry.nested import first_logits
from ..images.clips import kind_of
from .images import ImageCanonicalizer, Images
from .poses import Pose, pose_of


def max_probability(logits: Float[Tensor, "b *hw k"]) -> Float[Tensor, " b *hw"]:
    """log max_k p(k | x): high where the predictor is sure of one class."""
    return logits.log_softmax(-1).amax(-1)


def negative_entropy(logits: Float[Tensor, "b *hw k"]) -> Float[Tensor, " b *hw"]:
    """sum_k p log p."""
    return -torch.distributions.Categorical(logits=logits, validate_args=False).entropy()  # NaN rows stay theirs


def energy(logits: Float[Tensor, "b *hw k"]) -> Float[Tensor, " b *hw"]:
    """log sum_k exp(logit_k), minus the energy of Liu et al. 2020, arXiv 2010.03759."""
    return logits.logsumexp(-1)


CONFIDENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "max_probability": max_probability,
    "negative_entropy": negative_entropy,
    "energy": energy,
}


class EnergyCanonicalizer(ImageCanonicalizer):
    """Training-free: the predictor's own confidence over the orbit, at the cost of |G| forward passes of the predictor.

    `confidence`: "max_probability", "negative_entropy" or "energy". The predictor takes the image alone and gives logits
    (b, k), or per-pixel logits (b, k, h, w), whose confidence is averaged; in a nested output the first such tensor counts.
    `sigmoid`: the k logits are independent sigmoids, whose confidences are averaged. A single logit always is one.
    """

    name = "energy"
    learns = False
    needs_predictor = True
    shifts = True

    def __init__(
        self,
        group: str | Group,
        predictor: Callable[..., Any],
        *,
        confidence: str = "max_probability",
        sigmoid: bool = False,
    ):
        super().__init__(group)
        if not isinstance(sigmoid, bool):
            raise ValueError(f"sigmoid is True or False; got {sigmoid!r}")
        if not callable(predictor):
            raise TypeError(f"a predictor is a callable; got a {type(predictor).__name__}")
        self.confidence, self.sigmoid = named("confidence", confidence, CONFIDENCES), sigmoid
        self._predictor = (predictor,)  # in a tuple, so that its weights are not taken for the canonicalizer's

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name, "confidence": self.confidence, "sigmoid": self.sigmoid}

    @property
    def predictor_passes(self) -> int:
        return self.num_poses

    def forward(self, inputs: Images) -> Pose:
        if not isinstance(inputs, (Tensor, np.ndarray)):
            rows = [self.forward(image[None]).scores for image in inputs]
            scores = torch.cat(rows) if rows else torch.zeros(0, self.num_poses)
            return pose_of(scores, self.elements)
        if inputs.ndim not in (4, 5):  # clips go to the predictor as they are
            raise ValueError(f"images have shape (b, channels, height, width); got {tuple(inputs.shape)}")
        if len(inputs) == 0:
            return pose_of(torch.zeros(0, self.num_poses), self.elements)
        kind = kind_of(inputs, self.group)
        answers = [self._predictor[0](act(g[None], inputs, kind)) for g in inverse(self.elements)]
        scores = torch.stack([self._confidence(answer) for answer in answers], 1)
        return pose_of(scores.float(), self.elements)

    def _confidence(self, answer: Any) -> Float[Tensor, " b"]:
        logits = first_logits(answer)
        if logits is None:
            raise ValueError(f"no logits (b, k) or (b, k, h, w) in the predictor's answer, a {type(answer).__name__}")
        logits = logits.float().movedim(1, -1)
        if self.sigmoid or logits.shape[-1] == 1:
            logits = torch.stack([logits / 2, -logits / 2], -1)  # a sigmoid is the softmax of these two
        score = CONFIDENCES[self.confidence](logits)
        return score.flatten(1).mean(1) if score.ndim > 1 else score
