"""Average precision beside torchmetrics' own, which needs a torchvision to import, on random detections."""

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchvision", reason="torchvision is tested in an environment of its own: make test")
pytest.importorskip("pycocotools", reason="pycocotools is not installed")

from torchmetrics.detection import MeanAveragePrecision

from equiform import Rows
from equiform.evaluation.metrics import make
from equiform.geometry.kinds import as_kinds

KINDS = as_kinds(Rows({"boxes": "boxes", "scores": "invariant", "labels": "invariant", "masks": "mask"}))


def rectangles(boxes: Tensor, h: int, w: int) -> Tensor:
    ys, xs = torch.arange(h)[:, None] + 0.5, torch.arange(w) + 0.5
    inside = [(xs > x1) & (xs < x2) & (ys > y1) & (ys < y2) for x1, y1, x2, y2 in boxes]
    return torch.stack(inside) if inside else torch.zeros(0, h, w, dtype=torch.bool)


def photo(i: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Objects, and detections that are most of them moved by a little, some of another class; some photos hold nothing."""
    h, w, n = 40 + i, 60 - i, i % 5
    low = torch.rand(n, 2) * torch.tensor([w, h]) * 0.6
    there = torch.cat([low, low + 4 + 16 * torch.rand(n, 2)], 1)
    found = torch.cat([there, there[: n // 2].flip(-1).sort(-1)[0]]) + 2 * torch.randn(n + n // 2, 1)
    labels, classes = torch.randint(0, 3, (n,)), torch.randint(0, 3, (n + n // 2,))
    classes[: n - n // 3] = labels[: n - n // 3]
    detections = {"boxes": found, "scores": torch.rand(len(found)), "labels": classes, "masks": rectangles(found, h, w)}
    return detections, {"boxes": there, "labels": labels, "masks": rectangles(there, h, w)}


CASES = [("box_map", {}), ("box_ap50", {"iou_thresholds": [0.5]}), ("mask_map", {"iou_type": "segm"})]
RECALLS = np.linspace(
    0, 1, 101
).tolist()  # COCO's own; torchmetrics' are those in float32, which takes 0.56 for more than 14/25


@pytest.mark.parametrize(("name", "options"), CASES)
def test_it_is_that_of_torchmetrics(name, options):
    pairs = [photo(i) for i in range(14)]
    ours, theirs = make(name, KINDS), make(MeanAveragePrecision(rec_thresholds=RECALLS, **options), KINDS)
    for metric in (ours, theirs):
        metric.update(*map(list, zip(*pairs[:9], strict=True)))
        metric.update(*map(list, zip(*pairs[9:], strict=True)))
    assert 0.1 < ours.compute() < 0.95, "control: neither all wrong nor all right"
    assert ours.compute() == pytest.approx(float(theirs.compute()), abs=1e-5), "torchmetrics rounds to float32"
