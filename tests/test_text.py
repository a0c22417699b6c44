"""Text: the tiles that a text canonicalizer looks at, the ready-made one, and the recipe that reads turned pictures."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import equiform
from asserting import refused
from equiform import act, adapt, fit, group
from equiform import ready as ready_made
from equiform.canonicalizers import TileCanonicalizer
from equiform.images.files import to_tensor
from equiform.images.tiles import MAX_PIXELS, cut_tiles, dark_ink, tile_squares, tile_view
from small_photos import noise

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "recipes"))

import read_text  # noqa: E402  (a script, found where it lies)

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SIZES = [(31, 900), (900, 31), (57, 83), (300, 411), (64, 64), (1, 1), (2, 7)]
TURNS = group("C4").elements.split(1)
LINES = ["The quick brown fox", "jumps over the lazy dog", "Platform 9, gate 24", "Total 137.45"]
needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason=read_text.INSTALL)


def draw(lines: list[str], size: int = 28, font: str = "DejaVuSans.ttf", margin: int = 20) -> tuple[Image.Image, list[tuple]]:
    """A page of dark lines on white, and (word, box) of every word on it."""
    face = ImageFont.truetype(str(FONTS / font), size)
    width = math.ceil(max(face.getlength(line) for line in lines)) + 2 * margin
    page = Image.new("RGB", (width, round(1.5 * size * len(lines)) + 2 * margin), "white")
    pen, places = ImageDraw.Draw(page), []
    for i, line in enumerate(lines):
        y = margin + 1.5 * size * i
        pen.text((margin, y), line, fill="black", font=face)
        for k, word in enumerate(words := line.split()):
            x = margin + face.getlength(" ".join([*words[:k], ""]))
            places.append((word, pen.textbbox((x, y), word, font=face)))
    return page, places


# --------------------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("size", [*SIZES, (1501, 1403)], ids=str)
def test_tiles_turn_with_the_image_to_the_bit(size, dtype):
    x = noise(1, *size, dtype)[0]
    tiles = tile_view([x], 64, 8)
    for g in group("D4").elements.split(1)[1 :: 4 if max(size) > 1000 else 1]:
        assert torch.equal(tile_view(list(act(g, x[None])), 64, 8), act(g, tiles))
    if min(size) > 2:  # control: the tiles themselves do turn
        assert not torch.equal(tile_view(list(act(TURNS[1], x[None])), 64, 8), tiles)


def test_equal_tiles_and_tiles_off_the_centre():
    """The same mark in many places: sums that differ in their last bit would rank them by the order of summation."""
    x, mark = torch.full((3, 151, 260), 0.9), torch.rand(3, 7, 5)
    for top, left in [(20, 30), (24, 118), (31, 201), (77, 52), (70, 160), (113, 9), (120, 230)]:
        x[:, top : top + 7, left : left + 5] = mark
    tiles = tile_view([x], 64, 6)
    assert all(torch.equal(tile_view(list(act(g, x[None])), 64, 6), act(g, tiles)) for g in group("D4").elements.split(1))
    # the control: the same tiles of an image whose grid lies elsewhere are others.
    x = noise(1, 57, 83)[0]
    shifted = torch.nn.functional.pad(x, (0, 6))
    first, again = tile_view([shifted], 64, 8), tile_view(list(act(TURNS[2], shifted[None])), 64, 8)
    assert torch.equal(again, act(TURNS[2], first))
    assert not torch.equal(tile_view([torch.nn.functional.pad(x, (6, 0))], 64, 8), first)


def test_tiles_lie_where_the_ink_is_at_every_size():
    x = torch.full((1, 400, 600), 255, dtype=torch.uint8)
    x[:, 301:309, 70:90] = 0
    (tile,) = cut_tiles(x, 64, 1)
    assert tile.amin() < 0 < 0.5 < tile.amax()
    assert (tile < (tile.amin() + tile.amax()) / 2).sum() == 16 * 40, "all of it at twice the size, and nothing else"
    assert len(cut_tiles(torch.full((3, 400, 600), 7), 64, 8)) == 0, "a blank page has no tiles"
    # a shape three times larger comes out alike one level further down.
    small = torch.full((1, 96, 96), 255.0)
    small[:, 44:52, 46:49] = 0
    small[:, 44:46, 46:55] = 0
    large, tile = small.repeat_interleave(3, 1).repeat_interleave(3, 2), cut_tiles(small, 64, 1)[0]
    distances = [(candidate - tile).abs().mean() for candidate in cut_tiles(large, 64, 8)]
    assert min(distances) < 0.05
    assert max(distances) > 0.2, "control: the other levels show something else"


def test_flat_tiles_light_ink_and_large_photos():
    view = tile_view([torch.full((1, 30, 30), 3.0), torch.rand(1, 30, 30)], 32, 3)
    assert view.shape == (2, 3, 32, 32)
    assert torch.equal(view[0], torch.full((3, 32, 32), 0.5))
    assert view[1, 0].std() > 0.1
    page = to_tensor(draw(LINES[:1])[0])
    dark, light = (dark_ink(tile_view([x], 64, 4)) for x in (page, 255 - page))
    assert torch.allclose(dark, light, atol=1e-3)
    assert not torch.allclose(tile_view([page], 64, 4), tile_view([255 - page], 64, 4), atol=0.1)  # control
    side = 2 * math.isqrt(MAX_PIXELS)
    tile = cut_tiles((torch.arange(side) // 8 % 2 * 255).to(torch.uint8).expand(1, side, side), 64, 1)[0]
    assert 14 <= tile[0].diff().sign().diff().ne(0).sum() <= 34, "stripes of 4 pixels at half the size, not of 8"


@pytest.mark.parametrize("bad", [torch.rand(3, 4), torch.rand(3, 0, 4), torch.rand(3, 4, 4).to(torch.complex64)])
def test_what_is_no_image(bad, unchecked):
    refused(ValueError, r"an image has shape \(channels, height, width\); got", lambda: cut_tiles(bad, 64, 4))


def test_what_tiles_are_not_for(unchecked):
    with pytest.raises(ValueError, match=r"3 channels \(or 1\).*got \(40, 30, 3\): the axis of channels comes before height"):
        TileCanonicalizer("C4")([torch.zeros(40, 30, 3)])
    refused(ValueError, r"got \(4, 30, 40\): make it RGB or grey", lambda: TileCanonicalizer("C4")([torch.zeros(4, 30, 40)]))
    refused(ValueError, "resolution must be a multiple of 4; got 18", lambda: TileCanonicalizer("C4", resolution=18))
    refused(ValueError, "num_tiles must be a whole number >= 1; got 0", lambda: TileCanonicalizer("C4", num_tiles=0))
    refused(ValueError, r"images have shape .* got \(3, 8, 8\)", lambda: TileCanonicalizer("C4")(torch.rand(3, 8, 8)))


@pytest.mark.filterwarnings("ignore:this canonicalizer is made for text")  # and the pages are noise
def test_a_reader_is_measured_on_photos_of_one_size(unchecked):
    def read(photos):
        return [{"text": "abc", "words": ["abc"], "boxes": torch.tensor([[1.0, 1, 4, 4]])} for _ in photos]

    model, pages = equiform.load("text-c4", read), [torch.randint(0, 255, (3, 40, 60), dtype=torch.uint8)] * 2
    report = equiform.evaluate(model, (pages, [{"text": "abd"}] * 2), metric="cer")
    assert (report.mean, len(model(torch.stack(pages)))) == (pytest.approx(1 / 3), 2)
    refused(ValueError, r"a list of images \(c, h, w\) is expected; got one alone, \(3, 40, 60\): pass \[x\]", model, pages[0])


# ------------------------------------------------------------------------------------------------------------- fitting
def stamped(b: int, h: int = 32, w: int = 72) -> Tensor:
    """Light paper with a grain, and dark arrows on it that point up."""
    arrow = torch.tensor([[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]])
    x = 2 + 0.2 * torch.rand(b, 1, h, w)
    for image in x:
        for top in range(2, h - 6, 10):
            for left in torch.arange(2, w - 6, 10).tolist():
                image[0, top : top + 5, left : left + 5] -= 2 * arrow
    return x


@pytest.mark.parametrize("source", [pytest.param("tensor", marks=pytest.mark.slow), "folder", "dataset"])
def test_fit_learns_from_tiles(source, tmp_path):
    images = stamped(40)
    if source == "folder":
        for i, image in enumerate(images):
            Image.fromarray((image[0] * 100).to(torch.uint8).numpy()).save(tmp_path / f"{i}.png")
    data = {"tensor": images, "folder": tmp_path, "dataset": torch.utils.data.TensorDataset(images)}[source]
    model = adapt(
        torch.nn.Identity(),
        "C4",
        outputs="image",
        canonicalizer=TileCanonicalizer("C4", num_tiles=3, widths=(8, 16), resolution=32),
    )
    test = stamped(16, 35, 51)
    before = model.canonicalizer(test).probabilities[:, 0]
    fit(model, data, epochs=16 if source == "tensor" else 1, lr=1e-2, batch_size=8)
    assert source != "tensor" or (model.canonicalizer(test).index == 0).float().mean() > 0.9
    assert before.mean() < 0.5, "control: it did not know before"
    assert not torch.allclose(model.canonicalizer(test).probabilities[:, 0], before)


def test_one_tile_in_ten_may_be_wrong():
    """Worked: however sure a tile is, it counts for (0.9 + 0.1 / 4) / (0.1 / 4) = 37 to 1 and no more."""

    class DarkCorner(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -50 * x[:, 0, 0, 0]

    canonicalizer = TileCanonicalizer("C4", resolution=8).eval()
    canonicalizer.network = DarkCorner()
    tiles = torch.full((3, 8, 8), 0.5)
    tiles[:2, 0, 0] = tiles[2, 0, 7] = 0  # two say upright, one a quarter turn
    scores = canonicalizer.scores(tiles[None])[0].sort(descending=True).values
    assert (scores - scores[-1]).exp().tolist() == pytest.approx([37**2, 37, 1, 1], rel=1e-4)


def test_training_keeps_tiles_and_leaves_tiles_alone():
    canonicalizer = TileCanonicalizer("C4", num_tiles=5, resolution=16)
    tiles = canonicalizer.squares([noise(1, 80, 90)[0], torch.zeros(3, 8, 8)], 24)
    assert tiles.shape == (5, 1, 24, 24)
    assert tiles.dtype == torch.uint8
    assert (tiles.amin((1, 2, 3)) == 0).all()
    assert (tiles.amax((1, 2, 3)) == 255).all()
    assert canonicalizer.squares(tiles, 24) is tiles
    assert torch.equal(tiles, tile_squares([noise(1, 80, 90)[0]], 24, 5)) is False  # other noise, other tiles


# ---------------------------------------------------------------------------------------------------------- ready-made
@pytest.fixture(scope="module")
def ready() -> equiform.Equivariant:
    return equiform.load("text-c4", read_text.read)


def test_names_of_ready_made_ones(tmp_path, monkeypatch):
    assert "text-c4" in ready_made.names()
    for name in ready_made.names():
        files = {path.name: path.stat().st_size for path in (ready_made.FOLDER / name).iterdir()}
        assert {"config.json", "model.safetensors"} <= files.keys()
        assert sum(files.values()) < (1_000_000 if name == "text-c4" else 12_000_000)
    (tmp_path / "text-c4").mkdir()
    monkeypatch.chdir(tmp_path)
    assert equiform.load("text-c4", read_text.read).group == group("C4")
    for folder in (Path("text-c4"), "./text-c4"):
        with pytest.raises(FileNotFoundError, match=r"is no saved canonicalizer: it has no model\.safetensors"):
            equiform.load(folder, read_text.read)
    monkeypatch.chdir(tmp_path)
    refused(FileNotFoundError, r"no folder text-c5, .* ready-made .*text-c4", lambda: equiform.load("text-c5", read_text.read))


@pytest.mark.slow
def test_it_knows_upright_text(ready):
    lines = [*LINES, "STOP", "EMERGENCY EXIT", "Please ring the bell", "01/04/1987 £12.50", "Größe und Maß", "Défense d'entrer"]
    faces = ["DejaVuSerif.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf"]
    pages = [to_tensor(draw([line], 20 + 3 * i, face)[0]) for i, line in enumerate(lines) for face in faces]
    with torch.no_grad():
        right = (ready.canonicalizer(pages).index == 0).float().mean()
        untrained = (TileCanonicalizer("C4").eval()(pages).index == 0).float().mean()
    assert right > 0.9
    assert untrained < 0.7, "control"


def test_a_blank_page_has_every_pose(ready):
    pose = ready.canonicalizer(torch.full((1, 3, 50, 80), 255, dtype=torch.uint8))
    assert torch.equal(pose.probabilities, torch.full((1, 4), 0.25))


# -------------------------------------------------------------------------------------------------------------- recipe
def overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two xyxy boxes."""
    both = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


