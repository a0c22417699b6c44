"""Kinds: how tensors move, by name or with options, nested as the tensors are; to JSON and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .._checks import named
from ..geometry import nested
from .actions import ACTIONS, ANGLE_UNITS, BORDERS, BOX_FORMATS, INTERPOLATIONS
from .groups import Group


@dataclass(frozen=True)
class Kind:
    """How a tensor moves: a row of the table of actions, with its options. Made by `Image`, `Boxes`, ... or a name.

    `axis`: the batch axis; None for a tensor that all rows share. `averaged`: False for what is taken from the likeliest pose
    and never averaged. `per`: "row", "point" or "edge", which of them has an entry each where the shape does not tell; made by
    `Per`.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    axis: int | None = 0
    averaged: bool = True
    per: str | None = None
    takes_lists: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.axis is not None and (not isinstance(self.axis, int) or self.axis < 0):
            raise ValueError(f"axis is a number from 0 on, or None where all rows share the tensor; got {self.axis!r}")

    @property
    def averaging(self) -> str:
        """How answers of several poses become one: "mean", "softmax" or "sigmoid" (of probabilities), or "likeliest".

        Coordinates with a mark for absent ones are not averaged: the mean of a mark and a place is neither. Nor are those that
        wrap: the middle of two places on either side of an edge is at the edge, not in the middle of the canvas.
        """
        options = dict(self.options)
        wraps = "border" in options and ACTIONS[self.name].places
        if not self.averaged or wraps or {"absent", "padding"} & set(options):
            return "likeliest"
        return "sigmoid" if options.get("sigmoid") else ACTIONS[self.name].averaging

    @property
    def everything(self) -> dict[str, Any]:
        """The options, and every other field that is not the default."""
        unusual = ({} if self.axis == 0 else {"axis": self.axis}) | ({} if self.averaged else {"averaged": False})
        unusual |= {} if self.per is None else {"per": self.per}
        return dict(self.options) | unusual

    def __repr__(self) -> str:
        everything = self.everything
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in everything.items())})" if everything else repr(self.name)


@dataclass(frozen=True)
class Rows:
    """A per-sample list, one entry per row of the batch: images of mixed sizes, the detection dict of each photo.

    `kinds` describes one entry, whose tensors have no batch axis: `Rows("image")`, `Rows({"boxes": "boxes"})`.
    """

    kinds: Any
    takes_lists: ClassVar[bool] = True


Leaf = Kind | Rows


def _kind(name: str, axis: int | None = 0, **options: tuple[Any, Any]) -> Kind:
    """The kind with the options (value, default) that are not the default: `Points()` is "points"."""
    return Kind(name, tuple((key, value) for key, (value, usual) in options.items() if value != usual), axis)


def Image(interpolation: str = "bilinear", border: str = "zeros", pseudoscalar: bool = False) -> Kind:
    """Pixels (b, ..., h, w); of five axes see `Clip`. Off the grid bilinear, bicubic or nearest; beyond the border zeros, edge,
    reflect or wrap.

    With border="wrap" shifts are cyclic; models of groups of cyclic shifts say so themselves, of every kind. `pseudoscalar`:
    reflections also change the sign, as of vorticity.
    """
    _among("interpolation", interpolation, INTERPOLATIONS)
    _among("border", border, BORDERS)
    return _kind(
        "image",
        interpolation=(interpolation, "bilinear"),
        border=(border, "zeros"),
        pseudoscalar=(pseudoscalar, False),
    )


def Clip(interpolation: str = "bilinear", border: str = "zeros") -> Kind:
    """Clips (b, frames, channels, h, w), all frames of a row by one element; the options are those of `Image`."""
    _among("interpolation", interpolation, INTERPOLATIONS)
    _among("border", border, BORDERS)
    return _kind("clip", interpolation=(interpolation, "bilinear"), border=(border, "zeros"))


def Mask(border: str = "zeros") -> Kind:
    """Labels (b, ..., h, w), never interpolated; beyond the border label 0, the edge's, reflected ones, or the opposite's."""
    _among("border", border, BORDERS)
    return _kind("mask", border=(border, "zeros"))


