"""Segment Anything made equivariant: fit a canonicalizer on a folder of photos, and measure masks on a COCO-format set.

The prior alone is used: no masks, and SAM never runs while fitting. Each object of the set is prompted with its box; the masks
are compared upright and turned by quarter turns, beside the bare model.

    python recipes/segment_anything.py --photos photos/ --images val2017/ --annotations instances_val2017.json
    python recipes/segment_anything.py --model facebook/sam-vit-huge --adapter sam-c4/ --images ... --annotations ...
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from equiform import Equivariant, Rows, adapt, evaluate, fit, group, load
from equiform._optional import optional
from equiform.predictors.pairs import read_photo

TARGETS = Rows({"masks": "mask", "labels": "invariant"})


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="facebook/sam-vit-base", help="a SAM or SAM 2 repository, or a folder")
    parser.add_argument("--photos", type=Path, help="folder of upright photos to fit on")
    parser.add_argument("--adapter", type=Path, help="save the fitted adapter in this folder; one that is there is measured")
    parser.add_argument("--images", type=Path, required=True, help="folder of the photos to measure on")
    parser.add_argument("--annotations", type=Path, required=True, help="their instances in the COCO format (JSON)")
    parser.add_argument("--metric", choices=["miou", "map"], nargs="+", default=["miou", "map"])
    parser.add_argument("--group", default="C4")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--limit", type=int, help="measure on the first so many photos")
    parser.add_argument("--max-objects", type=int, default=20, help="prompt at most so many objects a photo, the largest first")
    parser.add_argument("--out", type=Path, help="folder for the reports (HTML and JSON)")
    return parser.parse_args(argv)


class CocoBoxes(Dataset):
    """((photo, boxes), {masks, labels}) of every photo with objects; crowds are left out."""

    def __init__(self, images: Path, annotations: Path, limit: int | None, max_objects: int):
        coco = optional("pycocotools.coco", "detection").COCO
        stdout, sys.stdout = sys.stdout, sys.stderr  # it prints its progress
        try:
            self.coco = coco(str(annotations))
        finally:
            sys.stdout = stdout
        self.images, self.max_objects = images, max_objects
        self.ids = [i for i in self.coco.getImgIds() if self._objects(i)][:limit]
        if not self.ids:
            raise ValueError("there are no objects in it")
        if missing := [name for name in map(self._name, self.ids) if not (images / name).is_file()]:
            raise ValueError(f"{len(missing)} of its photos are not in {images}, the first {missing[0]}")

    def _objects(self, image: int) -> list[dict[str, Any]]:
        found = self.coco.loadAnns(self.coco.getAnnIds(image, iscrowd=False))
        large = [a for a in found if a["bbox"][2] >= 1 and a["bbox"][3] >= 1]
        return sorted(large, key=lambda a: -a["area"])[: self.max_objects]

    def _name(self, image: int) -> str:
        return self.coco.loadImgs(image)[0]["file_name"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
        photo = read_photo(self.images / self._name(self.ids[i]))
        objects = self._objects(self.ids[i])
        xywh = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32)
        corner = torch.tensor([photo.shape[2], photo.shape[1]]).repeat(2)
        boxes = torch.minimum(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1).clamp(min=0), corner)
        masks = torch.stack([torch.from_numpy(self.coco.annToMask(a)).bool() for a in objects])
        return (photo, boxes), {"masks": masks, "labels": torch.tensor([a["category_id"] for a in objects])}


def rows(samples: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """Samples to one batch of photos of any sizes."""
    images = [photo for (photo, _), _ in samples]
    boxes = [b for (_, b), _ in samples]
    return {"images": images, "input_boxes": boxes}, [target for _, target in samples]


def best(answer: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """For each object the mask that SAM itself holds for the best, and its score."""
    scores, index = answer["iou_scores"].max(1)
    return answer["masks"][torch.arange(len(index)), index], scores


def mean_iou(answers: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> float:
    """Intersection over union of the best mask, averaged over objects and then over photos."""
    values = []
    for answer, target in zip(answers, targets, strict=True):
        masks, truth = best(answer)[0], target["masks"]
        union = (masks | truth).sum((1, 2)).clamp(min=1)
        values.append(((masks & truth).sum((1, 2)) / union).mean())
    return float(torch.stack(values).mean())


class MaskMap:
    """Mask mAP: the label of each prompt stands for its class."""

    __name__ = "mask mAP"

    def __init__(self) -> None:
        from equiform.evaluation import metrics

        self.metric = metrics.make("mask_map", None)

    def reset(self) -> None:
        """Every element is counted on its own."""
        self.__init__()

    def update(self, answers: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> None:
        """Take the answers of some photos in."""
        found = []
        for answer, target in zip(answers, targets, strict=True):
            masks, scores = best(answer)
            found.append({"masks": masks, "scores": scores, "labels": target["labels"]})
        self.metric.update(found, targets)

    def compute(self) -> float:
        """The mean over classes and thresholds."""
        return float(self.metric.compute())


METRICS = {"miou": mean_iou, "map": MaskMap()}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Fit where there is no adapter yet, measure, print and keep the reports. Returns them by metric."""
    args = arguments(argv)
    for path in (args.images, args.annotations, args.photos):
        if path is not None and not path.exists():
            sys.exit(f"no file or folder {path}")
    fitted = args.adapter is not None and (args.adapter / "config.json").exists()
    if not fitted and args.photos is None:
        sys.exit("nothing to fit on: name a folder of upright photos, --photos, or a fitted --adapter")
    try:
        group(args.group)
    except ValueError as error:
        sys.exit(f"--group: {error}")
    try:
        data = CocoBoxes(args.images, args.annotations, args.limit, args.max_objects)
    except (ValueError, KeyError, OSError) as error:
        sys.exit(f"{args.annotations} cannot be used: {error}")
    transformers = optional("transformers", "transformers")
    try:
        processor = transformers.AutoProcessor.from_pretrained(args.model)
        pair = (processor, transformers.AutoModelForMaskGeneration.from_pretrained(args.model).eval())
    except (OSError, ValueError) as error:
        sys.exit(f"--model {args.model} cannot be loaded: {' '.join(str(error).split())}")
    model = load(args.adapter, pair) if fitted else fit_on(adapt(pair, args.group), args)
    reports = {}
    for name in args.metric:
        loader = DataLoader(data, batch_size=4, collate_fn=rows)
        reports[name] = evaluate(model, loader, metric=METRICS[name], targets=TARGETS, baselines=["bare"], progress=True)
        print(reports[name])
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            for ending in ("html", "json"):
                reports[name].save(args.out / f"{name}.{ending}")
    return reports


def fit_on(model: Equivariant, args: argparse.Namespace) -> Equivariant:
    """The model with its canonicalizer fitted on the photos."""
    result = fit(model, args.photos, epochs=args.epochs)
    for line in result.skipped:
        print("skipped", line, file=sys.stderr)
    if args.adapter is not None:
        model.save(args.adapter)
    return model


if __name__ == "__main__":
    main()