@needs_tesseract
@pytest.mark.parametrize("lines", [LINES, LINES[:1]], ids=["page", "line"])
@pytest.mark.parametrize("turns", range(4))
def test_words_are_right_and_lie_where_they_are(ready, lines, turns):
    page, places = draw(lines)
    size = (page.height, page.width)
    photo = act(TURNS[turns], to_tensor(page)[None])[0]
    (answer,) = ready([photo])
    assert (answer["words"], answer["text"].split()) == ([word for word, _ in places], [word for word, _ in places])
    boxes = act(TURNS[turns], torch.tensor([[box for _, box in places]]).float(), "boxes", canvas=size)[0]
    overlaps = [overlap(found, expected) for found, expected in zip(answer["boxes"], boxes, strict=True)]
    assert min(overlaps) > 0.6
    if turns == 2:  # control: the bare reader does not read it
        assert read_text.read([photo])[0]["words"] != answer["words"]


@needs_tesseract
def test_photos_of_mixed_sizes_and_empty_ones(ready):
    photos = [to_tensor(draw(LINES[:1])[0]), torch.full((3, 40, 90), 255, dtype=torch.uint8), to_tensor(draw(LINES[3:])[0])]
    answers = ready(photos)
    assert [answer["text"] for answer in answers] == [LINES[0], "", LINES[3]]
    assert answers[1]["boxes"].shape == (0, 4)


