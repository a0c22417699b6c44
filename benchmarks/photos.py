"""Photos turned by quarter turns: an ImageNet classifier, bare and adapted.

The canonicalizer is fitted on unlabelled upright photos alone; the table is measured on other photos. It is a cascade of two
parts of a pretrained backbone, which run in bfloat16: a quick one, and a thorough one where that is in doubt. By default: the
Imagenette photos and MobileNets beside the project. With your own:

    python benchmarks/photos.py --train photos/ --test labelled/ --labels labels.json --predictor timm:resnet50
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import backbones
import common
import equiform
from equiform import Equivariant, OrbitCanonicalizer, adapt, evaluate, fit, load
from equiform.canonicalizers import CascadeCanonicalizer, scorer
from equiform.evaluation.evaluate import BASELINES
from equiform.geometry import Group
from equiform.learning import Teacher, fit_opinion
from equiform.learning.fitting import LR


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of the recipe, which the benchmarks of other tasks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="folder of unlabelled upright photos")
    parser.add_argument("--predictor", default="mobilenet_v2", help="timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ...")
    parser.add_argument("--backbone", default="mobilenet_v2", help="network whose last layer becomes the score")
    parser.add_argument("--depth", type=int, default=0, help="keep that many blocks of the backbone's features; 0: all of it")
    parser.add_argument("--resolution", type=int, default=128, help="side of the views it is fitted on")
    parser.add_argument("--used-resolution", type=int, default=160, help="side of the views that the fitted one looks at")
    parser.add_argument("--quick-depth", type=int, default=15, help="the same of the quick canonicalizer of the cascade")
    parser.add_argument("--quick-resolution", type=int, default=96)
    parser.add_argument("--frozen", type=int, default=7, help="that many blocks of the features, the first, do not learn")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=LR * 0.3)
    parser.add_argument("--quick-lr", type=float, default=LR)
    parser.add_argument("--teacher-weight", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--adapter", type=Path, help="save the fitted adapter in this folder; one that is there is measured")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser


def arguments() -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--test", type=Path, help="folder of photos, one subfolder per class")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    return parser.parse_args()


def scoring_network(reference: str, depth: int, frozen: int = 0) -> nn.Module:
    """The first blocks of a backbone, or all of it, with dropout and one score for its last layer."""
    network = scorer(common.predictor(reference))
    if depth:
        if not isinstance(getattr(network, "features", None), nn.Sequential):
            sys.exit(f"{reference} has no blocks named features, of which to keep {depth}: say --depth 0 --quick-depth 0")
        network.features = network.features[:depth]
        channels = [layer for layer in network.features.modules() if isinstance(layer, nn.Conv2d)][-1].out_channels
        network.classifier = nn.Linear(channels, 1)
    if isinstance(getattr(network, "classifier", None), nn.Linear):
        network.classifier = nn.Sequential(nn.Dropout(0.2), network.classifier)
    return backbones.lean(network, frozen)


def features_of(predictor: nn.Module) -> Callable[[Tensor], Tensor]:
    """What the teacher looks at: two depths of a MobileNetV2's trunk, or the answers of any other predictor."""
    trunk = getattr(predictor, "features", None)
    if type(predictor).__name__ != "MobileNetV2" or trunk is None:  # many take no other size than that of the photos
        return lambda x: predictor(F.interpolate(x, size=(224, 224), mode="bilinear", align_corners=False))

    def features(x: Tensor) -> Tensor:
        middle = trunk[:15]((x * 2 - 1).contiguous(memory_format=torch.channels_last))
        return torch.cat([middle.mean((2, 3)), trunk[15:](middle).mean((2, 3))], 1)

    return features


@dataclass(frozen=True)
class OnceTeacher(Teacher):
    """A teacher that judges the photos once, for the fits of both canonicalizers."""

    judged: list[Tensor] = field(default_factory=list)

    def posteriors(self, squares: Tensor, group: Group, seed: int, batch_size: int = 16) -> Tensor:
        if not self.judged:
            self.judged.append(super().posteriors(squares, group, seed, batch_size))
        return self.judged[0]


@dataclass(frozen=True)
class Part:
    """What differs between the two canonicalizers of the cascade."""

    depth: int
    resolution: int
    used_resolution: int
    lr: float


