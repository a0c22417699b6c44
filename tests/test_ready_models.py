"""The benchmarks of pretrained models with ready-made canonicalizers: metrics with weights, intervals, tables, and cost."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from asserting import refused
from equiform.canonicalizers import UniformCanonicalizer

NETWORK = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 4, (3, 5)), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), nn.Linear(8, 2)).eval()
"""


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The benchmark scripts import each other by their names."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))


@pytest.fixture
def benchmark(monkeypatch):
    """With the smaller of the ready-made canonicalizers alone, for the time it takes."""
    import ready_models

    monkeypatch.setattr(ready_models, "READY", ("photos-c4-small",))
    return ready_models


def test_pairs_are_counted_by_photo():
    import intervals

    right = {"one": [1, 1, 1, 1, 1, 1, 0, 0], "other": [0, 0, 0, 0, 0, 0, 1, 0]}
    copies = {name: intervals.PerPhoto("accuracy") for name in right}
    for name, values in right.items():
        copies[name].update(torch.eye(2)[values], torch.ones(8, dtype=torch.long))
    one, other = copies.values()
    assert intervals.mcnemar([one], [other]) == {"better": 6, "worse": 1, "p": pytest.approx(16 / 128)}
    assert intervals.mcnemar([one, other], [other, one]) == {"better": 0, "worse": 0, "p": 1}
    assert intervals.mcnemar([intervals.PerPhoto("miou")], [intervals.PerPhoto("miou")]) is None


# ------------------------------------------------------------------------------------------------------------- tables


def photo(rng, size=(64, 48)):
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.mark.slow
def test_a_classifier_of_ones_own_with_the_ready_made_ones(benchmark, tmp_path, monkeypatch):
    """From folders to the table; a photo that is measured is not fitted on."""
    rng = np.random.default_rng(0)
    for folder in ("test/cats", "test/dogs", "train"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(3):
            photo(rng).save(tmp_path / folder / f"{i}.png")
    Image.open(tmp_path / "test/cats/0.png").resize((40, 30)).save(tmp_path / "train" / "again.jpg")
    (tmp_path / "own.py").write_text(NETWORK)
    asked = ["--predictor", f"{tmp_path}/own.py:net", "--test", tmp_path / "test", "--train", tmp_path / "train"]
    asked += ["--epochs", 1, "--resamples", 50, "--threads", torch.get_num_threads(), "--out", tmp_path / "out.json"]
    monkeypatch.setattr(sys, "argv", ["ready_models.py", *map(str, asked)])
    benchmark.main()
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["fits"]["test"]["photos-c4-small"]["photos"] == 3
    (one,) = figures["predictors"].values()
    rows, adapted = one["rows"], ["photos-c4-small", "photos-c4-small, fitted further"]
    assert one["photos"] == 6
    assert rows.keys() == {*benchmark.BASELINES, *adapted, *(f"{name}, coverage 0.9" for name in adapted)}
    for name in adapted:
        gains = rows[name]["gains"]
        assert rows[name]["equivariance_error"] == 0 < rows["bare"]["equivariance_error"]
        assert gains["bare"]["difference"] == pytest.approx(rows[name]["mean"] - rows["bare"]["mean"])
        assert gains["upright"]["difference"] == pytest.approx(rows[name]["upright"] - rows["bare"]["upright"])
        assert gains["upright"]["mcnemar"]["better"] <= 6
    table = benchmark.table(figures)
    assert f"| `photos-c4-small` | {rows[adapted[0]]['mean']:.3f} (" in table
    assert "| orbit averaging |" in table


class Boxes(nn.Module):
    """Finds the left half of every photo as one object of class 1."""

    def decode(self, x):
        side = x.shape[-1]
        return [(torch.tensor([[0.0, 0, side / 2, side]]), 1 - one.mean()[None], torch.tensor([1])) for one in x]


def test_segmenters_and_detectors_with_the_ready_made_ones(benchmark, tmp_path, monkeypatch):
    pytest.importorskip("pycocotools")
    import photo_tasks

    rng, described = np.random.default_rng(0), {}
    for folder in ("images", "semantic"):
        (tmp_path / folder).mkdir()
    for name in "abc":
        photo(rng).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(rng.integers(0, 7, (48, 64), np.uint8)).save(tmp_path / "semantic" / f"{name}.png")
        described[name] = {"file": f"{name}.jpg", "boxes": [[0, 0, 32, 48]], "labels": [1]}
    (tmp_path / "boxes.json").write_text(json.dumps(described))
    networks = {"boxes": Boxes(), "maps": nn.Conv2d(3, 21, 1)}
    monkeypatch.setattr(photo_tasks.common, "predictor", networks.__getitem__)
    monkeypatch.setattr(photo_tasks, "SQUARE", 32)
    monkeypatch.setattr(photo_tasks, "LONGER_SIDE", 64)
    canonicalizers = {"all": UniformCanonicalizer("C4")}
    found = benchmark.measured(photo_tasks.detection("boxes", tmp_path), canonicalizers, 20)
    rows = found["rows"]
    assert rows.keys() == {"all", *benchmark.BASELINES}, "lists are not averaged, so that there is no row with coverage"
    assert (found["photos"], rows["bare"]["values"]) == (3, [1, 0, 0, 0]), "what it finds does not turn with the photo"
    assert rows["orbit averaging"]["mean"] > rows["bare"]["mean"]
    assert (rows["orbit averaging"]["passes"], rows["training-free"]["passes"]) == (4, 5)
    assert rows["all"]["gains"]["bare"]["mcnemar"] is None
    rows = benchmark.measured(photo_tasks.segmentation("maps", tmp_path, limit=2), canonicalizers, 20)["rows"]
    assert rows.keys() == {"all", "all, coverage 0.9", *benchmark.BASELINES}
    assert rows["bare"]["mean"] == pytest.approx(rows["bare"]["upright"], abs=1e-3), (
        "a network of single pixels turns with them"
    )


def test_efficientnet_names_its_install_line(monkeypatch):
    import common

    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    refused(ModuleNotFoundError, r"pip install 'equiform\[web\]'", common.predictor, "efficientnet-lite0")


def test_what_canonicalization_costs(monkeypatch):
    import cost

    monkeypatch.setattr(cost, "CANONICALIZERS", (cost.DEFAULT, "photos-c4-small"))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    canonicalizers = {name: cost.canonicalizer(name) for name in cost.CANONICALIZERS}
    found = cost.measured(cost.Predictor(lambda: network, side=32, batches=(1, 2)), canonicalizers, 3)
    assert found["added_parameters"][cost.DEFAULT] == pytest.approx(
        sum(p.numel() for p in canonicalizers[cost.DEFAULT].parameters()) / found["parameters"]
    )
    for times in found["batches"].values():
        assert times["seconds"] > 0
        assert all(times[name]["ratio"] > 1 and times[name]["added"] > 0 for name in cost.CANONICALIZERS)
    lines = cost.table({"predictors": {"small": found}}).splitlines()
    assert [line.partition(" | ")[0] for line in lines[2:]] == ["| small, batch 1", "| small, batch 2"]
