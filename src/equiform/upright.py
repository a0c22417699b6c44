"""Turning photos upright: as a step of a chain, or file by file, each in its own mode and format, beside the pose found."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ._checks import reason
from ._files import write
from .canonicalizers.base import Canonicalizer
from .geometry.groups import inverse
from .geometry.moving import act
from .images.files import (
    UnreadableImage,
    exif_upright,
    find_images,
    frames_and_orientation,
    is_picture,
    open_image,
    to_tensor,
)
from .saving import restore

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("file", "angle", "flip", "confidence", "error")
INDEXED = ("1", "P", "PA")  # values that name a colour: there is nothing between two of them


class Upright(nn.Module):
    """Photos turned upright, as one step of a `torchvision.transforms` chain or before a `transformers.pipeline`.

    canonicalizer: one that was fitted, or the folder, name or repository of a saved one. What comes in comes out, in its own
    type: a PIL image (its EXIF orientation honoured, its mode kept), a path (as a PIL image), an array (h, w, 3) or (h, w), a
    tensor (c, h, w) or (b, c, h, w), or a list of those. Below `min_confidence` a photo is left as it is.

    The answer is not moved back, which is right for classes and text; for boxes and masks use `equiform.adapt`.
    Raises ValueError where the rows of a tensor would end with different canvases: pass a list.
    """

    def __init__(self, canonicalizer: Canonicalizer | str | Path, *, min_confidence: float = 0.0):
        super().__init__()
        if isinstance(canonicalizer, (str, Path)):
            canonicalizer = restore(canonicalizer, _no_predictor, None)[0]
        if not isinstance(canonicalizer, Canonicalizer):
            came = type(canonicalizer).__name__
            raise TypeError(f"Upright takes a canonicalizer (model.canonicalizer), or the folder of a saved one; got a {came}")
        if canonicalizer.group.dim != 2:
            raise ValueError(f"Upright turns photos; {canonicalizer.group.name} moves clouds: take a canonicalizer of C4 or D4")
        if not isinstance(min_confidence, int | float) or not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is a share of the posterior, 0 to 1; got {min_confidence!r}")
        self.canonicalizer, self.min_confidence = canonicalizer.eval(), min_confidence

    @torch.no_grad()
    def forward(self, photo: Any) -> Any:
        """The photo, or each of a list of photos, upright."""
        if isinstance(photo, (list, tuple)):
            return type(photo)(self(one) for one in photo)
        if isinstance(photo, (str, Path)):
            return self(open_image(photo))
        if isinstance(photo, np.ndarray):
            return self._array(photo)
        if isinstance(photo, Tensor):
            upright = self._tensor(photo[None])[0] if photo.ndim == 3 else self._tensor(photo)
            return upright.as_subclass(type(photo))  # torchvision's tv_tensors come out of an operation as plain tensors
        if not is_picture(photo):
            raise TypeError(f"a photo is a path, a PIL image, an array or a tensor; got a {type(photo).__name__}")
        image = exif_upright(photo)
        return moved(image, self._back(to_tensor(image)[None]))

    def _back(self, photos: Tensor) -> Float[Tensor, "b 3 3"]:
        pose = self.canonicalizer(photos)
        sure = (pose.confidence >= self.min_confidence)[:, None, None]
        back = inverse(pose.g)
        return torch.where(sure, back, torch.eye(3).to(back))

    def _tensor(self, photos: Float[Tensor, "b c h w"]) -> Tensor:
        return act(self._back(photos), photos)

    def _array(self, photo: np.ndarray) -> np.ndarray:
        channels = (1, 3, self.canonicalizer.channels)
        if photo.ndim not in (2, 3) or (photo.ndim == 3 and photo.shape[2] not in channels):
            tensor = photo.ndim == 3 and photo.shape[0] in channels
            way_out = "channels first are for a tensor, torch.from_numpy(x)" if tensor else "PIL images may have any mode"
            raise ValueError(f"an array has shape (h, w, 3) or (h, w); got {photo.shape}: {way_out}")
        channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.atleast_3d(photo), -1, 0)))
        upright = np.moveaxis(self._tensor(channels_first[None])[0].numpy(), 0, -1)
        return np.ascontiguousarray(upright.reshape(upright.shape[: photo.ndim]))


def _no_predictor(x: Any) -> Any:
    raise TypeError("a training-free canonicalizer needs its predictor: build it with EnergyCanonicalizer(group, predictor)")


@dataclass(frozen=True)
class Turned:
    """What became of one file: the turn (degrees, counter-clockwise, after a left-right flip) that was undone, or the error."""

    file: Path
    angle: float | None = None
    flip: bool = False
    confidence: float | None = None
    doubtful: bool = False
    error: str = ""


def plan(inputs: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """(source, destination) of every image in files and folders: a folder's inner folders are kept below `out`.

    Raises FileNotFoundError or ValueError where there is nothing to read, or where a source or another result would be
    overwritten.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; the results need a folder")
    pairs: dict[Path, Path] = {}
    for given in inputs:
        if given.is_dir() and given.resolve() == out.resolve():
            raise ValueError(f"{out} is the input folder, and its photos would be overwritten: choose another folder for --out")
        inside = given.is_dir() and out.resolve().is_relative_to(given.resolve())
        for source in find_images(given):
            if inside and source.resolve().is_relative_to(out.resolve()):
                continue  # what an earlier run wrote is no input
            destination = out / (source.relative_to(given) if given.is_dir() else source.name)
            other = pairs.setdefault(destination, source)
            if other.resolve() != source.resolve():
                raise ValueError(
                    f"{other} and {source} would both be written to {destination}: give the folder that holds them"
                )
    if not pairs:
        raise ValueError(f"no images but those that an earlier run wrote to {out}")
    sources = {source.resolve() for source in pairs.values()}
    for destination, source in pairs.items():
        if destination.resolve() in sources:
            raise ValueError(f"{source} would overwrite {destination}, an input: choose another folder for --out")
    return [(source, destination) for destination, source in pairs.items()]


