"""Image files as people have them: what is read, what is refused, and that one bad file leaves the others alone."""

import csv
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin
from typer.testing import CliRunner

import equiform
from asserting import refused
from equiform import OrbitCanonicalizer
from equiform.cli.main import app
from equiform.images.files import (
    LabelledImages,
    UnreadableImage,
    find_images,
    frames_and_orientation,
    open_image,
    open_pages,
    read_square,
    read_squares,
    to_look_at,
    to_tensor,
)
from equiform.images.level import moved
from equiform.images.views import square_view, squares
from equiform.jobs.job import Item
from equiform.jobs.plan import Roots, found_in
from equiform.jobs.turning import Turning
from equiform.upright import Upright

# Four quarters of different brightness, the brightest top left, not square: no turn or mirror image looks like another.
UPRIGHT = np.kron(np.array([[240, 160], [80, 10]], np.uint8), np.ones((6, 9), np.uint8))
NETWORK = """
import torch
def network():
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 5))
"""
ORIENTATION = 0x0112


def png(width, height, data=b""):
    """A grey PNG of any claimed size."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def in_mode(mode, array=UPRIGHT):
    """The picture in a mode of pillow, with an odd palette and with transparency where the mode has them."""
    grey = Image.fromarray(array)
    if mode == "I;16":
        return Image.fromarray(array.astype(np.uint16) * 257)
    if mode == "1":  # two grey levels cannot tell all poses apart: the pattern of dots does
        return grey.convert("1", dither=Image.Dither.NONE)
    if mode == "P":
        image = Image.fromarray((array.astype(int) * 7 % 256).astype(np.uint8))
        colours = {int(i): int(v) for i, v in zip(np.asarray(image).ravel(), array.ravel(), strict=True)}
        image.putpalette([colours.get(i, 0) for i in range(256) for _ in range(3)])
        image.info["transparency"] = 3
        return image
    image = grey.convert("RGB").convert(mode) if mode == "CMYK" else grey.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.full(array.shape, 200, np.uint8)))
    return image


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A D4 adapter that knows: the brightest quarter belongs top left, the darkest bottom right. Options for the command."""
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "network.py").write_text(NETWORK)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 1))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([4.0, 2.0, -1.0, -3.0]).repeat(3)[None] * 4)
    canonicalizer = OrbitCanonicalizer("D4", network, resolution=8)
    canonicalizer.fitted = True
    equiform.adapt(lambda x: x, "D4", outputs="logits", canonicalizer=canonicalizer).save(folder / "saved")
    return ["--adapter", str(folder / "saved"), "--backbone", f"{folder / 'network.py'}:network"]


def upright(*arguments):
    return CliRunner().invoke(app, ["upright", *map(str, arguments)])


def rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return {Path(row["file"]).name: row for row in csv.DictReader(file)}


