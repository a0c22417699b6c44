"""How sure: paired losses, rates of change, and whether poses are spread evenly over a group."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..canonicalizers.poses import Pose
from ..geometry.groups import Group

LEVEL = 0.05  # below it a p-value counts
RESAMPLES = 100  # data sets without a pose, on which the test's false positives are counted
DRAWS = 999  # data sets without a pose, of which few inputs' p-value is the rank
TRUSTED = 0.15  # of false positives: more are no accident, where there should be 0.05
EXCESS = 0.1  # by which the most common pose stands out, as a share of what it could: more than chance and worth undoing


@dataclass(frozen=True)
class PoseTest:
    """Whether poses prefer an element. If turning by any element leaves the distribution of the data as it is, they do not.

    `statistic`: of finite groups Pearson's chi-square of the counts of elements, `p_value` by that distribution, or where fewer
    than five an element are expected by its rank among 999 drawn counts; of SO2 and O2 Rayleigh's (Mardia & Jupp 2000, sec.
    6.3.1), which sees one preferred direction and not two opposite ones. `false_positives`: how often the same test finds a
    pose where there is none, p < 0.05, in 100 data sets made of this one, every input turned by an element drawn at random.
    `common`: the most common pose, and its `share` (of continuous groups, of the poses nearest to each of 16 turns).
    """

    test: str
    statistic: float
    p_value: float
    false_positives: float
    num_samples: int
    common: str
    share: float
    chance: float
    confidence: float

    @property
    def found(self) -> bool:
        """Whether the data have a pose: p < 0.05, and one pose that stands out from chance by a tenth of what it could."""
        return self.p_value < LEVEL and self.share - self.chance >= EXCESS * (1 - self.chance)

    @property
    def trusted(self) -> bool:
        """Whether the test holds its level here: at most 15 % of false positives, of 5 % that there should be."""
        return self.false_positives <= TRUSTED

    @property
    def enough(self) -> bool:
        """Whether no pose found means anything: ten inputs for each element, 160 for a continuous group."""
        return self.num_samples * self.chance >= 10

    def __str__(self) -> str:
        rate = f"false positives: {self.false_positives:.0%} of {RESAMPLES} resamples"
        return (
            f"{self.test} {self.statistic:.1f}, {in_words(self.p_value)}, {self.num_samples} inputs ({rate}); {self.share:.0%} "
            f"of poses are {self.common}, chance {self.chance:.0%}; mean confidence {self.confidence:.2f}"
        )


def pose_test(
    group: Group, g: Float[Tensor, "m n 3 3"], confidence: Float[Tensor, " n"], generator: torch.Generator
) -> PoseTest:
    """The test of the poses g[0] of n inputs.

    g: where the canonicalizer is exactly equivariant m = 1, as the pose of a turned input is the composed pose; else the poses
    of all inputs turned by every element of `group.finite`, of which the identity is the first.
    """
    m, n = g.shape[:2]
    poses = g.detach().cpu().double()

    def composed() -> float:
        return uniformity(group, group.random(n, generator, torch.float64) @ poses[0])

    def turned() -> float:
        return uniformity(group, poses[torch.randint(m, (n,), generator=generator), torch.arange(n)])

    value, elements = uniformity(group, poses[0]), group.finite.elements
    few = n < 5 * len(elements)
    null = torch.tensor([composed() for _ in range(DRAWS)]) if few else torch.zeros(0)
    of_none = [p_value(group, composed() if m == 1 else turned(), null) for _ in range(RESAMPLES)]
    share, common = torch.bincount(group.finite.index(poses[0])).max(0)
    return PoseTest(
        test="Rayleigh" if group.order is None else "exact chi-square" if few else "chi-square",
        statistic=value,
        p_value=p_value(group, value, null),
        false_positives=sum(p < LEVEL for p in of_none) / RESAMPLES,
        num_samples=n,
        common=group.label(elements[common]),
        share=int(share) / n,
        chance=1 / len(elements),
        confidence=float(confidence.detach().mean()),
    )


def untied(pose: Pose, generator: torch.Generator) -> Float[Tensor, "b d d"]:
    """The likeliest pose, drawn where several are: a symmetric input has no preference, and the first of them would be one."""
    scores = pose.scores.cpu()
    drawn = torch.rand(scores.shape, generator=generator)
    index = torch.where(scores == scores.amax(1, keepdim=True), drawn, -1.0).argmax(1)
    return pose.candidates[torch.arange(len(index)).to(pose.g.device), index.to(pose.g.device)]


def uniformity(group: Group, g: Float[Tensor, "n 3 3"]) -> float:
    """Pearson's chi-square of the counts of a finite group's elements; of SO2 and O2 Rayleigh's statistic.

    Of O2 that of the turns with and of those without a flip, and the chi-square of how many are flipped.
    """
    n = len(g)
    if group.order is not None:
        counts = torch.bincount(group.index(g), minlength=group.order).double()
        return float(group.order / n * counts.square().sum() - n)
    flipped = torch.linalg.det(g) < 0
    parts = [g[side, :2, :2] for side in (~flipped, flipped)]
    # a turn has its cosine and its sine twice
    lengths = sum(float(part.sum(0).square().sum()) / len(part) for part in parts if len(part))
    return lengths + (len(parts[0]) - len(parts[1])) ** 2 / n * group.reflections


def p_value(group: Group, statistic: float, null: Tensor) -> float:
    """How often data without a pose have so great a statistic: by chi-square, or by rank among `null` where there are any."""
    if len(null):
        return (1 + int((null >= statistic - 1e-9).sum())) / (1 + len(null))
    if group.order == 1:
        return 1.0
    freedom = group.order - 1 if group.order is not None else 5 if group.reflections else 2
    halves = torch.tensor([freedom / 2, max(statistic, 0) / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(halves[0], halves[1]))


def in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def sign_test(better: int, worse: int) -> float:
    """The exact two-sided p-value of as many inputs that gained and that lost; of right and wrong answers McNemar's test."""
    return min(1.0, 2 * binomial_tail(max(better, worse), better + worse, 0.5))


def binomial_tail(k: int, n: int, p: float) -> float:
    """The probability of k or more successes of n. Exact.

    >>> round(binomial_tail(2, 3, 0.5), 9)
    0.5
    """

    def log_probability(i: int) -> float:
        ways = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
        return ways + i * math.log(p) + (n - i) * math.log1p(-p)

    return min(1.0, math.fsum(math.exp(log_probability(i)) for i in range(k, n + 1)))
