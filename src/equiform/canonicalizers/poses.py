"""Poses: the answer of a canonicalizer, and the likeliest (MAP) element from its scores."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Pose:
    """The pose of every row: x = g.c with c the canonical form. `scores` are unnormalised, one per candidate.

    The candidates are the elements of a finite group, or a few elements of a continuous one that were found in the input.
    `certainty`, 0 to 1, says how well the input defines them (0 for a degenerate cloud); None for images.
    """

    g: Float[Tensor, "b d d"]
    index: Int[Tensor, " b"]
    scores: Float[Tensor, "b n"]
    candidates: Float[Tensor, "b n d d"]
    certainty: Float[Tensor, " b"] | None = None

    @property
    def probabilities(self) -> Float[Tensor, "b n"]:
        """The posterior over the elements."""
        return self.scores.softmax(-1)

    @property
    def confidence(self) -> Float[Tensor, " b"]:
        """The posterior of the likeliest element: about 1/k for an input with k equally right poses, 0 for a degenerate one."""
        posterior = self.probabilities.amax(-1)
        return posterior if self.certainty is None else posterior * self.certainty


def pose_of(
    scores: Float[Tensor, "b n"], elements: Float[Tensor, "*b n d d"], certainty: Float[Tensor, " b"] | None = None
) -> Pose:
    """The MAP pose of every row, the first where scores tie. `elements`: the same for all rows, or those of every row.

    A row without finite scores (a NaN in its image) gets equal ones.
    """
    scores = torch.where(scores.isfinite().all(1, keepdim=True), scores, torch.zeros_like(scores))
    index = scores.detach().argmax(1)
    candidates = elements.expand(scores.shape[0], *elements.shape[-3:])
    rows = torch.arange(scores.shape[0], device=elements.device)
    return Pose(candidates[rows, index.to(elements.device)], index, scores, candidates, certainty)


def straight_through(scores: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """All zeros, with the gradient of the posterior: added to a hard choice it lets the gradient through.

    The straight-through estimator (Bengio et al. 2013), as used by Mondal et al. 2023, sec. 3.
    """
    p = scores.softmax(-1)
    return p - p.detach()
