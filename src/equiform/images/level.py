"""Pictures turned by any angle in their own mode: quarter turns move pixels, other turns resample them once."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..geometry import kinds
from ..geometry.groups import Dihedral, inverse
from ..geometry.moving import act
from .files import white

if TYPE_CHECKING:
    from PIL.Image import Image

INDEXED = ("1", "P", "PA")  # values that name a colour: there is nothing between two of them
SQUARE = Dihedral(4)  # what moves pixels


def largest_rectangle(width: int | float, height: int | float, angle: float) -> tuple[float, float]:
    """Width and height of the largest upright rectangle inside a picture that was turned by `angle` (radians).

    With s = |sin|, c = |cos| and a the shorter side, b the longer one: where a <= 2 s c b two of its corners lie on the long
    sides, half-way between them, and it is a/(2s) by a/(2c) (the longer along the longer side); else all four lie on the
    border, and it is (w c - h s, h c - w s) / (c^2 - s^2).
    """
    s, c = abs(math.sin(angle)), abs(math.cos(angle))
    short, long = min(width, height), max(width, height)
    if short <= 2 * s * c * long or abs(c - s) < 1e-9:
        along, across = short / (2 * max(s, 1e-12)), short / (2 * max(c, 1e-12))
        return (along, across) if width >= height else (across, along)
    return (width * c - height * s) / (c * c - s * s), (height * c - width * s) / (c * c - s * s)


def in_quarters(g: Float[Tensor, "1 3 3"]) -> tuple[Float[Tensor, "1 3 3"], float]:
    """The nearest quarter turn, flipped or not, and the angle that is left after it, at most 45 degrees (radians)."""
    quarter = SQUARE.nearest(g)
    rest = g @ inverse(quarter)
    return quarter, math.atan2(float(rest[0, 0, 1]), float(rest[0, 1, 1]))


def snapped(g: Float[Tensor, "1 3 3"], degrees: int | float, size: Sequence[int]) -> Float[Tensor, "1 3 3"]:
    """The nearest quarter turn where g is within so many degrees of it, or moves no pixel of (h, w) by half a pixel more."""
    quarter, rest = in_quarters(g)
    near = abs(rest) <= math.radians(degrees) + 1e-6 or abs(rest) * math.hypot(*size) / 2 < 0.5
    return quarter if near else g


def turned(
    x: Shaped[Tensor, "c h w"], g: Float[Tensor, "1 3 3"], fill: Sequence[float] | None = None, interpolation: str = "bicubic"
) -> Shaped[Tensor, "c m n"]:
    """x moved by g: by index as far as quarter turns go, the rest resampled once.

    Without `fill` it is the largest upright rectangle inside, which all comes from x; with one, a value for each channel, the
    canvas is kept, and its corners have that colour.
    """
    quarter, angle = in_quarters(g)
    x = act(quarter, x[None])
    if abs(angle) < 1e-6:
        return x[0]
    rest = g @ inverse(quarter)
    moved = act(rest, x, kinds.Image(interpolation, border="edge"))
    if x.dtype.is_floating_point and len(known := x[x.isfinite()]):
        moved = moved.clamp(known.min(), known.max())  # between two pixels a cubic may be brighter than both
    if fill is None:
        return _middle(moved, largest_rectangle(x.shape[3], x.shape[2], angle))[0]
    exact = torch.float64 if x.dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
    plain = "nearest" if interpolation == "nearest" else "bilinear"
    inside = act(rest, torch.ones(1, 1, *x.shape[2:], dtype=exact, device=x.device), kinds.Image(plain))
    colour = torch.tensor(list(fill), dtype=exact, device=x.device)[:, None, None]
    filled = moved.to(exact) * inside + colour * (1 - inside)
    return (filled if x.dtype.is_floating_point else filled.round()).to(x.dtype)[0]


def _middle(x: Shaped[Tensor, "b c h w"], size: tuple[float, float]) -> Shaped[Tensor, "b c m n"]:
    """As much of the middle as fits into that width and height, at least a pixel or two."""
    left, top = (min((n - 1) // 2, math.ceil((n - m) / 2 - 1e-6)) for n, m in zip(x.shape[:1:-1], size, strict=True))
    return x[..., top : x.shape[2] - top, left : x.shape[3] - left]


# ------------------------------------------------------------------------------------------------------------ pictures


def moved(image: "Image", g: Float[Tensor, "1 3 3"], fill: str | None = None) -> "Image":
    """The image moved by g as `turned` says, in its own mode: palettes, CMYK, 16 bits and transparency stay what they are.

    fill: a colour as pillow writes them, "white" or "#808080". Raises ValueError where the mode has no such colour.
    """
    quarter, angle = in_quarters(g)
    result = _transposed(image, quarter)
    if abs(angle) >= 1e-6:
        result = _resampled(result, g @ inverse(quarter), None if fill is None else colour_of(image, fill))
    result.info, result.format = image.info.copy(), image.format
    return result


# how pillow calls the elements of D4, by the linear part of their matrix (x right, y down)
TRANSPOSES = {
    (0, 1, -1, 0): "ROTATE_90",
    (-1, 0, 0, -1): "ROTATE_180",
    (0, -1, 1, 0): "ROTATE_270",
    (-1, 0, 0, 1): "FLIP_LEFT_RIGHT",
    (1, 0, 0, -1): "FLIP_TOP_BOTTOM",
    (0, 1, 1, 0): "TRANSPOSE",
    (0, -1, -1, 0): "TRANSVERSE",
}


def transpose_of(quarter: Float[Tensor, "1 3 3"]) -> str | None:
    """How pillow calls an element of D4; None for the identity."""
    return TRANSPOSES.get(tuple(round(entry) for entry in quarter[0, :2, :2].flatten().tolist()))


def composed(quarter: Float[Tensor, "1 3 3"], before: str | None) -> Float[Tensor, "1 3 3"]:
    """An element of D4 after one that pillow has a name for."""
    if before is None:
        return quarter
    known = next(g for g in SQUARE.elements.to(quarter).split(1) if transpose_of(g) == before)
    return quarter @ known


def _transposed(image: "Image", quarter: Float[Tensor, "1 3 3"]) -> "Image":
    """By pillow itself, which moves bytes."""
    from PIL.Image import Transpose

    name = transpose_of(quarter)
    return image.copy() if name is None else image.transpose(Transpose[name])


def _resampled(image: "Image", g: Float[Tensor, "1 3 3"], fill: Sequence[float] | None) -> "Image":
    import PIL.Image

    array = np.asarray(image)
    wide = array.astype(np.int32) if array.dtype.kind == "u" and array.dtype.itemsize == 2 else array
    channels = torch.from_numpy(np.array(np.atleast_3d(wide))).permute(2, 0, 1)
    if image.mode in ("RGBA", "LA"):
        channels, fill = _veiled(channels.float()), None if fill is None else _veiled(torch.tensor(fill)).tolist()
    values = turned(channels, g, fill, "nearest" if image.mode in INDEXED else "bicubic")
    values = _unveiled(values) if image.mode in ("RGBA", "LA") else values
    values = values.permute(1, 2, 0)
    pixels = values.reshape(values.shape[:2] + array.shape[2:]).numpy().astype(array.dtype)
    data = np.packbits(pixels, axis=1) if image.mode == "1" else np.ascontiguousarray(pixels)
    result = PIL.Image.frombytes(image.mode, pixels.shape[1::-1], data.tobytes())
    if image.palette is not None:
        result.putpalette(image.palette)
    return result


def _veiled(x: Float[Tensor, "c ..."]) -> Float[Tensor, "c ..."]:
    """Colours times their opacity, the last channel, so that what is transparent lends no colour to its neighbours."""
    return torch.cat([x[:-1] * x[-1:] / 255, x[-1:]])


def _unveiled(x: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    x = x.clamp(0, 255)
    colours = torch.where(x[-1:] > 0, x[:-1] * 255 / x[-1:].clamp(min=1e-3), 0)
    return torch.cat([colours.clamp(0, 255), x[-1:]]).round()


def check_colour(colour: str) -> None:
    """Raise ValueError for what pillow knows no colour by."""
    import PIL.ImageColor

    try:
        PIL.ImageColor.getrgb(colour)
    except (ValueError, AttributeError):
        raise ValueError(f'fill is a colour such as "white", "#808080" or "rgb(9, 9, 9)"; got {colour!r}') from None


def values_of(colour: str, x: Shaped[Tensor, "b c h w"]) -> list[float]:
    """The values of a colour in grey or RGB tensors: 0 to the greatest whole number, of floats 0 to 1. Raises ValueError."""
    import PIL.ImageColor

    if x.shape[1] not in (1, 3):
        raise ValueError(f"a colour fills 1 or 3 channels; the photos have {x.shape[1]}: leave fill out")
    most = 1.0 if x.dtype.is_floating_point else float(torch.iinfo(x.dtype).max)
    values = np.atleast_1d(PIL.ImageColor.getcolor(colour, "L" if x.shape[1] == 1 else "RGB"))
    return [float(value) / 255 * most for value in values]


def colour_of(image: "Image", colour: str) -> list[float]:
    """The values that a colour has in the mode of an image; of a palette its nearest entry. Raises ValueError."""
    import PIL.Image
    import PIL.ImageColor

    patch = PIL.Image.new("RGBA", (1, 1), PIL.ImageColor.getcolor(colour, "RGBA"))
    plain = np.asarray(patch.convert("RGB"))[0, 0]
    try:
        if image.mode in ("P", "PA"):
            entries = np.array(image.getpalette("RGB"), int).reshape(-1, 3)
            return [float(np.square(entries - plain).sum(1).argmin()), 255.0][: len(image.mode)]
        if image.mode.startswith("I") or image.mode == "F":
            return [float(np.asarray(patch.convert("L"))[0, 0]) / 255 * white(image, np.asarray(image))]
        values = patch if image.mode in ("RGBA", "LA") else patch.convert("RGB")
        return [float(value) for value in np.atleast_1d(np.asarray(values.convert(image.mode))[0, 0])]
    except ValueError:  # of pillow, which does not make every mode of another, and of an empty palette
        raise ValueError(f"fill: a picture of mode {image.mode} has no colour {colour!r}: leave fill out, to crop") from None
