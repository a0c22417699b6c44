"""Whether two answers say the same, row by row: the same class, the same labels, or numbers within a tolerance."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..batching.lists import with_lists
from ..geometry import nested
from ..geometry.arrays import as_tensor
from ..geometry.kinds import Kind, Rows


def same_answers(got: Any, expected: Any, kinds: Any, tolerance: float) -> Bool[Tensor, " b"]:
    """Of every row. Where there are logits, their classes decide; else every leaf has to be the same.

    `tolerance`: the share of classes, labels or pixels that may differ, and of floats the mean absolute difference relative to
    the mean absolute value. What all rows share is left aside. Raises ValueError where there is nothing else.
    """
    if isinstance(expected, list):
        kinds = with_lists(kinds, [expected], [len(expected)], "output", listed=True)
    leaves = zip(nested.leaves(kinds, got), nested.leaves(kinds, expected), strict=True)
    rows = [(kind, by_row) for (kind, a, _), (_, b, _) in leaves if (by_row := _same_rows(kind, a, b, tolerance)) is not None]
    if not rows:
        raise ValueError(f"nothing in the predictor's answer, a {type(expected).__name__}, has a row for each input")
    b = len(rows[0][1])  # an invariant tensor of another length is shared
    return _decided([(kind, by_row) for kind, by_row in rows if len(by_row) == b])


def _decided(found: list[tuple[Any, Tensor]]) -> Bool[Tensor, " b"]:
    logits = [same for kind, same in found if isinstance(kind, Kind) and kind.name == "logits"]
    return torch.stack(logits or [same for _, same in found]).all(0)


def _same_rows(kind: Any, got: Any, expected: Any, tolerance: float) -> Tensor | None:
    """Of one leaf, (b,); None where it has no rows."""
    if isinstance(kind, Rows):
        return torch.tensor([_same_entry(a, b, kind.kinds, tolerance) for a, b in zip(got, expected, strict=True)])
    a, b, axis = _tensor(got), _tensor(expected), kind.axis
    if axis is None or not (isinstance(a, Tensor) and isinstance(b, Tensor)) or b.ndim <= axis:
        return None
    return _same_tensors(kind, a.detach().movedim(axis, 0), b.detach().movedim(axis, 0), tolerance)


def _same_entry(got: Any, expected: Any, kinds: Any, tolerance: float) -> bool:
    """Of one entry of a list, whose tensors have no axis of rows."""
    found = []
    for (kind, a, _), (_, b, _) in zip(nested.leaves(kinds, got), nested.leaves(kinds, expected), strict=True):
        a, b = _tensor(a), _tensor(b)
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            found.append((kind, _same_tensors(kind, a.detach()[None], b.detach()[None], tolerance)))
        else:
            found.append((kind, torch.tensor([a == b])))
    return bool(_decided(found)) if found else True


def _same_tensors(kind: Kind, a: Tensor, b: Tensor, tolerance: float) -> Bool[Tensor, " b"]:
    """False in all rows where shapes differ, as where there is another number of boxes."""
    if kind.name == "logits":
        a, b = (_classes(x, kind.averaging == "sigmoid") for x in (a, b))
    if a.shape != b.shape:
        return torch.zeros(len(b), dtype=torch.bool)
    if not b[0].numel():
        return torch.ones(len(b), dtype=torch.bool)
    rows = a.reshape(len(b), -1), b.reshape(len(b), -1)
    if not b.dtype.is_floating_point:
        return ((rows[0] != rows[1]).double().mean(1) <= tolerance).cpu()
    difference, size = (rows[0].double() - rows[1]).abs().mean(1), rows[1].double().abs().mean(1)
    return ((rows[0] == rows[1]).all(1) | (difference <= tolerance * size)).cpu()


def _tensor(leaf: Any) -> Any:
    return leaf if leaf is None or isinstance(leaf, (str, list, tuple)) else as_tensor(leaf)


def _classes(logits: Tensor, sigmoid: bool) -> Tensor:
    return logits > 0 if sigmoid or logits.ndim < 2 or logits.shape[-1] == 1 else logits.argmax(-1)
