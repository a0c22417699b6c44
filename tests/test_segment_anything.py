"""The recipe for Segment Anything, on a tiny random model and a generated set in the COCO format."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from asserting import refused

pytest.importorskip("transformers")
# pycocotools and the copy keyword of numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "segment_anything.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("segment_anything", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def coco(tmp_path):
    """Photos of rectangles under a sky, of many sizes, and their instances."""
    folder, images, annotations = tmp_path / "photos", [], []
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, (h, w) in enumerate([(50, 80), (64, 40), (48, 48), (40, 70)]):
        image = Image.new("RGB", (w, h), (90, 140, 220))
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, h // 2, w, h), fill=(60, 110, 40))
        for k in range(2):
            x, y = rng.integers(2, w // 2), rng.integers(2, h // 2)
            box = [int(x), int(y), int(w // 3), int(h // 4)]
            draw.rectangle((x, y, x + box[2], y + box[3]), fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
            polygon = [x, y, x + box[2], y, x + box[2], y + box[3], x, y + box[3]]
            annotation = {"id": 2 * i + k + 1, "image_id": i, "category_id": k + 1, "iscrowd": 0, "bbox": box}
            annotations.append(annotation | {"area": box[2] * box[3], "segmentation": [[int(v) for v in polygon]]})
        image.save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": h, "width": w})
    categories, file = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return folder, file


@pytest.fixture
def checkpoint(tmp_path):
    from test_promptable import sam

    processor, model = sam()
    processor.save_pretrained(tmp_path / "sam")
    model.save_pretrained(tmp_path / "sam")
    return tmp_path / "sam"


@pytest.mark.slow
def test_the_recipe_fits_and_measures(recipe, coco, checkpoint, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    images, annotations = coco
    common = ["--model", str(checkpoint), "--images", str(images), "--annotations", str(annotations)]
    first = recipe.main([*common, *f"--photos {images} --adapter {tmp_path / 'a'} --epochs 1 --out {tmp_path}".split()])
    assert set(first) == {"miou", "map"}
    for name, report in first.items():
        assert 0 <= report.mean <= 1
        assert len(set(report["adapted"].values)) == 1  # the adapted model is equivariant
        assert (tmp_path / f"{name}.html").stat().st_size > 1000
    assert len(set(first["miou"]["bare"].values)) > 1  # control
    assert "bare" in capsys.readouterr().out
    assert recipe.main([*common, "--adapter", str(tmp_path / "a"), "--metric", "miou"])["miou"].mean == first["miou"].mean


def test_what_is_missing_is_said_first(recipe, coco, tmp_path):
    images, annotations = coco
    with pytest.raises(SystemExit, match=r"no file or folder .*nowhere"):
        recipe.main(["--images", str(tmp_path / "nowhere"), "--annotations", str(annotations)])
    refused(SystemExit, "nothing to fit on", lambda: recipe.main(["--images", str(images), "--annotations", str(annotations)]))


def test_a_wrong_group_or_model_is_one_line(recipe, coco, tmp_path):
    images, annotations = coco
    given = ["--images", str(images), "--annotations", str(annotations), "--photos", str(images)]
    refused(SystemExit, "unknown group 'Q4'", lambda: recipe.main([*given, "--group", "Q4", "--model", str(tmp_path / "no")]))
    refused(SystemExit, r"--model .*no cannot be loaded: .*", lambda: recipe.main([*given, "--model", str(tmp_path / "no")]))
