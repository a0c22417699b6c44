"""What each photo adds to a metric, kept while `evaluate` runs, and 95 % intervals from resampling the photos.

A bootstrap (Efron & Tibshirani 1993, sec. 14.3): photos are drawn again with replacement, which is a weight for each of them.
All methods and elements see the same weights, so that the differences of two methods are of pairs.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from equiform.evaluation.detections import AveragePrecision
from equiform.evaluation.metrics import METRICS, dice
from equiform.evaluation.significance import sign_test

NORMAL = NormalDist()
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision


class PerPhoto(ABC):
    """A metric of photos with weights. `evaluate` copies it for each method and element; `copies` are in that order."""

    __name__: str

    def __init__(self) -> None:
        self.copies: list[PerPhoto] = []
        self.reset()

    def __deepcopy__(self, memo: dict) -> "PerPhoto":
        self.copies.append(type(self)())
        return self.copies[-1]

    @abstractmethod
    def reset(self) -> None: ...

    @abstractmethod
    def update(self, output: Any, target: Any) -> None: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def weighted(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The metric on the n photos for each row of weights, 2 as if a photo were there twice."""

    def compute(self) -> float:
        return float(self.weighted(np.ones((1, len(self))))[0])


class Accuracy(PerPhoto):
    """The share of photos whose likeliest class is the target."""

    __name__ = "accuracy"

    def reset(self) -> None:
        self.right: list[bool] = []

    def update(self, output: Any, target: Any) -> None:
        self.right += (output.argmax(1) == target).tolist()

    def __len__(self) -> int:
        return len(self.right)

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        return weights @ np.array(self.right, float) / weights.sum(1)


class MeanIoU(PerPhoto):
    """Of label maps; see "miou" in `equiform.evaluation.metrics`."""

    __name__ = "miou"

    def reset(self) -> None:
        self.counts: list[np.ndarray] = []  # of each photo, (3, classes): pixels in both, in the target, in the prediction

    def update(self, output: Any, target: Any) -> None:
        for photo, labels in zip(output, target, strict=True):
            metric: Any = METRICS["miou"].make(None)
            metric.update(photo[None], labels[None])
            self.counts.append(metric.counts.double().numpy())

    def __len__(self) -> int:
        return len(self.counts)

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        num_classes = max(one.shape[1] for one in self.counts)
        counts = np.stack([np.pad(one, ((0, 0), (0, num_classes - one.shape[1]))) for one in self.counts])
        both, target, predicted = np.tensordot(weights, counts, 1).swapaxes(0, 1)
        union = target + predicted - both
        return np.nanmean(np.where(union > 0, both / np.maximum(union, 1e-9), np.nan), 1)


class Dice(PerPhoto):
    """Of label maps, of volumes too; see "dice" in `equiform.evaluation.metrics`."""

    __name__ = "dice"

    def reset(self) -> None:
        self.values: list[float] = []

    def update(self, output: Any, target: Any) -> None:
        self.values += [dice(one[None], labels[None]) for one, labels in zip(output, target, strict=True)]

    def __len__(self) -> int:
        return len(self.values)

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        return weights @ np.array(self.values) / weights.sum(1)


class BoxAP50(PerPhoto):
    """COCO's average precision of boxes at an IoU of 0.5, averaged over the classes that are in the targets."""

    __name__ = "box_ap50"

    def reset(self) -> None:
        self.precision = AveragePrecision("boxes", 0.5)

    def update(self, output: Any, target: Any) -> None:
        self.precision.update(output, target)

    def __len__(self) -> int:
        return len(self.precision.images)

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        judged = self.precision.judged().evalImgs  # class by class, a photo each; None where it has nothing of the class
        classes = [judged[start : start + len(self)] for start in range(0, len(judged), len(self))]
        found = [one for photos in classes if (one := _class_precision(photos, weights)) is not None]
        return np.nanmean(np.stack(found), 0) if found else np.full(len(weights), math.nan)


