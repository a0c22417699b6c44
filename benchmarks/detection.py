"""Detection on photos turned by quarter turns: a COCO detector, bare and adapted.

The canonicalizer is that of photos.py: fitted on unlabelled upright photos of another data set, by the same recipe, and seen by
no detector; `--adapter DIR` takes one that is there. Measured on labelled photos of many sizes: `--data DIR` holds boxes.json
(file, boxes as xyxy in pixels and labels, by photo) and images/. Boxes are not averaged over poses but come from the likeliest
one; in place of orbit averaging stands what the detector finds in all four turns, merged. Where several poses are run, the
detector's second opinion, a score of what it found of every class, fitted on the same unlabelled photos as the canonicalizer,
says which of them that is.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import common
import equiform
import photos
from equiform import Equivariant, Rows, act, adapt, evaluate, group, inverse
from equiform.learning import fit_opinion

CLASSES, LEAST = 80, 0.05  # of COCO; the score below which nothing counts as found
SIDE = 352  # what FastestDet was published for: photos are squeezed into a square
DETECTIONS = {"boxes": "boxes", "scores": "invariant", "labels": "invariant"}
OUTPUTS = {"detections": Rows(DETECTIONS), "evidence": "logits"}


class Detector(nn.Module):
    """Photos of any size in, boxes in their pixels out; and of every class the log of its best score."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: list[Tensor]) -> dict[str, Any]:
        squares = [F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True) for image in images]
        answers = self.network.decode(torch.cat(squares).contiguous(memory_format=torch.channels_last))
        detections = [self._in_pixels(image, *answer) for image, answer in zip(images, answers, strict=True)]
        return {"detections": detections, "evidence": torch.stack([self.evidence(found) for found in detections])}

    @staticmethod
    def evidence(found: dict[str, Tensor]) -> Tensor:
        # the last column is a class that is always there: without it only ratios of scores would tell, not how high they are
        best = torch.full((CLASSES + 1,), LEAST).scatter_reduce(0, found["labels"], found["scores"], "amax")
        best[-1] = 1
        return best.log()

    @staticmethod
    def _in_pixels(image: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        h, w = image.shape[-2:]
        return {"boxes": boxes * torch.tensor([w, h, w, h]) / SIDE, "scores": scores, "labels": labels}


class OrbitMerged(nn.Module):
    """The classical baseline, for lists: what the detector finds in any of the four turns, less the weaker of each overlap.

    Four passes, which the table counts as one call.
    """

    def __init__(self, detector: Detector, iou: float = 0.45):
        super().__init__()
        self.detector, self.iou = detector, iou

    def forward(self, images: list[Tensor]) -> dict[str, Any]:
        kinds = Rows(DETECTIONS)
        answers = []
        for g in group("C4").elements[:, None]:
            turned = act(inverse(g), images, Rows("image"))
            canvases = [tuple(image.shape[-2:]) for image in turned]
            answers.append(act(g, self.detector(turned)["detections"], kinds, canvases))
        merged = []
        for image, *found in zip(images, *answers, strict=True):
            boxes, scores, labels = (torch.cat([one[name] for one in found]) for name in DETECTIONS)
            apart = labels[:, None] * 4.0 * max(image.shape[-2:])  # no two labels overlap
            kept = strongest(boxes + apart, scores, self.iou)
            merged.append({"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]})
        return {"detections": merged, "evidence": torch.stack([self.detector.evidence(found) for found in merged])}


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


CORNERS = ((torch.maximum, slice(None, 2)), (torch.minimum, slice(2, None)))


def boxes(folder: Path, limit: int | None) -> common.PhotoFiles:
    """The photos of a folder with their boxes."""
    images = common.images_below(folder)
    described = json.loads((folder / "boxes.json").read_text(encoding="utf-8")).values()
    return common.PhotoFiles([(images[Path(photo["file"]).stem], photo) for photo in described][:limit], target)


def target(photo: dict) -> dict[str, Tensor]:
    corners = torch.tensor(photo["boxes"], dtype=torch.float).reshape(-1, 4)
    return {"boxes": corners, "labels": torch.tensor(photo["labels"]).long()}


def as_list(samples: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor]]:
    """A batch as the detector takes it."""
    return ([image for image, _ in samples],)


def main() -> None:
    parser = photos.options(__doc__)
    parser.add_argument("--data", type=Path, help="folder with boxes.json and images/")
    parser.add_argument("--detector", default="fastestdet_coco", help="a network with FastestDet's decode")
    parser.add_argument("--limit", type=int, help="measure on that many photos, the first")
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    data = boxes(args.data or common.shared("data/coco128"), args.limit)
    fitted, how = photos.restored_or_fitted(common.predictor(args.predictor), args)
    detector = Detector(common.predictor(args.detector))
    model = adapt(detector, "C4", inputs=Rows("image"), outputs=OUTPUTS, canonicalizer=fitted.canonicalizer)
    train, _ = common.photos(args.train or common.shared("data/imagenette/train"), 224)
    fit_opinion(model, DataLoader(common.Photos(train, torch.zeros(len(train))), batch_size=32, collate_fn=as_list))
    others = {
        f"coverage {share}": Equivariant(detector, model.canonicalizer, model.inputs, OUTPUTS, 1, share, opinion=model.opinion)
        for share in (0.7, 0.9)
    }
    others["orbit, merged"] = OrbitMerged(detector)
    targets = Rows({"boxes": "boxes", "labels": "invariant"})
    report = evaluate(model, data, metric="box_ap50", targets=targets, baselines=["bare"], others=others, batch_size=16)
    print(report)
    figures = {"detector": args.detector, "fit": how, "report": json.loads(report.to_json())}
    print("figures in", common.keep("detection", figures | {"equiform": equiform.__version__}, args.out))


if __name__ == "__main__":
    main()
