"""Which row of a batch an entry belongs to: decided once, by kind, and then used to take, move, join and average.

Entries are of one sort: one per row ("row"), in flat batches of clouds one per point ("point") or edge ("edge"), or as the
answer says itself ("own"): detectors that put the boxes of all images into one tensor give image ids. `Owners` holds, by sort,
the row of every entry. What has no sort is shared by all rows.
"""

from collections.abc import Sized
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from . import nested
from .actions import ACTIONS, act_invariant
from .arrays import as_tensor, check_whole_array
from .kinds import Kind, Leaf, Rows

Owners = dict[str, Tensor]
POINT_KINDS, EDGE_KINDS = ("features", "batch"), ("edges", "edge_features", "edge_vectors")
CALLED = {"row": "rows", "point": "points", "edge": "edges", "own": "entries of the answer"}


class Owned(NamedTuple):
    """A leaf with its kind, and the sort of its entries; None where all rows share it."""

    kind: Leaf
    value: Any
    path: str
    sort: str | None


Leaves = list[tuple[Any, Any, str]]


def owned(leaves: Leaves, owners: Owners, given: bool = False) -> list[Owned]:
    """The (kind, leaf, path) triples of arguments (`given`) or of an answer, each with the sort of its entries.

    Raises ValueError where one is not clear.
    """
    edges = iter([sort for sort in owners if sort.startswith("edge")])
    found = []
    for kind, leaf, path in leaves:
        check_whole_array(leaf, path)
        if isinstance(kind, Rows) or kind.name not in EDGE_KINDS:
            sort = sort_of(kind, leaf, path, owners, given)
        elif "point" not in owners:
            sort = _padded_edge_sort(kind, leaf, path, owners, leaves)
        else:
            sort = next(edges) if kind.name == "edges" else _edge_sort(kind, leaf, path, owners)
        found.append(Owned(kind, leaf, path, sort))
    return found


def _padded_edge_sort(kind: Kind, leaf: Any, path: str, owners: Owners, leaves: Leaves) -> str | None:
    """Edges (2, E) of a padded batch are shared by all rows, and so are their features; edge vectors have an entry per row."""
    shared = any(_is_edges(other) and value.ndim == 2 for other, value, _ in leaves) and kind.name != "edge_vectors"
    return None if shared else _checked("row", kind, leaf, path, owners)


def sort_of(kind: Leaf, leaf: Any, path: str, owners: Owners, given: bool) -> str | None:
    """The sort of the entries of a leaf; None where it is shared. `given`: an argument, not an answer."""
    if isinstance(kind, Rows):
        if isinstance(leaf, Sized):  # anything else is refused when it is moved
            check_rows(len(leaf), len(owners["row"]), path)
        return "row"
    if kind.axis is None or kind.name == "count":
        return None
    n = num_entries(leaf, kind)
    if "own" in owners and kind.name != "logits" and (n == len(owners["own"]) or kind.name == "batch"):
        return _checked("own", kind, leaf, path, owners)
    if kind.per is not None:  # in a padded batch the points lie within the rows
        return _checked(kind.per if "point" in owners else "row", kind, leaf, path, owners)
    fitting = [sort for sort, owner in owners.items() if owner.shape[0] == n]
    if fitting == ["row"] and len(owners) == 1:
        return "row"
    if given and fitting[:1] and fitting[0].startswith("edge"):
        raise ValueError(f"{came(kind, leaf, path)} is as long as the edges: say {_way_out('edge', kind)}")
    if "point" in owners and kind.name in POINT_KINDS:
        return _checked("point", kind, leaf, path, owners)
    if given and kind.name == "points" and "point" in fitting:
        return "point"
    if len(fitting) > 1 and any(not torch.equal(owners[fitting[0]], owners[sort]) for sort in fitting[1:]):
        raise ValueError(
            f"{came(kind, leaf, path)}: there are {n} {' and '.join(map(_called, fitting))}, so its owner is not clear: say "
            + " or ".join(_way_out(sort, kind) for sort in fitting)
        )
    if n < 0 and not isinstance(leaf, (Tensor, np.ndarray)):
        return None  # its action refuses it if it has to move
    if not fitting and (moves(kind) or (kind.name == "logits" and n >= 0 and not given)):
        return _checked("row", kind, leaf, path, owners)
    return fitting[0] if fitting else None


