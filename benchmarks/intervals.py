"""A metric of photos of which every copy is kept while `evaluate` runs, so that methods can be compared photo by photo."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from equiform.evaluation import resampling
from equiform.evaluation.metrics import METRICS
from equiform.evaluation.resampling import interval
from equiform.evaluation.significance import sign_test
from equiform.evaluation.sums import Ratio

__all__ = ["PerPhoto", "interval", "mcnemar", "over_elements", "samples"]


class PerPhoto:
    """The metric of that name. `evaluate` copies it for each method and element; `copies` are in that order."""

    def __init__(self, name: str):
        self.__name__ = name
        self.copies: list[PerPhoto] = []
        self.reset()

    def __deepcopy__(self, memo: dict) -> "PerPhoto":
        self.copies.append(PerPhoto(self.__name__))
        return self.copies[-1]

    def reset(self) -> None:
        self.metric: Any = METRICS[self.__name__].make(None)

    def update(self, output: Any, target: Any) -> None:
        self.metric.update(output, target)

    def __len__(self) -> int:
        return len(self.metric)

    def weighted(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The metric on the n photos for each row of weights, 2 as if a photo were there twice."""
        return self.metric.weighted(weights)

    def compute(self) -> float:
        return self.metric.compute()


def samples(num_photos: int, num: int, seed: int = 0) -> Float[np.ndarray, "1+n+r n"]:
    """Weights of the photos as they are, of all but one for every photo, and of `num` resamples."""
    return np.concatenate(list(resampling.weights(num_photos, num, seed)))


def over_elements(copies: Sequence[PerPhoto], weights: np.ndarray) -> Float[np.ndarray, "elements r"]:
    """The metric on every element, a row each, for each row of weights."""
    return np.stack([copy.weighted(weights) for copy in copies])


def mcnemar(one: Sequence[PerPhoto], other: Sequence[PerPhoto]) -> dict[str, float] | None:
    """The photos that `one` answers right in more elements than `other`, and in fewer, with the exact two-sided p-value; on one
    element McNemar's test, on several the sign test. None for other metrics than accuracy, which have no right photos."""
    if not all(copy.__name__ == "accuracy" and isinstance(copy.metric, Ratio) for copy in (*one, *other)):
        return None
    gain = sum(copy.metric.rows()[:, 0] for copy in one) - sum(copy.metric.rows()[:, 0] for copy in other)
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    return {"better": better, "worse": worse, "p": sign_test(better, worse)}
