"""Metrics by name, from torchmetrics or from a function, all with `update` and `compute`."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .._checks import named
from ..batching.calls import target_kinds
from ..geometry.arrays import as_tensor
from ..geometry.kinds import are_sigmoids
from ..geometry.moving import find_leaf
from ..geometry.nested import first_logits
from .detections import AveragePrecision
from .sums import Ratio, Summed


@runtime_checkable
class Metric(Protocol):
    """What `evaluate` needs of a metric; every torchmetrics Metric has it.

    Where smaller values are better it has an attribute `higher_is_better = False`; so may a function. One with `weighted` and
    `__len__`, as those below, has intervals in the report too.
    """

    def update(self, output: Any, target: Any) -> None: ...

    def compute(self) -> Any: ...


class _Mean:
    """The mean of a function of (output, target) over all rows."""

    def __init__(self, function: Callable[[Any, Any], Any]):
        self.function, self.total, self.n = function, 0.0, 0
        self.higher_is_better = getattr(function, "higher_is_better", True)

    def update(self, output: Any, target: Any) -> None:
        n = len(target) if hasattr(target, "__len__") else 1
        self.total, self.n = self.total + float(self.function(output, target)) * n, self.n + n

    def compute(self) -> float:
        return self.total / self.n if self.n else float("nan")


class _OnLeaf:
    """A metric of one part of an answer: the first leaf of one of these kinds, else the whole answer.

    Of targets that are dicts, it takes the same part.
    """

    def __init__(self, metric: Any, kinds: Any, names: tuple[str, ...], targets: Any = None):
        self.metric, self.kinds, self.names, self.targets = metric, kinds, names, targets
        self.higher_is_better = is_better_higher(metric)
        if hasattr(metric, "weighted"):
            self.weighted = metric.weighted

    def __len__(self) -> int:
        return len(self.metric)

    def update(self, output: Any, target: Any) -> None:
        part = self._part(output, self.kinds)
        if part is None:
            part = output
        elif _has_names(target):
            own = self._part(target, target_kinds(None, self.kinds, target) if self.targets is None else self.targets)
            target = target if own is None else own
        self.metric.update(as_tensor(part) if hasattr(part, "__array__") else part, target)

    def _part(self, value: Any, kinds: Any) -> Any:
        found = (find_leaf(value, kinds, name) for name in self.names)
        return next((leaf for leaf in found if leaf is not None), None)

    def compute(self) -> Any:
        value = self.metric.compute()
        if not isinstance(value, Mapping):
            return value
        if "map" not in value:  # what torchmetrics' MeanAveragePrecision calls its one number
            known = ", ".join(map(str, value))
            raise ValueError(f"{name(self.metric)} computes several numbers ({known}): pass a metric that computes one")
        return value["map"]


def _has_names(target: Any) -> bool:
    """Whether it is a dict, or a list of them."""
    return all(isinstance(entry, Mapping) for entry in (target if isinstance(target, (list, tuple)) else [target]))


class MeanIoU(Summed):
    """Intersection over union, averaged over the classes that occur in targets or predictions.

    Predictions are scores (b, k, h, w) or labels (b, h, w) or (b, 1, h, w), of volumes with d before h; targets of 255, or
    below 0, are ignored.
    """

    def update(self, output: Any, target: Any) -> None:
        if isinstance(output, (list, tuple)) and isinstance(target, (list, tuple)):
            for photo, labels in zip(output, target, strict=True):
                self.update(as_tensor(photo)[None], as_tensor(labels)[None])
            return
        self.added += [_overlap(*pair)[None] for pair in zip(*_label_maps(output, target), strict=True)]

    def rows(self) -> Float[np.ndarray, "n m"]:
        num_classes = max((one.shape[2] for one in self.added), default=0)
        added = [np.pad(one, ((0, 0), (0, 0), (0, num_classes - one.shape[2]))) for one in self.added]
        return np.concatenate(added).reshape(len(added), -1) if added else np.zeros((0, 3))

    def value(self, sums: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
        both, target, predicted = sums.reshape(len(sums), 3, -1).swapaxes(0, 1)
        union = target + predicted - both
        found = union > 0
        share = np.divide(both, union, out=np.zeros_like(union), where=found).sum(1)
        return np.divide(share, found.sum(1), out=np.full(len(sums), np.nan), where=found.any(1))


def _overlap(predicted: Tensor, target: Tensor) -> Float[np.ndarray, "3 k"]:
    """Per class of one photo: pixels in both, in the target, in the prediction."""
    known = (target != 255) & (target >= 0)
    predicted, target = predicted[known].long().cpu(), target[known].long().cpu()
    n = max([0, *(int(labels.max()) + 1 for labels in (predicted, target) if len(labels))])
    counts = [torch.bincount(labels, minlength=n) for labels in (target[target == predicted], target, predicted)]
    return torch.stack(counts).double().numpy()


def _label_maps(output: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Label maps of predictions and targets, in one shape."""
    predicted, target = _labels(output), as_tensor(target)
    target = target[:, 0] if target.ndim == predicted.ndim + 1 and target.shape[1] == 1 else target
    if predicted.shape != target.shape:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"label maps and targets differ in shape, {shapes}: resize the maps inside the predictor")
    return predicted, target