# ------------------------------------------------------------------------------------------------------------ reading
def save_bad_images(folder):
    """Files that cannot be read, and for each a part of what is said of it."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(folder / "truncated.jpg")
    data = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("Dear reader, this is no photo.")
    (folder / "empty.png").write_bytes(b"")
    (folder / "huge.png").write_bytes(png(20_000, 15_000))
    (folder / "vast.png").write_bytes(png(200_000, 150_000))
    return {"truncated.jpg": "truncated", "text.jpg": "not an image", "empty.png": "not an image"} | dict.fromkeys(
        ("huge.png", "vast.png"), "more than 178 megapixels; make it smaller first"
    )


def save_odd_images(folder):
    """Files that are unusual and good."""
    folder.mkdir(parents=True, exist_ok=True)
    in_mode("CMYK").save(folder / "cmyk.jpg", quality=95)
    in_mode("I;16").save(folder / "sixteen.png")
    in_mode("P").save(folder / "palette.png", transparency=3)
    in_mode("L").save(folder / "exif.jpg", exif=_exif(6), quality=95)
    Image.new("RGB", (1, 1), "red").save(folder / "one-pixel.png")
    return ["cmyk.jpg", "exif.jpg", "one-pixel.png", "palette.png", "sixteen.png"]


def _exif(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("suffix, mode", [("jpg", "L"), ("png", "P"), ("png", "RGB"), ("tif", "CMYK")])
def test_a_picture_to_be_looked_at_is_reduced_and_as_it_is_shown(tmp_path, suffix, mode, orientation):
    """Twice as large as needed and more: a fraction of its pixels, with the means they had; smaller ones to the bit."""
    large = np.kron(UPRIGHT, np.ones((8, 8), np.uint8))  # 96 by 144
    in_mode(mode, large).save(tmp_path / f"a.{suffix}", exif=_exif(orientation), **({"quality": 95} if suffix == "jpg" else {}))
    shown = to_tensor(open_image(tmp_path / f"a.{suffix}"))
    whole, size = to_look_at(tmp_path / f"a.{suffix}", None)
    assert torch.equal(whole, shown)
    assert size == shown.shape[1:]
    assert torch.equal(to_look_at(tmp_path / f"a.{suffix}", 60)[0], shown), "less than twice as large"
    small, size = to_look_at(tmp_path / f"a.{suffix}", 24)
    assert size == shown.shape[1:] == tuple(4 * side for side in small.shape[1:])
    means = torch.nn.functional.avg_pool2d(shown.float(), 4)
    assert (small.float() - means).abs().mean() < 2


def test_bad_files_are_refused_in_one_line(tmp_path):
    for name, reason in save_bad_images(tmp_path).items():
        with pytest.raises(UnreadableImage, match=reason) as raised:
            open_image(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))
        assert "\n" not in str(raised.value)
        with pytest.raises(UnreadableImage):
            read_square(tmp_path / name, 8)
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "none.png")


def test_odd_files_read_as_they_look(tmp_path):
    names = save_odd_images(tmp_path)
    seen = {name: to_tensor(open_image(tmp_path / name)) for name in names}
    assert seen["one-pixel.png"].tolist() == [[[255]], [[0]], [[0]]]
    wanted = torch.from_numpy(UPRIGHT).expand(3, -1, -1).int()
    for name in ("cmyk.jpg", "sixteen.png"):
        assert (seen[name].int() - wanted).abs().max() <= 6, name
    # EXIF orientation 6: shown after a quarter turn clockwise
    assert (seen["exif.jpg"].int() - torch.rot90(wanted, -1, (1, 2))).abs().max() <= 6
    assert frames_and_orientation(tmp_path / "exif.jpg") == (1, 6)
    opaque = torch.from_numpy(np.asarray(in_mode("P")) != 3)
    assert torch.equal(seen["palette.png"].int()[:, opaque], wanted[:, opaque])


def test_dark_files_and_transparent_ones(tmp_path):
    """The depth of the file says what white is, and not its brightest pixel; eight-bit files of the same numbers are bright."""
    dark = np.full((4, 6), 255, np.uint16)  # of 65535
    Image.fromarray(dark).save(tmp_path / "dark.png")
    Image.fromarray(dark).save(tmp_path / "dark.tif")
    (tmp_path / "dark.pgm").write_bytes(b"P5 6 4 65535 " + dark.astype(">u2").tobytes())
    Image.fromarray(dark.astype(np.uint8)).save(tmp_path / "bright.png")
    Image.fromarray(dark.astype(np.int32)).save(tmp_path / "numbers.tif")  # 32 bits: nothing but the pixels says
    values = {path.name: to_tensor(open_image(path)).unique().tolist() for path in tmp_path.iterdir()}
    assert values == {"dark.png": [1], "dark.tif": [1], "dark.pgm": [1], "bright.png": [255], "numbers.tif": [255]}
    # older releases of pillow give 16-bit PNG files as mode I
    image = Image.fromarray(dark.astype(np.int32))
    image.format = "PNG"
    assert to_tensor(image).unique().tolist() == [1]
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putdata([0, 1])
    image.info["transparency"] = 0
    assert to_tensor(image)[:, 0].mT.tolist() == [[255, 255, 255], [200, 0, 0]]


def test_the_good_files_of_a_folder_are_read(tmp_path):
    bad, good = save_bad_images(tmp_path / "a"), save_odd_images(tmp_path / "b")
    (tmp_path / ".hidden").mkdir()
    in_mode("L").save(tmp_path / ".hidden" / "no.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert len(find_images(tmp_path)) == len(bad) + len(good)
    squares, skipped = read_squares(tmp_path, 8)
    assert squares.shape == (len(good), 3, 8, 8)
    assert len(skipped) == len(bad)
    refused(ValueError, f"none of the {len(bad)} images .* can be read", lambda: read_squares(tmp_path / "a", 8))
    (tmp_path / "nothing").mkdir()
    refused(ValueError, r"no images in .*known endings: .*jpeg", lambda: find_images(tmp_path / "nothing"))
    refused(FileNotFoundError, "no file or folder", lambda: find_images(tmp_path / "nowhere"))


def test_what_is_made_small_is_antialiased(tmp_path):
    """Of noise, a quarter of the side is the mean over squares of pixels, nearly, and not a few of them."""
    noise = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    Image.fromarray(noise[0].permute(1, 2, 0).numpy()).save(tmp_path / "noise.png")
    means = torch.nn.functional.avg_pool2d(noise.float(), 4)[0]
    for small in (squares(noise, 32)[0], square_view(noise, 32)[0], read_square(tmp_path / "noise.png", 32)):
        assert torch.corrcoef(torch.stack([small.flatten().float(), means.flatten()]))[0, 1] > 0.75


def test_what_cannot_be_listed_or_vanishes_is_skipped_and_named(tmp_path, monkeypatch):
    for name in ("a/closed/1.png", "a/gone.png", "a/kept.png", "b/kept.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        in_mode("L").save(tmp_path / name)

    def scandir(path, original=os.scandir):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files = find_images(tmp_path)
    assert tmp_path / "a" / "closed" in files
    data = LabelledImages(tmp_path, None, 4)
    (tmp_path / "a" / "gone.png").unlink()
    for kept, skipped in (read_squares(files, 4), (list(data), data.skipped)):
        assert len(kept) == 2
        assert "closed: a folder that cannot be listed" in skipped[0]
        assert skipped[1] == f"no file {tmp_path / 'a' / 'gone.png'}"


def test_floats_that_are_not_finite(tmp_path):
    """`fit` and `evaluate` name the file; whoever only looks sees the other pixels."""
    pixels = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    pixels[2, 3] = np.nan
    Image.fromarray(pixels).save(tmp_path / "map.tif")
    Image.fromarray(np.nan_to_num(pixels)).save(tmp_path / "whole.tif")
    assert len((found := read_squares(tmp_path, 4))[0]) == 1
    assert found[1] == [f"{tmp_path / 'map.tif'}: has pixels that are not finite"]
    seen, whole = (to_tensor(open_image(tmp_path / name)) for name in ("map.tif", "whole.tif"))
    assert (seen != whole).sum() == 3


def test_images_beside_the_subfolders_are_told_of(tmp_path):
    for name in ("cats/1.png", "dogs/1.png", "loose.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        in_mode("L").save(tmp_path / name)
    data = LabelledImages(tmp_path, None, 4)
    for _ in range(2):
        assert len(list(data)) == 2
        assert data.skipped == [f"{tmp_path / 'loose.png'}: in no subfolder, so it has no class"]


def test_labelled_images(tmp_path):
    for name, value in (("dogs", 255), ("cats", 0)):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("L", (5, 3), value).save(tmp_path / name / f"{i}.png")
    save_bad_images(tmp_path / "dogs")
    data = LabelledImages(tmp_path, None, 4)
    assert data.index == {"cats": 0, "dogs": 1}
    pairs = list(data)
    assert [(float(x.mean()), label) for x, label in pairs] == [(0, 0), (1, 1), (0, 0), (1, 1)], "class by class in turn"
    assert ({x.shape for x, _ in pairs}, len(data.skipped)) == ({(3, 4, 4)}, 5)
    list(data)
    assert len(data.skipped) == 5, "a second pass counts afresh"
    data.normalisation = ([0.5, 0.5, 0.5], [0.25, 0.5, 1.0])
    assert next(iter(data))[0][:, 0, 0].tolist() == [-2.0, -1.0, -0.5]


# ------------------------------------------------------------------------------------------------------------ upright
@pytest.mark.parametrize("suffix, mode", [("png", m) for m in ("L", "I;16", "P", "RGB", "RGBA", "LA")] + [("tif", "CMYK")])
def test_every_pose_comes_back_to_the_bit(tmp_path, adapter, suffix, mode):
    """Each element of D4, in a mode that other tools would convert: pixels, mode, palette and transparency return exactly."""
    original = in_mode(mode)
    (tmp_path / "in").mkdir()
    for flip in (0, 1):
        for k in range(4):
            array = np.rot90(np.asarray(original)[:, ::-1] if flip else np.asarray(original), k)
            size = (array.shape[1], array.shape[0])
            turned = Image.frombytes(mode, size, np.ascontiguousarray(array).tobytes())
            if mode == "P":
                turned.putpalette(original.palette)
            turned.save(tmp_path / "in" / f"{90 * k}-{flip}.{suffix}", **original.info)
    result = upright(tmp_path / "in", "--out", tmp_path / "out", *adapter)
    assert result.exit_code == 0, result.output
    table = rows(tmp_path / "out" / "poses.csv")
    for name, row in table.items():
        assert name == f"{row['angle']}-{row['flip']}.{suffix}", "counter-clockwise, after a left-right flip"
        assert float(row["confidence"]) > 0.5
        with Image.open(tmp_path / "out" / name) as image:
            assert image.mode == mode
            assert image.format == ("TIFF" if suffix == "tif" else "PNG")
            assert np.array_equal(np.asarray(image), np.asarray(original)), name
            assert image.info.get("transparency") == original.info.get("transparency")
            assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(original.convert("RGB")))
    assert len(table) == 8
    assert (tmp_path / "in" / f"0-0.{suffix}").read_bytes() == (tmp_path / "out" / f"0-0.{suffix}").read_bytes()


@pytest.mark.parametrize("group", ["C4", "C8"])
@pytest.mark.parametrize("mode", "1 L LA P PA RGB RGBA CMYK YCbCr HSV LAB I F I;16 I;16B".split())  # noqa: SIM905
def test_images_move_in_their_own_mode(mode, group):
    """Off the grid too, where palettes and bits must not be blended into colours that nobody chose."""
    array = 200 * np.random.default_rng(0).integers(0, 2, (5, 9, len(Image.new(mode, (1, 1)).getbands())), dtype=np.uint8)
    if mode == "1":
        image = Image.fromarray(array[:, :, 0].astype(bool))
    else:
        image = Image.frombytes(mode, (9, 5), array.squeeze(2 if array.shape[2] == 1 else ()).astype(_dtype(mode)).tobytes())
    g = equiform.group(group).elements[1:2]
    result = moved(image, g)
    assert result.mode == mode
    if group == "C4":
        assert np.array_equal(np.asarray(result), np.rot90(np.asarray(image)))
    else:
        assert result.size == (3, 3), "the largest rectangle"
        if mode in ("P", "PA"):  # here without a palette
            with pytest.raises(ValueError, match=f"mode {mode} has no colour 'white': leave fill out"):
                moved(image, g, "white")
        else:
            assert moved(image, g, "white").size == image.size
        blended = set(np.unique(np.asarray(result)).tolist()) - {0, 1, 200}  # 1: True in bits
        assert bool(blended) == (mode not in ("1", "P", "PA"))


def _dtype(mode):
    return {"I": np.int32, "F": np.float32, "I;16": "<u2", "I;16B": ">u2"}.get(mode, np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_that_is_right_as_it_is_shown_stays_byte_for_byte(tmp_path, adapter, suffix):
    Image.fromarray(np.rot90(UPRIGHT, -1)).save(tmp_path / f"photo.{suffix}", exif=_exif(8))
    result = upright(tmp_path / f"photo.{suffix}", "--out", tmp_path / "out", *adapter)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / f"photo.{suffix}").read_bytes() == (tmp_path / f"photo.{suffix}").read_bytes()
    row = rows(tmp_path / "out" / "poses.csv")[f"photo.{suffix}"]
    assert (row["angle"], row["done"], row["lossless"]) == ("0", "upright already", "1")


def test_exif_is_turned_into_pixels(tmp_path, adapter):
    """A file that is turned is stored as it is to be shown, for readers that do not know EXIF; the other entries stay."""
    exif = _exif(8)
    exif[0x010F] = "camera maker"
    Image.fromarray(UPRIGHT).save(tmp_path / "photo.png", exif=exif)
    result = upright(tmp_path / "photo.png", "--out", tmp_path / "out", *adapter)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "photo.png") as image:
        assert np.array_equal(np.asarray(image), UPRIGHT)
        assert (image.getexif().get(ORIENTATION, 1), image.getexif()[0x010F]) == (1, "camera maker")
    assert rows(tmp_path / "out" / "poses.csv")["photo.png"]["angle"] == "90"


def test_one_bad_file_leaves_the_others_alone(tmp_path, adapter):
    bad, good = save_bad_images(tmp_path / "in" / "inner"), save_odd_images(tmp_path / "in")
    before = {path: path.read_bytes() for path in find_images(tmp_path / "in")}
    result = upright(tmp_path / "in", "--out", tmp_path / "out", "--csv", tmp_path / "t" / "poses.csv", *adapter)
    assert result.exit_code == 1, result.output
    assert f"skipped {len(bad)} files:" in result.stderr
    assert f"{len(good)} of 10 images in" in result.stdout
    table = rows(tmp_path / "t" / "poses.csv")
    for name, reason in bad.items():
        assert name in result.stderr
        assert reason in table[name]["error"]
        assert table[name]["angle"] == table[name]["confidence"] == ""
        assert not (tmp_path / "out" / "inner" / name).exists()
    assert {name: row["error"] for name, row in table.items() if name in good} == dict.fromkeys(good, "")
    assert table["exif.jpg"]["angle"] == "270"
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == good
    assert {path: path.read_bytes() for path in before} == before


def test_a_jpeg_that_cannot_be_turned_without_loss_is_encoded_as_it_was(tmp_path, adapter):
    Image.fromarray(np.rot90(UPRIGHT)).convert("RGB").save(tmp_path / "turned.jpg", quality=60, subsampling=1, progressive=True)
    assert upright(tmp_path / "turned.jpg", "--out", tmp_path / "out", *adapter).exit_code == 0
    with Image.open(tmp_path / "out" / "turned.jpg") as written, Image.open(tmp_path / "turned.jpg") as source:
        assert written.quantization == source.quantization
        assert JpegImagePlugin.get_sampling(written) == JpegImagePlugin.get_sampling(source) == 1
        assert written.info["progressive"]
    assert rows(tmp_path / "out" / "poses.csv")["turned.jpg"]["lossless"] == "0"


def test_whatever_is_odd_about_a_file_the_others_are_done(tmp_path):
    """Deleted on the way, a name too long to be written, a destination that is taken, too large for memory: a row each."""
    names = ["1-good.png", "2-gone.png", f"3-{'x' * 300}.png", "4-taken.png", "5-large.png", "6-larger.png", "7-good.png"]
    source = tmp_path / "source.png"
    Image.fromarray(UPRIGHT).save(source)
    (tmp_path / "4-taken.png" / "inner").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    canonicalizer, sizes = OrbitCanonicalizer("C4", resolution=8), iter([MemoryError(), *[None] * 4, MemoryError("a\nb")])

    def hook(*_):  # the batch as a whole, and then each of its files
        if error := next(sizes, None):
            raise error

    canonicalizer.register_forward_pre_hook(hook)
    canonicalizer.fitted = True
    items = [Item(name, tmp_path / name if "gone" in name else source, name) for name in names]
    job = Turning(lambda: Upright(canonicalizer), tmp_path, tmp_path / "scratch")
    errors = [row["error"] for row in job.start()(items)]
    assert [bool(error) for error in errors] == [False, True, True, True, False, True, False]
    assert errors[1] == "no file 2-gone.png"
    assert errors[5] == "6-larger.png: a b"
    assert not list((tmp_path / "scratch").iterdir())


def test_an_animation_is_not_cut_to_its_first_frame(tmp_path, adapter):
    frames = [Image.fromarray(np.rot90(UPRIGHT)), Image.fromarray(np.rot90(UPRIGHT) // 2)]
    frames[0].save(tmp_path / "turned.gif", save_all=True, append_images=frames[1:])
    upright_frames = [frame.rotate(-90, expand=True) for frame in frames]
    upright_frames[0].save(tmp_path / "upright.gif", save_all=True, append_images=upright_frames[1:])
    result = upright(tmp_path, "--out", tmp_path / "out", *adapter)
    assert result.exit_code == 1
    assert "turned.gif: has 2 frames" in result.stderr
    assert (tmp_path / "out" / "upright.gif").read_bytes() == (tmp_path / "upright.gif").read_bytes()
    assert not (tmp_path / "out" / "turned.gif").exists()


def test_nothing_readable_is_an_error(tmp_path, adapter):
    save_bad_images(tmp_path / "in")
    result = upright(tmp_path / "in", "--out", tmp_path / "out", *adapter)
    assert result.exit_code == 2
    assert "error: none of 5 images can be turned" in result.stderr
    (tmp_path / "empty").mkdir()
    result = upright(tmp_path / "empty", "--out", tmp_path / "new" / "out", *adapter)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "new" / "out").exists()
    assert "error: no images in" in result.stderr


def test_a_doubtful_pose_is_left_as_found(tmp_path, adapter):
    doubtful = np.kron(np.array([[200, 190], [30, 20]], np.uint8), np.ones((6, 9), np.uint8))
    for name, array in (("clear", UPRIGHT), ("doubtful", doubtful)):
        exif = _exif(3 if name == "doubtful" else 1)  # half a turn, which viewers make: not ours to write into the pixels
        Image.fromarray(np.rot90(array)).save(tmp_path / f"{name}.png", exif=exif)
    files = tmp_path / "clear.png", tmp_path / "doubtful.png"
    assert "2 turned, 0 upright already;" in upright(*files, "--out", tmp_path / "all", "--at-least", 0, *adapter).stdout
    found = rows(tmp_path / "all" / "poses.csv")
    confidence = {name: float(row["confidence"]) for name, row in found.items()}
    assert confidence["doubtful.png"] < 0.9 < confidence["clear.png"]
    result = upright(*files, "--out", tmp_path / "out", "--at-least", 0.9, *adapter)
    assert "1 turned, 0 upright already, 1 left alone (confidence below 0.9);" in result.stdout
    table = rows(tmp_path / "out" / "poses.csv")
    assert table["clear.png"]["angle"] == "90"
    assert table["doubtful.png"]["angle"] == found["doubtful.png"]["angle"] != "0", "what was found is said, and not done"
    assert (tmp_path / "out" / "doubtful.png").read_bytes() == files[1].read_bytes()


def test_inputs_and_results_are_never_overwritten(tmp_path, adapter):
    def destinations(inputs, out):
        return [name for _, name in found_in(inputs, Roots(), out)]

    for name in ("a/x.png", "b/x.png", "a/inner/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(UPRIGHT).save(tmp_path / name)
    a, b = tmp_path / "a", tmp_path / "b"
    for inputs, out, message in [
        ([a], a, "is the input folder"),
        ([a], b / ".." / "a", "is the input folder"),
        ([a / "x.png"], a, "would overwrite .*x.png, an input"),
        ([a / "x.png", b / "x.png"], tmp_path / "out", "would both be written to"),
        ([a, b], tmp_path / "out", "would both be written to"),
        ([a, b / "x.png"], tmp_path / "out", "would both be written to"),
        ([a / "missing.png"], tmp_path / "out", "no file or folder"),
    ]:
        refused((ValueError, OSError), message, destinations, inputs, out)
    declined = upright(a, "--out", a, "--overwrite", *adapter)
    assert (declined.exit_code, declined.stderr.count("\n")) == (2, 1)
    assert "is a file" in upright(a, "--out", a / "x.png", *adapter).stderr
    assert destinations([a, a / "x.png"], b) == destinations([a], b), "a file that is named twice is one file"
    # out inside the input folder: what an earlier run wrote is no input
    for more in ((), (), ("--overwrite",)):
        assert upright(a, "--out", a / "out", *more, *adapter).exit_code == 0
        assert sorted(str(p.relative_to(a / "out")) for p in find_images(a / "out")) == ["inner/y.png", "x.png"]
    assert destinations([a / "inner"], a) == ["y.png"], "out above the input folder is no obstacle"


def test_fit_goes_on_without_the_bad_files(tmp_path):
    bad, good = save_bad_images(tmp_path / "in"), save_odd_images(tmp_path / "in" / "inner")
    (tmp_path / "network.py").write_text(NETWORK)
    options = ["--outputs", "logits", "--epochs", "1", "--resolution", "16", "--out", str(tmp_path / "adapter")]
    result = CliRunner().invoke(app, ["fit", f"{tmp_path / 'network.py'}:network", str(tmp_path / "in"), *options])
    assert result.exit_code == 1, result.output
    assert f"skipped {len(bad)} files:" in result.stderr
    assert all(name in result.stderr for name in bad)
    assert not any(name in result.stderr for name in good)
    assert (tmp_path / "adapter" / "config.json").is_file()


def test_pages_are_those_of_a_tiff(tmp_path):
    colours = ["red", "lime", "blue"]
    images = [Image.new("RGB", (4 + i, 3), colour) for i, colour in enumerate(colours)]
    for name in ("scan.tif", "film.gif"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
    pages = [page.convert("RGB") for page in open_pages(tmp_path / "scan.tif")]
    assert [(page.size, page.getpixel((0, 0))) for page in pages] == [(i.size, i.getpixel((0, 0))) for i in images]
    assert len(list(open_pages(tmp_path / "film.gif"))) == 1, "the frames of a film are no pages"
    with pytest.raises(FileNotFoundError):
        list(open_pages(tmp_path / "missing.tif"))
