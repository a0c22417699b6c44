"""Classifiers, a segmenter and a detector of photos, each with its labelled photos and its metric."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

import common
from equiform import Rows, act, group, inverse
from intervals import PerPhoto

SIDE = 224  # of the photos that classifiers are given
LONGER_SIDE = 321  # of those that the segmenter sees
SQUARE = 352  # what FastestDet was published for: photos are squeezed into a square
CLASSES, LEAST = 80, 0.05  # of COCO; the score below which nothing counts as found
IGNORED = 255
# COCO's category -> VOC's class: the twenty that VOC knows, from aeroplane to tvmonitor; all other categories are background
VOC_OF_COCO = {5: 1, 2: 2, 16: 3, 9: 4, 44: 5, 6: 6, 3: 7, 17: 8, 62: 9, 21: 10, 67: 11, 18: 12, 19: 13, 4: 14, 1: 15}
VOC_OF_COCO |= {64: 16, 20: 17, 63: 18, 7: 19, 72: 20, 0: IGNORED}  # 0: not labelled
DETECTIONS = {"boxes": "boxes", "scores": "invariant", "labels": "invariant"}


@dataclass(frozen=True)
class Task:
    """A predictor and what `evaluate` is told of it. `confidence`: the logits by which a pose is found without training, and
    `measure` how; `merged`: what stands in place of orbit averaging where answers are lists, which are never averaged."""

    predictor: nn.Module
    data: Any
    metric: PerPhoto
    outputs: Any
    confidence: Callable[[Tensor], Tensor]
    measure: str = "max_probability"
    inputs: Any = "image"
    targets: Any = None
    merged: nn.Module | None = None


def classification(reference: str, folder: Path, labels: Path | None = None, limit: int | None = None) -> Task:
    """Of photos with a subfolder for each class."""
    classifier = common.predictor(reference)
    photos, folders = common.photos(folder, SIDE)
    data = common.Photos(photos, common.class_indices(folders, labels))
    return Task(classifier, DataLoader(first(data, limit), batch_size=32), PerPhoto("accuracy"), "logits", classifier)


def first(data: Any, limit: int | None) -> Subset:
    """That many samples, spread over all of them, since photos of one class lie together."""
    step = 1 if limit is None else max(1, len(data) // limit)
    return Subset(data, list(range(0, len(data), step))[:limit])


# ------------------------------------------------------------------------------------------------------- segmentation


class Segmenter(nn.Module):
    """Photos of any size in, probabilities of their pixels out."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        small = [max(1, round(side * LONGER_SIDE / max(size))) for side in size]
        x = F.interpolate(images, small, mode="bilinear", antialias=True)
        scores = self.network(x.contiguous(memory_format=torch.channels_last))
        return F.interpolate(scores.softmax(1), size, mode="bilinear")

    def confidence(self, images: Tensor) -> Tensor:
        return self(images).clamp(min=1e-9).log()


def segmentation(reference: str, folder: Path, limit: int | None = None) -> Task:
    """Of the photos of a folder, images/, that have label maps of COCO's categories, semantic/; in VOC's classes."""
    images = common.images_below(folder)
    voc = torch.zeros(256, dtype=torch.long)
    voc[list(VOC_OF_COCO)] = torch.tensor(list(VOC_OF_COCO.values()))
    pairs = [(images[path.stem], path) for path in sorted((folder / "semantic").glob("*.png"))]
    data = common.PhotoFiles(pairs, lambda labels: voc[torch.from_numpy(np.array(Image.open(labels)).astype(np.int64))])
    segmenter = Segmenter(common.predictor(reference))
    loader = DataLoader(first(data, limit), batch_size=1)  # one by one: a batch of tensors has one size
    return Task(segmenter, loader, PerPhoto("miou"), "image", segmenter.confidence, targets="mask")


# ---------------------------------------------------------------------------------------------------------- detection


