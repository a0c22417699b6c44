"""Reading image files as people have them: rotated by EXIF, CMYK, 16-bit, palettes, truncated, far too large."""

import contextlib
import json
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import IterableDataset

from .._checks import reason

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"})
Normalisation = tuple[Sequence[float], Sequence[float]]
MAX_MEGAPIXELS = 178  # the limit at which pillow takes a file for a decompression bomb
ORIENTATION = 0x0112  # the EXIF tag
# how a picture with that orientation is moved to be shown, as pillow calls it
SHOWN_BY = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270"}
SHOWN_BY |= {7: "TRANSVERSE", 8: "ROTATE_90"}


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names the file and the reason in one line."""


class MissingImage(UnreadableImage, FileNotFoundError):
    """An image file that is not there, or no longer."""


def find_images(path: str | Path) -> list[Path]:
    """The image files below a folder, sorted, hidden ones left out; a file is itself.

    A folder that cannot be listed is among them, so that reading it tells of it.
    Raises FileNotFoundError where there is nothing, ValueError for a folder without images.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"no file or folder {path}")
    found = [path / name for name in walk(path)]
    if not found:
        raise no_images(path)
    return found


def no_images(path: Path) -> ValueError:
    """The error of a folder without images."""
    return ValueError(f"no images in {path} or below it; known endings: {' '.join(sorted(SUFFIXES))}")


def walk(folder: str | Path, skip: Path | None = None) -> Iterator[str]:
    """The names of the image files below a folder, relative to it, in sorted order, one folder of it in memory at a time.

    A folder that cannot be listed is among them, "." where it is the first. `skip`: a folder, resolved, that is left out.
    """
    try:
        with os.scandir(folder) as entries:
            wanted = (name for entry in entries if (name := _wanted(entry, skip)))
            inner = sorted(wanted, key=lambda name: name.removesuffix("/"))
    except OSError:
        yield "."
        return
    for name in inner:
        if not name.endswith("/"):
            yield name
            continue
        for below in walk(Path(folder, name), skip):
            yield name[:-1] if below == "." else name + below


def _wanted(entry: os.DirEntry[str], skip: Path | None) -> str:
    """The name of a folder, with a slash, or of an image file; nothing of others, of pipes and devices, and of hidden ones."""
    if entry.name.startswith("."):
        return ""
    if entry.is_dir(follow_symlinks=False):
        return "" if skip is not None and entry.name == skip.name and Path(entry.path).resolve() == skip else entry.name + "/"
    if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:  # noqa: PTH122  (a million times)
        return ""
    try:
        return entry.name if stat.S_ISREG(entry.stat().st_mode) else ""
    except OSError:  # a link to nothing, say: told of when it is read
        return entry.name


def open_image(path: str | Path, *, at_least: int | None = None) -> "Image":
    """The first frame, decoded and turned as its EXIF orientation says, in the file's own mode; `.format` is the file's.

    `at_least`: a side of pixels that is enough, which lets large JPEGs decode at a fraction of their size.
    Raises UnreadableImage for a damaged file, a file that is no image, or one above 178 megapixels.
    """
    with opened(path) as image:
        if at_least:
            image.draft(None, (at_least, at_least))
        image.load()
        return exif_upright(image)


def open_finite(path: str | Path, *, at_least: int | None = None) -> "Image":
    """As `open_image`; raises UnreadableImage for pixels that are not finite too: nothing is learnt or measured on them."""
    image = open_image(path, at_least=at_least)
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        raise UnreadableImage(f"{path}: has pixels that are not finite")
    return image


def open_pages(path: str | Path) -> Iterator["Image"]:
    """As `open_image`, for every page of a TIFF, one after another; of any other file the first frame."""
    with opened(path) as image:
        for page in range(image.n_frames if image.format == "TIFF" else 1):
            image.seek(page)
            _check_size(image)
            image.load()
            yield exif_upright(image)


def exif_upright(image: "Image") -> "Image":
    """The image turned as its EXIF orientation says."""
    import PIL.ImageOps

    upright = PIL.ImageOps.exif_transpose(image)
    upright.format = image.format  # pillow forgets it
    return upright


