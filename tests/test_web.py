"""What the page shows: turned photos, answers of every sort, curves by angle, drawings. The page itself: test_web_page.py."""

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import equiform
from asserting import refused
from equiform.cli import web as command
from equiform.cli.main import app
from equiform.geometry.groups import turn
from equiform.images.files import ORIENTATION, UnreadableImage
from equiform.predictors import class_names
from equiform.predictors.efficientnet_lite import LITE0_PIXELS
from equiform.second_opinion import Opinion
from equiform.web import answers, drawings, page, photos
from equiform.web.answers import Said, Setup
from test_images import save_bad_images


@pytest.fixture
def photo():
    """Smooth, so that it can be turned by any angle, and alike in no two poses."""
    coarse = torch.rand(1, 3, 6, 6)
    return nn.functional.interpolate(coarse, (photos.SHOWN, photos.SHOWN), mode="bicubic").clamp(0, 1)[0]


class Quadrants(nn.Module):
    """Logits of how bright the four quarters of a photo are: a turn changes them."""

    def forward(self, x):
        return 9 * nn.functional.adaptive_avg_pool2d(x, 2).mean(1).flatten(1)


class Spots(nn.Module):
    """A list with a dict for each photo: a box at the left, in its brighter half, and a faint one over all of it."""

    def forward(self, x):
        found = []
        for bottom in nn.functional.adaptive_avg_pool2d(x, 2).mean(1)[:, :, 0].argmax(1).tolist():
            half = x.shape[-1] / 2
            boxes = torch.tensor([[0.0, bottom * half, half, bottom * half + half], [0.0, 0.0, 2 * half, 2 * half]])
            found.append({"boxes": boxes, "labels": torch.tensor([3, 1]), "scores": torch.tensor([0.9, 0.1])})
        return found


def bright(x):
    """Labels of what is bright, the more of it the further up."""
    return (x.mean(1) > torch.linspace(0.2, 0.8, x.shape[-1])[:, None]).long()


def setup(predictor, outputs, group="C4", **options):
    canonicalizer = equiform.OrbitCanonicalizer(group, resolution=16)
    canonicalizer.fitted = True
    return Setup(equiform.adapt(predictor, group, outputs=outputs, canonicalizer=canonicalizer), "toy", 64, **options)


CASES = {
    "classes": (Quadrants(), "logits"),
    "boxes": (Spots(), equiform.Rows({"boxes": "boxes", "labels": "invariant", "scores": "invariant"})),
    "mask": (bright, "mask"),
}


# ------------------------------------------------------------------------------------------------------------- photos
def test_photos_turn_counter_clockwise_and_quarter_turns_by_index(photo):
    views = photos.turned(photo, [0, 90, 180, 30])
    assert torch.equal(views[0], photo)
    assert torch.equal(views[1], torch.rot90(photo, 1, (-2, -1)))
    assert torch.equal(views[2], torch.rot90(photo, 2, (-2, -1)))
    assert views.shape == (4, 3, photos.SHOWN, photos.SHOWN)
    assert not torch.equal(views[3], photo)
    assert views[3][:, :8, :8].min() > 0, "no black corner"
    harsh = (torch.arange(photos.SHOWN) // 16 % 2).float().expand(3, photos.SHOWN, -1)
    assert photos.turned(harsh, [30]).aminmax() == (0, 1), "pixels that can be drawn"


def test_a_photo_is_read_as_its_central_square(tmp_path):
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, :20], pixels[:, 20:50], pixels[:, 50:80], pixels[:, 80:] = 255, (200, 0, 0), (0, 200, 0), 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    read = photos.read(tmp_path / "wide.png")
    assert read.shape == (3, photos.SHOWN, photos.SHOWN)
    assert read[:, :, :200].mean((1, 2)).tolist() == pytest.approx([200 / 255, 0, 0], abs=0.01)
    assert read[:, :, -200:].mean((1, 2)).tolist() == pytest.approx([0, 200 / 255, 0], abs=0.01)
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    assert torch.allclose(photos.read(tmp_path / "tall.png"), read.mT, atol=0.01)


