"""One call of a predictor as a batch: its arguments with their kinds and owners, and the parts of it that run together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..geometry import nested
from ..geometry.actions import Size, moved_sizes
from ..geometry.clouds import Cloud, batch_of, flat_parts
from ..geometry.groups import inverse
from ..geometry.kinds import Kind, Rows, looked_at
from ..geometry.moving import act_leaf, check_boxes, check_spacings, image_among, sizes_of, snap_leaf, unstacked
from ..geometry.owners import Leaves, Owned, Owners, copied, gathered, moves, owned, owners_of, take
from ..geometry.pixels import check_axes
from .calls import kinds_by_name, parameter_names, rows_if_list, seen_cloud
from .chosen import Chosen
from .lists import with_lists

# the axes of what canonicalizers look at, and what has all but the first
SEEN = {
    "image": (("channels", "height", "width"), "grey image"),
    "clip": (("frames", "channels", "height", "width"), "clip"),
    "volume": (("channels", "depth", "height", "width"), "volume of one channel"),
}


@dataclass(frozen=True)
class Batch:
    """The arguments of a call that have a kind, with the owner of every entry, and what the canonicalizer sees of them.

    `seen`: the images, or a `Cloud`. `owners`: the row of every entry, by sort. `sizes`: the canvas of all rows, or of each in
    a list. `run`: the predictor on moved arguments;
    `finish`: makes the answer of the call from that of the whole batch.
    """

    values: dict[str, Any]
    kinds: dict[str, Any]
    run: Callable[[dict[str, Any]], Any]
    seen: Any
    owners: Owners
    leaves: list[Owned]
    sizes: list[Size]
    finish: Callable[[Any], Any]

    @classmethod
    def bind(cls, predictor: Callable[..., Any], inputs: Any, args: tuple, kwargs: Mapping[str, Any], dim: int = 2) -> "Batch":
        """Raises TypeError or ValueError where the arguments do not fit the kinds, or hold no image (in space: no points and no
        volume)."""
        args, kwargs, finish = inputs_of(predictor, args, kwargs)
        reads = hasattr(predictor, "inputs_of")  # a pair, which knows which of its arguments move
        names = parameter_names(predictor, args)
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        wanted = kinds_by_name(inputs, names, given)
        for name, value in given.items():
            if isinstance(value, Sequence) and not isinstance(value, (str, bytes, list, tuple)):
                came = type(value).__name__
                raise TypeError(f"the argument {name!r} is a {came}, which is not taken apart by rows: pass a list")
            if name not in wanted and not reads and (came := _without_kind(value)):
                raise ValueError(
                    f"the argument {name!r} holds {came} but has no kind: pass inputs={{{name!r}: ...}} to adapt, "
                    "Invariant(axis=None) where all rows share it"
                )
        values = {name: unstacked(given[name], kind) for name, kind in wanted.items()}
        kinds = {name: rows_if_list(kind, given[name]) for name, kind in wanted.items()}

        def invoked(moved: dict[str, Any]) -> Any:
            everything = given | moved
            return predictor(*[everything[name] for name in names[: len(args)]], **{n: everything[n] for n in kwargs})

        # a predictor that takes no lists fails with an error of its own, which names no way out
        listed = [name for name, kind in wanted.items() if isinstance(kind, Kind) and isinstance(kinds[name], Rows)]
        leaves = _leaves(values, kinds)
        seen, batch = _seen(values, kinds, leaves, dim)
        if any(nested.is_container(value) for value in values.values()):
            kinds = {name: with_lists(kind, [values[name]], [len(seen)], f"input[{name!r}]") for name, kind in kinds.items()}
            leaves = _leaves(values, kinds)
        check_spacings(leaves)
        owners = owners_of(leaves, len(seen) if isinstance(seen, (list, Cloud)) else seen.shape[0], batch)
        check_boxes(leaves)
        sizes = [] if isinstance(seen, Cloud) else sizes_of(seen, dim)
        run = _of_lists(invoked, listed[0], isinstance(seen, Cloud)) if listed else invoked
        return cls(values, kinds, run, seen, owners, owned(leaves, owners, given=True), sizes, finish)

    @property
    def listed(self) -> bool:
        """Whether the predictor is given a list with an entry per row."""
        return any(isinstance(kind, Rows) for kind in self.kinds.values())

    def parts(self, chosen: Chosen) -> list["Part"]:
        """The (row, element) pairs that run together: of one canvas, and no more of them than the batch has rows (or points).

        Several poses never make a batch that is larger than the caller's: memory stays what it was, and large batches cost
        more a row where memory is slow.
        """
        back = inverse(chosen.g)
        num_rows = self.owners["row"].shape[0]
        if num_rows == 0 and not isinstance(self.seen, Cloud):
            axes = back.shape[-1] - 1
            canvas = (1,) * axes if isinstance(self.seen, list) else tuple(self.seen.shape[-axes:])
            return [Part.of(self, chosen, back, canvas, canvas, torch.zeros(0, dtype=torch.long))]
        if "point" in self.owners:
            found = [(None, None, part) for part in flat_parts(self.owners["point"], chosen.row, len(self.seen))]
        elif isinstance(self.seen, Cloud):
            found = [(None, None, part) for part in torch.arange(len(chosen.row)).split(max(len(self.seen), 1))]
        else:
            found = _by_canvas(back, self.sizes, chosen, num_rows)
        return [Part.of(self, chosen, back, *one) for one in found]


class Part(NamedTuple):
    """(row, element) pairs that run as one batch: `pairs` indexes those chosen. The canvas before and after (none in space).

    By sort, `entry` is the index of each of its entries in the whole batch, and `owners` the index of its owner in `pairs`.
    """

    batch: Batch
    chosen: Chosen
    pairs: Int[Tensor, " m"]
    back: Float[Tensor, "m d d"]
    before: Size | None
    after: Size | None
    entry: dict[str, Tensor]
    owners: Owners
    whole: bool

    @classmethod
    def of(cls, batch: Batch, chosen: Chosen, back: Tensor, before: Size | None, after: Size | None, pairs: Tensor) -> "Part":
        rows = chosen.row[pairs]
        whole = (chosen.whole and pairs.shape[0] == chosen.row.shape[0]) or torch.equal(rows, batch.owners["row"])
        entry, owners = gathered(batch.owners, rows) if not whole else (_all(batch.owners), batch.owners)
        return cls(batch, chosen, pairs, back[pairs.to(back.device)], before, after, entry, owners, whole)

    @property
    def canonical(self) -> dict[str, Any]:
        """The arguments of its rows, in the canonical pose."""
        moved = iter([self._brought_back(leaf) for leaf in self.batch.leaves])
        return {name: nested.filled(self.batch.kinds[name], value, moved) for name, value in self.batch.values.items()}

    def _brought_back(self, leaf: Owned) -> Any:
        taken = take(leaf, self.entry, self.batch.owners, self.owners, self.whole)
        return self._moved(leaf._replace(value=taken), self.back, self.before, self.owners, inverse)

    def answer(self, alone: bool) -> Any:
        """What the predictor answers; copied unless it runs `alone`, since its next call may reuse the memory."""
        answer = self.batch.run(self.canonical)
        answer = list(answer) if isinstance(answer, Iterator) else answer
        return answer if alone else copied(answer)

    def moved_back(self, leaf: Owned, owners: Owners) -> Owned:
        """A leaf of the answer, moved to where it belongs."""
        leaf = leaf._replace(value=snap_leaf(self.after, leaf.kind, leaf.value, leaf.path))
        g = self.chosen.g[self.pairs.to(self.chosen.g.device)]
        return leaf._replace(value=self._moved(leaf, g, self.after, owners, lambda candidates: candidates))

    def _moved(self, leaf: Owned, g: Tensor, canvas: Size | None, owners: Owners, side: Callable[[Tensor], Tensor]) -> Any:
        """act(g, x); in training with the gradient of the choice, from the other candidates times zero."""
        kind, value, path, sort = leaf
        owner = None if sort in (None, "row") else owners[sort].to(g.device)
        sizes = [canvas] if canvas is not None else []
        moved = act_leaf(g if owner is None else g[owner], sizes, kind, value, path, self.chosen.motion)
        if self.chosen.zero is None or not _has_gradient(kind, moved):
            return moved
        rows = self.chosen.row[self.pairs].to(g.device)
        rows = rows if owner is None else rows[owner]
        zero, candidates = self.chosen.zero[rows.to(self.chosen.zero.device)], self.chosen.candidates[rows]
        for k in range(zero.shape[1]):
            other = act_leaf(side(candidates[:, k]), sizes, kind, value, path, self.chosen.motion)
            if other.shape == moved.shape:
                moved = moved + other * zero[:, k].to(moved).reshape(-1, *[1] * (moved.ndim - 1))
        return moved


def _leaves(values: dict[str, Any], kinds: dict[str, Any]) -> Leaves:
    return [leaf for name, kind in kinds.items() for leaf in nested.leaves(kind, values[name], f"input[{name!r}]")]


def inputs_of(predictor: Any, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, Mapping[str, Any], Callable[[Any], Any]]:
    """The arguments as tensors and lists, and a function that makes the answer of the call from that of the batch.

    A predictor may define its own `inputs_of`: that of a pair reads photos.
    """
    own = getattr(predictor, "inputs_of", None)
    return own(args, kwargs) if own is not None else (args, kwargs, lambda output: output)


def _has_gradient(kind: Any, x: Any) -> bool:
    differentiable = isinstance(x, Tensor) and (x.dtype.is_floating_point or x.is_complex())
    return differentiable and isinstance(kind, Kind) and moves(kind) and kind.averaging != "likeliest"


def _all(owners: Owners) -> dict[str, Tensor]:
    return {sort: torch.arange(owner.shape[0]) for sort, owner in owners.items()}


def _without_kind(value: Any) -> str:
    """What in a value may have an entry per row, in words for an error; empty where nothing may."""
    if isinstance(value, (Tensor, np.ndarray)):
        return "a tensor"
    children = nested.children(value) if nested.is_container(value) else []
    inside = next((came for _, child in children if (came := _without_kind(child))), "")
    return inside or (f"a {type(value).__name__}" if isinstance(value, (list, tuple)) and value else "")


def _seen(values: dict[str, Any], kinds: dict[str, Any], leaves: Leaves, dim: int) -> tuple[Any, Tensor | None]:
    """The images, volumes or clouds among the arguments, and the row of every point of a flat batch."""
    if dim == 3 and looked_at(kinds) != "volume":
        cloud = seen_cloud(values, kinds)
        if cloud is None:
            raise ValueError(
                "no points among the inputs: one of them must have the kind 'points' for the pose to be found, or "
                "Rows('points') for a list of clouds, beside lists of what else each has, such as Rows('vectors')"
            )
        return cloud, batch_of(values, kinds)
    images, kind = image_among(leaves), looked_at(kinds)
    kind = "image" if kind == "points" else kind
    if images is None:
        raise ValueError(f"no {kind} among the inputs: one of them must have the kind {kind!r} for the pose to be found")
    listed = isinstance(images, list)
    for image in images if listed else [images]:
        _check_axes((*[1] * listed, *image.shape), kind, listed)
    return images, None


def _check_axes(shape: tuple[int, ...], kind: str, listed: bool) -> None:
    """Raise ValueError for images, clips or volumes with too few axes, and for those of five that say neither."""
    axes, one = SEEN[kind]
    missing = len(axes) + 1 - len(shape)
    # tensors without an axis of channels may do, where the canonicalizer looks at none
    if missing > (0 if listed else 1) or (missing and kind == "clip"):
        expected = ", ".join(axes if listed else ("b", *axes))
        way_out = "x[None]" if listed or missing == 1 else "x[None, None]"
        raise ValueError(f"{kind}s have shape ({expected}); got {shape[1:] if listed else shape} (one {one}: {way_out})")
    if kind == "image":
        check_axes(shape)


def _by_canvas(
    back: Float[Tensor, "m d d"], sizes: Sequence[Size], chosen: Chosen, num_rows: int
) -> list[tuple[Size | None, Size | None, Tensor]]:
    """The pairs of each (canvas before, canvas after being brought back), at most as many at a time as there are rows."""
    if len(set(sizes)) == 1 and len(set(sizes[0])) == 1:
        pairs = torch.arange(chosen.row.shape[0])
        return [(sizes[0], sizes[0], part) for part in ([pairs] if chosen.whole else pairs.split(num_rows))]
    found: dict[tuple[Size, Size], list[int]] = {}
    before = [sizes[row] for row in chosen.row.tolist()] if len(sizes) > 1 else [sizes[0]] * len(chosen.row)
    for i, pair in enumerate(zip(before, moved_sizes(back, before), strict=True)):
        found.setdefault(pair, []).append(i)
    return [(*pair, part) for pair, pairs in found.items() for part in torch.tensor(pairs).split(num_rows)]


def _of_lists(run: Callable[[dict[str, Any]], Any], name: str, clouds: bool) -> Callable[[dict[str, Any]], Any]:
    """The same call, with a TypeError that says the way out where the predictor does not take the list."""

    def checked(moved: dict[str, Any]) -> Any:
        try:
            return run(moved)
        except (TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:80]
            way_out = (
                "stack clouds of one size, torch.stack(clouds), or pad them beside an argument of the kind 'presence'"
                if clouds
                else "stack images of one size, torch.stack(images), and call the model once for every size"
            )
            came = f"the predictor was given the list {name!r} as it came, and failed ({reason} ...)"
            raise TypeError(f"{came}. If it takes batches, {way_out}") from error

    return checked
