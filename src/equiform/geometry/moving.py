"""`act` moves nested values leaf by leaf; `snap` rounds coordinates so that moves are exact; the image among the leaves."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from . import actions, nested
from .actions import ACTIONS, Size
from .arrays import as_tensor
from .kinds import Kind, Leaf, Rows, as_kinds, axes_of
from .owners import check_rows, owned, owners_of
from .pixels import check_axes, warn_channels_last
from .voxels import check_spacing


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
    the move, or a list with that of every row; without it, the size of the first image in x. In space it is the (depth, height,
    width) of a volume; without one there is none, and points are metric. `batch` is the row of every point of a flat batch of
    clouds, whose points, vectors and matrices are (N, ...). `name`: what errors call x.

    Examples:
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
    if kind == "image" and g.shape[-1] == 3 and hasattr(x, "shape"):  # by its bare name; answers of models come with a `Kind`
        check_axes(tuple(x.shape))
        warn_channels_last(tuple(x.shape))
    if batch is not None and len(g) > 1:
        return _act_on_flat(g, x, kinds, batch, name)
    sizes = canvas if isinstance(canvas, list) else [canvas] if canvas is not None else []
    sizes = sizes or image_sizes(x, kinds, name) or []
    if canvas is not None and any(len(size) != g.shape[-1] - 1 for size in sizes):
        expected = "(height, width)" if g.shape[-1] == 3 else "(depth, height, width) of a volume"
        raise ValueError(f"canvas is the {expected} for elements of shape {tuple(g.shape[1:])}; got {canvas!r}")
    return nested.walk(partial(act_leaf, g, sizes), kinds, x, name)


def _act_on_flat(g: Tensor, x: Any, kinds: Any, batch: Tensor, name: str) -> Any:
    """Each entry moves by the element of the row that owns it."""
    leaves = nested.leaves(kinds, x, name)
    owners = owners_of(leaves, len(g), batch)
    by_sort = {sort: g[owner.to(g.device)] for sort, owner in owners.items()} | {None: g}
    moved = [act_leaf(by_sort[leaf.sort], [], leaf.kind, leaf.value, leaf.path) for leaf in owned(leaves, owners)]
    return nested.filled(kinds, x, iter(moved))


def act_leaf(g: Tensor, sizes: list[Size], kind: Leaf, x: Any, path: str, motion: str = "any") -> Any:
    """One leaf moved by g. `sizes`: the canvas of every row, one for all rows, or none where it is not known. `motion`: what is
    known of all elements, see `Group.motion`."""
    if isinstance(kind, Rows):
        if not isinstance(x, (list, tuple)):
            hint = ": of a DataLoader with collate_fn=lambda samples: tuple(zip(*samples))"
            raise TypeError(f"{path}: a list with an entry per row is expected; got a {type(x).__name__}{hint}")
        elements = g.expand(len(x), -1, -1) if len(g) == 1 else g
        check_rows(len(x), len(elements), path)
        each = sizes * len(x) if len(sizes) == 1 else sizes
        return type(x)(
            _row(partial(act_leaf, elements[i : i + 1], each[i : i + 1]), kind.kinds, value, f"{path}[{i}]")
            for i, value in enumerate(x)
        )
    row, canvas = ACTIONS[kind.name], sizes[0] if len(set(sizes)) == 1 else None
    if g.shape[-1] == 4 and not (row.in_space or row.in_volume):
        known = ", ".join(name for name, row in ACTIONS.items() if row.in_space or row.in_volume)
        raise ValueError(f"{path}: {kind!r} does not move in three dimensions; kinds that do: {known}")
    if g.shape[-1] == 3 and not row.in_plane:
        raise ValueError(f"{path}: {kind!r} moves by groups of space, such as O or C4z; got elements of the plane")
    if row.act is actions.act_invariant:
        shape = tuple(getattr(x, "shape", ()))
        if kind.name == "logits" and actions.is_map(shape, canvas):
            scores, labels = ("'image'", "'mask'") if g.shape[-1] == 3 else ("'volume'", "'volume_mask'")
            raise ValueError(f"{path}: {shape} looks like a map: say {scores} for scores of pixels, {labels} for their labels")
        return x
    if not isinstance(x, (Tensor, np.ndarray)):
        raise TypeError(f"{path}: {kind!r} is for a tensor or an array, got a {type(x).__name__}")
    tensor = as_tensor(x)
    if tensor.ndim == 0 or g.shape[0] not in (1, tensor.shape[0]):
        raise ValueError(f"{path}: {len(g)} elements for {kind!r} of shape {tuple(tensor.shape)}: one element per row, or one")
    if tensor.shape[-1] == 0 and tensor.ndim <= 2 and (row.places or row.act is actions.act_vectors):
        return x  # torch.tensor([]): nothing was found
    several = row.on_canvas and canvas is None and (bool(sizes) or g.shape[-1] == 3 or not row.in_space)
    if several and (not sizes or len(sizes) != len(tensor)):
        axes = "height, width" if g.shape[-1] == 3 else "depth, height, width"
        raise ValueError(f"{path}: {kind!r} needs the canvas it lives on: pass canvas=({axes}), or a list of them by row")
    g = g.to(tensor.device).expand(tensor.shape[0], -1, -1)
    options = dict(kind.options) | ({"motion": motion} if row.pixels else {})
    try:
        moved = _act_parts(row, g, tensor, canvas, sizes if several else None, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return moved.numpy() if isinstance(x, np.ndarray) else moved


def _act_parts(
    row: actions.Row, g: Tensor, x: Tensor, canvas: Size | None, sizes: list[Size] | None, options: dict[str, Any]
) -> Tensor:
    """The rows moved together, or one by one where `sizes` has a canvas of each."""
    if x.is_complex():
        if row.places:
            raise ValueError(f"coordinates are real numbers; got {x.dtype}")
        return torch.complex(*(_act_parts(row, g, part, canvas, sizes, options) for part in (x.real, x.imag)))
    if sizes is None:
        return row.act(g, x, canvas, **options)
    parts = zip(g.split(1), x.split(1), sizes, strict=True)
    return torch.cat([row.act(element, part, size, **options) for element, part, size in parts])


def _row(function: Any, kinds: Any, value: Any, path: str) -> Any:
    """`function` on the leaves of one entry of a `Rows` list, with a batch axis that is taken off again."""

    def on_row(kind: Leaf, x: Any, where: str) -> Any:
        batched = isinstance(x, (Tensor, np.ndarray))
        y = function(kind, x[None] if batched else x, where)
        return y[0] if batched else y

    return nested.walk(on_row, kinds, value, path)


def precision(x: Any) -> torch.dtype:
    """The dtype of elements that move x: float64 where a leaf is of float64, else torch's default."""
    leaves = (leaf for _, leaf, _ in nested.leaves(None, x) if isinstance(leaf, (Tensor, np.ndarray)))
    return torch.float64 if any(as_tensor(leaf).dtype == torch.float64 for leaf in leaves) else torch.get_default_dtype()