def _edge_sort(kind: Kind, leaf: Any, path: str, owners: Owners) -> str:
    n, edges = num_entries(leaf, kind), {sort: owner for sort, owner in owners.items() if sort.startswith("edge")}
    fitting = [sort for sort, owner in edges.items() if len(owner) == n]
    if len(fitting) != 1:
        expected = " or ".join(str(len(owner)) for owner in edges.values()) or "which are absent"
        raise ValueError(f"{came(kind, leaf, path)}: expected an entry for each of the edges, {expected}")
    return fitting[0]


def _checked(sort: str, kind: Kind, leaf: Any, path: str, owners: Owners) -> str:
    """The sort. Raises ValueError unless the leaf has one entry for each row, point or edge of it."""
    if sort not in owners:
        raise ValueError(f"{path}: {kind!r} is for flat batches of clouds: there are no {_called(sort)} here")
    if num_entries(leaf, kind) == owners[sort].shape[0]:
        return sort
    where = "" if not kind.axis else f" on axis {kind.axis}"
    if kind.name == "logits":
        expected = f"logits have one entry per row{where}, {len(owners[sort])} in all"
        raise ValueError(f"{path}: {expected}; got shape {tuple(leaf.shape)}")
    others = (
        ""
        if sort != "row" or kind.per
        else "".join(f", or {len(owner)} {_called(other)}" for other, owner in owners.items() if other != "row")
    )
    expected = f"expected {len(owners[sort])} {_called(sort)}{where}{others}"
    empty = (
        ". Where the last clouds are empty, give their number as an argument of the kind 'count'" if "point" in owners else ""
    )
    hint = "" if sort != "row" or "point" in owners else ", one for each input of the batch"
    raise ValueError(f"{came(kind, leaf, path)}: {expected}{hint}{empty}")


def came(kind: Leaf, leaf: Any, path: str) -> str:
    """The leaf as errors describe it: path, kind and shape."""
    shape = f"of shape {tuple(leaf.shape)}" if hasattr(leaf, "shape") else f"as a {type(leaf).__name__}"
    return f"{path}: {kind!r} {shape}"


def _called(sort: str) -> str:
    return CALLED[sort.split()[0]]


def _way_out(sort: str, kind: Kind) -> str:
    if sort.startswith("edge"):
        if kind.name == "vectors":
            return "'edge_vectors', which turn with them"
        return "'edge_features', which go with them and do not turn, or 'edge_vectors', which do"
    return f"Per({sort!r}, {kind!r})"


def _is_edges(kind: Any) -> bool:
    return isinstance(kind, Kind) and kind.name == "edges"


def moves(kind: Kind) -> bool:
    """Whether a group element changes it."""
    return ACTIONS[kind.name].act is not act_invariant


def is_unclear(leaf: Owned) -> bool:
    """Whether an argument as long as the batch may be shared by all rows instead: its kind does not say."""
    kind = leaf.kind
    unsaid = isinstance(kind, Kind) and kind.name in ("invariant", "logits") and kind.per is None and not kind.axis
    return unsaid and leaf.sort == "row"


def check_rows(got: int, expected: int, path: str) -> None:
    """Raise ValueError where a list has not one entry per row."""
    if got != expected:
        raise ValueError(f"{path}: expected one entry per row, {expected} in all; got {got}")


def num_entries(leaf: Any, kind: Kind) -> int:
    """How many entries a tensor or an array has; -1 of anything else."""
    axis = kind.axis or 0
    return leaf.shape[axis] if isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim > axis else -1


# ------------------------------------------------------------------------------------------------------------- taking


