"""Pictures levelled by any angle: the largest rectangle inside, filled corners, every type and mode as it came."""

import csv
import math

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import equiform
from equiform import OrbitCanonicalizer, Upright, act
from equiform.cli.main import app
from equiform.geometry.groups import group, turn
from equiform.images.level import colour_of, largest_rectangle, moved, turned
from small_photos import scenes
from test_ready import FourWays
from test_ring import ring


def degrees(angle, flip=False):
    return turn(torch.deg2rad(torch.tensor([float(angle)])), torch.tensor([flip]))


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (80, 80), (300, 20)])
@pytest.mark.parametrize("angle", [0.0, 1.0, 13.0, 30.0, 45.0, 44.9, 60.0, 90.0, 135.0, -20.0])
def test_the_largest_rectangle_is_that_of_brute_force(size, angle):
    t = math.radians(angle)
    c, s = abs(math.cos(t)), abs(math.sin(t))
    width, height = largest_rectangle(*size, t)
    # an upright rectangle lies inside the turned one where its corners do
    grown = 1 + 1e-6
    assert width * c + height * s <= size[0] * grown
    assert width * s + height * c <= size[1] * grown
    w = np.linspace(1e-3, math.hypot(*size), 20_000)
    with np.errstate(divide="ignore"):
        h = np.minimum((size[0] - w * c) / max(s, 1e-12), (size[1] - w * s) / max(c, 1e-12))
    assert width * height >= (w * h).max() * (1 - 1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("angle", [10, 80, 100, 190, 275, 44])
def test_what_was_turned_comes_back(angle, flip):
    """A smooth picture turned and levelled: the middle is that of the picture, whatever the quarter."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 121), torch.linspace(-1, 1, 161), indexing="ij")
    picture = torch.stack([0.5 + 0.3 * torch.sin(3 * x + y), 0.5 + 0.4 * y, 0.5 + 0.2 * x * y]).float()
    g = degrees(angle, flip)
    back = turned(turned(picture, g), equiform.inverse(g))
    assert abs(back.shape[1] - back.shape[2]) < 80
    top, left = (121 - back.shape[1]) // 2, (161 - back.shape[2]) // 2
    assert torch.allclose(back, picture[:, top : top + back.shape[1], left : left + back.shape[2]], atol=5e-3)
    grey = turned(picture, g, [0.25, 0.5, 0.75])
    assert grey.shape[1:] == ((121, 161) if angle in (10, 190, 44) else (161, 121)), "the canvas is kept"
    assert torch.allclose(grey[:, 0, 0], torch.tensor([0.25, 0.5, 0.75]), atol=1e-6)


def test_transparent_pixels_lend_no_colour():
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (10, 0, 30, 40))
    array = np.asarray(moved(image, degrees(20)))
    assert array[..., 3].min() == 0
    assert array[array[..., 3] > 0][:, 0].max() == 0, "no red comes in from what was not seen"
    palette = Image.new("P", (9, 9))
    palette.putpalette([0, 0, 0, 250, 250, 250, 9, 200, 9])
    assert colour_of(palette, "lime") == [2.0]
    assert colour_of(Image.new("I;16", (1, 1)), "white") == [65535.0]
    assert colour_of(Image.new("CMYK", (1, 1)), "black")[:3] == [255.0, 255.0, 255.0]


def test_one_step_levels_every_type():
    step = Upright(ring())
    photo = (scenes(1, 60, 60)[0] * 255).clamp(0, 255).to(torch.uint8)
    tilted = turned(photo, degrees(17))
    image = Image.fromarray(tilted.permute(1, 2, 0).numpy())
    level = step(tilted)
    assert level.dtype == torch.uint8
    assert level.shape[1] == level.shape[2] < tilted.shape[1]
    assert np.array_equal(step(tilted.permute(1, 2, 0).numpy()), level.permute(1, 2, 0).numpy())
    assert np.array_equal(np.asarray(step(image)), level.permute(1, 2, 0).numpy())
    assert step(image.convert("L")).mode == "L"
    rows = level.float().mean((0, 2))
    assert (rows.diff() < 1).all(), "bright above"
    columns = level.float().mean((0, 1))
    assert columns.max() - columns.min() < 6, "and level"
    filled = Upright(ring(), fill="lime")
    assert filled(tilted).shape == tilted.shape
    assert filled(tilted[None].float() / 255)[0, :, 0, 0].tolist() == [0, 1, 0]
    two = torch.stack([tilted, torch.rot90(tilted, 1, (1, 2))])
    assert torch.equal(*filled(two)), "a quarter turn more, and no pixel less"
    with pytest.raises(ValueError, match=r"different canvases.*pass a list of photos"):
        step(torch.stack([tilted, turned(photo, degrees(0))[:, 3:-3, 3:-3][:, : tilted.shape[1], : tilted.shape[2]]]))


def test_near_a_quarter_turn_nothing_is_lost():
    photo = scenes(1, 60, 80)[0]
    tilted = act(degrees(93), photo[None])[0]
    exact = Upright(ring(), quarter=5)(tilted)
    assert torch.equal(exact, torch.rot90(tilted, -1, (1, 2)))
    assert Upright(ring())(tilted).shape != exact.shape, "control"
    assert torch.equal(Upright(ring())(photo[:, :20, :20]), photo[:, :20, :20]), "what moves no pixel is no turn"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"quarter": 46}, "quarter is a number of degrees, 0 to 45; got 46"),
        ({"fill": "no colour"}, "fill is a colour such as .*; got 'no colour'"),
        ({"prior": 1.0}, "prior is the share that is upright, between 0 and 1.*got 1.0"),
        ({"prior": [0.9, 0.1]}, r"between 0 and 1.*got \[0.9, 0.1\]"),
    ],
)
def test_settings_out_of_range(options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        Upright(ring(), **options)


def test_little_to_see_is_no_error():
    """Smaller than 32 pixels, of one colour, noise: low confidence where nothing tells the angle."""
    odd = [torch.rand(3, 9, 20), torch.full((3, 64, 64), 0.4), torch.rand(1, 64, 64), torch.rand(3, 1, 1)]
    confidence = ring()(odd).confidence
    assert confidence.isfinite().all()
    assert confidence[[1, 3]].tolist() == pytest.approx([1 / 8, 1 / 8], rel=1e-4)
    for photo in odd:
        assert Upright(ring(), fill="white")(photo).shape[0] == photo.shape[0]


# --------------------------------------------------------------------------------------------------------------- prior


def test_the_prior_of_the_ring_lies_about_upright():
    tilted = act(degrees(30), scenes(1))
    plain = ring().posterior(tilted)
    assert torch.equal(plain.g, ring()(tilted).g)
    flat = torch.full((1, 3, 48, 48), 0.5)
    doubtful = ring().posterior(flat, 0.9)
    assert doubtful.confidence[0] > 0.9
    assert group("SO2").angles(doubtful.g)[0][0] == pytest.approx(0, abs=0.1)
    assert ring().posterior(tilted, 0.5).confidence[0] < plain.confidence[0]


# ------------------------------------------------------------------------------------------------------------- command


def upright(*arguments):
    return CliRunner().invoke(app, ["upright", *map(str, arguments)])


def test_the_command_levels_crops_fills_and_leaves_alone(tmp_path, monkeypatch):
    asked = []

    def restored(name, predictor, backbone):
        asked.append(name)
        return ring() if name == "photos-so2" else OrbitCanonicalizer("C4", FourWays(), resolution=16).eval(), {"prior": None}

    monkeypatch.setattr("equiform.cli.models.restored", restored)
    monkeypatch.setattr("equiform.saving.fingerprint", lambda name: name)
    photo = Image.fromarray((scenes(1, 90, 90)[0] * 255).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
    images = {"level": photo, "tilted": moved(photo, degrees(20)), "side": photo.rotate(91), "flat": Image.new("L", (40, 40))}
    (tmp_path / "in").mkdir()
    for name, image in images.items():
        image.save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "no.png").write_text("no picture")
    call = (tmp_path / "in", "--out", tmp_path / "out", "--at-least", 0.5, "--quarter", 4)
    result = upright(*call, "--any-angle")
    assert result.exit_code == 1, result.output
    assert "4 of 5 images in" in result.stdout
    assert "2 turned, 1 upright already, 1 left alone (confidence below 0.5), 1 failed;" in result.stdout
    with (tmp_path / "out" / "poses.csv").open(newline="") as file:
        rows = {row["file"].rpartition("/")[2][:-4]: row for row in csv.DictReader(file)}
    done = {"level": "upright already", "tilted": "turned", "side": "turned", "flat": "left alone", "no": "failed"}
    assert {name: row["done"] for name, row in rows.items()} == done
    assert rows["side"]["angle"] == "90"
    assert float(rows["tilted"]["angle"]) == pytest.approx(20, abs=4)
    for name in ("level", "flat"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes() == (tmp_path / "in" / f"{name}.png").read_bytes()
    with Image.open(tmp_path / "out" / "tilted.png") as image:
        assert image.size < images["tilted"].size
    assert upright(*call, "--any-angle", "--fill", "red", "--overwrite").exit_code == 1
    with Image.open(tmp_path / "out" / "tilted.png") as image:
        assert (image.size, image.getpixel((0, 0))) == (images["tilted"].size, (255, 0, 0))
    assert "--quarter and --fill are for --any-angle; photos-c4 is for C4" in upright(*call).stderr
    assert "--any-angle: mine is for C4" in upright(*call, "--any-angle", "--adapter", "mine").stderr
    assert asked == ["photos-so2", "photos-so2", "photos-c4", "mine"], "once each"
    again = (*call[:3], "--overwrite", "--prior")
    assert upright(*again, 0.95, "--min-confidence", 0.999).exit_code == 1, "the old name of --at-least"
    assert "prior is the share" in upright(*again, 2).stderr
