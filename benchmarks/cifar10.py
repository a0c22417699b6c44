"""CIFAR-10 turned by the elements of C4 and C8: a small classifier, bare and adapted.

The canonicalizer is fitted on unlabelled upright train images alone. Its network starts from the predictor's own weights and
runs in bfloat16. For C4, beside it: a group-convolution network, which costs less, and a cascade of the two. By default: the
data and the ResNet-9 beside the project. With the default network instead, and with your own data and predictor:

    python benchmarks/cifar10.py --canonicalizer orbit --groups C4 --out benchmarks/results/cifar10-orbit.json
    python benchmarks/cifar10.py --data other.npz --predictor FILE.py:FUNCTION
    python benchmarks/cifar10.py --data folder/ --size 224 --labels labels.json --predictor timm:resnet18
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import backbones
import common
import equiform
from equiform import Equivariant, GroupConvCanonicalizer, OrbitCanonicalizer, adapt, evaluate, fit
from equiform.canonicalizers import Canonicalizer, CascadeCanonicalizer, scorer
from equiform.evaluation.evaluate import BASELINES
from equiform.learning import fit_opinion

QUICK = (16, 32, 48, 64)  # widths of the group-convolution network


def images(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def canonicalizer_of(name: str, group: str, predictor: Any, resolution: int) -> Canonicalizer:
    if name == "backbone":
        if not isinstance(predictor, nn.Module):
            sys.exit(f"the predictor is a {type(predictor).__name__}, no network to start from: say --canonicalizer orbit")
        return OrbitCanonicalizer(group, scorer(predictor), resolution=resolution)
    return (OrbitCanonicalizer if name == "orbit" else GroupConvCanonicalizer)(group, resolution=resolution)


def table(group: str, predictor: Any, train: Tensor, test: common.Photos, args: argparse.Namespace) -> dict:
    """The figures of one group: how the canonicalizer was fitted, and the report."""
    torch.manual_seed(args.seed)
    resolution = args.resolution or min(train.shape[-2:])
    canonicalizer = canonicalizer_of(args.canonicalizer, group, predictor, resolution)
    model = adapt(predictor, group, outputs="logits", canonicalizer=canonicalizer)
    start = time.perf_counter()
    options = {"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed, "precision": args.precision}
    history = fit(model, train, **options).history
    if args.canonicalizer == "backbone":
        canonicalizer.network = backbones.halved(canonicalizer.network)
    if model.group.on_grid:
        fit_opinion(model, common.Photos(train[:2000], torch.zeros(len(train[:2000]))))
    minutes = (time.perf_counter() - start) / 60
    print(f"{group}: fitted in {minutes:.1f} minutes; last epoch {history[-1]}")

    def with_doubt(top_k: int = 1, coverage: float | None = None) -> Equivariant:
        return Equivariant(predictor, canonicalizer, "image", "logits", top_k, coverage, opinion=model.opinion)

    order = len(canonicalizer.elements)
    others = {"two poses": with_doubt(2), "coverage 0.9": with_doubt(coverage=0.9), "all poses": with_doubt(order)}
    if args.canonicalizer == "backbone" and model.group.on_grid and resolution % 2 ** len(QUICK) == 0:
        quick = GroupConvCanonicalizer(group, widths=QUICK, resolution=resolution)
        others["group convolutions"] = adapt(predictor, group, outputs="logits", canonicalizer=quick)
        fit(others["group convolutions"], train, **options)
        # so much less accurate than the other that it decides alone only where it is surer than the default asks
        cascade = CascadeCanonicalizer(quick, canonicalizer, doubt=0.1)
        others["cascade of both"] = adapt(predictor, group, outputs="logits", canonicalizer=cascade)
    report = evaluate(model, test, baselines=BASELINES, others=others, batch_size=250)
    print(report)
    fitted = {**options, "canonicalizer": args.canonicalizer, "resolution": resolution, "minutes": round(minutes, 1)}
    return {"fit": fitted, "report": json.loads(report.to_json())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=common.DATA_HELP)
    parser.add_argument("--size", type=int, default=32, help="side of the photos of a folder")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    parser.add_argument("--predictor", default="resnet9_cifar10", help="timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ...")
    parser.add_argument("--groups", nargs="+", default=["C4", "C8"])
    kinds = "backbone: the predictor's own weights; orbit: the default network; group-conv: group convolutions"
    parser.add_argument("--canonicalizer", choices=["backbone", "orbit", "group-conv"], default="backbone", help=kinds)
    parser.add_argument("--resolution", type=int, help="side of the views; that of the photos if not said")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", default="bf16-mixed", help="of the fit, as lightning.Trainer takes it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    data = common.arrays(args.data or common.shared("data/cifar10.npz"), args.size, args.labels)
    predictor = common.predictor(args.predictor)
    train = images(data["train_images"])
    test = common.Photos(images(data["test_images"]), torch.from_numpy(data["test_labels"]).long())
    figures = {"predictor": args.predictor, "num_train": len(train), "equiform": equiform.__version__}
    figures |= {group: table(group, predictor, train, test, args) for group in args.groups}
    print("figures in", common.keep("cifar10", figures, args.out))


if __name__ == "__main__":
    main()
