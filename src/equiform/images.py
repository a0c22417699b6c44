"""Reading image files as people have them: rotated by EXIF, CMYK, 16-bit, palettes, truncated, far too large."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ._optional import optional

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"})
MAX_MEGAPIXELS = 178  # the limit at which pillow takes a file for a decompression bomb


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names the file and the reason in one line."""


def find_images(path: str | Path) -> list[Path]:
    """The image files below a folder, sorted, hidden ones left out; a file is itself.

    Raises FileNotFoundError where there is nothing, ValueError for a folder without images.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"no file or folder {path}")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not found:
        raise ValueError(f"no images in {path} or below it; known endings: {' '.join(sorted(SUFFIXES))}")
    return found


def open_image(path: str | Path, *, at_least: int | None = None) -> "Image":
    """The first frame, decoded and turned as its EXIF orientation says, in the file's own mode.

    `at_least`: a side of pixels that is enough, which lets large JPEGs decode at a fraction of their size.
    Raises UnreadableImage for a damaged file, a file that is no image, or one above 178 megapixels.
    """
    pillow, ops = optional("PIL.Image", "all"), optional("PIL.ImageOps", "all")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns of odd metadata and of large images; here they are read or refused
            with pillow.open(path) as image:
                if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
                    raise pillow.DecompressionBombError  # pillow itself leaves some formats unchecked
                if at_least:
                    image.draft(None, (at_least, at_least))
                image.load()
                return ops.exif_transpose(image)
    except FileNotFoundError:
        raise
    except pillow.DecompressionBombError:
        raise UnreadableImage(f"{path}: more than {MAX_MEGAPIXELS} megapixels; make it smaller first") from None
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, ValueError, struct.error, EOFError
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = "not an image, or of an unknown format" if "cannot identify" in reason else reason
        raise UnreadableImage(f"{path}: {reason}") from None


def rgb(image: "Image") -> "Image":
    """Eight-bit RGB: 16-bit is scaled, palettes and CMYK converted, transparency laid on white."""
    pillow = optional("PIL.Image", "all")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        sixteen_bit = image.mode.startswith("I") and values.max(initial=0) > 255
        top = 65535.0 if sixteen_bit else 255.0 if values.max(initial=0) > 1 else 1.0
        image = pillow.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = pillow.new("RGBA", image.size, "white")
        image = pillow.alpha_composite(white, image)
    return image.convert("RGB")


def to_tensor(image: "Image") -> UInt8[Tensor, "3 h w"]:
    """The pixels of an image as RGB."""
    return torch.from_numpy(np.array(rgb(image))).permute(2, 0, 1).contiguous()


def read_square(path: Path, size: int) -> UInt8[Tensor, "3 s s"]:
    """The whole image squeezed to a square with antialiasing, RGB."""
    image = rgb(open_image(path, at_least=size))
    return to_tensor(image.resize((size, size), optional("PIL.Image", "all").Resampling.BILINEAR, reducing_gap=2.0))


def read_squares(path: str | Path, size: int) -> tuple[UInt8[Tensor, "n 3 s s"], list[str]]:
    """All readable images below a folder as squares, and a line for each that was skipped. At most 3 s^2 bytes an image.

    Raises ValueError where none is readable.
    """
    squares, skipped = [], []
    for file in find_images(path):
        try:
            squares.append(read_square(file, size))
        except UnreadableImage as error:
            skipped.append(str(error))
    if not squares:
        raise ValueError(f"none of the {len(skipped)} images in {path} can be read; the first: {skipped[0]}")
    return torch.stack(squares), skipped


def read_images(files: list[Path]) -> Iterator[tuple[Path, UInt8[Tensor, "3 h w"] | UnreadableImage]]:
    """The pixels of each file, or why it cannot be read."""
    for file in files:
        try:
            yield file, to_tensor(open_image(file))
        except UnreadableImage as error:
            yield file, error