def keypoint_distances(output: Any, target: Any) -> Float[Tensor, "b 2"]:
    """The distances in pixels between keypoints (b, ..., 2 or 3) that are visible in the target, summed, and their number.

    Lists have an entry per photo, with as many keypoints in both, in the same order. A third number of a target is its
    visibility, 0 for invisible; that of a prediction is ignored.
    """
    if isinstance(output, (list, tuple)) and isinstance(target, (list, tuple)):
        pairs = [(as_tensor(photo)[None], as_tensor(points)[None]) for photo, points in zip(output, target, strict=True)]
        return torch.cat([keypoint_distances(*pair) for pair in pairs])
    predicted, target = (as_tensor(points).double() for points in (output, target))
    if predicted.numel() == target.numel() == 0:
        return torch.zeros(len(target), 2)
    if predicted.shape[:-1] != target.shape[:-1] or min(predicted.shape[-1], target.shape[-1]) < 2:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"keypoints and targets have shapes (b, ..., 2 or 3), alike but for the last axis; got {shapes}")
    visible = target[..., 2] > 0 if target.shape[-1] > 2 else target.isfinite().all(-1)
    distances = (predicted[..., :2] - target[..., :2]).norm(dim=-1).where(visible, 0.0)
    return torch.stack([distances.flatten(1).sum(1), visible.flatten(1).sum(1)], 1)


def hits(output: Any, target: Any, top: int = 1, sigmoid: bool = False) -> Float[Tensor, "b 2"]:
    """Whether the target is among the `top` likeliest classes of logits (b, k); and whether it is known, from 0 up.

    A single logit means yes above 0, with targets 0 or 1. With `sigmoid` each of the k logits does, and all labels count, with
    targets (b, k). Targets below 0 are not known.
    """
    _shape_of_labels(target)
    logits, labels = _logits(output), as_tensor(target)
    if sigmoid or logits.ndim == 1 or logits.shape[1] == 1:
        if top > 1:
            raise ValueError(f"the {top} likeliest are of the classes of a softmax, and these are sigmoids: use accuracy")
        # torchmetrics' own would take logits that happen to lie in [0, 1] for probabilities
        right = (logits > 0) == (_sigmoid_targets(labels, logits) > 0)
        labels = labels.reshape(logits.shape)
    else:
        logits = _class_logits(output, target)
        likeliest = logits.argmax(1, True) if top == 1 else logits.topk(min(top, logits.shape[1]), 1).indices
        right = (likeliest == labels[:, None]).any(1)
    known = labels >= 0
    return torch.stack([x.reshape(len(labels), -1).sum(1) for x in (right & known, known)], 1)


def _sigmoid_targets(target: Tensor, logits: Tensor) -> Tensor:
    """Targets of 0 and 1 in the shape of the logits, (b, k); for a single logit, (b,) as well."""
    if target.numel() != logits.numel() or target.shape[:1] != logits.shape[:1] or bool((target > 1).any()):
        came = f"{tuple(logits.shape)} and targets of shape {tuple(target.shape)}"
        most = f", up to {target.max().item():g}" if target.numel() else ""
        raise ValueError(f"logits of sigmoids need a 0 or 1 each, targets in their shape; got {came}{most}")
    return target.reshape(logits.shape)


