"""Intervals from drawing the inputs again, and the metrics that can be: what an input adds counts as often as it is drawn."""

from functools import partial

import numpy as np
import pytest
import torch

import equiform
from equiform.canonicalizers import UniformCanonicalizer
from equiform.evaluation import OrbitReport, metrics, resampling
from equiform.evaluation.resampling import interval


def classes(n, generator, num=3):
    return torch.randn(n, num, generator=generator), torch.randint(num, (n,), generator=generator)


def label_maps(n, generator):
    labels = torch.randint(3, (n, 6, 5), generator=generator)
    scores = torch.randn(n, 3, 6, 5, generator=generator)
    labels[0], scores[0, 2] = labels[0] % 2, -9  # a class that the first photo has nothing of
    labels[:, 0] = 255
    return scores, labels


def keypoints(n, generator):
    """Some of them not visible, and none of one photo."""
    places = torch.rand(n, 4, 3, generator=generator) * 20
    places[..., 2] = torch.rand(n, 4, generator=generator) > 0.3
    places[1, :, 2] = 0
    return places[..., :2] + torch.randn(n, 4, 2, generator=generator), places


def texts(n, generator):
    there = ["abcdefgh"[: 2 + i] for i in range(n)]
    return [text.replace("c", "x") for text in there], there


def parts(n, generator):
    labels = torch.randint(3, (n, 9), generator=generator)
    labels[0, 4:] = -1  # no points
    return torch.randn(n, 9, 3, generator=generator), labels


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
    for entry in (*found, *there):
        entry["masks"] = torch.stack([_filled(box) for box in entry["boxes"].int().tolist()])
    return found, there


def _filled(box):
    x1, y1, x2, y2 = box
    mask = torch.zeros(60, 60)
    mask[y1:y2, x1:x2] = 1
    return mask


@pytest.mark.parametrize(
    "named, drawn",
    [
        ("accuracy", classes),
        ("top5_accuracy", partial(classes, num=9)),
        ("miou", label_maps),
        ("dice", label_maps),
        ("keypoint_error", keypoints),
        ("cer", texts),
        ("point_accuracy", parts),
        ("part_iou", parts),
        ("box_ap50", detections),
        ("box_map", detections),
        ("mask_map", detections),
    ],
)
def test_a_weight_is_so_many_of_an_input(named, drawn):
    """The metric with weights is that of `evaluate` on inputs that are there several times, or not at all."""
    if drawn is detections:
        pytest.importorskip("pycocotools")
    n = 7
    outputs, targets = drawn(n, torch.Generator().manual_seed(0))
    kept = metrics.METRICS[named].make(None)
    kept.update(outputs[:3], targets[:3])
    kept.update(outputs[3:], targets[3:])
    weights = np.array([[1] * n, [0, 2, 1, 0, 3, 0, 1], [4, 0, 0, 0, 0, 0, 0]])
    values = kept.weighted(weights.astype(float))
    for row, value in zip(weights, values, strict=True):
        expected = metrics.METRICS[named].make(None)
        for i in np.repeat(np.arange(n), row):
            expected.update(outputs[i : i + 1], targets[i : i + 1])
        assert value == pytest.approx(expected.compute(), abs=1e-9)
    assert len(set(np.round(values, 3))) > 1, "control: weights matter"
    assert (len(kept), kept.compute()) == (n, pytest.approx(values[0], abs=1e-12))


def drawn_weights(num_inputs: int, draws: int) -> np.ndarray:
    return np.concatenate(list(resampling.weights(num_inputs, draws)))


def test_intervals_by_the_book():
    rng, n = np.random.default_rng(0), 400
    x = rng.normal(3, 2, n)
    weights = drawn_weights(n, 4000)
    assert (weights.sum(1)[[0, 1, -1]] == [n, n - 1, n]).all()
    means = weights @ x / weights.sum(1)
    low, high = interval(means, n)
    half = 1.96 * x.std() / n**0.5
    assert (low, high) == (pytest.approx(x.mean() - half, abs=0.02), pytest.approx(x.mean() + half, abs=0.02))
    assert interval(np.full(len(weights), 0.5), n) == [0.5, 0.5]
    # resamples that are too low by half a deviation: a normal value's interval moves up by twice that (the bias is in both)
    biased = np.concatenate([means[: n + 1], means[n + 1 :] - half / 4])
    assert np.mean(interval(biased, n)) == pytest.approx(x.mean() + half / 4, abs=0.03)
    # of samples with the very same mean half are below it
    coins, drawn = np.arange(20) % 2, drawn_weights(20, 4000)
    assert interval(drawn @ coins / drawn.sum(1), 20) == pytest.approx([0.3, 0.7])
    # the mean of few skewed values reaches farther up
    few, drawn = rng.exponential(1, 20), drawn_weights(20, 4000)
    means = drawn @ few / drawn.sum(1)
    low, high = interval(means, 20)
    plain = np.percentile(means[21:], (2.5, 97.5))
    assert low > plain[0]
    assert high > plain[1]


def test_intervals_are_those_of_scipy():
    bootstrap = pytest.importorskip("scipy.stats").bootstrap
    few, drawn = np.random.default_rng(0).exponential(1, 20), drawn_weights(20, 9999)
    expected = bootstrap((few,), np.mean, method="BCa", random_state=np.random.default_rng(0)).confidence_interval
    assert interval(drawn @ few / drawn.sum(1), 20) == pytest.approx(list(expected), abs=0.04)


