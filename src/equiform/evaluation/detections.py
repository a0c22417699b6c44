"""COCO's average precision of lists of detections, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from .._optional import optional

IOU_TYPES = {"boxes": "bbox", "masks": "segm"}  # what is compared: its name in a detection, and COCO's name for it
WHOLE = [0, 1e10]  # areas: all of them
MAX_DETECTIONS = 100
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
TINY = 1e-9


class AveragePrecision:
    """The mean over classes and IoU thresholds 0.5 to 0.95, or at one threshold, of the detections of all photos.

    Outputs: a dict per photo with boxes (n, 4) as xyxy in pixels, scores, labels, and for masks those, (n, 1, h, w) or
    (n, h, w), foreground from 0.5 on. Targets: the same without scores; `iscrowd` marks regions that are ignored. An empty
    entry may have the shape (0,), or be None.
    """

    higher_is_better = True

    def __init__(self, what: str, threshold: float | None = None):
        self.what, self.threshold = what, threshold
        self.images: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self._judged: Any = None  # of the photos so far

    def update(self, output: Any, target: Any) -> None:
        """Add the detections and the ground truth of a list of photos."""
        self._judged = None
        for name, value, needed in (("detections", output, {"scores"}), ("targets", target, set())):
            _check(name, value, needed | {self.what, "labels"})
        for detections, objects in zip(output, target, strict=True):
            image = {"id": len(self.images) + 1}
            if self.what == "masks":
                image |= dict(zip(("height", "width"), _sides(objects["masks"], detections["masks"]), strict=True))
            self.images.append(image)
            self.found += self._annotations(detections, image["id"], len(self.found))
            self.truth += self._annotations(objects, image["id"], len(self.truth))

    def compute(self) -> float:
        """The average precision; nan where the targets hold no object."""
        precision = self.judged().eval["precision"]
        precision = precision[precision > -1]  # -1: a class that is in no target
        return float(precision.mean()) if precision.size else float("nan")

    def __len__(self) -> int:
        return len(self.images)

    def weighted(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The average precision for each row of weights, 2 as if a photo were there twice."""
        photos, n = self.judged().evalImgs, len(self)  # class by class, a photo each; None where it has nothing of the class
        classes = [photos[start : start + n] for start in range(0, len(photos), n)]
        found = [one for photos in classes for one in _class_precisions(photos, weights)]
        return np.nanmean(np.stack(found), 0) if found else np.full(len(weights), np.nan)

    def judged(self) -> Any:
        """pycocotools' COCOeval of it all; its `evalImgs` says what was found, class by class, a photo each."""
        if self._judged is None:
            self._judged = self._judge()
        return self._judged

    def _judge(self) -> Any:
        evaluation = optional("pycocotools.cocoeval", "detection")
        labels = sorted({entry["category_id"] for entry in self.truth + self.found})
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            judge = evaluation.COCOeval(self._index(self.truth, labels), self._index(self.found, labels), IOU_TYPES[self.what])
            judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [WHOLE], ["all"], [MAX_DETECTIONS]
            if self.threshold is not None:
                judge.params.iouThrs = np.array([self.threshold])
            judge.evaluate()
            judge.accumulate()
        return judge

    def _annotations(self, entries: Mapping[str, Any], image: int, before: int) -> list[dict[str, Any]]:
        labels = _array(entries["labels"])
        scores, crowds = (_array(entries.get(key, np.zeros(len(labels)))) for key in ("scores", "iscrowd"))
        shapes = self._boxes(entries["boxes"]) if self.what == "boxes" else self._masks(entries["masks"])
        ids = range(before + 1, before + 1 + len(labels))  # COCOeval takes 0 for none
        return [
            {"id": i, "image_id": image, "category_id": int(label), "score": float(score), "iscrowd": int(crowd), **shape}
            for i, label, score, crowd, shape in zip(ids, labels, scores, crowds, shapes, strict=True)
        ]

    def _boxes(self, boxes: Any) -> list[dict[str, Any]]:
        corners = _array(boxes).astype(float).reshape(-1, 4)
        sizes = corners[:, 2:] - corners[:, :2]
        boxes = np.concatenate([corners[:, :2], sizes], 1).tolist()
        return [{"bbox": box, "area": area} for box, area in zip(boxes, sizes.prod(1).tolist(), strict=True)]

    def _masks(self, masks: Any) -> list[dict[str, Any]]:
        coding = optional("pycocotools.mask", "detection")
        masks = _array(masks)
        masks = masks[:, 0] if masks.ndim == 4 else masks
        codes = [coding.encode(np.asfortranarray(mask >= 0.5, dtype=np.uint8)) for mask in masks]
        return [{"segmentation": code, "area": float(coding.area(code))} for code in codes]

    def _index(self, annotations: list[dict[str, Any]], labels: Sequence[int]) -> Any:
        index = optional("pycocotools.coco", "detection").COCO()
        # copies, since the evaluation writes into them
        annotations = [dict(annotation) for annotation in annotations]
        categories = [{"id": label} for label in labels]
        index.dataset = {"images": self.images, "annotations": annotations, "categories": categories}
        index.createIndex()
        return index