def Points(
    normalized: bool = False,
    extra: int = 0,
    index: bool = False,
    absent: int | float | None = None,
    border: str | None = None,
) -> Kind:
    """(x, y) points in pixels (b, ..., 2), or in shares of width and height; (b, ..., 2 + extra) with numbers that stay.

    Beside a volume (x, y, z) in voxels from its corner, (b, ..., 3).

    Keypoints with a visibility are `Points(extra=1)`; with `absent=0` those of visibility 0 stay as they are. Without extra
    numbers, points whose x and y both equal `absent` stay. `index`: x and y are indices of pixels, 0 to W - 1. With
    border="wrap" places count modulo the canvas.
    """
    _check_extra("extra is how many numbers follow x and y", extra)
    if normalized and index:
        raise ValueError(
            "index=True is for indices of pixels, normalized=True for shares of the canvas: points are one of them"
        )
    _check_mark("absent", absent)
    _among("border", border, PLACE_BORDERS)
    return _kind(
        "points",
        normalized=(normalized, False),
        extra=(extra, 0),
        index=(index, False),
        absent=(absent, None),
        border=(border, None),
    )


def Boxes(
    format: str = "xyxy",
    normalized: bool = False,
    extra: int = 0,
    inclusive: bool = False,
    padding: int | float | None = None,
    border: str | None = None,
) -> Kind:
    """Axis-aligned boxes (b, ..., 4) as xyxy, yxyx, xywh or cxcywh, in pixels or in shares of width and height.

    Beside a volume (b, ..., 6), with three numbers where these have two: x, y, z, x, y, z; yxyx is z, y, x, z, y, x.

    `extra`: how many numbers follow the four and stay (confidence, class). `inclusive`: the second corner is the last pixel
    inside the box, not its end. `padding`: boxes whose four numbers all equal it fill up the batch, and stay as they are.
    With border="wrap" their centre counts modulo the canvas, and a box across an edge reaches beyond it.
    """
    _among("format", format, BOX_FORMATS)
    _check_extra("extra is how many numbers follow the four of a box", extra)
    if inclusive and (normalized or format in ("xywh", "cxcywh")):
        came = "normalized" if normalized else f"of the format {format!r}"
        raise ValueError(f"inclusive=True is for corners that are pixels, xyxy or yxyx; these boxes are {came}: leave it out")
    _check_mark("padding", padding)
    _among("border", border, PLACE_BORDERS)
    return _kind(
        "boxes",
        format=(format, "xyxy"),
        normalized=(normalized, False),
        extra=(extra, 0),
        inclusive=(inclusive, False),
        padding=(padding, None),
        border=(border, None),
    )


def RotatedBoxes(
    unit: str = "degrees",
    clockwise: bool = False,
    extra: int = 0,
    padding: int | float | None = None,
    border: str | None = None,
) -> Kind:
    """(cx, cy, w, h, angle) boxes in pixels (b, ..., 5), the angle in degrees or radians, positive counter-clockwise.

    Those of Ultralytics are `RotatedBoxes("radians", clockwise=True)`. `extra`, `padding`, `border`: as in `Boxes`.
    """
    _among("unit", unit, ANGLE_UNITS)
    _check_extra("extra is how many numbers follow the five of a box", extra)
    _check_mark("padding", padding)
    _among("border", border, PLACE_BORDERS)
    return _kind(
        "rotated_boxes",
        unit=(unit, "degrees"),
        clockwise=(clockwise, False),
        extra=(extra, 0),
        padding=(padding, None),
        border=(border, None),
    )


def Field(interpolation: str = "bilinear", border: str = "zeros") -> Kind:
    """A grid of (x, y) arrows in pixels (b, 2, h, w), such as optical flow; the options are those of `Image`."""
    _among("interpolation", interpolation, INTERPOLATIONS)
    _among("border", border, BORDERS)
    return _kind("field", interpolation=(interpolation, "bilinear"), border=(border, "zeros"))


