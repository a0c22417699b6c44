"""Kinds as values: how a tensor moves, said by a name or made with options, in any structure; as JSON and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..geometry import nested
from .actions import ACTIONS, BORDERS, BOX_FORMATS, INTERPOLATIONS
from .groups import Group


@dataclass(frozen=True)
class Kind:
    """How a tensor moves: a row of the table of actions, with its options. Made by `Image`, `Boxes`, ... or a name.

    `axis`: the one with an entry per row of the batch; None where all rows share the tensor. `averaged`: False for what
    belongs to one pose and comes from the likeliest. `per`: what has an entry each, "row", "point" or "edge", where the shape
    leaves it open; made by `Per`.
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
    def everything(self) -> dict[str, Any]:
        """The options, and what else is not as usual."""
        unusual = ({} if self.axis == 0 else {"axis": self.axis}) | ({} if self.averaged else {"averaged": False})
        unusual |= {} if self.per is None else {"per": self.per}
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
    """What stays. `axis`: the one with an entry per row of the batch; None where all rows share it, as prompts of text do.

    The bare name "invariant" leaves open which of the two an argument is.
    """
    return Kind("invariant", axis=axis, per=None if axis is None else "row")


def Logits(axis: int | None = 0) -> Kind:
    """Class scores (b, ..., k), averaged as probabilities; with `axis=1` the transpose (k, b)."""
    return Kind("logits", axis=axis)


def Likeliest(kinds: Any) -> Any:
    """The same kinds for what must not be averaged over poses: scores that belong to boxes or queries of one answer."""
    return nested.map_kinds(lambda kind: kind if isinstance(kind, Rows) else replace(kind, averaged=False), as_kinds(kinds))


def Per(owner: str, kinds: Any) -> Any:
    """The same kinds with an entry for each "row", "point" or "edge", said where the shape leaves it open."""
    _among("owner", owner, ("row", "point", "edge"))
    return nested.map_kinds(lambda kind: kind if isinstance(kind, Rows) else replace(kind, per=owner), as_kinds(kinds))


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
            axis, averaged, per = options.pop("axis", 0), options.pop("averaged", True), options.pop("per", None)
            plain = MAKERS[name](**options) if options and name in MAKERS else Kind(name)
            return replace(plain, axis=axis, averaged=averaged, per=per)
        case {"dict": dict(inner)}:
            return {key: from_json(kind) for key, kind in inner.items()}
        case {"list": list(inner)}:
            return [from_json(kind) for kind in inner]
        case {"tuple": list(inner)}:
            return tuple(from_json(kind) for kind in inner)
    raise ValueError(f"not the description of a kind: {value!r}")