def _class_precisions(photos: Sequence[dict[str, Any] | None], weights: Float[np.ndarray, "r n"]) -> list[np.ndarray]:
    """The average precision of one class at each threshold, for each row of weights, nan where it has no object; nothing where
    it never has."""
    there = [(i, one) for i, one in enumerate(photos) if one is not None]
    objects = np.zeros(len(photos))
    for i, one in there:
        objects[i] = np.sum(np.logical_not(one["gtIgnore"]))
    if not objects.any():
        return []
    order = np.argsort(-np.concatenate([one["dtScores"] for _, one in there]), kind="mergesort")
    photo = np.concatenate([np.full(len(one["dtScores"]), i) for i, one in there])[order]
    matched = np.concatenate([one["dtMatches"] > 0 for _, one in there], 1)[:, order]
    ignored = np.concatenate([one["dtIgnore"] > 0 for _, one in there], 1)[:, order]
    drawn, total = weights[:, photo], weights @ objects
    return [_precision(drawn * ~out, right, total) for right, out in zip(matched, ignored, strict=True)]


def _precision(
    weight: Float[np.ndarray, "r k"], matched: Bool[np.ndarray, " k"], total: Float[np.ndarray, " r"]
) -> Float[np.ndarray, " r"]:
    """The mean precision at COCO's recalls, of detections with these weights, the surest first, and of as many objects."""
    found, right = (
        weight.cumsum(1)[:, matched],
        weight[:, matched].cumsum(1),
    )  # where an object is found: elsewhere recall stays
    recall, precision = right / np.maximum(total, TINY)[:, None], right / np.maximum(found, TINY)
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # at that recall or a greater one; 0 beyond the last
    reached = np.diff(np.searchsorted(RECALLS, recall, side="right"), axis=1, prepend=0)
    return np.where(total > 0, (best * reached).sum(1) / len(RECALLS), np.nan)


def _check(name: str, value: Any, needed: set[str]) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in value):
        raise ValueError(f"{name} are a list with a dict per photo, in pixels; got a {type(value).__name__}")
    for entry in value:
        if missing := needed - set(entry):
            raise ValueError(f"{name} have no {', '.join(sorted(missing))}; there are: {', '.join(map(str, entry))}")


def _sides(*masks: Any) -> tuple[int, ...]:
    """Height and width of the first masks that have them; (0, 0) where all are empty."""
    return next((shape[-2:] for x in masks if len(shape := np.shape(_array(x))) > 2), (0, 0))


def _array(x: Any) -> np.ndarray:
    if x is None:  # as some say that they found nothing
        return np.zeros(0)
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