def recipe(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "recipes" / "read_text.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """A page upside down, and a line on its side."""
    paths = [tmp_path / "page.png", tmp_path / "line.jpg"]
    draw(LINES)[0].rotate(180).save(paths[0])
    draw(LINES[1:2])[0].rotate(90, expand=True).save(paths[1], quality=90)
    return paths


@needs_tesseract
@pytest.mark.slow
def test_the_command_prints_text(files):
    done = recipe(*files)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line] == [*LINES, LINES[1]]


@needs_tesseract
@pytest.mark.slow
def test_the_command_prints_json(files):
    done = recipe("--json", *files)
    assert done.returncode == 0, done.stderr
    page, line = map(json.loads, done.stdout.splitlines())
    assert list(page) == ["file", "page", "text", "words", "turn", "confidence"]
    assert ([page["file"], line["file"]], [page["turn"], line["turn"]]) == (list(map(str, files)), [180, 90])
    assert [word["text"] for word in line["words"]] == LINES[1].split()
    assert 0.5 < line["confidence"] <= 1
    first, last = line["words"][0]["box"], line["words"][-1]["box"]
    assert first[1] > last[3], "turned counter-clockwise, a line reads upwards"
    assert first[3] - first[1] > first[2] - first[0], "and its words stand on end"


@needs_tesseract
def test_every_page_of_a_tiff_is_read(tmp_path, capsys):
    pages = [draw([line])[0].rotate(90 * turns, expand=True) for line, turns in ((LINES[0], 0), (LINES[1], 2), (LINES[3], 1))]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    assert read_text.main(["--json", str(tmp_path / "scan.tif")]) == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(p["page"], p["text"], p["turn"]) for p in read] == [(1, LINES[0], 0), (2, LINES[1], 180), (3, LINES[3], 90)]


@needs_tesseract
def test_one_bad_file_does_not_stop_the_others(files, tmp_path, capsys):
    bad = tmp_path / "notes.png"
    bad.write_text("not a picture")
    assert read_text.main(["--json", str(tmp_path / "missing.png"), str(bad), str(files[0])]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["turn"] == 180
    missing, unreadable = captured.err.splitlines()
    assert missing == f"error: no file {tmp_path / 'missing.png'}"
    assert unreadable == f"error: {bad}: not an image, or of an unknown format"


def test_tesseract_that_is_missing_or_fails_is_one_line(files, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", "")
    assert (read_text.main([str(files[0])]), capsys.readouterr().err.splitlines()) == (2, [f"error: {read_text.INSTALL}"])
    program = tmp_path / "tesseract"
    program.write_text("#!/bin/sh\necho first >&2\necho no such language >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert read_text.main([str(files[0])]) == 2
    assert capsys.readouterr().err == f"error: {files[0]}: tesseract failed: no such language\n"