def frames_and_orientation(path: str | Path) -> tuple[int, int]:
    """How many pictures a file holds, and its EXIF orientation, 1 where it says none. Raises UnreadableImage."""
    with opened(path) as image:
        # the second picture of an MPO, as phones write them, is a preview or a depth map
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        return frames, image.getexif().get(ORIENTATION, 1)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """The file opened by pillow, with whatever goes wrong in the block as an UnreadableImage."""
    if str(path).startswith(("http://", "https://")):
        raise FileNotFoundError(f"no file {path}: photos are files on this machine, download it first")
    if Path(path).is_dir():
        raise UnreadableImage(f"{path}: a folder that cannot be listed")
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns of odd metadata and of large images; here they are read or refused
            with PIL.Image.open(path) as image:
                _check_size(image)
                yield image
    except FileNotFoundError:
        raise MissingImage(f"no file {path}") from None
    except PIL.Image.DecompressionBombError:
        raise UnreadableImage(f"{path}: more than {MAX_MEGAPIXELS} megapixels; make it smaller first") from None
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, ValueError, struct.error, EOFError
        said = reason(error)
        said = "not an image, or of an unknown format" if "cannot identify" in said else said
        raise UnreadableImage(f"{path}: {said}") from None


def _check_size(image: "Image") -> None:
    import PIL.Image

    if image.width * image.height > MAX_MEGAPIXELS * 1_000_000:
        raise PIL.Image.DecompressionBombError  # pillow itself leaves some formats unchecked


def rgb(image: "Image") -> "Image":
    """Eight-bit RGB: 16-bit is scaled by its depth, palettes and CMYK converted, transparency laid on white."""
    import PIL.Image

    if image.mode.startswith("I") or image.mode == "F":
        values = _finite(np.asarray(image).astype(np.float64))
        image = PIL.Image.fromarray((values / white(image, values) * 255).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _finite(values: np.ndarray) -> np.ndarray:
    """The values with NaN and infinite ones (no data) replaced by the mean of the others."""
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, values[finite].mean() if finite.any() else 0.0)


def white(image: "Image", values: np.ndarray) -> float:
    """The value of white: what the depth of the file says, and the brightest pixel where it says nothing (32 bits, floats)."""
    # pillow scales any PGM to 16 bits, and its older releases give 16-bit PNG files as mode I
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 65535.0
    brightest = values.max(initial=0)
    if image.mode == "I":
        return 65535.0 if brightest > 255 else 255.0
    return 255.0 if brightest > 1 else 1.0


def to_tensor(image: "Image") -> UInt8[Tensor, "3 h w"]:
    """The pixels of an image as RGB."""
    return torch.from_numpy(np.array(rgb(image))).permute(2, 0, 1).contiguous()


def to_look_at(path: str | Path, enough: int | None) -> tuple[UInt8[Tensor, "3 h w"], tuple[int, int]]:
    """The pixels of an image file as RGB, of which a thumbnail is to be made, and (h, w) as it is shown.

    `enough`: a side of pixels that is enough; a picture of twice that and more is reduced at once, a JPEG as it is decoded, so
    that few of them are in memory. None: every pixel. Raises UnreadableImage as `open_image` does.
    """
    import PIL.Image

    with opened(path) as image:
        whole = image.size
        drafted = image.draft(None, (enough, enough)) if enough else None
        image.load()
        width, height = whole if drafted else image.size  # pillow turns a TIFF as it loads it
        shown_by, small = SHOWN_BY.get(image.getexif().get(ORIENTATION, 1)), rgb(image)
        factor = min(small.size) // enough if enough else 1
        small = small.reduce(factor) if factor > 1 else small
        if shown_by:
            small = small.transpose(getattr(PIL.Image.Transpose, shown_by))
        across = shown_by is not None and shown_by not in ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM")
        return to_tensor(small), (width, height) if across else (height, width)


