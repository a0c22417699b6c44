"""Segmentation of photos turned by quarter turns: a VOC segmenter, bare and adapted.

The canonicalizer is that of photos.py: fitted on unlabelled upright photos of another data set, by the same recipe;
`--adapter DIR` takes one that is there. Measured on photos of many sizes with COCO's panoptic label maps: `--data DIR` holds
images/ and semantic/.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import common
import equiform
import photos
from equiform import Equivariant, adapt, evaluate

LONGER_SIDE = 321
IGNORED = 255
# COCO's category -> VOC's class: the twenty that VOC knows, from aeroplane to tvmonitor; all other categories are background
VOC_OF_COCO = {5: 1, 2: 2, 16: 3, 9: 4, 44: 5, 6: 6, 3: 7, 17: 8, 62: 9, 21: 10, 67: 11, 18: 12, 19: 13, 4: 14, 1: 15}
VOC_OF_COCO |= {64: 16, 20: 17, 63: 18, 7: 19, 72: 20, 0: IGNORED}  # 0: not labelled


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


def labelled(folder: Path, limit: int | None) -> common.PhotoFiles:
    """The photos of a folder with their label maps in VOC's classes."""
    images = common.images_below(folder)
    voc = torch.zeros(256, dtype=torch.long)
    voc[list(VOC_OF_COCO)] = torch.tensor(list(VOC_OF_COCO.values()))
    pairs = [(images[path.stem], path) for path in sorted((folder / "semantic").glob("*.png"))]
    return common.PhotoFiles(pairs[:limit], lambda labels: voc[torch.from_numpy(np.array(Image.open(labels)).astype(np.int64))])


def main() -> None:
    parser = photos.options(__doc__)
    parser.add_argument("--data", type=Path, help="folder with images/ and semantic/")
    parser.add_argument("--segmenter", default="deeplabv3_voc", help="a network of VOC's 21 classes")
    parser.add_argument("--limit", type=int, help="measure on that many photos, the first")
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    # one by one: a batch of tensors has one size
    data = DataLoader(labelled(args.data or common.shared("data/coco128"), args.limit), batch_size=1)
    fitted, how = photos.restored_or_fitted(common.predictor(args.predictor), args)
    segmenter = Segmenter(common.predictor(args.segmenter))
    model = adapt(segmenter, "C4", outputs="image", canonicalizer=fitted.canonicalizer)
    doubtful = Equivariant(segmenter, fitted.canonicalizer, "image", "image", coverage=0.9)
    options = {"metric": "miou", "targets": "mask", "baselines": ["bare", "orbit averaging"]}
    report = evaluate(model, data, others={"coverage 0.9": doubtful}, **options)
    print(report)
    figures = {"segmenter": args.segmenter, "fit": how, "report": json.loads(report.to_json())}
    print("figures in", common.keep("segmentation", figures | {"equiform": equiform.__version__}, args.out))


if __name__ == "__main__":
    main()
