"""How each kind of data moves under g: the table of kinds. Only this package knows about pixels.

Frame: x right, y down; pixel (i, j) covers [j, j+1] x [i, i+1]; g acts about the canvas centre (W/2, H/2).
Convention: g moves the content, (g.f)(p) = f(g^-1 p), so act(g, act(h, x)) == act(g @ h, x).
Quarter turns, flips and shifts of whole pixels move pixels by index (exact for any dtype), and swap height and width for odd
turns; everything else is resampled on an unchanged canvas. What comes in over an edge is zero, unless the kind has another
border: with border="wrap" it comes from the opposite edge, points count modulo the canvas, and shifts are cyclic.
In three dimensions (elements (b, 4, 4)) points are metric, about the origin, and there is no canvas; or there is a volume, on
whose canvas (depth, height, width) points and boxes lie, in voxels from its corner, as on that of an image: see `voxels`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from . import groups
from .grid import Size, canvas_code, grid_code, moved_size, moved_sizes, parity
from .pixels import BORDERS, INTERPOLATIONS, act_clip, act_image, act_mask, act_tokens
from .places import ANGLE_UNITS, BOX_FORMATS, act_boxes, act_matrices, act_points, act_rotated_boxes, act_vectors
from .voxels import act_spacing, act_volume

__all__ = [
    "ACTIONS",
    "ANGLE_UNITS",
    "BORDERS",
    "BOX_FORMATS",
    "INTERPOLATIONS",
    "Size",
    "canvas_code",
    "grid_code",
    "moved_size",
    "moved_sizes",
]


def act_field(
    g: Float[Tensor, "b 3 3"],
    x: Float[Tensor, "b 2 h w"],
    size: Size | None,
    *,
    interpolation: str = "bilinear",
    border: str = "zeros",
    motion: str = "any",
) -> Tensor:
    """Move a grid of (x, y) arrows in pixels (optical flow): the grid as an image, the arrows as vectors."""
    if x.ndim != 4 or x.shape[1] != 2:
        raise ValueError(f"a field has shape (b, 2, h, w), channels x and y; got {tuple(x.shape)}")
    moved = act_image(g, x, size, interpolation=interpolation, border=border, motion=motion)
    return act_vectors(g, moved.movedim(1, -1), size).movedim(-1, 1)


def is_map(shape: tuple[int, ...], size: Size | None) -> bool:
    """Whether a shape (b, ...) ends with the canvas, in any order of its axes."""
    return size is not None and len(shape) > len(size) and sorted(shape[-len(size) :]) == sorted(size)


def act_pseudoscalars(g: Float[Tensor, "b n n"], x: Tensor, size: Size | None) -> Tensor:
    """Numbers (b, ...) that change sign under reflections, det(R) s: a signed volume, a helicity. `size` is not needed."""
    if is_map(tuple(x.shape), size):
        raise ValueError(f"{tuple(x.shape)} looks like a map, whose pixels move too: say Image(pseudoscalar=True)")
    return x * parity(g, x)


def act_axial_vectors(g: Float[Tensor, "b n n"], x: Tensor, size: Size | None) -> Tensor:
    """Turn axial vectors (angular momentum, torque, magnetic moment), det(R) R v. `size` is not needed.

    In the plane they are perpendicular to it, and so pseudoscalars (b, ...).
    """
    return act_pseudoscalars(g, act_vectors(g, x, size) if g.shape[-1] == 4 else x, size)


def act_regular(g: Float[Tensor, "b m m"], x: Tensor, size: Size | None, *, group: str | None = None) -> Tensor:
    """Permute group channels, axis 1 of (b, order, ...): (g.f)(h) = f(g^-1 h). Exact; g must be in the group."""
    if group is None:
        raise ValueError("regular channels need their group: use equiform.geometry.Regular('C4'), or the group of the model")
    elements = groups.group(group).elements.to(g)
    if x.ndim < 2 or x.shape[1] != len(elements):
        raise ValueError(f"regular channels of {group} have shape (b, {len(elements)}, ...); got {tuple(x.shape)}")
    sources = groups.inverse(g)[:, None] @ elements
    index = groups.group(group).index(sources.flatten(0, 1)).reshape(len(g), len(elements))
    if float((sources - elements[index]).abs().max() if len(g) else 0) > 1e-3:
        raise ValueError(f"regular channels of {group} move by elements of {group} alone")
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def act_invariant(g: Float[Tensor, "b n n"], x: Any, size: Size | None) -> Any:
    """x itself."""
    return x


class Row(NamedTuple):
    """A kind: its action, how it is averaged, whether it needs the canvas, and where it moves.

    `averaging` over several poses: "mean", "softmax" (a mean of probabilities), or "likeliest" (the answer of the MAP pose).
    `places`: how many places on the canvas the last axis begins with, 1 of a point and 2 of a box, which `snap` rounds.
    `pixels`: the action takes `motion`. `in_plane`, `in_space` and `in_volume`: whether it moves by elements of the plane, by
    those of space without a canvas, and by those of space beside a volume. `axes`: of what canonicalizers look at, how many of
    the last axes are its canvas. `border`: it takes `border`, which is "wrap" where shifts are cyclic.
    """

    act: Callable[..., Any]
    averaging: str = "mean"
    on_canvas: bool = False
    places: int = 0
    pixels: bool = False
    in_space: bool = False
    in_plane: bool = True
    in_volume: bool = False
    axes: int = 0
    border: bool = False


ACTIONS = {
    "image": Row(act_image, pixels=True, axes=2, border=True),
    "clip": Row(act_clip, pixels=True, axes=2, border=True),
    "mask": Row(act_mask, pixels=True, border=True),
    "points": Row(act_points, on_canvas=True, places=1, in_space=True, border=True),
    "vectors": Row(act_vectors, in_space=True),
    "axial_vectors": Row(act_axial_vectors, in_space=True),
    "pseudoscalars": Row(act_pseudoscalars, in_space=True),
    "matrices": Row(act_matrices, in_space=True),
    "boxes": Row(act_boxes, "likeliest", on_canvas=True, places=2, in_volume=True, border=True),
    "rotated_boxes": Row(act_rotated_boxes, "likeliest", on_canvas=True, places=2, border=True),
    "field": Row(act_field, pixels=True, border=True),
    "tokens": Row(act_tokens, on_canvas=True, pixels=True, border=True),
    "regular": Row(act_regular),
    # volumes, which canonicalizers look at; their masks, which they do not; the size of their voxels
    "volume": Row(act_volume, in_plane=False, in_volume=True, axes=3),
    "volume_mask": Row(act_volume, in_plane=False, in_volume=True),
    "spacing": Row(act_spacing, "likeliest", in_plane=False, in_volume=True),
    "invariant": Row(act_invariant, in_space=True),
    "logits": Row(act_invariant, "softmax", in_space=True),
    # clouds: features of points, which canonicalizers look at; the padding mask; the cloud of each point of a flat batch;
    # pairs of its points; features of these pairs
    "features": Row(act_invariant, in_space=True),
    "presence": Row(act_invariant, "likeliest", in_space=True),
    "batch": Row(act_invariant, "likeliest", in_space=True),
    "edges": Row(act_invariant, "likeliest", in_space=True),
    "edge_features": Row(act_invariant, in_space=True),
    "edge_vectors": Row(act_vectors, in_space=True),
    # the number of rows, for a predictor that takes it as an argument
    "count": Row(act_invariant, "likeliest", in_space=True),
}
