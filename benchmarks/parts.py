"""Part segmentation of generated shapes: tables, lamps and mugs of random proportions, with the part of every point.

The shapes are made here, and far easier than scanned ones: the figures say that answers about points are brought back to where
the points are, and what is lost under rotations, not how good a network is on real parts. A PointNet is trained on clouds
turned about z, the canonicalizer on the same clouds without labels (prior "upright"), and both are measured by the mean
intersection over union of parts as `evaluate` turns the test clouds: z/z and z/SO3.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import common
from equiform import act, adapt, evaluate, fit, group
from equiform.canonicalizers import SearchCanonicalizer
from equiform.learning import CloudAugmentation

sys.path.insert(0, str(common.HERE.parent))
from recipes.pointnet import PointNetParts

PARTS = ("table top", "table leg", "lamp base", "lamp pole", "lamp shade", "mug body", "mug handle")


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def table(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    wide, deep, high = uniform(generator, 0.6, 1.4, 3)
    top = torch.rand(n, generator=generator) < 0.6
    x, y, z = uniform(generator, -1, 1, 3, n)
    leg_x, leg_y = (0.9 * side.sign() + 0.06 * side for side in (x, y))
    flat = torch.stack([wide * x, deep * y, high + 0.04 * z], -1)
    legs = torch.stack([wide * leg_x, deep * leg_y, high * (z + 1) / 2], -1)
    return torch.where(top[:, None], flat, legs), torch.where(top, 0, 1)


def lamp(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    foot, high, narrow, broad = uniform(generator, 0.3, 0.6, 4) * torch.tensor([1.0, 4.0, 0.5, 1.3])
    which = torch.rand(n, generator=generator)
    angle, share = uniform(generator, -math.pi, math.pi, n), torch.rand(n, generator=generator)
    part = 2 + (which > 0.25).long() + (which > 0.5).long()
    radius = torch.stack([foot * share.sqrt(), torch.full((n,), 0.04), broad + (narrow - broad) * share])
    height = torch.stack([0.04 * share, high * share, high * (0.75 + 0.3 * share)])
    radius, height = (values.gather(0, part[None] - 2)[0] for values in (radius, height))
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1), part


def mug(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    radius, high, reach = uniform(generator, 0.4, 0.8, 3) * torch.tensor([1.0, 1.8, 0.7])
    handle = torch.rand(n, generator=generator) < 0.25
    angle, share = uniform(generator, -math.pi, math.pi, n), torch.rand(n, generator=generator)
    bottom = share < 0.2
    inner = torch.where(bottom, radius * (5 * share).sqrt(), radius)
    body = torch.stack([inner * angle.cos(), inner * angle.sin(), torch.where(bottom, 0, high * (share - 0.2) / 0.8)], -1)
    half = math.pi * (share - 0.5)
    ring = torch.stack([radius + reach * half.cos(), 0.06 * angle.sin(), high * (0.5 + 0.35 * half.sin())], -1)
    return torch.where(handle[:, None], ring, body), torch.where(handle, 6, 5)


SHAPES: tuple[Callable[[int, torch.Generator], tuple[Tensor, Tensor]], ...] = (table, lamp, mug)


def shapes(b: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """b clouds (b, n, 3) that stand upright, centred and scaled to the unit ball, and the part of every point (b, n)."""
    generator = torch.Generator().manual_seed(seed)
    x, parts = (torch.stack(values) for values in zip(*(SHAPES[i % 3](n, generator) for i in range(b)), strict=True))
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=-1).amax(1)[:, None, None], parts


def train(network: PointNetParts, x: Tensor, parts: Tensor, epochs: int, seed: int) -> None:
    """On clouds turned about z, as the protocol says."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * -(-len(x) // 32), cycle_momentum=False)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(32):
            turned = act(group("SO2z").random(len(rows), generator), x[rows], "points")
            loss = F.cross_entropy(network(turned).mT, parts[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=300, help="clouds")
    parser.add_argument("--test", type=int, default=150, help="clouds")
    parser.add_argument("--points", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=30, help="of the network")
    parser.add_argument("--fit-epochs", type=int, default=40, help="of the canonicalizer, on unlabelled clouds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, parts = shapes(args.train, args.points, seed=args.seed)
    test = shapes(args.test, args.points, seed=args.seed + 1000)
    torch.manual_seed(args.seed)
    network = PointNetParts(len(PARTS))
    train(network, x, parts, args.epochs, args.seed)
    model = adapt(network.eval(), "SO3", outputs="logits", canonicalizer=SearchCanonicalizer("SO3"))
    fit(model, x, prior="upright", epochs=args.fit_epochs, lr=2e-3, augmentation=CloudAugmentation(), seed=args.seed)
    rows: dict[str, dict[str, float]] = {"bare": {}, "adapted": {}}
    errors: dict[str, float | None] = {}
    for protocol in ("z/z", "z/SO3"):
        report = evaluate(model, test, metric="part_iou", group=protocol, baselines=("bare",))
        for name, row in rows.items():
            row[protocol] = report[name].mean
            row["upright"] = report[name].values[0]
            errors[name] = report[name].equivariance_error
    for name, row in rows.items():
        print(f"{name:8}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()), f"error {errors[name]:.1e}")
    sizes = {name: getattr(args, name) for name in ("train", "test", "points", "epochs", "fit_epochs", "seed")}
    figures = {"data": "generated tables, lamps and mugs", "part_iou": rows, "equivariance_error": errors, **sizes}
    print("figures in", common.keep("parts", figures, args.out))


if __name__ == "__main__":
    main()