def members(owner: Int[Tensor, " n"], rows: Int[Tensor, " m"], total: int) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """The entries of rows[0], then those of rows[1], and so on; and for each of them which entry of `rows` it belongs to.

    `total`: the number of rows that there are, with those without entries.
    """
    counts = torch.bincount(owner.long(), minlength=total)
    starts, lengths = (counts.cumsum(0) - counts)[rows], counts[rows]
    copy = torch.repeat_interleave(torch.arange(len(rows), device=owner.device), lengths)
    place = torch.arange(len(copy), device=owner.device) - (lengths.cumsum(0) - lengths)[copy]
    return owner.argsort(stable=True)[starts[copy] + place], copy


def gathered(owners: Owners, rows: Int[Tensor, " m"]) -> tuple[dict[str, Tensor], Owners]:
    """By sort, the entries of those rows in their order (a row may come several times), and which of `rows` each belongs to."""
    total = len(owners["row"])
    index, new = {"row": rows}, {"row": torch.arange(len(rows))}
    for sort, owner in owners.items():
        if sort != "row":
            index[sort], new[sort] = members(owner, rows.to(owner.device), total)
    return index, new


def take(leaf: Owned, index: dict[str, Tensor], owners: Owners, new: Owners, whole: bool) -> Any:
    """A copy of the leaf for the rows of `gathered`. `whole`: these are all rows in their order.

    Raises ValueError where the kind leaves open whether the rows share the leaf.
    """
    kind, value, path, sort = leaf
    if isinstance(kind, Kind) and kind.name == "count":
        return len(new["row"]) if isinstance(value, int) else torch.full_like(as_tensor(value), len(new["row"]))
    if sort is None:
        return copied(value)
    if isinstance(kind, Rows):
        return copied(value if whole else type(value)(value[i] for i in index["row"].tolist()))
    if whole:
        return value if moves(kind) else copied(value)
    if is_unclear(leaf):
        raise ValueError(
            f"{came(kind, value, path)} beside {len(owners['row'])} rows, which are not run as one batch: say "
            "Invariant(axis=None) where all rows share it, Invariant() where each row has its own entry"
        )
    if kind.name == "batch":
        return new["point"].to(value) if isinstance(value, Tensor) else new["point"].numpy().astype(value.dtype)
    if kind.name == "edges" and sort != "row":
        edges = _edges(as_tensor(value), index, owners, new, sort)
        return edges.numpy() if isinstance(value, np.ndarray) else edges
    return entries(value, index[sort], kind.axis or 0)


def _edges(edges: Tensor, index: dict[str, Tensor], owners: Owners, new: Owners, sort: str) -> Tensor:
    """Pairs of points (2, E) by the numbers that the points have among those taken."""
    starts = [one["point"].long().bincount(minlength=len(one["row"])) for one in (owners, new)]
    before, after = (counts.cumsum(0) - counts for counts in starts)
    moved_by = after - before[index["row"].to(before.device)]
    return edges[:, index[sort]] + moved_by[new[sort]].to(edges)


def entries(x: Any, index: Tensor, axis: int = 0) -> Any:
    """Those entries along an axis, of a tensor or an array."""
    if isinstance(x, np.ndarray):
        return x.take(index.cpu().numpy(), axis)
    index = index.to(x.device)
    return x[index] if axis == 0 else x.movedim(axis, 0)[index].movedim(0, axis)


def copied(x: Any) -> Any:
    """The same values, with tensors and arrays in memory of their own: a predictor may write into what it is given."""
    if isinstance(x, Tensor):
        return x.clone()
    if isinstance(x, np.ndarray):
        return x.copy()
    return nested.walk(lambda _, leaf, __: copied(leaf), None, x, "input") if nested.is_container(x) else x


def owners_of(leaves: Leaves, b: Any, batch: Tensor | None = None) -> Owners:
    """The owners of b rows, a symbol in a graph; of a flat batch of clouds, those of its points (`batch`) and edges too."""
    owners = {"row": torch.arange(b)}
    if batch is None:
        return owners
    pairs = [as_tensor(leaf) for kind, leaf, _ in leaves if _is_edges(kind)]
    edges = {f"edge {i}" if i else "edge": batch[edges[0].long()] for i, edges in enumerate(pairs)}
    return owners | {"point": batch} | edges
