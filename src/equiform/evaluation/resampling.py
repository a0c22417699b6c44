"""95 % intervals from drawing the inputs of an evaluation again.

A bootstrap (Efron & Tibshirani 1993, sec. 14.3): inputs are drawn again with replacement, which is a weight for each of them.
All methods and elements see the same weights, so that the differences of two methods are of pairs. A metric that can be
resampled has `__len__`, its number of inputs, and `weighted`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from .results import Method

NORMAL = NormalDist()
DRAWS = 1000
GROUPS = 1000  # that are left out in turn, each a single input where there are no more than that
CHUNK = 2**18  # weights at a time


def weights(num_inputs: int, draws: int = DRAWS, seed: int = 0) -> Iterator[Float[np.ndarray, "_ n"]]:
    """Weights of the inputs as they are; of all but one input, or one group of them, in turn; and of `draws` samples of them.

    A row each, in that order, some rows at a time.
    """
    yield np.ones((1, num_inputs))
    rng, rows = np.random.default_rng(seed), max(1, CHUNK // num_inputs)
    groups, of = min(num_inputs, GROUPS), np.arange(num_inputs) * min(num_inputs, GROUPS) // num_inputs
    for start in range(0, groups, rows):
        yield (of != np.arange(start, min(start + rows, groups))[:, None]).astype(float)
    for start in range(0, draws, rows):
        shares = np.full(num_inputs, 1 / num_inputs)
        yield rng.multinomial(num_inputs, shares, min(rows, draws - start)).astype(float)


def resampled(methods: Sequence[Sequence[Any]], draws: int = DRAWS) -> list[Float[np.ndarray, " r"]]:
    """Of each method the mean over its metrics, one for each element, for every row of `weights`; none where one cannot."""
    metrics = [metric for method in methods for metric in method]
    if not all(hasattr(metric, "weighted") for metric in metrics):
        return []
    parts = [
        [np.mean([metric.weighted(w) for metric in method], 0) for method in methods] for w in weights(len(metrics[0]), draws)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def interval(values: Float[np.ndarray, " r"], num_inputs: int) -> list[float]:
    """The 95 % interval of a value that was computed for every row of `weights`: BCa, corrected for bias and skewness.

    Both matter where the value is a mean over classes: a sample lacks some of those with few inputs.
    """
    groups = min(num_inputs, GROUPS)
    value, one_less, drawn = values[0], values[1 : 1 + groups], values[1 + groups :]
    drawn = np.sort(drawn[np.isfinite(drawn)])
    if not len(drawn):
        return [float("nan")] * 2
    influence = np.nanmean(one_less) - one_less if np.isfinite(one_less).any() else np.zeros(1)
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    spread = np.nansum(influence**2) ** 1.5
    if spread == 0 or not 0 < below < 1:  # the same whatever is drawn, or nearly
        return [float(end) for end in np.percentile(drawn, (2.5, 97.5))]
    bias, skewness = NORMAL.inv_cdf(below), float(np.nansum(influence**3) / (6 * spread))
    ends = [bias + NORMAL.inv_cdf(share) for share in (0.025, 0.975)]
    shares = [NORMAL.cdf(bias + end / (1 - skewness * end)) for end in ends]
    return [float(end) for end in np.quantile(drawn, shares)]


def with_intervals(rows: Sequence[Method], metrics: Sequence[Sequence[Any]]) -> list[Method]:
    """The rows with the intervals of their means, and of what the first has more than each other, on the same inputs.

    `metrics`: of each row those whose mean it has. The rows as they are where a metric cannot be resampled.
    """
    drawn = resampled(metrics)
    if not drawn:
        return list(rows)
    num_inputs, found = len(metrics[0][0]), []
    for i, (row, values) in enumerate(zip(rows, drawn, strict=True)):
        more = drawn[0] - values
        gain = [float(more[0]), *interval(more, num_inputs)] if i else []
        found.append(replace(row, interval=interval(values, num_inputs), gain=gain))
    return found
