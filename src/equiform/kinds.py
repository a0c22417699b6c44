"""Kinds as values, and what is done with nested values leaf by leaf: move, snap, take rows, join rows, average poses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from . import actions, trees
from .actions import ACTIONS, BORDERS, BOX_FORMATS, INTERPOLATIONS, Size
from .groups import Group
from .poses import Chosen


@dataclass(frozen=True)
class Kind:
    """How a tensor moves: a row of the table of actions, with its options. Made by `Image`, `Boxes`, ... or a name.

    `axis`: the one with an entry per row of the batch; None where all rows share the tensor. `averaged`: False for what
    belongs to one pose and comes from the likeliest.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    axis: int | None = 0
    averaged: bool = True
    takes_lists: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.axis is not None and (not isinstance(self.axis, int) or self.axis < 0):
            raise ValueError(f"axis is a number from 0 on, or None where all rows share the tensor; got {self.axis!r}")

    @property
    def everything(self) -> dict[str, Any]:
        """The options, and what else is not as usual."""
        unusual = ({} if self.axis == 0 else {"axis": self.axis}) | ({} if self.averaged else {"averaged": False})
        return dict(self.options) | unusual

    def __repr__(self) -> str:
        everything = self.everything
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in everything.items())})" if everything else repr(self.name)


@dataclass(frozen=True)
class Rows:
    """A list with one entry per row of the batch: images of mixed sizes, the detection dicts of each photo.

    `kinds` describes one entry, whose tensors have no batch axis: `Rows("image")`, `Rows({"boxes": "boxes"})`.
    """

    kinds: Any
    takes_lists: ClassVar[bool] = True


Leaf = Kind | Rows


def Image(interpolation: str = "bilinear", border: str = "zeros") -> Kind:
    """Pixels (b, ..., h, w). Off the grid: bilinear, bicubic or nearest; beyond the border zeros, edge or reflect."""
    _among("interpolation", interpolation, INTERPOLATIONS)
    _among("border", border, BORDERS)
    return Kind("image", (("interpolation", interpolation), ("border", border)))


def Mask(border: str = "zeros") -> Kind:
    """Labels (b, ..., h, w), which are never blended; beyond the border label zero, the edge's label, or reflected ones."""
    _among("border", border, BORDERS)
    return Kind("mask", (("border", border),))


def Points(normalized: bool = False, extra: int = 0) -> Kind:
    """(x, y) points in pixels (b, ..., 2), or in shares of width and height; (b, ..., 2 + extra) with numbers that stay.

    Keypoints with a visibility are `Points(extra=1)`.
    """
    if not isinstance(extra, int) or extra < 0:
        raise ValueError(f"extra is how many numbers follow x and y, 0 or more; got {extra!r}")
    return Kind("points", (("normalized", normalized), ("extra", extra)))


def Boxes(format: str = "xyxy", normalized: bool = False) -> Kind:
    """Axis-aligned boxes (b, ..., 4) as xyxy, xywh or cxcywh, in pixels or in shares of width and height."""
    _among("format", format, BOX_FORMATS)
    return Kind("boxes", (("format", format), ("normalized", normalized)))


def Field(interpolation: str = "bilinear", border: str = "zeros") -> Kind:
    """A grid of (x, y) arrows in pixels (b, 2, h, w), such as optical flow; the options are those of `Image`."""
    _among("interpolation", interpolation, INTERPOLATIONS)
    _among("border", border, BORDERS)
    return Kind("field", (("interpolation", interpolation), ("border", border)))