def edits(output: Any, target: Any) -> Float[Tensor, "b 2"]:
    """Edits of each text, and the characters of its ground truth: outputs are strings, or dicts with a `text`."""
    from torchmetrics.functional.text import edit_distance

    read, truth = [_text_of(one) for one in output], [_text_of(one) for one in target]
    return torch.stack([edit_distance(read, truth, reduction="none").double(), torch.tensor([len(text) for text in truth])], 1)


def _text_of(answer: Any) -> str:
    text = answer.get("text") if isinstance(answer, Mapping) else answer
    if not isinstance(text, str):
        raise ValueError(f"the character error rate needs strings, or dicts with a 'text'; got a {type(answer).__name__}")
    return text


def dice(output: Any, target: Any) -> Float[Tensor, "b 2"]:
    """The Dice coefficient of every row, 2 |A and B| / (|A| + |B|), averaged over the classes from 1 on in either; and 1.

    Predictions and targets are those of "miou". A row without such classes counts 1.
    """
    predicted, target = _label_maps(output, target)
    rows = [_dice(a, b) for a, b in zip(predicted.flatten(1).long(), target.flatten(1).long(), strict=True)]
    return _each(torch.stack(rows))


def _each(values: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
    """Of a mean over rows."""
    return torch.stack([values.double(), torch.ones_like(values, dtype=torch.float64)], 1)


def _dice(predicted: Tensor, target: Tensor) -> Tensor:
    known = (target != 255) & (target >= 0)
    predicted, target = predicted[known], target[known]
    n = max(int(labels.max()) + 1 if len(labels) else 1 for labels in (predicted, target))
    both, a, b = (x.bincount(minlength=n)[1:] for x in (target[target == predicted], predicted, target))
    there = a + b > 0
    return (
        (2 * both / (a + b).clamp(min=1))[there].double().mean() if bool(there.any()) else torch.ones((), dtype=torch.float64)
    )


def point_hits(output: Any, target: Tensor) -> Float[Tensor, "b 2"]:
    """Points whose likeliest part is the target, and points, of logits (b, n, parts) and targets (b, n); -1 is no point."""
    logits, there = _part_logits(output, target), target >= 0
    return torch.stack([((logits.argmax(-1) == target) & there).sum(1), there.sum(1)], 1)


def part_iou(output: Any, target: Tensor) -> Float[Tensor, "b 2"]:
    """Intersection over union per cloud, averaged over the parts in its target or prediction, and 1; -1 is no point."""
    logits, there = _part_logits(output, target), target >= 0
    said, parts = logits.argmax(-1), torch.arange(logits.shape[-1], device=target.device)[:, None, None]
    a, b = (said == parts) & there, (target == parts) & there
    union = (a | b).sum(-1)
    share = (a & b).sum(-1) / union.clamp(min=1)
    return _each((share * (union > 0)).sum(0) / (union > 0).sum(0).clamp(min=1))


class Named(NamedTuple):
    """A metric by name: `make` gives a fresh one for the kinds of the outputs; `kinds`: of its leaf, by preference."""

    make: Callable[[Any], Metric]
    kinds: tuple[str, ...] = ("logits",)


MAPS = ("mask", "image", "volume_mask", "volume", "logits")
METRICS: dict[str, Named] = {
    "accuracy": Named(lambda kinds: Ratio(partial(hits, sigmoid=are_sigmoids(kinds)))),
    "top5_accuracy": Named(lambda kinds: Ratio(partial(hits, top=5, sigmoid=are_sigmoids(kinds)))),
    "miou": Named(lambda kinds: MeanIoU(), MAPS),
    "dice": Named(lambda kinds: Ratio(dice), MAPS),
    "keypoint_error": Named(lambda kinds: Ratio(keypoint_distances, higher_is_better=False), ("points",)),
    "box_map": Named(lambda kinds: AveragePrecision("boxes"), ("rows",)),
    "box_ap50": Named(lambda kinds: AveragePrecision("boxes", 0.5), ("rows",)),
    "mask_map": Named(lambda kinds: AveragePrecision("masks"), ("rows",)),
    "cer": Named(lambda kinds: Ratio(edits, higher_is_better=False), ()),
    "point_accuracy": Named(lambda kinds: Ratio(point_hits)),
    "part_iou": Named(lambda kinds: Ratio(part_iou)),
}


def make(metric: str | Callable[[Any, Any], Any], kinds: Any, targets: Any = None) -> Metric:
    """A fresh metric for outputs of those kinds: named ones and torchmetrics see one leaf, functions the whole answer.

    `targets`: the kinds of the targets; by default those of the outputs.
    Raises ValueError for an unknown name, TypeError for something that is no metric."""
    if isinstance(metric, str):
        row = METRICS[name(metric)]
        return _OnLeaf(row.make(kinds), kinds, row.kinds, targets)
    if hasattr(metric, "update") and hasattr(metric, "compute"):
        fresh: Any = copy.deepcopy(metric)
        fresh.reset()
        return _OnLeaf(fresh, kinds, ("logits",), targets)
    if not callable(metric):
        raise TypeError(f"a metric is a name, a torchmetrics Metric or a function; got a {type(metric).__name__}")
    return _Mean(metric)


def is_better_higher(metric: Any) -> bool:
    """Whether greater values of a metric are better, as by default."""
    said = getattr(metric, "higher_is_better", None)  # None: a torchmetrics Metric that does not say
    return said is None or bool(said)


def name(metric: Any) -> str:
    """The name of a metric in a report. Raises ValueError for a name that is not known."""
    if isinstance(metric, str):
        return named("metric", metric, METRICS, ", a torchmetrics Metric, or a function")
    return getattr(metric, "__name__", type(metric).__name__)


def _logits(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) and output.ndim == 1 else first_logits(output)
    if logits is None or not logits.dtype.is_floating_point:
        came = f"{output.dtype} of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ValueError(
            f"no logits (b, k, ...) in the output, {came}: of label maps take metric='dice' or 'miou', else pass your own "
            "metric function"
        )
    return logits


