"""The job of `equiform upright`: files turned upright, each in its own mode and format, beside the pose found."""

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .._checks import reason
from .._files import replaced, write
from ..geometry.groups import inverse
from ..images import jpeg
from ..images.files import (
    ORIENTATION,
    SHOWN_BY,
    UnreadableImage,
    frames_and_orientation,
    open_image,
    opened,
    to_look_at,
)
from ..images.level import composed, in_quarters, moved, transpose_of
from ..upright import Found, Upright
from .job import Item, Row, Work, failed, told

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = {"file": "str", "angle": "float", "flip": "int", "confidence": "float", "done": "str", "lossless": "int"}
COLUMNS |= {"error": "str"}
LOSSY = ("JPEG", "WEBP", "AVIF", "JPEG2000")


@dataclass(frozen=True)
class Turning:
    """Write every file upright below `out`; one that lies right as it is shown, or is in doubt, byte by byte.

    `step`: makes the step in the process that works; `scratch`: a folder on the disk of `out`.
    """

    step: Callable[[], Upright]
    out: Path
    scratch: Path

    @property
    def columns(self) -> dict[str, str]:
        return COLUMNS

    def start(self) -> Work:
        step = self.step()
        return lambda items: [self._row(step, item, seen) for item, seen in zip(items, looked_at(step, items), strict=True)]

    def _row(self, step: Upright, item: Item, seen: "Seen | Exception") -> Row:
        try:
            if isinstance(seen, Exception):
                raise seen
            lossless = self._written(step, item, seen)
        except Exception as error:
            return failed(item, COLUMNS, told(item, error)) | {"done": "failed"}
        (angle,), (flip,) = step.canonicalizer.group.angles(seen.likeliest if seen.doubtful else seen.g)
        row = {"file": item.file, "angle": float(angle), "flip": int(flip), "confidence": round(seen.confidence, 4)}
        done = "left alone" if seen.doubtful else "upright already" if seen.stays else "turned"
        return row | {"done": done, "lossless": int(lossless), "error": None}

    def _written(self, step: Upright, item: Item, seen: "Seen") -> bool:
        """Write one file; whether nothing of it was lost."""
        place = self.out / item.destination
        place.parent.mkdir(parents=True, exist_ok=True)
        if seen.stays:
            with item.source.open("rb") as source, replaced(place, self.scratch) as part, part.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            return True
        data, lossless = upright_file(item.source, inverse(seen.g), step.fill)
        write(place, data, self.scratch)
        return lossless


class Seen(NamedTuple):
    """The turn of one photo, how sure that is, whether that is too little, and the likeliest turn then."""

    g: Float[Tensor, "1 3 3"]
    confidence: float
    doubtful: bool
    likeliest: Float[Tensor, "1 3 3"]

    @property
    def stays(self) -> bool:
        return self.doubtful or torch.equal(self.g[0], torch.eye(3).to(self.g))


def looked_at(step: Upright, items: Sequence[Item]) -> list[Seen | Exception]:
    """The turn of every file, or why it cannot be told. In one batch where it looks at thumbnails, else one by one."""
    enough = step.canonicalizer.enough
    if enough is None:
        return [one for item in items for one in _seen_together(step, [item], None)]
    return _seen_together(step, items, enough)


def _seen_together(step: Upright, items: Sequence[Item], enough: int | None) -> list[Seen | Exception]:
    found: list[Any] = []
    for item in items:
        try:
            found.append(to_look_at(item.source, enough))
        except Exception as error:
            found.append(error)
    good = [one for one in found if not isinstance(one, Exception)]
    try:
        poses = iter(_split(step.find([photo for photo, _ in good], [size for _, size in good]))) if good else iter(())
    except Exception as error:
        if len(items) > 1:  # whose fault is it?
            return [one for item in items for one in _seen_together(step, [item], enough)]
        return [error]
    return [one if isinstance(one, Exception) else next(poses) for one in found]


def _split(found: Found) -> list[Seen]:
    rows = zip(found.g.split(1), found.confidence.tolist(), found.doubtful.tolist(), found.likeliest.split(1), strict=True)
    return [Seen(*row) for row in rows]


def upright_file(path: Path, g: Float[Tensor, "1 3 3"], fill: str | None) -> tuple[bytes, bool]:
    """The file of a picture moved by g as it is shown, in its own format, and whether nothing was lost.

    A JPEG by a quarter turn is moved block by block where its size allows it; else it is encoded as it was. EXIF, colour
    profile and transparency are kept, and it is stored as it is to be shown. Raises UnreadableImage.
    """
    frames, _ = frames_and_orientation(path)
    if frames > 1:
        raise UnreadableImage(f"{path}: has {frames} frames, and only single pictures are turned")
    quarter, rest = in_quarters(g)
    on_grid = abs(rest) < 1e-6
    with opened(path) as image:
        kind = "JPEG" if image.format == "MPO" else image.format
        options = jpeg.encoding(image) if kind == "JPEG" else {"quality": 95} if kind in LOSSY else {}
        shown_by, exif = SHOWN_BY.get(image.getexif().get(ORIENTATION, 1)), jpeg.exif_without_orientation(image)
    if kind == "JPEG" and on_grid:
        data = jpeg.turned_jpeg(path.read_bytes(), transpose_of(composed(quarter, shown_by)) or "NONE", exif)
        if data is not None:
            return data, True
    image = moved(open_image(path), g, fill)
    return _encoded(image, path, kind, options), on_grid and kind not in LOSSY


def _encoded(image: "Image", source: Path, kind: str, options: dict[str, Any]) -> bytes:
    """The file of an image in a format, with its EXIF, colour profile and transparency."""
    keep = ("exif", "icc_profile", "dpi", "transparency", "compression")
    kept = {key: image.info[key] for key in keep if image.info.get(key) is not None}
    file = io.BytesIO()
    try:
        image.save(file, format=kind, **kept, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableImage(f"{source}: cannot be written as {kind}: {reason(error)}") from None
    return file.getvalue()