def turn_files(
    files: Sequence[tuple[Path, Path]], canonicalizer: Canonicalizer, min_confidence: float = 0.0
) -> Iterator[Turned]:
    """Write every (source, destination) upright, one at a time, and tell what became of it.

    Below `min_confidence` an image is left as it is. A file that cannot be read, turned or written is told of and skipped. An
    image that needs no turn is copied byte by byte.
    """
    for source, destination in files:
        try:
            yield _turn_file(source, destination, canonicalizer, min_confidence)
        except UnreadableImage as error:
            yield Turned(source, error=str(error))
        except (OSError, MemoryError, RuntimeError, ValueError) as error:  # torch raises RuntimeError where memory ends
            yield Turned(source, error=f"{source}: {reason(error)}")


@torch.no_grad()
def _turn_file(source: Path, destination: Path, canonicalizer: Canonicalizer, min_confidence: float) -> Turned:
    image = open_image(source)
    pose = canonicalizer(to_tensor(image)[None])
    confidence, index = float(pose.confidence[0]), int(pose.index[0])
    doubtful = confidence < min_confidence
    index = 0 if doubtful else index
    destination.parent.mkdir(parents=True, exist_ok=True)
    frames, orientation = frames_and_orientation(source)
    if index == 0 and orientation == 1:
        write(destination, source.read_bytes())
    elif frames > 1:
        raise UnreadableImage(f"{source}: has {frames} frames, and only single pictures are turned")
    else:
        write(destination, _encoded(moved(image, inverse(canonicalizer.elements[index][None])), source))
    (angle,), (flip,) = canonicalizer.group.angles(canonicalizer.elements[index][None])
    return Turned(source, angle, flip, confidence, doubtful)


def moved(image: "Image", g: Float[Tensor, "1 3 3"]) -> "Image":
    """The image moved by g in its own mode: palettes, CMYK, 16 bits and transparency stay what they are."""
    result = _transposed(image, g)
    result = _resampled(image, g) if result is None else result
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


def _transposed(image: "Image", g: Float[Tensor, "1 3 3"]) -> "Image | None":
    """By pillow itself, which moves bytes; None where g is no element of D4."""
    from PIL.Image import Transpose

    linear = g[0, :2, :2].flatten().tolist()
    if linear == [1, 0, 0, 1]:
        return image.copy()
    name = TRANSPOSES.get(tuple(round(entry) for entry in linear))
    exact = all(abs(entry - round(entry)) < 1e-6 for entry in linear)
    return image.transpose(Transpose[name]) if name is not None and exact else None


def _resampled(image: "Image", g: Float[Tensor, "1 3 3"]) -> "Image":
    import PIL.Image

    array = np.asarray(image)
    wide = array.astype(np.int32) if array.dtype.kind == "u" and array.dtype.itemsize == 2 else array
    channels = torch.from_numpy(np.array(np.atleast_3d(wide))).permute(2, 0, 1)[None]
    back = act(g, channels, "mask" if image.mode in INDEXED else "image")[0].permute(1, 2, 0)
    pixels = back.reshape(back.shape[:2] + array.shape[2:]).numpy().astype(array.dtype)
    data = np.packbits(pixels, axis=1) if image.mode == "1" else np.ascontiguousarray(pixels)
    result = PIL.Image.frombytes(image.mode, pixels.shape[1::-1], data.tobytes())
    if image.palette is not None:
        result.putpalette(image.palette)
    return result


def _encoded(image: "Image", source: Path) -> bytes:
    """The file of an image in its own format, with its EXIF, colour profile and transparency; lossy formats at high quality."""
    name = "JPEG" if image.format == "MPO" else image.format
    keep = ("exif", "icc_profile", "dpi", "transparency", "compression")
    options = {key: image.info[key] for key in keep if image.info.get(key) is not None}
    if name in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = 95
    file = io.BytesIO()
    try:
        image.save(file, format=name, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableImage(f"{source}: cannot be written as {name}: {reason(error)}") from None
    return file.getvalue()


def tabled(results: Iterable[Turned], path: Path) -> Iterator[Turned]:
    """The same results, each written to a CSV as soon as it comes, in the order of COLUMNS: a kill keeps what was done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for result in results:
            known = result.angle is not None and result.confidence is not None
            pose = (f"{result.angle:g}", int(result.flip), f"{result.confidence:.4f}") if known else ("", "", "")
            table.writerow([result.file, *pose, result.error])
            file.flush()
            yield result