def test_what_is_fine_in_a_large_photo_stays_and_what_is_finer_is_grey(tmp_path):
    stripes = (np.arange(1792) // 4 % 2 * 255).astype(np.uint8)[None].repeat(1200, 0)
    Image.fromarray(stripes[:, :1200]).save(tmp_path / "fine.jpg", quality=95)
    assert photos.read(tmp_path / "fine.jpg").std() > 0.2, "decoded at no fewer pixels than are shown"
    Image.fromarray((np.arange(1500) % 2 * 255).astype(np.uint8)[None].repeat(1500, 0)).save(tmp_path / "finer.png")
    assert photos.read(tmp_path / "finer.png").std() < 0.05, "no false pattern"


def test_files_are_checked_as_everywhere(tmp_path):
    for name, message in save_bad_images(tmp_path).items():
        refused(UnreadableImage, message, photos.read, tmp_path / name)
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    refused(UnreadableImage, "pixels that are not finite", photos.read, tmp_path / "nan.tif")
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    assert photos.read(tmp_path / "one.png").shape == (3, photos.SHOWN, photos.SHOWN)
    (tmp_path / "text.png").write_text("Dear reader, this is no photo.")
    refused(UnreadableImage, "not an image", photos.read, tmp_path / "text.png")
    Image.new("RGB", (9, 1), "red").save(tmp_path / "flat.png")
    assert photos.read(tmp_path / "flat.png").shape == (3, photos.SHOWN, photos.SHOWN)


def test_unusual_files_are_shown_as_they_look(tmp_path):
    """A sky above a dark ground, with the sun at the left, in every form."""
    pixels = np.full((60, 60, 3), 30, np.uint8)
    pixels[:30], pixels[5:20, 5:20] = 120, 250
    scene = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be shown after a quarter turn clockwise
    scene.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    scene.rotate(90).save(tmp_path / "exif.jpg", exif=exif, quality=95)
    scene.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", (60, 60), "red")])
    scene.resize((6000, 5000), Image.Resampling.NEAREST).save(tmp_path / "large.jpg")  # 30 megapixels
    for path in sorted(tmp_path.iterdir()):
        read = photos.read(path)
        assert read.shape == (3, photos.SHOWN, photos.SHOWN), path.name
        sun, sky, ground = (read[:, y, x].tolist() for y, x in ((90, 90), (90, 400), (400, 200)))
        seen, wanted = [*sun, *sky, *ground], np.repeat([250, 120, 30], 3) / 255
        assert np.abs(np.array(seen) - wanted).max() < 0.03, path.name


def test_samples_are_those_of_installed_packages(monkeypatch):
    pytest.importorskip("skimage")
    found = photos.samples()
    assert "camera" in [one.title for one in found]
    assert all(photos.read(one.path).std() > 0.1 and one.credit for one in found)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert photos.samples() == []


# ------------------------------------------------------------------------------------------------------------ answers
@pytest.mark.parametrize("name", CASES)
def test_the_adapted_answer_is_one_at_all_quarter_turns_and_the_bare_one_is_not(name, photo):
    own = setup(*CASES[name])
    curves = answers.by_angle(own, photo)
    quarters = [curves.degrees.index(angle) for angle in (0, 90, 180, 270)]
    assert curves.bare[0] == pytest.approx(1) or name == "classes"
    assert len({curves.adapted[i] for i in quarters}) == 1
    assert len({curves.bare[i] for i in quarters}) > 1, "control"
    assert all(0 <= value <= 1 for value in curves.bare + curves.adapted)


def test_what_is_compared_is_what_the_models_say(photo):
    own = setup(*CASES["classes"], names=["a", "b", "c", "d"])
    found = answers.compared(own, photo, 90)
    small = nn.functional.adaptive_avg_pool2d(torch.rot90(photo, 1, (-2, -1)), 64)
    expected = own.model.predictor(small[None]).softmax(1)[0]
    assert torch.allclose(found.bare.classes, expected, atol=1e-3)
    assert torch.allclose(found.adapted.classes, own.model(small[None]).softmax(1)[0], atol=1e-3)
    assert torch.equal(found.upright, equiform.act(equiform.inverse(found.pose.g), found.view[None])[0])
    best = int(answers.compared(own, photo, 0).bare.classes.argmax())
    assert answers.by_angle(own, photo).title == f"probability of the upright answer, “{'abcd'[best]}”"


def turned_and_seen(own, photo):
    """What is compared at the first quarter turn in which the found pose is not the identity."""
    found = [(angle, answers.compared(own, photo, angle)) for angle in (0, 90)]
    return next((angle, one) for angle, one in found if int(one.pose.index[0]))


def test_each_answer_stands_in_its_place_on_the_page(photo):
    own = setup(*CASES["classes"], names=list("abcd"))
    angle, found = turned_and_seen(own, photo)
    view, upright, _, bare, adapted = page._shown(own, "classes", photo, angle)
    for shown, said in ((bare, found.bare), (adapted, found.adapted)):
        assert list(shown) == ["abcd"[i] for i in said.classes.argsort(descending=True)], "likeliest first"
        assert list(shown.values()) == said.classes.sort(descending=True).values.tolist()
    assert bare != adapted
    assert (np.asarray(view) == np.asarray(drawings.picture(found.view))).all()
    back = equiform.act(equiform.inverse(found.pose.g), found.view[None])[0]
    assert (np.asarray(upright) == np.asarray(drawings.picture(back))).all()
    assert (np.asarray(view) != np.asarray(upright)).any(), "control"
    own = setup(*CASES["mask"])
    angle, found = turned_and_seen(own, photo)
    assert not torch.equal(found.bare.mask, found.adapted.mask), "control"
    for shown, said in zip(page._shown(own, "places", photo, angle)[3:], (found.bare, found.adapted), strict=True):
        assert (np.asarray(shown) == np.asarray(drawings.marked(found.view, said, own.side))).all()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", None), ("192.0.2.1", 7999)])
def test_the_server_listens_where_it_is_told_and_is_not_shared(host, port, monkeypatch):
    launched = []

    def launch(**options):
        launched.append(options | {"folder": Path(os.environ["GRADIO_TEMP_DIR"])})
        assert launched[0]["folder"].is_dir()
        return None, "http://here/", None

    def until_ctrl_c(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr(page, "optional", lambda *names: MagicMock())
    monkeypatch.setattr(
        page, "page", lambda own: SimpleNamespace(launch=launch, close=lambda verbose: launched.append("closed"))
    )
    monkeypatch.setattr(page, "time", SimpleNamespace(sleep=until_ctrl_c))
    said = []
    page.serve(setup(*CASES["classes"]), host, port, said.append)
    options, closed = launched
    assert (options["server_name"], options["server_port"], options["share"]) == (host, port, False)
    assert (options["max_file_size"], os.environ["GRADIO_ANALYTICS_ENABLED"]) == ("20mb", "False")
    assert (closed, options["folder"].exists()) == ("closed", False), "uploads go when the page does"
    assert said == ["toy\nopen http://here/   (Ctrl-C ends it)"]


def test_the_model_is_shown_what_it_wants(photo):
    mean, deviation = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    own = setup(*CASES["classes"], normalisation=(mean, deviation))
    seen = answers._seen(own, photo[None])
    plain = answers._seen(own._replace(normalisation=None), photo[None])
    assert torch.allclose(seen * torch.tensor(deviation)[:, None, None] + torch.tensor(mean)[:, None, None], plain, atol=1e-5)
    assert (plain.shape, bool((plain >= -0.01).all() and (plain <= 1.01).all())) == ((1, 3, 64, 64), True)


def test_answers_of_every_form_are_read():
    kind = equiform.geometry.kinds.as_kinds

    def read(tensor, kinds, names=()):
        return answers._read([(kind(kinds), tensor, "output")], names)

    assert read(torch.tensor([0.0, 0.0]), "logits").classes.tolist() == [0.5, 0.5]
    assert read(torch.tensor([0.0]), "logits").classes.tolist() == [0.5, 0.5]
    assert read(torch.tensor([9.0]), "logits").classes[1] > 0.99, "yes is the second of the two"
    assert read(torch.tensor([0.0, 0.0, 0.0]), equiform.Logits(sigmoid=True)).classes.tolist() == [0.5, 0.5, 0.5]
    scores = torch.zeros(4, 2, 2)
    scores[3, 0, 0] = 1
    assert read(scores, "mask").mask.tolist() == [[3, 0], [0, 0]]
    assert read(scores[3], "mask").mask.tolist() == [[1, 0], [0, 0]]
    assert read(scores[3:], "mask").mask.tolist() == [[1, 0], [0, 0]]
    assert not read(0.4 * scores[3], "mask").mask.any(), "from one half on"
    assert not read(0.4 * scores[3:], "mask").mask.any()
    assert read(9 * scores[3:] - 3, "mask").mask.tolist() == [[1, 0], [0, 0]], "logits: from 0 on"
    assert read(0.3 - scores[3:], "mask").mask.tolist() == [[0, 1], [1, 1]], "logits"
    assert read(torch.tensor([[[0, 3], [7, 0]]]), "mask").mask.tolist() == [[0, 3], [7, 0]], "labels with a channel axis"
    assert read(torch.ones(3), "invariant").sort == "nothing"
    boxes, masks = torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2], [0, 0, 2, 2]]), torch.eye(2).expand(3, 1, 2, 2)
    leaves = {"boxes": boxes, "scores": torch.tensor([0.9, 0.8, 0.2]), "labels": torch.tensor([1, 7, 0]), "masks": masks[:, 0]}
    kinds = {"boxes": "boxes", "scores": "invariant", "labels": "invariant", "masks": "mask"}
    said = answers._read([(kind(kinds[name]), leaf, f"output[0]['{name}']") for name, leaf in leaves.items()], ["sky", "cat"])
    assert (said.boxes.tolist(), said.labels) == (boxes[:2].tolist(), ["cat", "class 7"])
    assert said.mask.tolist() == [[2, 0], [0, 2]]
    rows = [(kind("invariant"), ["a cat", "a dog"][i], f"output[0]['text_labels'][{i}]") for i in range(2)]
    rows += [(kind(kinds[name]), leaves[name][:2], f"output[0]['{name}']") for name in ("boxes", "labels")]
    assert answers._read(rows, ["sky", "cat"]).labels == ["a cat", "a dog"], "words before numbers, where a model gives both"
    assert answers.name_of(["sky", "cat"], -1) == "class -1", "no name from the end"
    listed = equiform.Rows({"boxes": "boxes", "text_labels": "invariant", "scores": "invariant"})
    answer = [{"boxes": boxes, "text_labels": ["sky", "a cat", "dog"], "scores": [0.2, 0.9, 0.7]}] * 2
    own = setup(lambda x: answer, listed)
    assert [one.labels for one in answers._said(own, answer, 2)] == [["a cat", "dog"]] * 2, "lists of words and numbers"
    answer = [one | {"boxes": boxes.numpy(), "scores": np.array(one["scores"])} for one in answer]
    assert [one.labels for one in answers._said(own, answer, 2)] == [["a cat", "dog"]] * 2, "arrays"


