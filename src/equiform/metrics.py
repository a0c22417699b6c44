"""Metrics by name, from torchmetrics or from a function, behind one pair of methods: update and compute."""

import copy
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ._optional import optional
from .canonicalizers import first_logits
from .kinds import find_logits


@runtime_checkable
class Metric(Protocol):
    """What `evaluate` needs of a metric; every torchmetrics Metric has it."""

    def update(self, output: Any, target: Any) -> None: ...

    def compute(self) -> Any: ...


class _Mean:
    """The mean of a function of (output, target) over all rows."""

    def __init__(self, function: Callable[[Any, Any], Any]):
        self.function, self.total, self.n = function, 0.0, 0

    def update(self, output: Any, target: Any) -> None:
        n = len(target) if hasattr(target, "__len__") else 1
        self.total, self.n = self.total + float(self.function(output, target)) * n, self.n + n

    def compute(self) -> float:
        return self.total / self.n if self.n else float("nan")


class _OnLogits:
    """A metric on the logits of an output that holds more."""

    def __init__(self, metric: Any, kinds: Any):
        self.metric, self.kinds = metric, kinds

    def update(self, output: Any, target: Any) -> None:
        logits = find_logits(output, self.kinds)
        self.metric.update(output if logits is None else torch.as_tensor(logits), target)

    def compute(self) -> Any:
        return self.metric.compute()


class _MeanIoU:
    """Intersection over union, averaged over the classes that occur in targets or predictions; 255 is ignored."""

    def __init__(self) -> None:
        self.metric: Any = None

    def update(self, output: Any, target: Any) -> None:
        logits = _logits(output)
        if self.metric is None:
            jaccard = optional("torchmetrics.classification", "all").MulticlassJaccardIndex
            self.metric = jaccard(logits.shape[1], ignore_index=255, validate_args=False).to(logits.device)
        self.metric.update(logits.argmax(1), target.long())

    def compute(self) -> float:
        return float(self.metric.compute())


def accuracy(output: Any, target: Tensor) -> float:
    """The share of rows whose likeliest class is the target."""
    return float((_logits(output).argmax(1) == target).float().mean())


def top5_accuracy(output: Any, target: Tensor) -> float:
    """The share of rows whose target is among the five likeliest classes."""
    logits = _logits(output)
    return float((logits.topk(min(5, logits.shape[1]), 1).indices == target[:, None]).any(1).float().mean())


def point_accuracy(output: Any, target: Tensor) -> float:
    """The share of points whose likeliest part is the target, of logits (b, n, parts) and targets (b, n); -1 is no point."""
    there = target >= 0
    return float((_logits(output).argmax(-1) == target)[there].float().mean()) if bool(there.any()) else 0.0


def part_iou(output: Any, target: Tensor) -> float:
    """Intersection over union per cloud, averaged over the parts it has or is said to have; -1 is no point."""
    logits, there = _logits(output), target >= 0
    said, parts = logits.argmax(-1), torch.arange(logits.shape[-1], device=target.device)[:, None, None]
    a, b = (said == parts) & there, (target == parts) & there
    union = (a | b).sum(-1)
    share = (a & b).sum(-1) / union.clamp(min=1)
    return float(((share * (union > 0)).sum(0) / (union > 0).sum(0).clamp(min=1)).mean())


METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": lambda: _Mean(accuracy),
    "top5_accuracy": lambda: _Mean(top5_accuracy),
    "miou": _MeanIoU,
    "point_accuracy": lambda: _Mean(point_accuracy),
    "part_iou": lambda: _Mean(part_iou),
}


def make(metric: str | Callable[[Any, Any], Any], kinds: Any) -> Metric:
    """A fresh metric for outputs of those kinds: named ones and torchmetrics look at the logits, functions at everything.

    Raises ValueError for an unknown name, TypeError for something that is no metric."""
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}, a torchmetrics Metric, or a function")
        return _OnLogits(METRICS[metric](), kinds)
    if hasattr(metric, "update") and hasattr(metric, "compute"):
        fresh: Any = copy.deepcopy(metric)
        fresh.reset()
        return _OnLogits(fresh, kinds)
    if not callable(metric):
        raise TypeError(f"a metric is a name, a torchmetrics Metric or a function; got a {type(metric).__name__}")
    return _Mean(metric)


def name(metric: Any) -> str:
    """What to call it in a report."""
    return metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)


def _logits(output: Any) -> Tensor:
    logits = first_logits(output)
    if logits is None:
        raise ValueError(f"no logits (b, k, ...) in the output, a {type(output).__name__}: pass your own metric function")
    return logits if isinstance(logits, Tensor) else torch.as_tensor(logits)
