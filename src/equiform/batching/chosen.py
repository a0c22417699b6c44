"""The (row, element) pairs that the predictor is run on, and their weights."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

SCORE_STEP = 2.0**-10


@dataclass(frozen=True)
class Chosen:
    """The (row, element) pairs to run, row by row, the likeliest first; weights sum to one over each row.

    `g`: their elements, from the `candidates` of every row. `zero`: in training a weight for each candidate, whose value is 0
    and whose gradient is that of the choice. `whole`: each row comes once, in its order. `motion`: what all
    elements do, see `Group.motion`.
    """

    row: Int[Tensor, " m"]
    rank: Int[Tensor, " m"]
    index: Int[Tensor, " m"]
    weight: Float[Tensor, " m"]
    g: Any = None
    candidates: Any = None
    zero: Any = None
    whole: bool = False
    motion: str = "any"

    def of(self, pose: Any, zero: Float[Tensor, "b n"] | None = None, motion: str = "any") -> "Chosen":
        """The same pairs with the elements of a `Pose`."""
        device = pose.candidates.device
        g = pose.candidates[self.row.to(device), self.index.to(device)]
        return replace(self, g=g, candidates=pose.candidates, zero=zero, motion=motion)


def likeliest(index: Int[Tensor, " b"]) -> Chosen:
    """One element of every row, by its index."""
    row = torch.arange(index.shape[0])
    return Chosen(row, torch.zeros_like(row), index, torch.ones(index.shape[0], dtype=torch.float64), whole=True)


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
    return replace(chosen, rank=rank[chosen.row, chosen.rank], weight=logs.softmax(1)[chosen.row, chosen.rank])
