"""CIFAR-10 turned by the elements of C4 and C8: a small classifier, bare and adapted.

The canonicalizer is fitted on unlabelled upright train images alone. Its network starts from the predictor's own weights and
runs in bfloat16. For C4, beside it: a group-convolution network, which costs less, and a cascade of the two. By default: the
data and the ResNet-9 beside the project. With the default network instead, and with your own data and predictor:

    python benchmarks/cifar10.py --canonicalizer orbit --groups C4 --out benchmarks/results/cifar10-orbit.json
    python benchmarks/cifar10.py --data other.npz --predictor FILE.py:FUNCTION
    python benchmarks/cifar10.py --data folder/ --size 224 --labels labels.json --predictor timm:resnet18
"""

import argparse
import copy
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
from equiform.geometry import Image
from equiform.learning import fit_opinion

# bringing back small images: as sharp as may be, with no black corners (see cifar10_oracle.py)
SHARP = Image("bicubic", border="reflect")
OF_PREDICTOR = ("backbone", "turns")  # canonicalizers that start from the predictor's own weights
QUICK = (16, 32, 48, 64)  # widths of the group-convolution network


def images(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def canonicalizer_of(name: str, group: str, predictor: Any, resolution: int) -> Canonicalizer:
    if name in OF_PREDICTOR:
        if not isinstance(predictor, nn.Module):
            sys.exit(f"the predictor is a {type(predictor).__name__}, no network to start from: say --canonicalizer orbit")
        network = scorer(predictor) if name == "backbone" else turn_classifier(predictor, group)
        return OrbitCanonicalizer(group, network, resolution=resolution)
    return (OrbitCanonicalizer if name == "orbit" else GroupConvCanonicalizer)(group, resolution=resolution)


def turn_classifier(predictor: nn.Module, group: str) -> nn.Module:
    """A copy of the predictor whose last linear layer says by which element a view is turned."""
    network = copy.deepcopy(predictor)
    name, last = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, attribute = name.rpartition(".")
    network.outputs = len(equiform.group(group).elements)
    setattr(network.get_submodule(parent), attribute, nn.Linear(last.in_features, network.outputs))
    return network


def fitted(group: str, predictor: Any, train: Tensor, args: argparse.Namespace) -> tuple[Equivariant, dict]:
    """The model of one group, its canonicalizer fitted on unlabelled upright images; and how."""
    torch.manual_seed(args.seed)
    resolution = args.resolution or min(train.shape[-2:])
    canonicalizer = canonicalizer_of(args.canonicalizer, group, predictor, resolution)
    model = adapt(predictor, group, outputs="logits", canonicalizer=canonicalizer)
    start = time.perf_counter()
    history = fit(model, train, **fit_options(args)).history
    if args.canonicalizer in OF_PREDICTOR:
        canonicalizer.network = backbones.halved(canonicalizer.network)
    if model.group.on_grid:
        fit_opinion(model, common.Photos(train[:2000], torch.zeros(len(train[:2000]))))
    minutes = (time.perf_counter() - start) / 60
    print(f"{group}: fitted in {minutes:.1f} minutes; last epoch {history[-1]}", flush=True)
    how = {"canonicalizer": args.canonicalizer, "resolution": resolution, "minutes": round(minutes, 1)}
    return model, fit_options(args) | how


def fit_options(args: argparse.Namespace) -> dict[str, Any]:
    return {"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed, "precision": args.precision}


def table(group: str, predictor: Any, train: Tensor, test: common.Photos, args: argparse.Namespace) -> dict:
    """The figures of one group: how the canonicalizer was fitted, and the report."""
    model, how = fitted(group, predictor, train, args)
    canonicalizer = model.canonicalizer

    def with_doubt(top_k: int = 1, coverage: float | None = None, inputs: Any = "image") -> Equivariant:
        return Equivariant(predictor, canonicalizer, inputs, "logits", top_k, coverage, opinion=model.opinion)

    order = len(canonicalizer.elements)
    others = {"two poses": with_doubt(2), "coverage 0.9": with_doubt(coverage=0.9), "all poses": with_doubt(order)}
    if not model.group.on_grid:
        others["sharp"], others["sharp, coverage 0.9"] = with_doubt(inputs=SHARP), with_doubt(coverage=0.9, inputs=SHARP)
    resolution = how["resolution"]
    if args.canonicalizer == "backbone" and model.group.on_grid and resolution % 2 ** len(QUICK) == 0:
        quick = GroupConvCanonicalizer(group, widths=QUICK, resolution=resolution)
        others["group convolutions"] = adapt(predictor, group, outputs="logits", canonicalizer=quick)
        fit(others["group convolutions"], train, **fit_options(args))
        # so much less accurate than the other that it decides alone only where it is surer than the default asks
        cascade = CascadeCanonicalizer(quick, canonicalizer, doubt=0.1)
        others["cascade of both"] = adapt(predictor, group, outputs="logits", canonicalizer=cascade)
    report = evaluate(model, test, baselines=BASELINES, others=others, batch_size=250)
    print(report)
    return {"fit": how, "report": json.loads(report.to_json())}


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of the data, the predictor and the fit, which cifar10_oracle.py shares."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=common.DATA_HELP)
    parser.add_argument("--size", type=int, default=32, help="side of the photos of a folder")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    parser.add_argument("--predictor", default="resnet9_cifar10", help="timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ...")
    kinds = "backbone: the predictor's own weights; turns: the same, but each view is classified by how it is turned, which is "
    kinds += "fitted |G| times as fast; orbit: the default network; group-conv: group convolutions"
    choices = [*OF_PREDICTOR, "orbit", "group-conv"]
    parser.add_argument("--canonicalizer", choices=choices, default="backbone", help=kinds)
    parser.add_argument("--resolution", type=int, help="side of the views; that of the photos if not said")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", default="bf16-mixed", help="of the fit, as lightning.Trainer takes it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    return parser


def read(args: argparse.Namespace) -> tuple[Tensor, common.Photos, Any]:
    """The images to fit on, the labelled ones to measure on, and the predictor."""
    data = common.arrays(args.data or common.shared("data/cifar10.npz"), args.size, args.labels)
    test = common.Photos(images(data["test_images"]), torch.from_numpy(data["test_labels"]).long())
    return images(data["train_images"]), test, common.predictor(args.predictor)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--groups", nargs="+", default=["C4", "C8"])
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    train, test, predictor = read(args)
    figures = {"predictor": args.predictor, "num_train": len(train), "equiform": equiform.__version__}
    figures |= {group: table(group, predictor, train, test, args) for group in args.groups}
    print("figures in", common.keep("cifar10", figures, args.out))


if __name__ == "__main__":
    main()
