"""CIFAR-10 turned by the elements of C4 and C8: a small classifier, bare and adapted.

The canonicalizer is fitted on unlabelled upright train images alone. By default: the data and the ResNet-9 beside the project.
With your own:

    python benchmarks/cifar10.py --data other.npz --predictor FILE.py:FUNCTION
    python benchmarks/cifar10.py --data folder/ --size 224 --labels labels.json --predictor timm:resnet18
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import common
import equiform
from equiform import Canonicalizer, Equivariant, GroupConvCanonicalizer, OrbitCanonicalizer, adapt, evaluate, fit, fit_opinion
from equiform.evaluation import BASELINES


def images(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def canonicalizer_of(name: str, group: str, resolution: int) -> Canonicalizer:
    return (OrbitCanonicalizer if name == "orbit" else GroupConvCanonicalizer)(group, resolution=resolution)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=common.DATA_HELP)
    parser.add_argument("--size", type=int, default=32, help="side of the photos of a folder")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    parser.add_argument("--predictor", default="resnet9_cifar10", help="timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ...")
    parser.add_argument("--groups", nargs="+", default=["C4", "C8"])
    parser.add_argument("--canonicalizer", choices=["orbit", "group-conv"], default="orbit")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = common.arrays(args.data or common.shared("data/cifar10.npz"), args.size, args.labels)
    predictor = common.predictor(args.predictor)
    train = images(data["train_images"])
    test = common.Photos(images(data["test_images"]), torch.from_numpy(data["test_labels"]).long())
    figures = {"predictor": args.predictor, "num_train": len(train), "equiform": equiform.__version__}
    for name in args.groups:
        torch.manual_seed(args.seed)
        canonicalizer = canonicalizer_of(args.canonicalizer, name, args.resolution)
        model = adapt(predictor, name, outputs="logits", canonicalizer=canonicalizer)
        start = time.perf_counter()
        options = {"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed}
        history = fit(model, train, **options).history
        if model.group.on_grid:
            fit_opinion(model, common.Photos(train[:2000], torch.zeros(len(train[:2000]))))
        minutes = (time.perf_counter() - start) / 60
        print(f"{name}: fitted in {minutes:.1f} minutes; last epoch {history[-1]}")
        order = len(canonicalizer.elements)

        def with_doubt(top_k: int = 1, coverage: float | None = None, model: Equivariant = model) -> Equivariant:
            return Equivariant(predictor, model.canonicalizer, "image", "logits", top_k, coverage, opinion=model.opinion)

        others = {"two poses": with_doubt(2), "coverage 0.9": with_doubt(coverage=0.9), "all poses": with_doubt(order)}
        report = evaluate(model, test, baselines=BASELINES, others=others, batch_size=250)
        print(report)
        fitted = {**options, "canonicalizer": args.canonicalizer, "resolution": args.resolution, "minutes": round(minutes, 1)}
        figures[name] = {"fit": fitted, "report": json.loads(report.to_json())}
    print("figures in", common.keep("cifar10", figures, args.out))


if __name__ == "__main__":
    main()
