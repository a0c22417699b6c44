"""The rows of nested values: taken for a sub-batch, joined from several, averaged over the poses of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry import actions, nested
from ..geometry.actions import ACTIONS
from ..geometry.arrays import as_tensor
from ..geometry.kinds import Kind, Leaf, Rows
from ..geometry.moving import check_rows, find_leaf
from .chosen import Chosen


def check_batch(x: Any, kinds: Any, b: int) -> None:
    """Raise ValueError naming the first leaf that moves but has not one entry per row."""
    for kind, leaf, path in nested.leaves(kinds, x, "input"):
        if isinstance(kind, Rows):
            check_rows(len(leaf), b, path)
        elif ACTIONS[kind.name].act is not actions.act_invariant and (getattr(leaf, "ndim", 0) == 0 or len(leaf) != b):
            came = f"shape {tuple(leaf.shape)}" if hasattr(leaf, "shape") else f"a {type(leaf).__name__}"
            raise ValueError(f"{path}: {kind!r}: expected {b} rows, one for each input of the batch, got {came}")


def take(x: Any, kinds: Any, rows: Tensor, b: int) -> Any:
    """The rows of every leaf that has one entry per row; other leaves (numbers, shared tensors) as they are.

    What moves has one entry per row. An invariant tensor is taken to have where its first axis is as long as the batch.
    Edges (2, E) are shared by all clouds of a padded batch, and so are their features.
    """
    edges = find_leaf(x, kinds, "edges")
    shared_edges = getattr(edges, "ndim", 0) == 2

    def take_leaf(kind: Leaf, leaf: Any, path: str) -> Any:
        if isinstance(kind, Rows):
            return type(leaf)(leaf[i] for i in rows.tolist())
        if not isinstance(leaf, (Tensor, np.ndarray)) or not _has_rows(kind, leaf, b):
            return leaf
        if kind.name == "edge_features" and shared_edges:
            return leaf
        if len(rows) == b and torch.equal(rows, torch.arange(b)):
            return leaf
        axis = kind.axis or 0
        if isinstance(leaf, np.ndarray):
            return leaf.take(rows.numpy(), axis)
        return leaf.movedim(axis, 0)[rows.to(leaf.device)].movedim(0, axis)

    return nested.walk(take_leaf, kinds, x, "input")


def _has_rows(kind: Kind, leaf: Tensor | np.ndarray, b: int) -> bool:
    if kind.name == "edges" and leaf.ndim == 2:  # (2, E): two ends, not two rows
        return False
    return kind.axis is not None and leaf.ndim > kind.axis and leaf.shape[kind.axis] == b


def check_logits(x: Any, kinds: Any, b: int) -> None:
    """Raise ValueError where logits have not one entry per row."""
    for kind, leaf, path in nested.leaves(kinds, x, "output"):
        if isinstance(kind, Kind) and kind.name == "logits" and isinstance(leaf, (Tensor, np.ndarray)):
            axis = kind.axis
            if axis is not None and leaf.ndim and not _has_rows(kind, leaf, b):
                where = "" if axis == 0 else f" on axis {axis}"
                raise ValueError(f"{path}: logits have one entry per row{where}, {b} in all; got shape {tuple(leaf.shape)}")


def rows_if_listed(kinds: Any, x: Any, b: int) -> Any:
    """The kinds of what a predictor made of a list: where it answers with a list of b entries, a kind is that of each."""
    if isinstance(kinds, Mapping) and isinstance(x, Mapping):
        return {name: rows_if_listed(kind, x.get(name), b) for name, kind in kinds.items()}
    return Rows(kinds) if isinstance(kinds, Kind) and isinstance(x, list) and len(x) == b else kinds


def join(parts: Sequence[Any], kinds: Any, rows: Sequence[Tensor], points: Sequence[Tensor] | None = None) -> Any:
    """The answers of sub-batches put back in the order of their rows; in flat batches of clouds, or of their `points`.

    Leaves that are not as long as their sub-batches are shared by its rows: floats (a loss) are averaged, others are the first.
    """
    if len(parts) == 1:
        return parts[0]
    own = [kind for kind, _, _ in nested.leaves(kinds, parts[0])]
    columns = [[leaf for _, leaf, _ in nested.leaves(kinds, part)] for part in parts]
    merged = iter([_join_leaves(*column, rows, points) for column in zip(own, zip(*columns, strict=True), strict=True)])
    return nested.walk(lambda kind, leaf, path: next(merged), kinds, parts[0], "output")


def _join_leaves(kind: Leaf, leaves: Sequence[Any], rows: Sequence[Tensor], points: Sequence[Tensor] | None) -> Any:
    first = leaves[0]
    if points is not None and all(
        getattr(leaf, "shape", ())[:1] == part.shape for leaf, part in zip(leaves, points, strict=True)
    ):
        rows = points
    order = torch.cat(list(rows)).argsort()
    if isinstance(first, (list, tuple)):
        flat = [entry for leaf in leaves for entry in leaf]
        return type(first)(flat[i] for i in order.tolist())
    if not isinstance(first, (Tensor, np.ndarray)) or isinstance(kind, Rows) or kind.axis is None:
        return first
    tensors = [as_tensor(leaf) for leaf in leaves]
    if not all(_has_rows(kind, tensor, len(part)) for tensor, part in zip(tensors, rows, strict=True)):
        if not tensors[0].dtype.is_floating_point:
            return first
        if len({tensor.shape for tensor in tensors}) > 1:
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors[:2])
            came = f"{shapes} for {len(rows[0])} and {len(rows[1])} rows"
            raise ValueError(f"output: {kind!r} has one entry per row, or is shared by all and of one shape; got {came}")
        share = [len(part) / len(order) for part in rows]
        joined = torch.stack([tensor * s for tensor, s in zip(tensors, share, strict=True)]).sum(0)
    else:
        joined = torch.cat(tensors, kind.axis).movedim(kind.axis, 0)[order.to(tensors[0].device)].movedim(0, kind.axis)
    return joined.numpy() if isinstance(first, np.ndarray) else joined


def can_average(kinds: Any) -> bool:
    """Whether a leaf of such kinds may be averaged: boxes and the entries of `Rows` never are."""
    found: list[Leaf] = []
    nested.map_kinds(found.append, kinds)
    return any(isinstance(kind, Kind) and kind.averaging != "likeliest" for kind in found)


def is_averaged(kind: Leaf, leaf: Any) -> bool:
    """Whether this leaf is: whole numbers never are."""
    if isinstance(kind, Rows) or not isinstance(leaf, (Tensor, np.ndarray)) or leaf.ndim == 0:
        return False
    dtype = as_tensor(leaf).dtype
    return kind.averaging != "likeliest" and (dtype.is_floating_point or dtype.is_complex)


def average(x: Any, kinds: Any, chosen: Chosen, points: Chosen | None = None) -> Any:
    """One answer per row from the answers of its chosen poses: their mean by posterior weight, or the likeliest pose's.

    `points`: in flat batches of clouds the poses of every point, for the leaves that are as long.
    Logits are averaged as probabilities and come back as logits of the mean; boxes, lists and whole numbers are not averaged.
    A leaf that is not as long as the chosen poses is shared by all rows and stays as it is.
    """
    each = [(one, _ranks(one)) for one in (points, chosen) if one is not None]
    likeliest = each[-1][1][0]

    def average_leaf(kind: Leaf, leaf: Any, path: str) -> Any:
        if isinstance(kind, Rows):
            return type(leaf)(leaf[i] for i in likeliest.tolist())
        tensor = as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf
        fitting = [pair for pair in each if isinstance(tensor, Tensor) and _has_rows(kind, tensor, len(pair[0].row))]
        if not fitting:
            return leaf
        one, ranks = fitting[0]
        axis = kind.axis or 0
        tensor = tensor.movedim(axis, 0)
        if not is_averaged(kind, tensor):
            mean = tensor[ranks[0].to(tensor.device)]
        elif kind.averaging in ("softmax", "sigmoid"):
            mean = _mean_logits(tensor, kind.averaging == "sigmoid", one, ranks)
        else:
            mean = _weighted(tensor, one, ranks)
        mean = mean.movedim(0, axis)
        return mean.numpy() if isinstance(leaf, np.ndarray) else mean

    return nested.walk(average_leaf, kinds, x, "output")


def _ranks(chosen: Chosen) -> list[Tensor]:
    """Which of the chosen poses are the likeliest of their row, which the second likeliest, and so on."""
    return [(chosen.rank == r).nonzero()[:, 0] for r in range(int(chosen.rank.max()) + 1 if len(chosen.rank) else 1)]


def _mean_logits(x: Tensor, sigmoid: bool, chosen: Chosen, ranks: Sequence[Tensor]) -> Tensor:
    """The logits of the mean of the probabilities: of the sigmoids, or of the softmax, which one class does not have.

    A softmax does not see a common constant; the mean one is kept, so that where all poses say the same logits, whatever was
    made of them, the answer is those.
    """
    work = x.to(x.dtype if x.dtype == torch.float64 else torch.float32)
    if sigmoid or x.ndim < 2 or x.shape[-1] == 1:
        yes, no = (_log_mean(F.logsigmoid(sign * work), chosen, ranks) for sign in (1, -1))
        return (yes - no).to(x.dtype)
    common = work.logsumexp(-1, keepdim=True)
    return (_log_mean(work.log_softmax(-1), chosen, ranks) + _weighted(common, chosen, ranks)).to(x.dtype)


def _log_mean(x: Tensor, chosen: Chosen, ranks: Sequence[Tensor]) -> Tensor:
    """The log of the weighted mean of exp(x), without leaving logarithms: a class may be unlikely, never impossible."""
    logs = x + chosen.weight.to(x).log().reshape(-1, *[1] * (x.ndim - 1))
    total = logs[ranks[0].to(x.device)]
    for i in ranks[1:]:
        rows = chosen.row[i].to(x.device)
        total = total.index_copy(0, rows, torch.logaddexp(total[rows], logs[i.to(x.device)]))
    return total


def _weighted(x: Tensor, chosen: Chosen, ranks: Sequence[Tensor]) -> Tensor:
    # summed in the order of likelihood, which is the same over the whole orbit: so the rounding is too
    weight = chosen.weight.to(x).reshape(-1, *[1] * (x.ndim - 1))
    total = x[ranks[0].to(x.device)] * weight[ranks[0].to(x.device)]
    for i in ranks[1:]:
        total = total.index_add(0, chosen.row[i].to(x.device), x[i.to(x.device)] * weight[i.to(x.device)])
    return total