class Detector(nn.Module):
    """Photos of any size in, boxes in their pixels out."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Any) -> list[dict[str, Tensor]]:
        squares = [F.interpolate(image[None], (SQUARE, SQUARE), mode="bilinear", antialias=True) for image in images]
        answers = self.network.decode(torch.cat(squares).contiguous(memory_format=torch.channels_last))
        return [self._in_pixels(image, *answer) for image, answer in zip(images, answers, strict=True)]

    def confidence(self, images: Any) -> Tensor:
        """Of every class the log of its best score: their energy is high where much is found."""
        best = [torch.full((CLASSES,), LEAST).scatter_reduce(0, one["labels"], one["scores"], "amax") for one in self(images)]
        return torch.stack(best).log()

    @staticmethod
    def _in_pixels(image: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        h, w = image.shape[-2:]
        return {"boxes": boxes * torch.tensor([w, h, w, h]) / SQUARE, "scores": scores, "labels": labels}


class OrbitMerged(nn.Module):
    """Orbit averaging for lists: what the detector finds in any of the four turns, less the weaker of each overlap."""

    passes = 4  # in one call

    def __init__(self, detector: nn.Module, iou: float = 0.45):
        super().__init__()
        self.detector, self.iou = detector, iou

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        kinds = Rows(DETECTIONS)
        answers = []
        for g in group("C4").elements[:, None]:
            turned = act(inverse(g), images, Rows("image"))
            canvases = [tuple(image.shape[-2:]) for image in turned]
            answers.append(act(g, self.detector(turned), kinds, canvases))
        return [self._merged(image, found) for image, *found in zip(images, *answers, strict=True)]

    def _merged(self, image: Tensor, found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        boxes, scores, labels = (torch.cat([one[name] for one in found]) for name in DETECTIONS)
        apart = labels[:, None] * 4.0 * max(image.shape[-2:])  # no two labels overlap
        kept = strongest(boxes + apart, scores, self.iou)
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


CORNERS = ((torch.maximum, slice(None, 2)), (torch.minimum, slice(2, None)))


def strongest(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Non-maximum suppression: the indices of boxes that no stronger one overlaps by more than `iou`."""
    low, high = (pick(boxes[:, None, part], boxes[None, :, part]) for pick, part in CORNERS)
    both = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    overlaps = both / (area[:, None] + area - both).clamp(min=1e-9) > iou
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if not overlaps[i, kept].any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def detection(reference: str, folder: Path, limit: int | None = None) -> Task:
    """Of the photos of a folder, images/, with boxes.json: file, boxes as xyxy in pixels and labels, by photo."""
    detector = Detector(common.predictor(reference))
    loader = DataLoader(first(boxes_of(folder), limit), batch_size=16, collate_fn=listed)
    kinds = {"inputs": Rows("image"), "outputs": Rows(DETECTIONS), "targets": Rows({"boxes": "boxes", "labels": "invariant"})}
    return Task(
        detector,
        loader,
        PerPhoto("box_ap50"),
        confidence=detector.confidence,
        measure="energy",
        merged=OrbitMerged(detector),
        **kinds,
    )


def boxes_of(folder: Path) -> common.PhotoFiles:
    """The photos of a folder with their boxes and labels."""
    images = common.images_below(folder)
    described = json.loads((folder / "boxes.json").read_text(encoding="utf-8")).values()
    return common.PhotoFiles([(images[Path(photo["file"]).stem], photo) for photo in described], objects)


def objects(photo: dict) -> dict[str, Tensor]:
    corners = torch.tensor(photo["boxes"], dtype=torch.float).reshape(-1, 4)
    return {"boxes": corners, "labels": torch.tensor(photo["labels"]).long()}


def listed(samples: list[tuple[Tensor, Any]]) -> tuple[list[Tensor], list[Any]]:
    """A batch of photos that differ in size, and their targets."""
    photos, targets = zip(*samples, strict=True)
    return list(photos), list(targets)
