"""JPEG files turned without loss, and what is said of them in their own headers."""

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from equiform.images.files import ORIENTATION, SHOWN_BY
from equiform.images.jpeg import OPERATIONS, encoding, exif_without_orientation, turned_jpeg
from equiform.images.level import SQUARE, composed, transpose_of

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def jpeg(width=64, height=48, mode="RGB", **options):
    """A coarse coloured picture as a JPEG."""
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def pixels(data):
    return np.asarray(opened(data)).astype(int)


@pytest.fixture(autouse=True)
def turner():
    pytest.importorskip("turbojpeg")


@pytest.mark.parametrize("mode, options", [("RGB", {"subsampling": 0}), ("L", {}), ("CMYK", {"subsampling": 0})])
@pytest.mark.parametrize("name", OPERATIONS)
def test_blocks_are_moved_and_nothing_is_lost(name, mode, options):
    data = jpeg(mode=mode, **options)
    turned = turned_jpeg(data, name, b"")
    expected = opened(data) if name == "NONE" else opened(data).transpose(Image.Transpose[name])
    assert np.abs(pixels(turned) - np.asarray(expected).astype(int)).max() <= 2, "the rounding of the decoder"
    back = {"ROTATE_90": "ROTATE_270", "ROTATE_270": "ROTATE_90"}.get(name, name)
    assert np.array_equal(pixels(turned_jpeg(turned, back, b"")), pixels(data)), "to the bit, as often as you like"
    kept, source = opened(turned), opened(data)
    assert sorted(map(sorted, kept.quantization.values())) == sorted(map(sorted, source.quantization.values()))
    lossy = io.BytesIO()
    expected.save(lossy, "JPEG", **encoding(source))
    assert opened(lossy.getvalue()).quantization == source.quantization, "what comes nearest to it where it cannot be done"


def test_what_does_not_fit_the_blocks_is_not_done():
    assert turned_jpeg(jpeg(60, 44), "ROTATE_90", b"") is None
    assert turned_jpeg(b"no JPEG", "ROTATE_90", b"") is None
    assert turned_jpeg(jpeg(64, 44, subsampling=0), "ROTATE_180", b"") is None
    assert turned_jpeg(jpeg(64, 40, subsampling=0), "ROTATE_180", b"") is not None, "blocks of 8"
    assert turned_jpeg(jpeg(64, 40, subsampling=2), "ROTATE_180", b"") is None, "blocks of 16"
    assert turned_jpeg(jpeg(64, 44, subsampling=0), "ROTATE_90", b"") is not None, "the side that is turned round counts"


@pytest.mark.parametrize("orientation", SHOWN_BY)
def test_a_turned_file_is_stored_as_it_is_shown(orientation):
    """Whatever its EXIF said: entries stay, the orientation and the small picture inside go, in XMP too."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = orientation, "camera maker"
    data = jpeg(exif=exif, xmp=XMP % orientation, subsampling=0, icc_profile=b"profile")
    shown = np.asarray(opened(data).transpose(Image.Transpose[SHOWN_BY[orientation]])).astype(int)
    quarter = next(g for g in SQUARE.elements.split(1) if transpose_of(g) == "ROTATE_90")
    name = transpose_of(composed(quarter, SHOWN_BY[orientation])) or "NONE"
    turned = turned_jpeg(data, name, exif_without_orientation(opened(data)))
    assert np.abs(pixels(turned) - np.rot90(shown)).max() <= 2
    image = opened(turned)
    assert (image.getexif().get(ORIENTATION, 1), image.getexif()[0x010F]) == (1, "camera maker")
    assert image.info["xmp"] == XMP % 1
    assert image.info["icc_profile"] == b"profile"


def test_of_several_pictures_the_first_stays_alone():
    first, second = opened(jpeg()), opened(jpeg(32, 32))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert opened(file.getvalue()).format == "MPO"
    turned = turned_jpeg(file.getvalue(), "ROTATE_90", b"")
    assert opened(turned).format == "JPEG"
    assert opened(turned).size == (48, 64)


def test_how_a_file_was_encoded_is_read():
    source = opened(jpeg(quality=37, subsampling=1, progressive=True))
    file = io.BytesIO()
    source.convert("RGB").rotate(0).save(file, "JPEG", **encoding(source))
    again = opened(file.getvalue())
    assert (again.quantization, JpegImagePlugin.get_sampling(again)) == (source.quantization, 1)
    assert again.info["progressive"]
