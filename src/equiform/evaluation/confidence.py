"""Whether a canonicalizer knows when it is wrong: reliability, and risk against coverage."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BINS = 15
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))


@dataclass(frozen=True)
class Confidence:
    """The confidences of poses beside how often these were right.

    `stated`, `right`, `share`: of each of 15 bins of confidence, equally wide, that holds a pose: the mean confidence, the
    share of right poses, the share of all poses. `risks`: the share of wrong ones among the surest 5 %, 10 %, ... 100 %.
    """

    stated: list[float]
    right: list[float]
    share: list[float]
    risks: list[float]

    @classmethod
    def of(cls, confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"]) -> "Confidence":
        """Raises ValueError without a pose."""
        if len(confidence) == 0:
            raise ValueError("there is no pose")
        confidence, hit = confidence.double().clamp(0, 1), right.double()
        place = (confidence * BINS).long().clamp(max=BINS - 1)
        count = place.bincount(minlength=BINS)
        held = count > 0
        stated, found = (torch.zeros(BINS).double().index_add_(0, place, x)[held] / count[held] for x in (confidence, hit))
        wrong = (1 - hit[confidence.argsort(descending=True, stable=True)]).cumsum(0)
        most = [math.ceil(round(coverage * len(hit), 6)) for coverage in COVERAGES]
        risks = [float(wrong[n - 1]) / n for n in most]
        return cls(stated.tolist(), found.tolist(), (count[held] / len(hit)).tolist(), risks)

    @property
    def mean(self) -> float:
        """The mean confidence."""
        return sum(said * share for said, share in zip(self.stated, self.share, strict=True))

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3)."""
        return sum(share * abs(said - was) for said, was, share in zip(self.stated, self.right, self.share, strict=True))

    def risk(self, coverage: float) -> float:
        """The share of wrong poses among the surest ones. Raises ValueError for a coverage that was not measured."""
        if coverage not in COVERAGES:
            raise ValueError(f"risks are known at a coverage of {COVERAGES[0]}, {COVERAGES[1]}, ... 1.0; got {coverage}")
        return self.risks[COVERAGES.index(coverage)]
