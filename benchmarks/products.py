"""What a product of groups costs: scored factor by factor, a sum, or over the whole orbit, a product; and what each finds.

C4*Scale(0.5,2,5): a turn and a size of every photo, by two canonicalizers in a row (4 + 5 views) or by one that scores all 20
pairs. Shift16*D4: the shift by the seam, then 8 views, by the network that was fitted for C4, since photos have no left and
right; its whole orbit of 2,048 is not scored. Networks, data, epochs and seed are the same for all: the small MobileNet, fitted
on unlabelled photos. Photos kept aside are moved by random elements, smaller ones in black. Time is that of finding the poses
over that of the predictor, on one batch, measured in turns.

    python benchmarks/products.py
    python benchmarks/products.py --photos 20 --epochs 1 --out products.json
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import backbones
import common
import equiform
from equiform import OrbitCanonicalizer, act, adapt, fit, group
from equiform.canonicalizers import Canonicalizer, ProductCanonicalizer, SeamCanonicalizer
from equiform.geometry import Group
from equiform.geometry.groups import factors_of
from equiform.geometry.kinds import as_kinds
from turned import cost

SIDE = 224


def fitted(name: str, predictor: nn.Module, train: Tensor, args: argparse.Namespace) -> tuple[nn.Module, float]:
    """The network of an orbit canonicalizer of that group, fitted, and the minutes of computing that took."""
    used = time.process_time()
    torch.manual_seed(args.seed)
    views = OrbitCanonicalizer(name, resolution=args.resolution).view(train[:: max(1, len(train) // 64)])
    network = backbones.with_batch_norms(backbones.scoring_network(args.backbone), views)
    canonicalizer = OrbitCanonicalizer(name, network, resolution=args.resolution)
    model = adapt(predictor, name, outputs="logits", canonicalizer=canonicalizer)
    fit(model, train, epochs=args.epochs, lr=args.lr, seed=args.seed)
    minutes = round((time.process_time() - used) / 60, 2)
    print(f"{name}: fitted in {minutes} minutes of computing", flush=True)
    return backbones.folded(network), minutes


@torch.inference_mode()
def found(canonicalizer: Canonicalizer, images: Tensor, rounds: int, seed: int) -> dict[str, Any]:
    """Of photos moved by random elements the share whose pose is the right element, and factor by factor."""
    moving, kind = canonicalizer.group, as_kinds("image", canonicalizer.group)
    generator = torch.Generator().manual_seed(seed)
    right = []
    for part in [part for _ in range(rounds) for part in images.split(25)]:
        g = moving.random(len(part), generator)
        right.append(same(moving, canonicalizer(act(g, part.float() / 255, kind)).g, g))
    names = ["pose", *[factor.name for factor in factors_of(moving)]]
    return {"found": dict(zip(names, torch.cat(right, 1).float().mean(1).tolist(), strict=True))}


def same(moving: Group, found: Tensor, g: Tensor) -> Tensor:
    """Whether the elements are the same (1 + factors, b): all of them, and each factor."""
    pairs = list(zip(factors_of(moving), moving.parts(found), moving.parts(g), strict=True))  # pyright: ignore
    each = torch.stack([factor.index(a) == factor.index(b) for factor, a, b in pairs])
    return torch.cat([each.all(0, keepdim=True), each])


def row(canonicalizer: Canonicalizer, predictor: nn.Module, images: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """What it finds, and what that costs beside the predictor."""
    figures = found(canonicalizer, images, args.rounds, args.seed)
    x = images[:16].float() / 255
    figures["time"] = cost(canonicalizer, predictor, x, 7)["ratio"]
    print(canonicalizer.group.name, figures, flush=True)
    return figures


METHODS = {"by factor": "factor by factor", "whole": "the whole orbit"}


def table(figures: dict[str, Any]) -> str:
    """A row for every product and way of scoring it."""
    head = ["product", "scored", "views", "time", "pose found", "of the first factor", "of the second"]
    lines = [head, [":--", ":--", *["--:"] * 5]]
    for name, one in figures["products"].items():
        for key, label in METHODS.items():
            measured = one[key]
            if "found" in measured:
                shares = [f"{100 * share:.1f} %" for share in measured["found"].values()]
                lines.append([f"`{name}`", label, str(measured["views"]), f"{measured['time']:.2f}", *shares])
            else:
                lines.append([f"`{name}`", label, f"{measured['views']:,}", *["not scored"] * 4])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="folder of unlabelled photos")
    parser.add_argument("--test", type=Path, help="folder of photos kept aside")
    parser.add_argument("--predictor", default="mobilenet_v2", help="timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ...")
    parser.add_argument("--backbone", default="mobilenet_v1_025", help="network whose last layer becomes the score")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--train-photos", type=int, default=1000, help="fit on that many photos, spread over the classes")
    parser.add_argument("--photos", type=int, default=120, help="measure on that many photos, spread over the classes")
    parser.add_argument("--rounds", type=int, default=1, help="random elements of every photo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    predictor = common.predictor(args.predictor)
    train, _ = common.photos(args.train or common.shared("data/imagenette/train"), SIDE, args.train_photos)
    images, _ = common.photos(args.test or common.shared("data/imagenette/val"), SIDE, args.photos)
    networks = {name: fitted(name, predictor, train, args) for name in ("C4", "Scale(0.5,2,5)", "C4*Scale(0.5,2,5)")}

    def scored(name: str, of: str) -> OrbitCanonicalizer:
        return OrbitCanonicalizer(name, networks[of][0], resolution=args.resolution)

    sizes = ProductCanonicalizer(*(scored(name, name) for name in ("C4", "Scale(0.5,2,5)"))).eval()
    shifts = ProductCanonicalizer(SeamCanonicalizer("Shift16"), scored("D4", "C4")).eval()
    whole = scored(sizes.group.name, sizes.group.name).eval()
    products = {
        sizes.group.name: {
            "by factor": {"views": 4 + 5} | row(sizes, predictor, images, args),
            "whole": {"views": whole.num_poses} | row(whole, predictor, images, args),
        },
        shifts.group.name: {
            "by factor": {"views": 8} | row(shifts, predictor, images, args),
            "whole": {"views": group(shifts.group.name).order},
        },
    }
    figures = {name: getattr(args, name) for name in ("predictor", "backbone", "resolution", "epochs", "lr", "rounds", "seed")}
    figures |= {"equiform": equiform.__version__, "num_train": len(train), "num_photos": len(images)}
    figures["minutes_of_fitting"] = {name: minutes for name, (_, minutes) in networks.items()}
    figures["products"] = products
    print("figures in", common.keep("products", figures, args.out))


if __name__ == "__main__":
    main()