def fitted_scorer(
    predictor: nn.Module, train: Tensor, args: argparse.Namespace, part: Part, settings: dict
) -> tuple[OrbitCanonicalizer, dict[str, float]]:
    """One canonicalizer of the cascade, fitted alone, and its last epoch.

    It may look at larger views than it was fitted on: things are larger in the random crops of a fit than in whole photos
    (Touvron et al. 2019, arXiv 1906.06423).
    """
    torch.manual_seed(args.seed)
    views = OrbitCanonicalizer("C4", resolution=part.resolution).view(train[:: max(1, len(train) // 64)])
    network = backbones.with_batch_norms(scoring_network(args.backbone, part.depth, args.frozen), views)
    canonicalizer = OrbitCanonicalizer("C4", network, resolution=part.resolution)
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=canonicalizer)
    history = fit(model, train, lr=part.lr, **settings).history
    return OrbitCanonicalizer("C4", backbones.halved(backbones.folded(network)), resolution=part.used_resolution), history[-1]


def fitted_model(predictor: nn.Module, train: Tensor, args: argparse.Namespace) -> tuple[Equivariant, dict]:
    """Fit both canonicalizers and the second opinion on unlabelled photos; with what, and how long it took."""
    start = time.perf_counter()
    settings = {"epochs": args.epochs, "seed": args.seed, "precision": "bf16-mixed"}
    teacher = {"teacher": OnceTeacher(features_of(predictor), weight=args.teacher_weight)}
    parts = {
        "quick": Part(args.quick_depth, args.quick_resolution, args.quick_resolution, args.quick_lr),
        "thorough": Part(args.depth, args.resolution, args.used_resolution, args.lr),
    }
    fits = {name: fitted_scorer(predictor, train, args, part, settings | teacher) for name, part in parts.items()}
    cascade = CascadeCanonicalizer(fits["quick"][0], fits["thorough"][0])
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=cascade)
    fit_opinion(model, common.Photos(train, torch.zeros(len(train))))
    fitted = settings | {
        "backbone": args.backbone,
        "frozen": args.frozen,
        "teacher_weight": args.teacher_weight,
        "num_photos": len(train),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    for name, part in parts.items():
        fitted[name] = asdict(part) | {"last_epoch": fits[name][1]}
    if args.adapter:
        model.save(args.adapter)
        (args.adapter / "fit.json").write_text(json.dumps(fitted))
    return model, fitted


def restored_or_fitted(predictor: nn.Module, args: argparse.Namespace) -> tuple[Equivariant, dict]:
    """The model of `--adapter` where one lies there, else a fitted one; and how it was fitted."""
    if args.adapter and (args.adapter / "fit.json").exists():
        depths = (args.quick_depth, args.depth)
        networks = [backbones.halved(scoring_network(args.backbone, depth)) for depth in depths]
        model = load(args.adapter, predictor, network=networks)
        return model, json.loads((args.adapter / "fit.json").read_text())
    train, _ = common.photos(args.train or common.shared("data/imagenette/train"), 224)
    return fitted_model(predictor, train, args)


def main() -> None:
    args = arguments()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    predictor = common.predictor(args.predictor)
    test, folders = common.photos(args.test or common.shared("data/imagenette/val"), 224)
    labels = common.class_indices(folders, args.labels)
    print(f"{len(test)} photos to measure on")
    model, fitted = restored_or_fitted(predictor, args)
    print(f"fitted on {fitted['num_photos']} photos in {fitted['minutes']} minutes")

    def with_doubt(top_k: int = 1, coverage: float | None = None) -> Equivariant:
        return Equivariant(predictor, model.canonicalizer, "image", "logits", top_k, coverage, opinion=model.opinion)

    others = {
        "two poses": with_doubt(2),
        "coverage 0.9": with_doubt(coverage=0.9),
        "coverage 0.7": with_doubt(coverage=0.7),
        "coverage 0.6": with_doubt(coverage=0.6),
        "coverage 0.5": with_doubt(coverage=0.5),
        "all four": with_doubt(4),
    }
    report = evaluate(model, common.Photos(test, labels), baselines=BASELINES, others=others)
    print(report)
    figures = {"predictor": args.predictor, "fit": fitted, "report": json.loads(report.to_json())}
    print("figures in", common.keep("photos", figures | {"equiform": equiform.__version__}, args.out))


if __name__ == "__main__":
    main()