def _shape_of_labels(target: Any) -> tuple[int, ...]:
    try:
        return tuple(as_tensor(target).shape)
    except (TypeError, ValueError, RuntimeError):
        first = target[0] if isinstance(target, (list, tuple)) and target else None
        came = f"a {type(target).__name__}" + ("" if first is None else f" of {type(first).__name__}")
        raise ValueError(
            f"targets of this metric are labels, one tensor; got {came}: the metrics of dicts are box_map, box_ap50, mask_map, "
            "keypoint_error (points), miou (label maps) and cer (text)"
        ) from None


def _class_logits(output: Any, target: Any) -> Tensor:
    """The logits (b, k, ...) of targets (b, ...)."""
    wanted = _shape_of_labels(target)
    logits = _logits(output)
    if logits.ndim == 3 and logits.shape[:2] == wanted:
        raise ValueError(f"targets of shape {wanted} label every point: the metrics of points are point_accuracy and part_iou")
    if (logits.shape[0], *logits.shape[2:]) != wanted:
        hint = ": for several labels at once the outputs are equiform.Logits(sigmoid=True)" if logits.shape == wanted else ""
        came = f"{tuple(logits.shape)} and targets of shape {wanted}{hint}"
        raise ValueError(f"logits (b, k) need one label a row, (b,); got {came}")
    return logits


def _part_logits(output: Any, target: Any) -> Tensor:
    """The logits (b, n, parts) of targets (b, n)."""
    wanted = _shape_of_labels(target)
    logits = _logits(output)
    if logits.shape[:-1] != wanted:
        came = f"{tuple(logits.shape)} and targets of shape {wanted}"
        raise ValueError(f"logits of points (b, n, parts) need one label a point, (b, n); got {came}")
    return logits


def _labels(output: Any) -> Tensor:
    """The label maps (b, h, w), or (b, d, h, w), of an answer: its own, or the argmax of scores."""
    maps = as_tensor(output) if hasattr(output, "__array__") else _logits(output)
    if not maps.dtype.is_floating_point and maps.ndim in (3, 4, 5):
        return maps[:, 0] if maps.ndim > 3 and maps.shape[1] == 1 else maps
    if maps.ndim not in (4, 5) or maps.shape[1] < 2:
        raise ValueError(
            f"scores have shape (b, k, h, w) with two classes or more, labels are whole numbers (b, h, w), of volumes with d "
            f"before h; got {maps.dtype} of shape {tuple(maps.shape)}"
        )
    return maps.argmax(1)
