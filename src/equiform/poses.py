"""Poses: what a canonicalizer says, and which elements follow from its scores."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

SCORE_STEP = 2.0**-10


@dataclass(frozen=True)
class Pose:
    """The pose of every row: x = g.c with c the canonical form. `scores` are unnormalised, one per candidate.

    The candidates are the elements of a finite group, or a few elements of a continuous one that were found in the input.
    `certainty`, 0 to 1, says how well the input defines them (0 for a degenerate cloud); None where that is no question.
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


@dataclass(frozen=True)
class Chosen:
    """The (row, element) pairs to run, row by row, the likeliest first; weights sum to one over each row."""

    row: Int[Tensor, " m"]
    rank: Int[Tensor, " m"]
    index: Int[Tensor, " m"]
    weight: Float[Tensor, " m"]


def pose_of(
    scores: Float[Tensor, "b n"], elements: Float[Tensor, "*b n d d"], certainty: Float[Tensor, " b"] | None = None
) -> Pose:
    """The likeliest element of every row; the first one where scores tie. `elements`: for all rows, or of every row.

    A row without finite scores (a NaN in its image) gets equal ones.
    """
    scores = torch.where(scores.isfinite().all(1, keepdim=True), scores, torch.zeros_like(scores))
    index = scores.detach().argmax(1)
    candidates = elements.expand(len(scores), *elements.shape[-3:])
    rows = torch.arange(len(scores), device=elements.device)
    return Pose(candidates[rows, index.to(elements.device)], index, scores, candidates, certainty)


def choose(scores: Float[Tensor, "b n"], top_k: int = 1, coverage: float | None = None) -> Chosen:
    """The `top_k` likeliest elements per row, or as many as it takes to cover that share of the posterior. On the CPU.

    The posterior is that of the sorted scores, rounded to 2^-10: over the whole orbit it is then the same to the bit, free of
    the float noise between orders of summation. Scores in float64, those of clouds, are left as they are.
    """
    ordered, index = scores.detach().cpu().sort(dim=1, descending=True, stable=True)
    if scores.dtype != torch.float64:
        ordered = (ordered.float() / SCORE_STEP).round() * SCORE_STEP
    posterior = ordered.double().softmax(1)
    before = posterior.cumsum(1) - posterior
    n = scores.shape[1]
    keep = torch.arange(n).expand_as(index) < top_k if coverage is None else before < coverage
    keep = keep | (torch.arange(n) == 0)
    row, rank = keep.nonzero(as_tuple=True)
    weight = posterior * keep
    weight = weight / weight.sum(1, keepdim=True)
    return Chosen(row, rank, index[row, rank], weight[row, rank])


def reweighted(chosen: Chosen, evidence: Float[Tensor, " m"]) -> Chosen:
    """The weights times exp(evidence), renormalised and ranked anew over each row: Bayes' rule over the poses that ran."""
    evidence = evidence.detach().double().cpu().nan_to_num(0.0)
    logs = torch.full((int(chosen.row.max()) + 1, int(chosen.rank.max()) + 1), -torch.inf, dtype=torch.float64)
    logs[chosen.row, chosen.rank] = chosen.weight.log() + evidence
    rank = logs.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return Chosen(chosen.row, rank[chosen.row, chosen.rank], chosen.index, logs.softmax(1)[chosen.row, chosen.rank])


def straight_through(scores: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """All zeros, with the gradient of the posterior: added to a hard choice it lets the gradient through.

    The straight-through estimator (Bengio et al. 2013), as used by Mondal et al. 2023, sec. 3.
    """
    p = scores.softmax(-1)
    return p - p.detach()
