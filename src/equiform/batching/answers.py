"""Merges the answers of the parts of a batch: moved back, sorted by owner, averaged over the poses of each row."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry import nested
from ..geometry.arrays import as_tensor
from ..geometry.kinds import Kind, Leaf, Rows
from ..geometry.owners import Owned, Owners, came, owned
from .batch import Part
from .chosen import Chosen, reweighted
from .lists import with_lists

# what detectors call the image that a box belongs to, where the boxes of all images lie in one tensor
IMAGE_IDS = {
    f"{what}_{id}"
    for what in ("image", "img", "photo", "sample", "batch")
    for id in ("id", "ids", "idx", "index", "indices", "inds")
}


class Told(NamedTuple):
    """The moved leaves of the answer of a part, and by sort the index of the pair that owns each entry."""

    part: Part
    leaves: list[Owned]
    owners: Owners


def merged(answers: Sequence[Any], parts: Sequence[Part], kinds: Any, averages: bool, opinion: Any = None) -> Any:
    """One answer for the whole batch. Raises ValueError or TypeError where answers fit neither their kinds nor each other.

    averages: several poses of a row are averaged by their weights, which `opinion` of their logits and their kind corrects.
    """
    if nested.is_container(answers[0]) or answers[0] is None:
        kinds = with_image_ids(kinds, answers[0])
        kinds = with_lists(kinds, answers, [part.pairs.shape[0] for part in parts], "output", parts[0].batch.listed)
    told = [told_by(part, answer, kinds) for part, answer in zip(parts, answers, strict=True)]
    columns = list(zip(*(one.leaves for one in told), strict=True))
    chosen = parts[0].chosen
    if averages and opinion is not None and len(chosen.row):
        chosen = reweighted(chosen, opinion(*_logits(columns, told)))
    if averages and not any(averaging(leaf) != "likeliest" for leaf, *_ in columns):
        warnings.warn(
            "several poses were run for nothing: lists and whole numbers are not averaged, they come from the likeliest "
            "pose. Leave top_k and coverage out, or let the predictor return scores",
            stacklevel=4,
        )
    alone = len(parts) == 1 and parts[0].whole and not averages
    new = iter([column[0].value if alone else _merged(column, told, chosen, averages) for column in columns])
    return nested.filled(kinds, answers[0], new)


def told_by(part: Part, answer: Any, kinds: Any) -> Told:
    """An answer moved back, leaf by leaf, each entry by the element of its owner."""
    leaves, owners = nested.leaves(kinds, answer, "output"), part.owners
    own = next((as_tensor(leaf) for kind, leaf, _ in leaves if isinstance(kind, Kind) and kind.name == "batch"), None)
    if own is not None and not ("point" in owners and torch.equal(own.to(owners["point"]), owners["point"])):
        owners = owners | {"own": _checked(own, len(part.pairs))}
    return Told(part, [part.moved_back(leaf, owners) for leaf in owned(leaves, owners)], owners)


def with_image_ids(kinds: Any, answer: Any) -> Any:
    """The kinds with "batch" for image ids: entries beside boxes (n, 4) that have a name which detectors use for them."""
    if not isinstance(kinds, dict) or IMAGE_IDS.isdisjoint(kinds):
        return kinds
    values = dict(nested.children(answer)) if nested.is_container(answer) else {}
    boxes = [name for name, kind in kinds.items() if isinstance(kind, Kind) and kind.name in ("boxes", "rotated_boxes")]
    if not any(getattr(values.get(name), "ndim", 0) == 2 for name in boxes):
        return kinds
    plain = Kind("invariant")
    return {name: Kind("batch") if name in IMAGE_IDS and kind == plain else kind for name, kind in kinds.items()}


def _checked(own: Tensor, m: int) -> Tensor:
    if own.ndim != 1 or own.dtype.is_floating_point or (len(own) and not 0 <= int(own.min()) <= int(own.max()) < m):
        raise ValueError(
            f"output: image ids (the kind 'batch') are whole numbers from 0 to {m - 1}, one per entry; got "
            f"{tuple(own.shape)} of {own.dtype}. Say Invariant() where it is something else"
        )
    return own.long()


def averaging(leaf: Owned) -> str:
    """How the answers of several poses become one: "mean", "softmax", "sigmoid", or "likeliest"."""
    kind, value = leaf.kind, leaf.value
    if isinstance(kind, Rows) or leaf.sort == "own" or not isinstance(value, (Tensor, np.ndarray)) or value.ndim == 0:
        return "likeliest"
    if value.dtype not in (np.complex64, np.complex128) if isinstance(value, np.ndarray) else not value.is_complex():
        floating = value.dtype.kind == "f" if isinstance(value, np.ndarray) else value.dtype.is_floating_point
        if not floating:
            return "likeliest"
    return kind.averaging


def can_average(kinds: Any) -> bool:
    """Whether a leaf of such kinds may be averaged: boxes and the entries of `Rows` never are."""
    found: list[Leaf] = []
    nested.map_kinds(found.append, kinds)
    return any(isinstance(kind, Kind) and kind.averaging != "likeliest" for kind in found)


def _merged(column: Sequence[Owned], told: Sequence[Told], chosen: Chosen, averages: bool) -> Any:
    first = column[0]
    if len({leaf.sort for leaf in column}) > 1:
        raise _no_rows(column, told)
    if first.sort is None:
        return _shared(column, told)
    owner = torch.cat([one.part.pairs[one.owners[first.sort].cpu()] for one in told])
    rank = chosen.rank[owner]
    if first.sort == "own":
        index = chosen.row[owner]
    else:
        index = torch.cat([one.part.entry[first.sort].cpu() for one in told])
    order = index.argsort(stable=True)
    ranks = [order[rank[order] == r] for r in range(int(rank.max()) + 1 if len(rank) else 1)]
    kind, value = first.kind, first.value
    if isinstance(kind, Rows):
        flat = [entry for leaf in column for entry in leaf.value]
        return type(value)(flat[i] for i in ranks[0].tolist())
    if kind.name == "batch":
        whose = chosen.row[owner[ranks[0]]]
        return whose.to(value) if isinstance(value, Tensor) else whose.numpy().astype(value.dtype)
    axis = kind.axis or 0
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufc":  # words have no tensors
        return np.concatenate([leaf.value for leaf in column], axis).take(ranks[0].numpy(), axis)
    x = _joined(kind, column).movedim(axis, 0)
    mean = averaged(x, averaging(first) if averages else "likeliest", chosen.weight[owner], index, ranks).movedim(0, axis)
    return mean.numpy() if isinstance(value, np.ndarray) else mean


def _joined(kind: Kind, column: Sequence[Owned]) -> Tensor:
    axis, path = kind.axis or 0, column[0].path
    if kind.name == "edges":
        raise ValueError(f"{path}: edges in an answer of several sub-batches are not put together: leave them out")
    tensors = [as_tensor(leaf.value) for leaf in column]
    shapes = list(dict.fromkeys(tuple(n for i, n in enumerate(x.shape) if i != axis) for x in tensors))
    if len(shapes) > 1:
        raise ValueError(
            f"{path}: {kind!r} of entries of shape {shapes[0]} for some rows and {shapes[1]} for others: one shape is "
            f"expected, or a list with an entry per row, Rows({kind!r})"
        )
    return torch.cat(tensors, axis)


def averaged(x: Tensor, way: str, weight: Tensor, index: Tensor, ranks: Sequence[Tensor]) -> Tensor:
    """The entries in the order of `index`: those of the likeliest pose, or the mean over poses by weight.

    ranks: which entries come from the likeliest pose of their row, which from the second, and so on.
    """
    if way == "likeliest":
        return x[ranks[0].to(x.device)]
    if way == "mean":
        return _mean(x, weight, index, ranks)
    if x.is_complex():
        raise ValueError(f"logits are real numbers; got {x.dtype}: say 'invariant' for values that are averaged as they are")
    work = x.to(x.dtype if x.dtype == torch.float64 else torch.float32)
    if way == "sigmoid" or x.ndim < 2 or x.shape[-1] == 1:  # one class alone has no softmax
        yes, no = (_log_sum(F.logsigmoid(sign * work), weight, index, ranks) for sign in (1, -1))
        return (yes - no).to(x.dtype)
    # softmax ignores a constant; the mean one is kept, so that equal logits stay what they are
    common = _mean(work.logsumexp(-1, keepdim=True), weight, index, ranks)
    return (_log_sum(work.log_softmax(-1), weight, index, ranks) + common).to(x.dtype)


def _log_sum(logs: Tensor, weight: Tensor, index: Tensor, ranks: Sequence[Tensor]) -> Tensor:
    """The log of the weighted mean of probabilities, in log space, so that none underflows to 0."""
    logs = logs + weight.to(logs.device, logs.dtype).log().reshape(-1, *[1] * (logs.ndim - 1))
    total = logs[ranks[0].to(logs.device)]
    for i in ranks[1:]:
        rows = index[i].to(logs.device)
        total = total.index_copy(0, rows, torch.logaddexp(total[rows], logs[i.to(logs.device)]))
    return total


def _mean(x: Tensor, weight: Tensor, index: Tensor, ranks: Sequence[Tensor]) -> Tensor:
    # summed in the order of likelihood, which is the same over the whole orbit: so the rounding is too
    weight = weight.to(x).reshape(-1, *[1] * (x.ndim - 1))
    total = x[ranks[0].to(x.device)] * weight[ranks[0].to(x.device)]
    for i in ranks[1:]:
        total = total.index_add(0, index[i].to(x.device), x[i.to(x.device)] * weight[i.to(x.device)])
    return total


def _shared(column: Sequence[Owned], told: Sequence[Told]) -> Any:
    """A value that all rows share: the same from every part, or the mean over rows of floats (a loss)."""
    first = column[0]
    tensors = [as_tensor(leaf.value) for leaf in column if isinstance(leaf.value, (Tensor, np.ndarray, float))]
    if len(tensors) < len(column):
        if any(leaf.value != first.value for leaf in column):
            raise _no_rows(column, told)
        return first.value
    said = isinstance(first.kind, Kind) and first.kind.axis is None
    if (tensors[0].ndim and not said) or len({x.shape for x in tensors}) > 1:
        raise _no_rows(column, told)
    if all(torch.equal(x, tensors[0]) for x in tensors):
        return first.value
    if not tensors[0].dtype.is_floating_point:
        raise _no_rows(column, told)
    total = sum(len(one.part.pairs) for one in told)
    mean = torch.stack([x * (len(one.part.pairs) / total) for x, one in zip(tensors, told, strict=True)]).sum(0)
    if isinstance(first.value, float):
        return float(mean)
    return mean.numpy() if isinstance(first.value, np.ndarray) else mean


def _no_rows(column: Sequence[Owned], told: Sequence[Told]) -> ValueError:
    first, rows = column[0], " and ".join(str(len(one.part.pairs)) for one in told[:2])
    other = column[-1].value
    got = tuple(other.shape) if hasattr(other, "shape") else repr(other)[:40]
    return ValueError(
        f"{came(first.kind, first.value, first.path)}, then {got}, for sub-batches of {rows} rows: expected one entry per row, "
        "or the same for all, of one shape, said by Invariant(axis=None)"
    )


def _logits(columns: Sequence[Sequence[Owned]], told: Sequence[Told]) -> tuple[Any, Any]:
    """The logits of every (row, element) pair and their kind; None where there are none."""
    for column in columns:
        kind = column[0].kind
        if isinstance(kind, Kind) and (kind.name, kind.axis) == ("logits", 0):
            order = torch.cat([one.part.pairs for one in told]).argsort()
            x = torch.cat([as_tensor(leaf.value) for leaf in column])
            return x[order.to(x.device)], kind
    return None, None