def read_square(path: Path, size: int) -> UInt8[Tensor, "3 s s"]:
    """A square thumbnail: the whole image, resized with antialiasing, RGB."""
    import PIL.Image

    image = open_finite(path, at_least=size)
    return to_tensor(rgb(image).resize((size, size), PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))


def is_picture(image: Any) -> bool:
    """Whether it is a PIL image."""
    import PIL.Image

    return isinstance(image, PIL.Image.Image)


def read_squares(
    path: str | Path | Sequence[str | Path], size: int, read: Callable[[Path, int], Tensor] = read_square
) -> tuple[UInt8[Tensor, "n c s s"], list[str]]:
    """Square thumbnails of all readable images below a folder or in a list of files, and a line for each that was skipped.

    `read`: from a file and the size to one square, or to several that are cut from it.
    Raises ValueError where none is readable.
    """
    squares, skipped = [], []
    for file in find_images(path) if isinstance(path, (str, Path)) else map(Path, path):
        try:
            found = read(file, size)
            squares.append(found.reshape(-1, *found.shape[-3:]))
        except UnreadableImage as error:
            skipped.append(str(error))
    if not squares:
        where = f"in {path}" if isinstance(path, (str, Path)) else "of the list"
        raise ValueError(f"none of the {len(skipped)} images {where} can be read; the first: {skipped[0]}")
    return torch.cat(squares), skipped


def normalised(images: Tensor, normalisation: Normalisation | None) -> Tensor:
    """RGB (..., 3, h, w) in [0, 1], minus the mean and divided by the deviation per channel; unchanged for None."""
    if normalisation is None:
        return images
    mean, deviation = (torch.tensor(values).to(images)[:, None, None] for values in normalisation)
    return (images - mean) / deviation


class ImageFiles(IterableDataset):
    """(thumbnail, label) of each file, a square in [0, 1], normalised; in `skipped` is a line for every other file.

    `left_out`: the lines of those that are not to be read.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], size: int, left_out: Sequence[str] = ()):
        self.files, self.size, self.left_out = list(files), size, left_out
        self.normalisation: Normalisation | None = None
        self.skipped: list[str] = [*left_out]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        self.skipped[:] = self.left_out
        for file, label in self.files:
            try:
                image = read_square(file, self.size).float() / 255
            except UnreadableImage as error:
                self.skipped.append(str(error))
                continue
            yield normalised(image, self.normalisation), label


class LabelledImages(ImageFiles):
    """The images of a folder with a subfolder for each class, with their class indices, class by class in turn.

    Those beside the subfolders have no class, and are skipped.
    """

    def __init__(self, folder: Path, labels: Path | None, size: int):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        classes = [path for path in inside if path.is_dir()]
        if not classes:
            raise ValueError(f"{folder} has no subfolders: one for each class is expected, such as {folder}/cats/1.jpg")
        self.index = {path.name: i for i, path in enumerate(classes)}
        if labels is not None:
            self.index = read_labels(labels, list(self.index))
        rows = zip_longest(*([(file, self.index[path.name]) for file in find_images(path)] for path in classes))
        images = [path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()]
        beside = [f"{path}: in no subfolder, so it has no class" for path in images]
        super().__init__([pair for pair in chain(*rows) if pair is not None], size, beside)


def read_labels(path: Path, classes: list[str]) -> dict[str, int]:
    """The class index of each subfolder. Raises FileNotFoundError, or ValueError naming the subfolders that are missing."""
    if not path.is_file():
        raise FileNotFoundError(f'no file {path}; it should hold the class index of each subfolder, {{"cats": 281, ...}}')
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {reason(error)}") from None
    if not isinstance(labels, dict) or not all(type(index) is int and index >= 0 for index in labels.values()):
        raise ValueError(f'{path} should hold the class index of each subfolder, {{"cats": 281, ...}}')
    if missing := [name for name in classes if name not in labels]:
        raise ValueError(f"{path} says nothing of {len(missing)} of {len(classes)} subfolders: {', '.join(missing[:20])}")
    return {name: labels[name] for name in classes}