def _class_precision(photos: Sequence[dict[str, Any] | None], weights: np.ndarray) -> np.ndarray | None:
    """The average precision of one class for each row of weights, nan where it has no object; None where it never has."""
    there = [(i, one) for i, one in enumerate(photos) if one is not None]
    objects = np.zeros(len(photos))
    for i, one in there:
        objects[i] = np.sum(np.logical_not(one["gtIgnore"]))
    if not objects.any():
        return None
    scores = np.concatenate([one["dtScores"] for _, one in there])
    order = np.argsort(-scores, kind="mergesort")
    photo, matched, ignored = (
        np.concatenate(parts, -1).ravel()[order]
        for parts in (
            [np.full(len(one["dtScores"]), i) for i, one in there],
            [one["dtMatches"] > 0 for _, one in there],
            [one["dtIgnore"] > 0 for _, one in there],
        )
    )
    weight, total = weights[:, photo] * ~ignored, weights @ objects
    right, all_found = (weight * matched).cumsum(1), weight.cumsum(1)
    recall = right / np.maximum(total, 1e-9)[:, None]
    precision = right / np.maximum(all_found, 1e-9)
    # the best precision at that recall or a greater one; 0 beyond the last
    best = np.pad(np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1], ((0, 0), (0, 1)))
    places = np.stack([np.searchsorted(row, RECALLS, side="left") for row in recall])
    return np.where(total > 0, np.take_along_axis(best, places, 1).mean(1), math.nan)


# ---------------------------------------------------------------------------------------------------------- intervals


def samples(num_photos: int, num: int, seed: int = 0) -> Float[np.ndarray, "1+n+r n"]:
    """Weights of the photos as they are, of all but one for every photo, and of `num` resamples."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_photos, np.full(num_photos, 1 / num_photos), num)
    return np.concatenate([np.ones((1, num_photos)), 1 - np.eye(num_photos), drawn])


def interval(values: Float[np.ndarray, " 1+n+r"], num_photos: int) -> list[float]:
    """The 95 % interval of a value that was computed on `samples`: BCa, corrected for bias and skewness.

    Both matter where the value is a mean over classes: a resample lacks some of those with few photos.
    """
    value, one_less, drawn = values[0], values[1 : 1 + num_photos], values[1 + num_photos :]
    drawn, influence = np.sort(drawn[np.isfinite(drawn)]), np.nanmean(one_less) - one_less
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    spread = np.nansum(influence**2) ** 1.5
    if spread == 0 or not 0 < below < 1:  # the same whatever is drawn, or nearly
        return [float(end) for end in np.percentile(drawn, (2.5, 97.5))]
    bias, skewness = NORMAL.inv_cdf(below), np.nansum(influence**3) / (6 * spread)
    ends = [bias + NORMAL.inv_cdf(share) for share in (0.025, 0.975)]
    shares = [NORMAL.cdf(bias + end / (1 - skewness * end)) for end in ends]
    return [float(end) for end in np.quantile(drawn, shares)]


def over_elements(copies: Sequence[PerPhoto], weights: np.ndarray) -> Float[np.ndarray, "elements r"]:
    """The metric on every element, a row each, for each row of weights."""
    return np.stack([copy.weighted(weights) for copy in copies])


def mcnemar(one: Sequence[PerPhoto], other: Sequence[PerPhoto]) -> dict[str, float] | None:
    """The photos that `one` answers right in more elements than `other`, and in fewer, with the exact two-sided p-value; on one
    element McNemar's test, on several the sign test. None for other metrics than accuracy, which have no right photos."""
    if not all(isinstance(copy, Accuracy) for copy in (*one, *other)):
        return None
    gain = sum(torch.tensor(copy.right).int() for copy in one) - sum(torch.tensor(copy.right).int() for copy in other)
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    return {"better": better, "worse": worse, "p": sign_test(better, worse)}