def Tokens(patch: int | Sequence[int] = 16, prefix: int = 1, suffix: int = 0) -> Kind:
    """The tokens of a vision transformer (b, prefix + h w + suffix, d), one per patch of the canvas, row after row.

    `patch`: pixels, one number or (height, width); `prefix`, `suffix`: numbers of tokens around the grid, which stay (class,
    registers, queries).
    """
    height, width = (patch, patch) if isinstance(patch, int) else patch
    for name, value, least in (("patch", height, 1), ("patch", width, 1), ("prefix", prefix, 0), ("suffix", suffix, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a whole number from {least} on; got {value!r}")
    return Kind("tokens", (("patch", (height, width)), ("prefix", prefix), ("suffix", suffix)))


def Regular(group: str) -> Kind:
    """Group channels (b, order, ...), one per element of a finite group."""
    return Kind("regular", (("group", group),))


def Invariant(axis: int | None = 0) -> Kind:
    """What stays. `axis`: the one with an entry per row of the batch; None where all rows share it, as prompts of text do."""
    return Kind("invariant", axis=axis)


def Logits(axis: int | None = 0) -> Kind:
    """Class scores (b, ..., k), averaged as probabilities; with `axis=1` the transpose (k, b)."""
    return Kind("logits", axis=axis)


def Likeliest(kinds: Any) -> Any:
    """The same kinds for what must not be averaged over poses: scores that belong to boxes or queries of one answer."""
    return trees.map_kinds(lambda kind: kind if isinstance(kind, Rows) else replace(kind, averaged=False), as_kinds(kinds))


MAKERS = {"image": Image, "mask": Mask, "points": Points, "boxes": Boxes, "field": Field, "tokens": Tokens, "regular": Regular}


def _among(what: str, value: str, known: Sequence[str] | dict) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")


def as_kinds(kinds: Any, group: Group | None = None) -> Any:
    """Names turned into kinds, in the same structure. A list of one dict is one dict per row (`Rows`).

    Raises ValueError for an unknown kind, TypeError for something that is not one.
    """
    if isinstance(kinds, list) and len(kinds) == 1 and isinstance(kinds[0], dict):
        return Rows(as_kinds(kinds[0], group))
    if isinstance(kinds, (list, tuple)):
        return type(kinds)(as_kinds(kind, group) for kind in kinds)
    if isinstance(kinds, dict):
        return {key: as_kinds(kind, group) for key, kind in kinds.items()}
    if isinstance(kinds, Rows):
        return Rows(as_kinds(kinds.kinds, group))
    if isinstance(kinds, str):
        _among("kind", kinds, sorted(ACTIONS))
        kinds = Kind(kinds)
    if not isinstance(kinds, Kind):
        raise TypeError(f"a kind is a name, a Kind, or a dict, list or tuple of them; got a {type(kinds).__name__}")
    if kinds == Kind("regular") and group is not None:
        return Regular(group.name)
    return kinds


def to_json(kinds: Any) -> Any:
    """Kinds as plain JSON values; `from_json` reads them back."""
    if isinstance(kinds, Rows):
        return {"rows": to_json(kinds.kinds)}
    if isinstance(kinds, Kind):
        return {"kind": kinds.name, **kinds.everything}
    if isinstance(kinds, dict):
        return {"dict": {key: to_json(kind) for key, kind in kinds.items()}}
    return {type(kinds).__name__: [to_json(kind) for kind in kinds]}


def from_json(value: Any) -> Any:
    """The kinds of `to_json`. Raises ValueError where the value is something else."""
    match value:
        case {"rows": inner}:
            return Rows(from_json(inner))
        case {"kind": str(name), **options} if name in ACTIONS:
            axis, averaged = options.pop("axis", 0), options.pop("averaged", True)
            plain = MAKERS[name](**options) if options and name in MAKERS else Kind(name)
            return replace(plain, axis=axis, averaged=averaged)
        case {"dict": dict(inner)}:
            return {key: from_json(kind) for key, kind in inner.items()}
        case {"list": list(inner)}:
            return [from_json(kind) for kind in inner]
        case {"tuple": list(inner)}:
            return tuple(from_json(kind) for kind in inner)
    raise ValueError(f"not the description of a kind: {value!r}")


# ---------------------------------------------------------------------------------------------------- moving values


def act(
    g: Float[Tensor, "b n n"],
    x: Any,
    kind: Any = "image",
    canvas: Size | list[Size] | None = None,
    *,
    batch: Tensor | None = None,
    name: str = "x",
) -> Any:
    """Move x by g: a tensor, an array, or a nested value with a kind (or a structure of kinds) for its leaves.

    Row i moves by g[i]; one element moves every row. `canvas` is the (height, width) that points and boxes live on, before
    the move, or a list with that of every row; without it, the size of the first image in x. In space there is none; `batch`
    is the row of every point of a flat batch of clouds, whose points, vectors and matrices are (N, ...). `name`: what errors
    call x.

    >>> import torch
    >>> from equiform import group
    >>> x = torch.rand(2, 3, 4, 6)
    >>> quarter = group("C4").elements[1:2]
    >>> torch.equal(act(quarter, x), torch.rot90(x, 1, (-2, -1)))
    True

    Raises ValueError or TypeError naming the leaf that does not fit its kind.
    """
    if not isinstance(g, Tensor) or g.ndim != 3 or g.shape[1:] not in ((3, 3), (4, 4)) or not g.dtype.is_floating_point:
        came = f"{tuple(g.shape)} of {g.dtype}" if isinstance(g, Tensor) else f"a {type(g).__name__}"
        raise ValueError(f"g must be elements, floating point of shape (b, 3, 3), or (b, 4, 4) in space; got {came}")
    kinds = as_kinds(kind)
    if g.shape[-1] == 4:
        return trees.walk(partial(_act_in_space, g, batch), kinds, x, name)
    sizes = canvas if isinstance(canvas, list) else [canvas] if canvas is not None else image_sizes(x, kinds, name) or []
    return trees.walk(partial(_act_leaf, g, sizes), kinds, x, name)


def _act_leaf(g: Tensor, sizes: list[Size], kind: Leaf, x: Any, path: str) -> Any:
    """`sizes`: the canvas of every row, or one for all, or none where it is not known."""
    if isinstance(kind, Rows):
        elements = g.expand(len(x), -1, -1) if len(g) == 1 else g
        _check_rows(len(x), len(elements), path)
        each = sizes * len(x) if len(sizes) == 1 else sizes
        return type(x)(
            _row(partial(_act_leaf, elements[i : i + 1], each[i : i + 1]), kind.kinds, value, f"{path}[{i}]")
            for i, value in enumerate(x)
        )
    row, canvas = ACTIONS[kind.name], sizes[0] if len(set(sizes)) == 1 else None
    if g.shape[-1] == 4 and not row.in_space:
        known = ", ".join(name for name, row in ACTIONS.items() if row.in_space)
        raise ValueError(f"{path}: {kind!r} does not move in three dimensions; kinds that do: {known}")
    if row.act is actions.act_invariant:
        shape = tuple(getattr(x, "shape", ()))
        if kind.name == "logits" and canvas is not None and len(shape) > 2 and shape[-2:] in (canvas, canvas[::-1]):
            raise ValueError(f"{path}: {shape} looks like a map: say 'image' for scores of pixels, 'mask' for their labels")
        return x
    if not isinstance(x, (Tensor, np.ndarray)):
        raise TypeError(f"{path}: {kind!r} is for a tensor or an array, got a {type(x).__name__}")
    tensor = as_tensor(x)
    if tensor.ndim == 0 or len(g) not in (1, len(tensor)):
        raise ValueError(f"{path}: {len(g)} elements for {kind!r} of shape {tuple(tensor.shape)}: one element per row, or one")
    several = row.on_canvas and canvas is None and g.shape[-1] == 3
    if several and (not sizes or len(sizes) != len(tensor)):
        raise ValueError(
            f"{path}: {kind!r} needs the canvas it lives on: pass canvas=(height, width), or a list of them by row"
        )
    g = g.to(tensor.device).expand(len(tensor), -1, -1)
    options = dict(kind.options)
    try:
        if several:
            parts = zip(g.split(1), tensor.split(1), sizes, strict=True)
            moved = torch.cat([row.act(element, part, size, **options) for element, part, size in parts])
        else:
            moved = row.act(g, tensor, canvas, **options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return moved.numpy() if isinstance(x, np.ndarray) else moved


def _act_in_space(g: Tensor, batch: Tensor | None, kind: Leaf, x: Any, path: str) -> Any:
    if batch is not None and len(g) > 1 and getattr(x, "shape", ())[:1] == batch.shape:
        g = g[batch.to(g.device)]
    return _act_leaf(g, [], kind, x, path)


def _row(function: Any, kinds: Any, value: Any, path: str) -> Any:
    """`function` on the leaves of one entry of a `Rows` list, given a batch axis for the time being."""

    def on_row(kind: Leaf, x: Any, where: str) -> Any:
        batched = isinstance(x, (Tensor, np.ndarray))
        y = function(kind, x[None] if batched else x, where)
        return y[0] if batched else y

    return trees.walk(on_row, kinds, value, path)


def _check_rows(got: int, expected: int, path: str) -> None:
    if got != expected:
        raise ValueError(f"{path}: expected one entry per row, {expected} in all; got {got}")


def first_image(x: Any, kinds: Any, name: str = "input") -> Any:
    """The leaf that the canonicalizer looks at: (b, c, h, w), or a list of (c, h, w) for `Rows`; None without an image."""
    for kind, leaf, path in trees.leaves(kinds, x, name):
        if isinstance(kind, Rows):
            images = [first_image(value, kind.kinds, f"{path}[{i}]") for i, value in enumerate(leaf)]
            if all(image is not None for image in images):
                return [as_tensor(image) for image in images]
        elif kind.name == "image":
            if not isinstance(leaf, (Tensor, np.ndarray)):
                raise TypeError(f"{path}: an image is a tensor or an array, got a {type(leaf).__name__}")
            return leaf
    return None


def as_tensor(x: Any) -> Tensor:
    """A tensor with the memory of an array; of a copy where torch does not take it as it is (read-only or mirrored ones)."""
    if isinstance(x, np.ndarray) and (not x.flags.writeable or min(x.strides, default=0) < 0):
        x = x.copy()
    return torch.as_tensor(x)


def find_leaf(x: Any, kinds: Any, name: str) -> Any:
    """The first leaf of the kind of that name; None where there is none."""
    return next((leaf for kind, leaf, _ in trees.leaves(kinds, x) if isinstance(kind, Kind) and kind.name == name), None)


def find_logits(x: Any, kinds: Any) -> Any:
    """The leaf of the kind logits, one row per row of the batch; None where there is none."""
    found = (
        leaf for kind, leaf, _ in trees.leaves(kinds, x) if isinstance(kind, Kind) and (kind.name, kind.axis) == ("logits", 0)
    )
    return next(found, None)


def image_sizes(x: Any, kinds: Any, name: str = "input") -> list[Size] | None:
    """The (height, width) of every row, from the first image among the leaves; None where there is no image."""
    images = first_image(x, kinds, name)
    if images is None:
        return None
    return [(int(image.shape[-2]), int(image.shape[-1])) for image in images]


def snap(x: Any, kinds: Any, canvas: Size | None) -> Any:
    """Round coordinates to the float grid of the canvas, so that quarter turns and flips move them without rounding.

    The step is the spacing of floats just beyond the canvas (0.0001 pixels at 512 in float32), so it costs no more than
    float rounding does at the far edge. Half precision is left alone: its spacing there is a visible part of a pixel.
    Without a canvas, in space, nothing is rounded.
    """
    if canvas is None:
        return x

    def snap_leaf(kind: Leaf, leaf: Any, path: str) -> Any:
        if isinstance(kind, Rows):
            return type(leaf)(_row(snap_leaf, kind.kinds, value, f"{path}[{i}]") for i, value in enumerate(leaf))
        places = ACTIONS[kind.name].places
        if not places or not isinstance(leaf, (Tensor, np.ndarray)):
            return leaf
        tensor = as_tensor(leaf)
        if tensor.dtype not in (torch.float32, torch.float64):
            return leaf
        extent = 1 if dict(kind.options).get("normalized") else max(canvas)
        step = 2.0 ** (math.ceil(math.log2(extent)) + 1) * torch.finfo(tensor.dtype).eps
        pixels, rest = tensor[..., :places], tensor[..., places:]
        # the gradient passes as if nothing had been rounded
        snapped = torch.cat([pixels + ((pixels / step).round() * step - pixels).detach(), rest], -1)
        return snapped.numpy() if isinstance(leaf, np.ndarray) else snapped

    return trees.walk(snap_leaf, kinds, x, "output")


def add(x: Any, y: Any, kinds: Any, weight: Float[Tensor, " b"], batch: Tensor | None = None) -> Any:
    """x + weight y, row by row, on the leaves that can be averaged and have the same shape in both.

    `batch`: the row of every point of a flat batch of clouds.
    """

    def add_leaf(kind: Leaf, leaf: Any, path: str) -> Any:
        other = next(others)
        if isinstance(kind, Rows) or not (isinstance(leaf, Tensor) and leaf.dtype.is_floating_point):
            return leaf
        row = ACTIONS[kind.name]
        if row.act is actions.act_invariant or not row.averaged or leaf.shape != other.shape:
            return leaf
        by_leaf = weight[batch.to(weight.device)] if batch is not None and len(leaf) == len(batch) else weight
        return leaf + other * by_leaf.to(leaf).reshape(-1, *[1] * (leaf.ndim - 1))

    others = iter([leaf for _, leaf, _ in trees.leaves(kinds, y)])
    return trees.walk(add_leaf, kinds, x, "value")


# ----------------------------------------------------------------------------------------------------- rows of values


def check_batch(x: Any, kinds: Any, b: int) -> None:
    """Raise ValueError naming the first leaf that moves but has not one entry per row."""
    for kind, leaf, path in trees.leaves(kinds, x, "input"):
        if isinstance(kind, Rows):
            _check_rows(len(leaf), b, path)
        elif ACTIONS[kind.name].act is not actions.act_invariant and (getattr(leaf, "ndim", 0) == 0 or len(leaf) != b):
            came = f"shape {tuple(leaf.shape)}" if hasattr(leaf, "shape") else f"a {type(leaf).__name__}"
            raise ValueError(f"{path}: {kind!r}: expected {b} rows like the image, got {came}")


def take(x: Any, kinds: Any, rows: Tensor, b: int) -> Any:
    """The rows of every leaf that has one entry per row; other leaves (numbers, shared tensors) as they are.

    What moves has one entry per row. An invariant tensor is taken to have where its first axis is as long as the batch.
    """

    def take_leaf(kind: Leaf, leaf: Any, path: str) -> Any:
        if isinstance(kind, Rows):
            return type(leaf)(leaf[i] for i in rows.tolist())
        if not isinstance(leaf, (Tensor, np.ndarray)) or not _has_rows(kind, leaf, b):
            return leaf
        if len(rows) == b and torch.equal(rows, torch.arange(b)):
            return leaf
        axis = kind.axis or 0
        if isinstance(leaf, np.ndarray):
            return leaf.take(rows.numpy(), axis)
        return leaf.movedim(axis, 0)[rows.to(leaf.device)].movedim(0, axis)

    return trees.walk(take_leaf, kinds, x, "input")


def _has_rows(kind: Kind, leaf: Tensor | np.ndarray, b: int) -> bool:
    return kind.axis is not None and leaf.ndim > kind.axis and leaf.shape[kind.axis] == b


def join(parts: Sequence[Any], kinds: Any, rows: Sequence[Tensor], points: Sequence[Tensor] | None = None) -> Any:
    """The answers of sub-batches put back in the order of their rows; in flat batches of clouds, or of their `points`.

    Leaves that are not as long as their sub-batches are shared by its rows: floats (a loss) are averaged, others are the first.
    """
    if len(parts) == 1:
        return parts[0]
    own = [kind for kind, _, _ in trees.leaves(kinds, parts[0])]
    columns = [[leaf for _, leaf, _ in trees.leaves(kinds, part)] for part in parts]
    merged = iter([_join_leaves(*column, rows, points) for column in zip(own, zip(*columns, strict=True), strict=True)])
    return trees.walk(lambda kind, leaf, path: next(merged), kinds, parts[0], "output")


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
        share = [len(part) / len(order) for part in rows]
        joined = torch.stack([tensor * s for tensor, s in zip(tensors, share, strict=True)]).sum(0)
    else:
        joined = torch.cat(tensors, kind.axis).movedim(kind.axis, 0)[order.to(tensors[0].device)].movedim(0, kind.axis)
    return joined.numpy() if isinstance(first, np.ndarray) else joined


def can_average(kinds: Any) -> bool:
    """Whether a leaf of such kinds may be averaged: boxes and the entries of `Rows` never are."""
    found: list[Leaf] = []
    trees.map_kinds(found.append, kinds)
    return any(isinstance(kind, Kind) and kind.averaged and ACTIONS[kind.name].averaged for kind in found)


def is_averaged(kind: Leaf, leaf: Any) -> bool:
    """Whether this leaf is: whole numbers never are."""
    if isinstance(kind, Rows) or not isinstance(leaf, (Tensor, np.ndarray)) or leaf.ndim == 0:
        return False
    return kind.averaged and ACTIONS[kind.name].averaged and as_tensor(leaf).dtype.is_floating_point


def average(x: Any, kinds: Any, chosen: Chosen) -> Any:
    """One answer per row from the answers of its chosen poses: their mean by posterior weight, or the likeliest pose's.

    Logits are averaged as probabilities and come back as log-probabilities; boxes, lists and whole numbers are not averaged.
    A leaf that is not as long as the chosen poses is shared by all rows and stays as it is.
    """
    ranks = [(chosen.rank == r).nonzero()[:, 0] for r in range(int(chosen.rank.max()) + 1 if len(chosen.rank) else 1)]

    def average_leaf(kind: Leaf, leaf: Any, path: str) -> Any:
        if isinstance(kind, Rows):
            return type(leaf)(leaf[i] for i in ranks[0].tolist())
        tensor = as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf
        if not isinstance(tensor, Tensor) or not _has_rows(kind, tensor, len(chosen.row)):
            return leaf
        axis = kind.axis or 0
        tensor = tensor.movedim(axis, 0)
        if not is_averaged(kind, tensor):
            mean = tensor[ranks[0].to(tensor.device)]
        elif kind.name == "logits":
            mean = _log_mean(tensor, chosen, ranks)
        else:
            mean = _weighted(tensor, chosen, ranks)
        mean = mean.movedim(0, axis)
        return mean.numpy() if isinstance(leaf, np.ndarray) else mean

    return trees.walk(average_leaf, kinds, x, "output")


def _log_mean(x: Tensor, chosen: Chosen, ranks: Sequence[Tensor]) -> Tensor:
    """The log of the mean of the probabilities, without leaving logarithms: a class may be unlikely, never impossible."""
    work = x.dtype if x.dtype == torch.float64 else torch.float32
    logs = x.to(work).log_softmax(-1) + chosen.weight.to(x.device, work).log().reshape(-1, *[1] * (x.ndim - 1))
    total = logs[ranks[0].to(x.device)]
    for i in ranks[1:]:
        rows = chosen.row[i].to(x.device)
        total = total.index_copy(0, rows, torch.logaddexp(total[rows], logs[i.to(x.device)]))
    return total.to(x.dtype)


def _weighted(x: Tensor, chosen: Chosen, ranks: Sequence[Tensor]) -> Tensor:
    # summed in the order of likelihood, which is the same over the whole orbit: so the rounding is too
    weight = chosen.weight.to(x).reshape(-1, *[1] * (x.ndim - 1))
    total = x[ranks[0].to(x.device)] * weight[ranks[0].to(x.device)]
    for i in ranks[1:]:
        total = total.index_add(0, chosen.row[i].to(x.device), x[i.to(x.device)] * weight[i.to(x.device)])
    return total