def Tokens(patch: int | Sequence[int] = 16, prefix: int = 1, suffix: int = 0, border: str = "zeros") -> Kind:
    """The tokens of a vision transformer (b, prefix + h w + suffix, d), one per patch of the canvas, row after row.

    `patch`: pixels, one number or (height, width); `prefix`, `suffix`: numbers of tokens around the grid, which stay (class,
    registers, queries). `border`: as of images.
    """
    _among("border", border, BORDERS)
    height, width = (patch, patch) if isinstance(patch, int) else patch
    for name, value, least in (("patch", height, 1), ("patch", width, 1), ("prefix", prefix, 0), ("suffix", suffix, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a whole number from {least} on; got {value!r}")
    return _kind("tokens", patch=((height, width), (16, 16)), prefix=(prefix, 1), suffix=(suffix, 0), border=(border, "zeros"))


def Regular(group: str) -> Kind:
    """Group channels (b, order, ...), one per element of a finite group."""
    return Kind("regular", (("group", group),))


def Invariant(axis: int | None = 0) -> Kind:
    """Data that does not move. `axis`: the batch axis, one entry per row; None where all rows share it, such as a text prompt.

    For an argument, the bare name "invariant" leaves open which of the two it is.
    """
    return Kind("invariant", axis=axis, per=None if axis is None else "row")


def Logits(axis: int | None = 0, sigmoid: bool = False) -> Kind:
    """Class scores (b, ..., k) before a softmax, averaged as probabilities; with `axis=1` the transpose (k, b).

    `sigmoid`: independent sigmoids, one per class (several labels at once). A single logit, (b, 1), always counts as one.
    """
    return _kind("logits", axis, sigmoid=(sigmoid, False))


def Likeliest(kinds: Any) -> Any:
    """The same kinds, never averaged over poses: for scores that belong to the boxes or queries of one answer."""
    return nested.map_kinds(lambda kind: kind if isinstance(kind, Rows) else replace(kind, averaged=False), as_kinds(kinds))


def Per(owner: str, kinds: Any) -> Any:
    """The same kinds with one entry per "row", "point" or "edge", for where the shape does not tell."""
    _among("owner", owner, ("row", "point", "edge"))
    return nested.map_kinds(lambda kind: kind if isinstance(kind, Rows) else replace(kind, per=owner), as_kinds(kinds))


MAKERS = {
    "image": Image,
    "clip": Clip,
    "mask": Mask,
    "points": Points,
    "boxes": Boxes,
    "rotated_boxes": RotatedBoxes,
    "field": Field,
    "tokens": Tokens,
    "regular": Regular,
    "logits": Logits,
}


PLACE_BORDERS = (None, "wrap")


def _check_extra(meaning: str, value: int) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{meaning}, 0 or more; got {value!r}")


def _check_mark(name: str, value: int | float | None) -> None:
    if value is not None and not isinstance(value, int | float):
        raise ValueError(f"{name} is the number that marks absent entries, such as 0 or -1; got {value!r}")


def _among(what: str, value: str | None, known: Sequence[str | None] | dict) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(map(str, known))}")


def as_kinds(kinds: Any, group: Group | None = None) -> Any:
    """Names turned into kinds, in the same structure. A list of one dict is one dict per row (`Rows`).

    group: of the model whose kinds they are; those of a group of cyclic shifts wrap.

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
        kinds = Kind(named("kind", kinds, sorted(ACTIONS)))
    if not isinstance(kinds, Kind):
        raise TypeError(f"a kind is a name, a Kind, or a dict, list or tuple of them; got a {type(kinds).__name__}")
    if kinds == Kind("regular") and group is not None:
        return Regular(group.name)
    if group is not None and group.wraps and ACTIONS[kinds.name].border:
        return replace(kinds, options=MAKERS[kinds.name](**dict(kinds.options) | {"border": "wrap"}).options)
    return kinds


def plain(kinds: Any) -> list[Kind]:
    """All kinds of a structure, those of an entry of a list among them."""
    found: list[Kind] = []
    nested.map_kinds(lambda kind: found.extend(plain(kind.kinds) if isinstance(kind, Rows) else [kind]), kinds)
    return found


def looked_at(kinds: Any) -> str:
    """The kind that canonicalizers look at: "volume", the first of "image" and "clip", or "points" where there is none."""
    names = [kind.name for kind in plain(kinds) if isinstance(kind, Kind)]
    images = (name for name in names if name in ("image", "clip"))
    return "volume" if "volume" in names else next(images, "points" if "points" in names else "image")


def axes_of(kinds: Any) -> int:
    """The number of axes of the canvas: 2 of images, 3 of volumes, 0 of clouds, which have none."""
    return ACTIONS[looked_at(kinds)].axes


def are_sigmoids(kinds: Any) -> bool:
    """Whether the logits among these kinds are independent sigmoids."""
    found: list[Leaf] = []
    nested.map_kinds(found.append, kinds)
    return any(isinstance(kind, Kind) and bool(dict(kind.options).get("sigmoid")) for kind in found)


def to_json(kinds: Any) -> Any:
    """Kinds as plain JSON values; `from_json` reads them back. None (for any predictor) stays None."""
    if kinds is None:
        return None
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
        case None:
            return None
        case {"rows": inner}:
            return Rows(from_json(inner))
        case {"kind": str(name), **options} if name in ACTIONS:
            more = {key: options.pop(key) for key in ("axis", "averaged", "per") if key in options}
            try:
                return replace(MAKERS[name](**options) if options else Kind(name), **more)
            except (KeyError, TypeError):
                raise ValueError(f"not the description of a kind: {value!r}: it has no such options") from None
        case {"dict": dict(inner)}:
            return {key: from_json(kind) for key, kind in inner.items()}
        case {"list": list(inner)}:
            return [from_json(kind) for kind in inner]
        case {"tuple": list(inner)}:
            return tuple(from_json(kind) for kind in inner)
    raise ValueError(f"not the description of a kind: {value!r}")