def unstacked(x: Any, kinds: Any) -> Any:
    """x with every tensor or array whose kind is `Rows` as the list of its rows."""

    if isinstance(kinds, Kind):
        return x

    def unstack(kind: Leaf, leaf: Any, path: str) -> Any:
        if not isinstance(kind, Rows) or not isinstance(leaf, (Tensor, np.ndarray)):
            return leaf
        if isinstance(kind.kinds, Kind) and kind.kinds.name == "image" and leaf.ndim == 3:
            raise ValueError(f"{path}: a list of images (c, h, w) is expected; got one alone, {tuple(leaf.shape)}: pass [x]")
        return list(leaf)

    return nested.walk(unstack, kinds, x, "input")


def check_boxes(leaves: Sequence[tuple[Any, Any, str]]) -> None:
    """Raise ValueError for a box with swapped corners, which a turn would sort in silence."""
    for kind, leaf, path in leaves:
        if isinstance(kind, Rows) or kind.name != "boxes" or dict(kind.options).get("format", "xyxy") not in ("xyxy", "yxyx"):
            continue
        boxes, d = as_tensor(leaf), max(axes_of([kind for kind, _, _ in leaves]), 2)
        boxes = boxes[..., : 2 * d]
        right = boxes.shape[-1:] == (2 * d,)
        wrong = (boxes[..., d:] < boxes[..., :d]).any(-1) if right else boxes.new_zeros(1, dtype=torch.bool)
        if bool(wrong.any()):
            corners = "x1, y1, x2, y2 with x1 <= x2 and y1 <= y2" if d == 2 else "the least x, y, z and the greatest"
            raise ValueError(f"{path}: boxes are {corners}; got {boxes[wrong][0].tolist()}")


