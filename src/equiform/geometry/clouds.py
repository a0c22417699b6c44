"""Clouds of points: what canonicalizers look at, in padded and in flat batches.

A padded batch is (b, n, 3) with a padding mask, presence (b, n), true where there is a point. A flat batch is (N, 3) with batch
(N,), the row of every point in ascending order, as in torch_geometric; edges (2, E) are pairs of its points, with features
(E, ...).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from . import nested
from .arrays import as_tensor
from .kinds import Kind, Rows
from .owners import Owned, came, owned, owners_of

TINY = 1e-12


@dataclass(frozen=True)
class Cloud:
    """b clouds of up to n points in float64: positions, the padding mask, and c vectors and k features per point."""

    points: Float[Tensor, "b n 3"]
    present: Bool[Tensor, "b n"]
    vectors: Float[Tensor, "b n c 3"]
    features: Float[Tensor, "b n k"]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def device(self) -> torch.device:
        """The device of the points."""
        return self.points.device

    def mean(self, x: Float[Tensor, "b n *c"]) -> Float[Tensor, " b *c"]:
        """The mean over the points that are there; zero where there are none."""
        there = self.present.reshape(*self.present.shape, *[1] * (x.ndim - 2))
        # not by multiplication: padding may hold NaN
        total = torch.where(there, x, torch.zeros_like(x)).sum(1)
        return total / self.present.sum(1).clamp(min=1).reshape(-1, *[1] * (x.ndim - 2))


def standardised(cloud: Cloud) -> tuple[Cloud, Float[Tensor, "b 3"], Float[Tensor, " b"]]:
    """The cloud about its centroid in units of its root mean square radius, the centroid, and that radius.

    A cloud without extent becomes all zeros, with radius 1. Vectors are divided by their own root mean square length.
    A cloud with a NaN or an infinite number counts as empty.
    """
    finite = cloud.points.isfinite().all(-1) & cloud.vectors.isfinite().all(-1).all(-1) & cloud.features.isfinite().all(-1)
    sound = (finite | ~cloud.present).all(1)
    present = cloud.present & sound[:, None]
    cloud = replace(
        cloud,
        points=_where(present, cloud.points),
        vectors=_where(present, cloud.vectors),
        features=_where(present, cloud.features),
        present=present,
    )
    centroid = cloud.mean(cloud.points)
    centred = _where(present, cloud.points - centroid[:, None])
    radius = cloud.mean(centred.square().sum(-1)).sqrt()
    # equal points may differ by rounding
    flat = radius <= TINY * cloud.points.abs().amax((1, 2)) if cloud.points.shape[1] else radius == 0
    radius = torch.where(flat, torch.ones_like(radius), radius)
    centred = torch.where(flat[:, None, None], torch.zeros_like(centred), centred / radius[:, None, None])
    length = cloud.mean(cloud.vectors.square().sum(-1)).sqrt()
    length = torch.where(length > 0, length, torch.ones_like(length))
    return replace(cloud, points=centred, vectors=cloud.vectors / length[:, None, :, None]), centroid, radius


def _where(there: Tensor, x: Tensor) -> Tensor:
    there = there.reshape(*there.shape, *[1] * (x.ndim - 2))
    return torch.where(there, x, torch.zeros_like(x))


def cloud_of(x: Any, kinds: Any) -> Cloud | None:
    """The clouds among arguments of those kinds; None without points.

    They hold the first points, the padding mask or the batch, and all vectors and features that have one entry per point.
    Raises ValueError for points of another shape, and for edges between points of different clouds.
    """
    leaves = nested.leaves(kinds, x, "input")
    for kind, leaf, path in leaves:
        if isinstance(kind, Rows) and _is("points", kind.kinds):
            return _of_list([as_tensor(points) for points in leaf], path)
    found = {name: [(as_tensor(leaf), path) for kind, leaf, path in leaves if _is(name, kind)] for name in NAMES}
    positions = next(((leaf, path) for kind, leaf, path in leaves if _is("points", kind)), None)
    if positions is None:
        return None
    points, path = as_tensor(positions[0]), positions[1]
    batch = found["batch"][0][0] if found["batch"] else None
    if points.ndim != (2 if batch is not None else 3) or points.shape[-1] != 3 or points.is_complex():
        shape = "(N, 3) beside a batch" if batch is not None else "(b, n, 3), or (N, 3) beside an argument of the kind 'batch'"
        got = f"{tuple(points.shape)} of {points.dtype}"
        hint = ": channels first belong inside the predictor" if points.ndim == 3 and points.shape[1] == 3 else ""
        raise ValueError(f"{path}: points have shape {shape}; got {got}{hint}")
    place = points.shape[:-1]
    if batch is not None:
        checked_batch(batch, len(points))
        for edges, where in found["edges"]:
            _check_edges(edges, batch, where)
    b = len(points) if batch is None else num_rows(batch, x, kinds)
    owners = owners_of(leaves, b, batch)
    of_points = [leaf for leaf in owned(leaves, owners, given=True) if _is_of_points(leaf, points, batch)]
    vectors = [as_tensor(leaf.value) for leaf in of_points if _is("vectors", leaf.kind)]
    features = [as_tensor(leaf.value).reshape(*place, -1) for leaf in of_points if _is("features", leaf.kind)]
    parts = [
        points.double(),
        torch.stack(vectors, -2).double() if vectors else points.new_zeros((*place, 0, 3), dtype=torch.float64),
        torch.cat(features, -1).double() if features else points.new_zeros((*place, 0), dtype=torch.float64),
    ]
    if batch is not None:
        there, index = padding(batch, b)
        # empty slots hold point 0 and are masked
        padded = [part[index] if len(part) else part.new_zeros((*index.shape, *part.shape[1:])) for part in parts]
        return Cloud(padded[0], there, *padded[1:])
    present = found["presence"][0][0].bool() if found["presence"] else torch.ones(place, dtype=torch.bool, device=points.device)
    if present.shape != place:
        raise ValueError(f"{found['presence'][0][1]}: presence has shape {tuple(place)}; got {tuple(present.shape)}")
    return Cloud(parts[0], present, *parts[1:])


def _is_of_points(leaf: Owned, points: Tensor, batch: Tensor | None) -> bool:
    """Whether an argument is vectors or features with one entry per point. Raises ValueError where that is not clear."""
    kind, shape = leaf.kind, tuple(getattr(leaf.value, "shape", ()))
    if isinstance(kind, Rows) or kind.name not in ("vectors", "features") or kind.per == "row":
        return False
    if batch is not None:
        return leaf.sort == "point" and (kind.name == "features" or shape == points.shape)
    if kind.name == "vectors" and shape == points.shape and points.shape[1] == 3 and kind.per is None:
        raise ValueError(
            f"{came(kind, leaf.value, leaf.path)} beside clouds of three points: one per point, or three per cloud, such "
            "as a cell? Say Per('point', 'vectors') or Per('row', 'vectors')"
        )
    return shape == points.shape if kind.name == "vectors" else shape[: points.ndim - 1] == points.shape[:-1]


NAMES = ("presence", "batch", "edges", "vectors", "features")


def _is(name: str, kind: Any) -> bool:
    return isinstance(kind, Kind) and kind.name == name


def _of_list(clouds: Sequence[Tensor], path: str) -> Cloud:
    for points in clouds:
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"{path}: every entry has shape (n, 3); got {tuple(points.shape)}")
    sizes = torch.tensor([len(points) for points in clouds], dtype=torch.long)
    batch = torch.repeat_interleave(torch.arange(len(clouds)), sizes)
    there, index = padding(batch, len(clouds))
    points = torch.cat([*clouds, torch.zeros(1, 3)]).double()
    return Cloud(points[index], there, points.new_zeros(*index.shape, 0, 3), points.new_zeros(*index.shape, 0))


# ------------------------------------------------------------------------------------------------------- flat batches


def batch_of(x: Any, kinds: Any) -> Int[Tensor, " n"] | None:
    """The row of every point of a flat batch; None for other inputs."""
    return next((as_tensor(leaf) for kind, leaf, _ in nested.leaves(kinds, x, "input") if _is("batch", kind)), None)


def checked_batch(batch: Shaped[Tensor, " n"], num_points: int) -> Shaped[Tensor, " n"]:
    """The batch itself. Raises ValueError unless it has one whole number per point, ascending from 0 up."""
    if batch.shape != (num_points,) or batch.dtype.is_floating_point:
        raise ValueError(f"batch is the row of each of the {num_points} points, whole numbers; got {tuple(batch.shape)}")
    if len(batch) and (int(batch[0]) < 0 or bool((batch[1:] < batch[:-1]).any())):
        raise ValueError("batch must ascend from 0: sort the points by their cloud")
    return batch


def _check_edges(edges: Shaped[Tensor, "*e"], batch: Shaped[Tensor, " n"], path: str) -> None:
    if edges.ndim != 2 or len(edges) != 2 or edges.dtype.is_floating_point:
        raise ValueError(
            f"{path}: edges have shape (2, number of edges), whole numbers; got {tuple(edges.shape)} of {edges.dtype}"
        )
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < len(batch):
        raise ValueError(
            f"{path}: edges are pairs of the points 0 to {len(batch) - 1}; got {int(edges.min())} to {int(edges.max())}"
        )
    rows = batch[edges.long()]
    if len(apart := (rows[0] != rows[1]).nonzero()[:, 0]):
        one, other = edges[:, apart[0]].tolist()
        came = (
            f"edge {int(apart[0])} joins point {one} of cloud {int(batch[one])} to point {other} of cloud {int(batch[other])}"
        )
        raise ValueError(f"{path}: {came}: clouds are moved one by one, and edges stay within them")


def num_rows(batch: Int[Tensor, " n"], x: Any = None, kinds: Any = None) -> int:
    """The number of clouds of a flat batch: an argument of the kind "count" where there is one, else up to the last point's.

    Without it, empty clouds at the end are not counted. Raises ValueError where it is too small.
    """
    seen = int(batch[-1]) + 1 if len(batch) else 0
    said = next((int(leaf) for kind, leaf, _ in nested.leaves(kinds, x) if _is("count", kind)), seen)
    if said < seen:
        raise ValueError(f"the count of clouds is {said}, but the batch has points of cloud {seen - 1}")
    return said


def padding(batch: Int[Tensor, " m"], rows: int | None = None) -> tuple[Bool[Tensor, "b n"], Int[Tensor, "b n"]]:
    """The padding mask of the padded batch, and the index of the point in every slot, 0 in empty ones."""
    rows = num_rows(batch) if rows is None else rows
    counts = torch.bincount(batch.long(), minlength=rows)
    slots = torch.arange(int(counts.max()) if len(counts) else 0, device=batch.device)
    there = slots < counts[:, None]
    starts = counts.cumsum(0) - counts
    return there, torch.where(there, starts[:, None] + slots, 0)


def flat_parts(batch: Int[Tensor, " n"], rows: Int[Tensor, " m"], total: int) -> list[Int[Tensor, " k"]]:
    """Indices into `rows`, split into sub-batches with no more points than the whole batch. `total`: the number of clouds.

    A sub-batch that would end with an empty cloud, which could not be counted, is sorted by size.
    """
    lengths = torch.bincount(batch.long(), minlength=total).cpu()[rows.cpu()]
    parts: list[list[int]] = [[]]
    points = 0
    for i, length in enumerate(lengths.tolist()):
        points += length
        if points > len(batch):
            parts.append([])
            points = length
        parts[-1].append(i)
    found = [torch.tensor(part, dtype=torch.long) for part in parts]
    return [part if not len(part) or lengths[part[-1]] else part[lengths[part].argsort(stable=True)] for part in found]
