"""Whether two answers say the same, row by row: the same class, the same labels, or numbers within a tolerance."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..batching.rows import rows_if_listed, take
from ..geometry import nested
from ..geometry.kinds import Kind, Rows


def same_answers(got: Any, expected: Any, kinds: Any, tolerance: float) -> Bool[Tensor, " b"]:
    """Of every row. Where there are logits, their classes decide; else every leaf has to be the same.

    `tolerance`: the share of classes, labels or pixels that may differ, and of floats the mean absolute difference relative to
    the mean absolute value.
    """
    kinds = rows_if_listed(kinds, expected, len(expected)) if isinstance(expected, list) else kinds
    b = _num_rows(expected, kinds)
    rows = [torch.tensor([i]) for i in range(b)]
    return torch.tensor([_same(take(got, kinds, i, b), take(expected, kinds, i, b), kinds, tolerance) for i in rows])


def _num_rows(answer: Any, kinds: Any) -> int:
    for kind, leaf, _ in nested.leaves(kinds, answer, "output"):
        if isinstance(kind, Rows):
            return len(leaf)
        if kind.axis is not None and getattr(leaf, "ndim", 0) > kind.axis:
            return leaf.shape[kind.axis]
    raise ValueError(f"no tensor with a row for each input in the predictor's answer, a {type(answer).__name__}")


def _same(got: Any, expected: Any, kinds: Any, tolerance: float) -> bool:
    leaves = list(_leaves(got, expected, kinds))
    deciding = [leaf for leaf in leaves if leaf[0].name == "logits"] or leaves
    return all(_difference(*leaf) <= tolerance for leaf in deciding)


def _leaves(got: Any, expected: Any, kinds: Any) -> Iterator[tuple[Kind, Any, Any]]:
    """The leaves of both answers, of the entries of lists too; a list that is longer in one of them has no match."""
    for (kind, a, _), (_, b, _) in zip(nested.leaves(kinds, got), nested.leaves(kinds, expected), strict=True):
        if not isinstance(kind, Rows):
            yield kind, a, b
            continue
        for one, other in zip(a, b, strict=True):
            yield from _leaves(one, other, kind.kinds)


def _difference(kind: Kind, got: Any, expected: Any) -> float:
    """0 for the same, to infinity where shapes differ, as where there is another number of boxes."""
    if expected is None or isinstance(expected, str):
        return 0.0 if got == expected else float("inf")
    a, b = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    if kind.name == "logits":
        a, b = (_classes(x, kind.averaging == "sigmoid") for x in (a, b))
    if a.shape != b.shape:
        return float("inf")
    if not b.numel() or torch.equal(a, b):
        return 0.0
    if not b.dtype.is_floating_point:
        return float((a != b).double().mean())
    difference, size = (x.double().abs().mean() for x in (a.double() - b.double(), b))
    return float((difference / size).nan_to_num(float("inf")))


def _classes(logits: Tensor, sigmoid: bool) -> Tensor:
    return logits > 0 if sigmoid or logits.ndim == 0 or logits.shape[-1] == 1 else logits.argmax(-1)