def check_spacings(leaves: Sequence[tuple[Any, Any, str]]) -> None:
    """Raise ValueError for spacings of another shape, before they are taken apart by rows."""
    for kind, leaf, path in leaves:
        if isinstance(kind, Kind) and kind.name == "spacing" and isinstance(leaf, (Tensor, np.ndarray)):
            try:
                check_spacing(tuple(leaf.shape))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None


def first_image(x: Any, kinds: Any, name: str = "input") -> Any:
    """The leaf that the canonicalizer looks at: (b, c, h, w), or a list of (c, h, w) for `Rows`; None without an image.

    Volumes are images too: (b, c, d, h, w).
    """
    return image_among(nested.leaves(kinds, x, name))


def image_among(leaves: Iterable[tuple[Any, Any, str]]) -> Any:
    """The first image of these leaves; see `first_image`."""
    for kind, leaf, path in leaves:
        if isinstance(kind, Rows):
            images = [first_image(value, kind.kinds, f"{path}[{i}]") for i, value in enumerate(leaf)]
            if all(image is not None for image in images):
                return [as_tensor(image) for image in images]
        elif ACTIONS[kind.name].axes:
            if not isinstance(leaf, (Tensor, np.ndarray)):
                raise TypeError(
                    f"{path}: an image is a tensor or an array, got a {type(leaf).__name__} (files and PIL images are for "
                    "a pair, adapt((processor, model), group))"
                )
            return leaf
    return None


def find_leaf(x: Any, kinds: Any, name: str) -> Any:
    """The first leaf of the kind of that name; within a per-sample list, the list of those leaves. None where there is none.

    The name "rows" stands for the per-sample list itself.
    """
    for kind, leaf, _ in nested.leaves(kinds, x):
        if isinstance(kind, Rows) and name != "rows":
            found = [find_leaf(entry, kind.kinds, name) for entry in leaf]
            if found and all(one is not None for one in found):
                return found
        elif isinstance(kind, Rows) or (isinstance(kind, Kind) and kind.name == name):
            return leaf
    return None


def find_logits(x: Any, kinds: Any) -> Any:
    """The leaf of the kind logits, one row per row of the batch; None where there is none."""
    found = (
        leaf for kind, leaf, _ in nested.leaves(kinds, x) if isinstance(kind, Kind) and (kind.name, kind.axis) == ("logits", 0)
    )
    return next(found, None)


def image_sizes(x: Any, kinds: Any, name: str = "input") -> list[Size] | None:
    """The canvas of every row, from the first image or volume among the leaves; None where there is none."""
    images = first_image(x, kinds, name)
    sizes = [] if images is None else sizes_of(images, axes_of(kinds))
    return None if images is None else sizes if isinstance(images, list) else sizes * len(images)


def sizes_of(images: Any, axes: int = 2) -> list[Size]:
    """The (height, width) of all images of a batch, or of each in a list; with three axes (depth, height, width)."""
    if not isinstance(images, list):
        return [tuple(int(n) for n in images.shape[-axes:])]
    return [tuple(int(n) for n in image.shape[-axes:]) for image in images]


def snap(x: Any, kinds: Any, canvas: Size | None) -> Any:
    """Round coordinates to the float grid of the canvas, leaf by leaf; see `snap_leaf`."""
    return nested.walk(partial(snap_leaf, canvas), kinds, x, "output")


def snap_leaf(canvas: Size | None, kind: Leaf, leaf: Any, path: str) -> Any:
    """Round coordinates to the float grid of the canvas, so that quarter turns and flips move them without rounding.

    The step is the spacing of floats just beyond the canvas (0.0001 pixels at 512 in float32), so it costs no more than
    float rounding does at the far edge. Half precision is left alone: its spacing there is a visible part of a pixel.
    Without a canvas, in space, nothing is rounded.
    """
    if canvas is None:
        return leaf
    if isinstance(kind, Rows):
        return type(leaf)(_row(partial(snap_leaf, canvas), kind.kinds, value, f"{path}[{i}]") for i, value in enumerate(leaf))
    places = ACTIONS[kind.name].places * len(canvas)
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
