"""Detection on photos turned by quarter turns: a COCO detector, bare and adapted.

The canonicalizer is that of photos.py: fitted on unlabelled upright photos of another data set, by the same recipe, and seen by
no detector; `--adapter DIR` takes one that is there. Measured on labelled photos of many sizes: `--data DIR` holds boxes.json
(file, boxes as xyxy in pixels and labels, by photo) and images/. Boxes are not averaged over poses, so that neither averaging
over the orbit nor several poses have a row: every answer comes from the likeliest pose.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import common
import equiform
import photos
from equiform import Rows, adapt, evaluate

SIDE = 352  # what FastestDet was published for: photos are squeezed into a square
DETECTIONS = {"boxes": "boxes", "scores": "invariant", "labels": "invariant"}


class Detector(nn.Module):
    """Photos of any size in, boxes in their pixels out."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        squares = [F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True) for image in images]
        answers = self.network.decode(torch.cat(squares).contiguous(memory_format=torch.channels_last))
        return [self._in_pixels(image, *answer) for image, answer in zip(images, answers, strict=True)]

    @staticmethod
    def _in_pixels(image: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        h, w = image.shape[-2:]
        return {"boxes": boxes * torch.tensor([w, h, w, h]) / SIDE, "scores": scores, "labels": labels}


def boxes(folder: Path, limit: int | None) -> common.PhotoFiles:
    """The photos of a folder with their boxes."""
    images = common.images_below(folder)
    described = json.loads((folder / "boxes.json").read_text(encoding="utf-8")).values()
    return common.PhotoFiles([(images[Path(photo["file"]).stem], photo) for photo in described][:limit], target)


def target(photo: dict) -> dict[str, Tensor]:
    corners = torch.tensor(photo["boxes"], dtype=torch.float).reshape(-1, 4)
    return {"boxes": corners, "labels": torch.tensor(photo["labels"]).long()}


def main() -> None:
    parser = photos.options(__doc__)
    parser.add_argument("--data", type=Path, help="folder with boxes.json and images/")
    parser.add_argument("--detector", default="fastestdet_coco", help="a network with FastestDet's decode")
    parser.add_argument("--limit", type=int, help="measure on that many photos, the first")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = boxes(args.data or common.shared("data/coco128"), args.limit)
    fitted, how = photos.restored_or_fitted(common.predictor(args.predictor), args)
    detector = Detector(common.predictor(args.detector))
    model = adapt(detector, "C4", inputs=Rows("image"), outputs=Rows(DETECTIONS), canonicalizer=fitted.canonicalizer)
    report = evaluate(model, data, metric="box_ap50", baselines=["bare"], batch_size=16)
    print(report)
    figures = {"detector": args.detector, "fit": how, "report": json.loads(report.to_json())}
    print("figures in", common.keep("detection", figures | {"equiform": equiform.__version__}, args.out))


if __name__ == "__main__":
    main()
