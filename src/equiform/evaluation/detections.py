"""COCO's average precision of lists of detections, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._optional import optional

IOU_TYPES = {"boxes": "bbox", "masks": "segm"}  # what is compared: its name in a detection, and COCO's name for it
WHOLE = [0, 1e10]  # areas: all of them
MAX_DETECTIONS = 100


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

    def update(self, output: Any, target: Any) -> None:
        """Add the detections and the ground truth of a list of photos."""
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

    def judged(self) -> Any:
        """pycocotools' COCOeval of it all; its `evalImgs` says what was found, class by class, a photo each."""
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