def test_agreement_in_worked_examples():
    sure, other = Said(classes=torch.tensor([0.9, 0.1])), Said(classes=torch.tensor([0.2, 0.8]))
    assert answers.agreement(other, sure, 90, 100) == pytest.approx(0.2), "of the upright answer, not of the likeliest"
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    reference = Said(boxes=boxes, labels=["cat", "dog"])
    assert answers.matched(reference, reference) == 1
    assert answers.matched(Said(boxes=boxes[:1], labels=["cat"]), reference) == pytest.approx(2 / 3)
    assert answers.matched(Said(boxes=boxes, labels=["dog", "cat"]), reference) == 0
    assert answers.matched(Said(boxes=boxes[[0, 0]], labels=["cat", "cat"]), reference) == 0.5, "each box counts once"
    assert answers.matched(Said(boxes=boxes[:0]), Said(boxes=boxes[:0])) == 1
    turned = Said(boxes=torch.tensor([[0.0, 90, 10, 100], [20, 70, 30, 80]]), labels=["cat", "dog"])
    assert answers.agreement(turned, reference, 90, 100) == 1, "what was at the top left is at the bottom left"
    assert answers.agreement(turned, reference, 270, 100) == 0
    assert answers.mean_overlap(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert answers.mean_overlap(torch.tensor([0, 0, 2, 2]), torch.zeros(4)) == 0.5, "over the labels of the reference"
    half = torch.zeros(8, 8, dtype=torch.long)
    half[:4] = 5
    assert answers.agreement(Said(mask=torch.rot90(half)), Said(mask=half), 90, 8) == 1
    assert answers.agreement(Said(mask=half), Said(mask=half), 180, 8) == 0
    corner = half.clone()
    corner[0, 0] = 9
    assert answers.agreement(Said(mask=corner), Said(mask=half), 0, 8) == 1, "corners, which turns lose, do not count"


@pytest.mark.parametrize(
    ("found", "agrees"),
    [
        ((21.7, 21.7, 78.3, 78.3), 1),  # around the corners, as the adapted model answers
        ((31.0, 31, 69, 69), 1),  # tight around a disc, as a detector answers: less than half of that
        ((38.0, 38, 62, 62), 0),
        ((5.0, 5, 95, 95), 0),
    ],
)
def test_between_quarter_turns_tight_boxes_agree_as_well_as_those_around_corners(found, agrees):
    reference = Said(boxes=torch.tensor([[30.0, 30, 70, 70]]), labels=["disc"])
    assert answers.agreement(Said(boxes=torch.tensor([found]), labels=["disc"]), reference, 45, 100) == agrees


def test_tight_boxes_are_those_of_the_ellipse():
    boxes, angle = torch.tensor([[10.0, 40, 70, 60]]), torch.arange(0, 2 * torch.pi, 0.001)
    edge = torch.stack((40 + 30 * angle.cos(), 50 + 10 * angle.sin()), 1)
    for degrees in (0, 30, 90, 200):
        g = turn(torch.tensor([degrees * torch.pi / 180]))
        moved, around = (
            equiform.act(g, edge[None], "points", (100, 100))[0],
            equiform.act(g, boxes[None], "boxes", (100, 100))[0],
        )
        least = torch.cat((moved.amin(0), moved.amax(0)))
        torch.testing.assert_close(answers._tight(g[0], boxes, around)[0], least, atol=1e-3, rtol=0)


def test_masks_may_be_smaller_than_the_photo(photo):
    own = setup(lambda x: bright(x)[:, ::4, ::4], "mask")
    answers.first_answer(own)
    curves = answers.by_angle(own, photo)
    assert (curves.bare[0], min(curves.bare) < 0.9) == (1, True)
    assert len(set(curves.adapted[::6])) == 1, "quarter turns lose nothing"
    assert drawings.marked(photo, answers.compared(own, photo, 30).bare, own.side).size == (photos.SHOWN, photos.SHOWN)


def test_photos_go_where_the_canonicalizer_is(photo):
    """One without parameters too."""
    own = setup(*CASES["classes"])
    energy = equiform.adapt(Quadrants(), "C4", outputs="logits", canonicalizer=equiform.EnergyCanonicalizer("C4", Quadrants()))
    for one in (own, own._replace(model=energy)):
        one.model.to("meta")
        assert answers._seen(one, photo[None]).device.type == "meta"


def test_lists_are_normalised_where_that_is_asked_for(photo):
    own = setup(Spots(), CASES["boxes"][1])._replace(normalisation=([0.5] * 3, [0.25] * 3))
    listed = own._replace(model=equiform.adapt(Spots(), "C4", inputs=equiform.Rows("image"), outputs=CASES["boxes"][1]))
    (seen,) = answers._seen(listed, photo[None])
    assert torch.equal(seen, answers._seen(own, photo[None])[0])
    assert seen.min() < 0


def test_without_a_classifier_the_pose_alone_is_shown(photo):
    own = setup(answers.nothing, "invariant")
    assert answers.first_answer(own).sort == "nothing"
    curves = answers.by_angle(own, photo)
    assert [curves.bare[i] for i in (0, 6, 12)] == pytest.approx([1, 0.5, 0], abs=1e-6)
    found = answers.compared(own, photo, 90).pose.g
    error = own.model.group.distance(turn(torch.tensor([torch.pi / 2])), found)
    assert curves.adapted[6] == pytest.approx(1 - float(error) / torch.pi, abs=1e-6)


def test_what_cannot_be_shown_is_refused():
    def fails(x):
        raise RuntimeError("no such size")

    refused(
        ValueError,
        r"toy fails on a photo of 64 x 64 pixels \(see --size\): no such",
        answers.first_answer,
        setup(fails, "logits"),
    )
    features = setup(lambda x: x.mean((2, 3)), "invariant")
    refused(ValueError, "nothing that can be drawn.*'logits' as bars", answers.first_answer, features)
    shifted = Setup(equiform.adapt(Quadrants(), "Shift4", outputs="logits"), "toy", 64)
    refused(ValueError, "turns photos, which is not what Shift4 does", answers.first_answer, shifted)


# ----------------------------------------------------------------------------------------------------------- drawings
def points(svg, colour):
    """The corners of the polygons of that colour."""
    found = re.findall(rf"<polygon points='([^']*)' fill='{colour}'", svg)
    return [[tuple(map(float, pair.split(","))) for pair in one.split()] for one in found]


def test_the_dial_points_where_the_photo_is_turned(photo):
    own = setup(*CASES["classes"])
    found = answers.compared(own, photo, 0)
    sure = torch.tensor([[0.0, 50.0, 0.0, 0.0]])
    pose = type(found.pose)(own.model.group.elements[1:2], torch.tensor([1]), sure, own.model.group.elements[None])
    svg = drawings.dial(found._replace(pose=pose), own.model.group, 90)
    assert "turned by 90°" in svg
    assert "confidence 100%" in svg
    (petal,) = points(svg, drawings.ADAPTED)
    assert petal[2] == (-drawings.RADIUS, 0), "90 degrees counter-clockwise from the top is left"
    assert "mirrored" not in svg
    flips = equiform.group("D4")
    pose = type(found.pose)(flips.elements[5:6], torch.tensor([5]), torch.zeros(1, 8), flips.elements[None])
    assert ", mirrored" in drawings.dial(found._replace(pose=pose), flips, 90)


def test_curves_are_circles_where_answers_are_alike():
    degrees = list(range(0, 360, 15))
    found = answers.Curves(degrees, [float(angle < 90) for angle in degrees], [0.5] * 24, "probability of <b>")
    svg = drawings.curves(found, 90, "classes")
    assert "x1='0' y1='0' x2='-100.0' y2='-0.0'" in svg, "the line at the photo's angle"
    assert re.findall(r"(bare|adapted)</b> ([\d.]+)", svg) == [("bare", "0.25"), ("adapted", "0.50")]
    (bare,), (adapted,) = points(svg, drawings.BARE), points(svg, drawings.ADAPTED)
    assert {round(float(np.hypot(*point))) for point in adapted} == {50}
    assert min(x for x, _ in bare) == pytest.approx(-96.6), "the quarter from the top to the left"
    assert max(x for x, _ in bare) == pytest.approx(6.3), "between the last angle and the first too"
    assert "&lt;b&gt;" in svg
    assert "measuring" in drawings.curves(None, 45, "classes")


def test_boxes_and_masks_lie_where_they_were_found():
    view = torch.ones(3, 100, 100)
    said = Said(boxes=torch.tensor([[10.0, 20.0, 40.0, 45.0]]), labels=["cat"], mask=torch.eye(2, dtype=torch.long))
    pixels = np.asarray(drawings.marked(view, said, 50)).astype(int)
    blue = np.array([0, 0x72, 0xB2])
    assert (pixels[60, 20] == blue).all(), "the left edge, at twice the size"
    assert (pixels[60, 80] == blue).all()
    assert (pixels[95, 5] == 255).all(), "neither box nor mask"
    assert pixels[5, 5].tolist() == pytest.approx((0.45 * 255 + 0.55 * blue).round().tolist())
    assert (np.asarray(drawings.picture(view)) == 255).all()
    beyond = np.asarray(drawings.marked(view, said._replace(boxes=torch.tensor([[-9.0, 20.0, 99.0, 45.0]]), mask=None), 50))
    assert (beyond[60, [0, 99]] == blue).all(), "it ends at the border"
    named = Said(mask=torch.arange(4).reshape(2, 2), labels=["road", "cat", "dog", "bus"])
    drawn = np.asarray(drawings.marked(view, named, 2)) != np.asarray(drawings.marked(view, named._replace(labels=()), 2))
    assert all(drawn[4 + 26 * i : 26 * i + 20].any() for i in range(3)), "names below one another"
    labels = Said(mask=torch.tensor([[0, 0, 0, 255], [1, 2, 2, 0]]))
    assert drawings._shown(labels) == [2, 1, 255], "the largest first; 0 is the background"
    assert drawings._shown(labels._replace(labels=["__background__", "cat", "dog"])) == [2, 1], "255 is no label"
    assert drawings._shown(labels._replace(labels=["road", "cat", "dog"])) == [0, 2, 1]


# --------------------------------------------------------------------------------------------------- names, the command
def test_names_of_classes():
    assert class_names.told_apart(["crane", "bird", "crane"]) == ["crane (0)", "bird", "crane (2)"]
    predictor = nn.Identity()
    predictor.config = type("Config", (), {"id2label": {1: "dog", 0: "cat"}})()
    assert class_names.class_names("transformers:x", predictor, 2) == ["cat", "dog"]
    assert class_names.class_names("a.py:f", nn.Identity(), 7) == ()
    pytest.importorskip("gradio")
    names = class_names.class_names(None, nn.Identity(), 1000)
    assert (names[872], len(set(names))) == ("tripod", 1000)


def error_of(*arguments):
    result = CliRunner().invoke(app, ["web", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


MODELS = """
import torch, equiform

def net():
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))

def adapted():
    return equiform.adapt(net(), "C4", outputs="logits", canonicalizer="photos-c4-small")

def maps():
    return lambda x: (x.mean(1) > 0.5).long()
"""


def test_the_command_builds_what_is_asked_for(tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr("equiform.cli.web.serve", lambda *arguments: served.append(arguments))
    (tmp_path / "models.py").write_text(MODELS)
    ref = f"{tmp_path / 'models.py'}:"

    def built(*arguments):
        result = CliRunner().invoke(app, ["web", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return served[-1], result

    (own, host, port, _), result = built(f"{ref}net")
    assert (own.model.group.name, own.size, own.normalisation, own.names) == ("SO2", 224, None, ())
    assert own.title == "models.py:net, photos-so2", "no folder of this machine"
    assert "net is given RGB in [0, 1]" in result.stderr
    assert (host, port) == ("127.0.0.1", None), "nobody else unless told otherwise"
    (own, host, port, _), result = built(f"{ref}adapted", "--host", "0.0.0.0", "--port", 7999, "--size", 32)
    assert (own.model.group.name, own.size, host, port) == ("C4", 32, "0.0.0.0", 7999)
    assert "whoever reaches this machine" in result.stderr
    (own, *_), _ = built(f"{ref}net", "--adapter", "photos-c4", "--normalize", "imagenet")
    assert own.model.group.name == "C4"
    assert own.normalisation is not None
    assert "is adapted already: leave out --adapter" in error_of(f"{ref}adapted", "--adapter", "photos-c4")
    assert "is adapted already: leave out --outputs" in error_of(f"{ref}adapted", "--outputs", "mask")
    (own, *_), _ = built(f"{ref}maps", "--outputs", "mask")
    assert (own.size, own.model.outputs.name) == (photos.SHOWN, "mask")
    for option in (("--size", 64), ("--normalize", "imagenet")):
        assert "--outputs, --size and --normalize are for a MODEL" in error_of(*option)
    assert "known forms: timm:NAME" in error_of("resnet")
    assert "no folder" in error_of("--adapter", tmp_path / "none")


def test_an_adapter_goes_with_what_was_saved_beside_it(tmp_path):
    model = equiform.adapt(Quadrants(), "C4", outputs="logits", canonicalizer="photos-c4-small", top_k=2)
    model.opinion = Opinion(torch.arange(5.0))
    model.save(tmp_path)
    own = command.around(Quadrants(), str(tmp_path), None, None, None)
    assert own.top_k == 2
    assert torch.equal(own.opinion.weight, model.opinion.weight)


def test_a_detector_that_normalises_photos_itself_is_shown_them_plain(monkeypatch):
    loaded = equiform.adapt(Spots(), "C4", inputs=equiform.Rows("image"), outputs=CASES["boxes"][1])
    monkeypatch.setattr(command, "load_reference", lambda ref: loaded)
    name = "torchvision:fasterrcnn_resnet50_fpn"
    assert command._of(name, None, None, None, None, "auto").normalisation is None
    assert command._of(name, None, None, None, None, "imagenet").normalisation is not None, "unless told to"


def test_the_default_model_is_shown_its_own_pixels_on_the_device(monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    served = []
    monkeypatch.setattr(command, "serve", lambda *arguments: served.append(arguments[0]))
    monkeypatch.setattr(command, "first_answer", lambda own: Said())
    monkeypatch.setattr(command, "device_of", torch.device)
    result = CliRunner().invoke(app, ["web", "--device", "meta"])
    assert result.exit_code == 0, result.output
    assert served[0].normalisation == LITE0_PIXELS
    assert {parameter.device.type for parameter in served[0].model.parameters()} == {"meta"}


def test_without_its_packages(monkeypatch):
    served = []
    monkeypatch.setattr("equiform.cli.web.serve", lambda *arguments: served.append(arguments))
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    assert CliRunner().invoke(app, ["web"]).exit_code == 0
    assert answers.first_answer(served[0][0]).sort == "nothing"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'equiform[web]'" in error_of()


def test_names_that_were_not_there_may_come(monkeypatch):
    """A package that was missing once, as in a test, is not missing for good."""
    pytest.importorskip("gradio")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "gradio", None)
        assert class_names.imagenet() == ()
    assert len(class_names.imagenet()) == class_names.IMAGENET_CLASSES