def test_samples_without_a_value_are_left_aside():
    few, drawn = np.random.default_rng(0).exponential(1, 20), drawn_weights(20, 4000)
    means = drawn @ few / drawn.sum(1)
    assert interval(np.concatenate([means, [np.nan] * 500]), 20) == interval(means, 20)
    means[1] = np.nan  # one that is left out takes the value with it: the others still say how skewed they are
    assert interval(means, 20)[1] > np.percentile(means[21:], 97.5) + 0.05
    means[21:] = np.nan
    assert np.isnan(interval(means, 20)).all()
    # no input matters: the middle 95 % of what was drawn
    assert interval(np.concatenate([np.zeros(11), np.linspace(-1, 1, 1001)]), 10) == pytest.approx([-0.95, 0.95])


def test_many_inputs_are_left_out_in_groups(monkeypatch):
    """The same interval, with a tenth of the work; and in chunks what is drawn at once."""
    values = np.random.default_rng(1).exponential(1, 600)
    ends, weights = {}, {}
    for groups, chunk in ((1000, 2**18), (60, 2**18), (1000, 5000)):
        monkeypatch.setattr(resampling, "GROUPS", groups)
        monkeypatch.setattr(resampling, "CHUNK", chunk)
        w = weights[groups, chunk] = drawn_weights(600, 2000)
        ends[groups, chunk] = interval(w @ values / w.sum(1), 600)
    assert ends[60, 2**18] == pytest.approx(ends[1000, 2**18], abs=0.01)
    assert len(weights[60, 2**18]) == 1 + 60 + 2000
    assert (weights[60, 2**18][1:61].sum(0) == 59).all()
    assert np.array_equal(weights[1000, 5000], weights[1000, 2**18])


# ------------------------------------------------------------------------------------------------------- in a report


def known(rows: list[list[int]]):
    """A predictor of marked images that is right or wrong on every element as said, and what it is given."""
    x = torch.zeros(len(rows), 1, 8, 8)
    for i in range(len(rows)):
        x[i, 0, 0, :4] = torch.tensor([float(i >> bit & 1) for bit in range(4)]) + 1

    def predictor(images):
        answers = []
        for image in images:
            turn = next(k for k in range(4) if torch.rot90(image, -k, (-2, -1))[0, 0, 0] > 0)
            bits = torch.rot90(image, -turn, (-2, -1))[0, 0, :4] - 1
            answers.append(rows[int(sum(int(bit) << place for place, bit in enumerate(bits)))][turn])
        return torch.eye(2)[torch.tensor(answers)]

    return predictor, (x, torch.ones(len(rows), dtype=torch.long))


def test_the_mean_and_the_gain_of_a_report_have_intervals(tmp_path):
    rows = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]
    predictor, data = known(rows)
    model = equiform.adapt(predictor, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"))
    better = [[1, 1, 1, 1]] * 7 + [[0, 0, 0, 0]]
    report = equiform.evaluate(model, data, baselines=["bare"], others={"other": known(better)[0]}, batch_size=3)
    means = {"bare": np.mean(rows, 1), "other": np.mean(better, 1)}
    w = drawn_weights(8, resampling.DRAWS)
    for name, mean in means.items():
        assert report[name].mean == pytest.approx(mean.mean())
        assert report[name].interval == pytest.approx(interval(w @ mean / w.sum(1), 8))
        more = report.mean - report[name].mean
        assert report[name].gain[0] == pytest.approx(more)
    low, high = report["other"].gain[1:]
    assert low < report["other"].gain[0] < high
    assert (report.methods[0].gain, len(report.methods[0].interval)) == ([], 2)
    text = str(report)
    low, high = report["bare"].interval
    assert f"{report['bare'].mean:.3f}  {low:.2f}–{high:.2f}" in text
    assert f"mean of adapted less that of other: {report['other'].gain[0]:+.3f} (" in text
    report.save(tmp_path / "report.json")
    assert OrbitReport.load(tmp_path / "report.json").methods == report.methods
    report.save(tmp_path / "report.csv")
    assert "interval from,interval to" in (tmp_path / "report.csv").read_text("utf-8-sig")


def test_the_gain_is_of_pairs():
    """Two methods that are right on all but the same one input: their means are unsure, their difference is not."""
    predictor, data = known([[1, 1, 1, 1], [0, 0, 0, 0]] * 5)
    model = equiform.adapt(predictor, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"))
    report = equiform.evaluate(model, data, baselines=["bare"])
    low, high = report["bare"].interval
    assert high - low > 0.4
    assert report["bare"].gain == [0, 0, 0]


@pytest.mark.parametrize("metric", ["function", "torchmetrics"])
def test_metrics_that_cannot_be_resampled_have_none(metric):
    from torchmetrics.classification import MulticlassAccuracy

    predictor, data = known([[1, 1, 0, 0], [1, 0, 0, 0]])
    model = equiform.adapt(predictor, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"))
    chosen = (
        MulticlassAccuracy(2)
        if metric == "torchmetrics"
        else lambda output, target: (output.argmax(1) == target).float().mean()
    )
    report = equiform.evaluate(model, data, metric=chosen, baselines=["bare"])
    assert all(method.interval == method.gain == [] for method in report.methods)
    assert "less that of" not in str(report)
