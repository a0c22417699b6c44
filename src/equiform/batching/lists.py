"""Lists and tuples with a plain kind: per-sample lists, or containers of batched tensors?"""

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
from torch import Tensor

from ..geometry import nested
from ..geometry.actions import ACTIONS
from ..geometry.kinds import Kind, Rows
from ..geometry.owners import moves, num_entries

# number of axes of a batched tensor; that of one sample has one less
BATCHED = {"image": 4, "clip": 5, "mask": 4, "field": 4, "tokens": 3, "volume": 5, "volume_mask": 5}
Array = (Tensor, np.ndarray)


def with_lists(kinds: Any, values: Sequence[Any], counts: Sequence[int], path: str, listed: bool = False) -> Any:
    """The kinds with `Rows` for every per-sample list.

    values: the arguments (`path` "input"), or the answers of all sub-batches; counts: the number of rows of each. listed: the
    predictor was given a list, and answers with lists. Raises ValueError where sub-batches differ or a list is not clear.
    """
    first = values[0]
    if any((value is None) != (first is None) for value in values):
        raise ValueError(f"{path}: None for some rows and not for others: return it for all, or a list with an entry per row")
    if isinstance(kinds, Rows) or not nested.is_container(first):
        return kinds
    if isinstance(kinds, Kind) and type(first) in (list, tuple):
        if kinds.axis is None:
            return kinds
        if _holds_rows(kinds, values, counts, path, listed):
            return Rows(kinds)
    children = [dict(nested.children(value)) for value in values]
    if any(other.keys() != children[0].keys() for other in children):
        keys = " and ".join(str(list(one)) for one in children if one.keys() != children[0].keys() or one is children[0])
        raise ValueError(f"{path}: what comes back for some rows has {keys}: return the same for all")

    def inside(key: Any, kind: Any) -> Any:
        return with_lists(kind, [one[key] for one in children], counts, f"{path}[{key!r}]", listed)

    if isinstance(kinds, Mapping):
        return {key: inside(key, kind) if key in children[0] else kind for key, kind in kinds.items()}
    if isinstance(kinds, (list, tuple)):
        same = len(kinds) == len(children[0])
        return type(kinds)(map(inside, children[0], kinds)) if same else kinds
    each = {key: inside(key, kinds) for key in children[0]}
    return each if isinstance(first, Mapping) or hasattr(first, "__dataclass_fields__") else list(each.values())


def _holds_rows(kind: Kind, values: Sequence[Any], counts: Sequence[int], path: str, listed: bool) -> bool:
    fits = [len(value) for value in values] == list(counts)
    inside = [(entry, n) for value, n in zip(values, counts, strict=True) for entry in value]
    arrays = [isinstance(entry, Array) for entry, _ in inside]
    several = isinstance(values[0], tuple)  # answers, such as hidden states
    if path.startswith("input"):
        several = False
        _check_given(kind, [entry for entry, _ in inside], fits, counts[0], path)
    elif fits and listed and not several:
        return True
    batched = bool(arrays) and all(arrays) and all(num_entries(entry, kind) == n for entry, n in inside)
    if not batched:
        mixed = any(arrays) and not all(arrays)
        return fits and not (several and (mixed or any(nested.is_container(entry) for entry, _ in inside)))
    # the number of axes tells one map from a batch of maps; a tuple of values that do not move is several answers
    batches = all(entry.ndim >= BATCHED.get(kind.name, 9) for entry, _ in inside)
    if not fits or list(counts) == [1] or batches or (several and not ACTIONS[kind.name].places):
        return False
    n = len(values[0])
    raise ValueError(
        f"{path}: a list of {n} tensors of {n} rows each for {n} rows: say Rows({kind!r}) where it has an entry per row, "
        f"[{kind!r}, ...] with a kind for each where every tensor has them all"
    )


def _check_given(kind: Kind, entries: list[Any], fits: bool, b: int, path: str) -> None:
    """Raise ValueError for a list of numbers, which is ambiguous, or one that is neither per-sample nor of batched tensors."""
    numbers = bool(entries) and all(isinstance(entry, Number) for entry in entries)
    batched = bool(entries) and all(isinstance(entry, Array) and num_entries(entry, kind) == b for entry in entries)
    if numbers or not (fits or batched):
        # of what moves with the rows there is nothing that they share
        shared = "" if moves(kind) else "Invariant(axis=None) where all rows share it, "
        what = f"{len(entries)} numbers" if numbers else f"{len(entries)} entries"
        raise ValueError(
            f"{path}: a list of {what} beside {b} rows: say Rows({kind!r}) where it has one entry per row, {shared}or pass a "
            "tensor"
        )
