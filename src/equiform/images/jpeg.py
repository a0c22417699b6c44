"""JPEG files turned without loss, by moving the blocks of their coefficients; and what encodes one as it was."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .files import ORIENTATION

if TYPE_CHECKING:
    from PIL.Image import Image

# pillow turns counter-clockwise, libjpeg-turbo clockwise
OPERATIONS = {
    "NONE": "NONE",
    "ROTATE_90": "ROT270",
    "ROTATE_180": "ROT180",
    "ROTATE_270": "ROT90",
    "FLIP_LEFT_RIGHT": "HFLIP",
    "FLIP_TOP_BOTTOM": "VFLIP",
    "TRANSPOSE": "TRANSPOSE",
    "TRANSVERSE": "TRANSVERSE",
}
SCAN, APP1, APP2 = 0xDA, 0xE1, 0xE2


def turned_jpeg(data: bytes, transpose: str, exif: bytes) -> bytes | None:
    """The file with its stored picture moved as pillow's `transpose` says, without loss, to be shown as it is stored.

    `exif`: what stands in the place of its own EXIF, or nothing. None where it cannot be: turbojpeg (the extra `jpeg`) is not
    installed, or the sides are no multiple of the blocks, 8 or 16 pixels.
    """
    try:
        import turbojpeg
    except ModuleNotFoundError:
        return None
    try:
        moved = turbojpeg.transform(data, op=getattr(turbojpeg.OP, OPERATIONS[transpose]))
    except RuntimeError:  # not perfect, or a kind of JPEG that it does not know
        return None
    return b"\xff\xd8" + b"".join(_put_right(moved, exif))


def _put_right(data: bytes, exif: bytes) -> Iterator[bytes]:
    """The segments of a JPEG after its first two bytes: EXIF replaced, orientation 1, no index of pictures that are gone."""
    replaced = False
    for marker, segment in _segments(data):
        if marker == APP1 and segment[4:].startswith(b"Exif\0\0"):
            if exif and not replaced:
                yield b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
            replaced = True
        elif marker == APP1:
            yield re.sub(rb'(tiff:Orientation(?:="|>))[2-8]', rb"\g<1>1", segment)
        elif not (marker == APP2 and segment[4:].startswith(b"MPF\0")):
            yield segment


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, segment) of a JPEG, as libjpeg writes it: the last begins with the first scan."""
    at = 2
    while data[at + 1] != SCAN:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at:end]
        at = end
    yield SCAN, data[at:]


def exif_without_orientation(image: "Image") -> bytes:
    """The EXIF of an opened file, less its orientation and the small picture inside, which are no longer right."""
    exif = image.getexif()
    exif.pop(ORIENTATION, None)
    return exif.tobytes() if len(exif) else b""


def encoding(image: Any) -> dict[str, Any]:
    """How an opened JPEG was encoded, as options to save another alike: its tables, its subsampling, whether progressive."""
    from PIL.JpegImagePlugin import get_sampling

    options: dict[str, Any] = {"qtables": image.quantization, "progressive": bool(image.info.get("progressive"))}
    sampling = get_sampling(image)
    return options | ({} if sampling < 0 else {"subsampling": sampling})
