"""Charged particles: the positions of five after 1,000 steps, from positions, velocities and charges; mean squared error.

The protocol of the EGNN paper (Satorras et al. 2021), simulated here. The same plain message-passing network, with the same
number of steps: as it is, with random elements of E(3) on its training data, and adapted to E(3) by a vector-neuron frame that
learns with it, spread widely in training so that 3,000 systems are not memorised in one frame each. Beside them, the network
trained on moved data adapted without further training, by averaging over its eight principal frames. Choices were made on
the validation part. Published figures come from far longer training, and are named with their source in the JSON.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import common
from cloud_data import Particles, charged_particles
from equiform import FrameCanonicalizer, act, adapt, fit, group
from equiform.canonicalizers import PrincipalAxesCanonicalizer

sys.path.insert(0, str(common.HERE.parent))
from recipes.particles import MessagePassing

KINDS = {"x": "points", "v": "vectors", "charge": "features"}
PUBLISHED = {
    "EGNN": (0.0071, "Satorras et al. 2021, arXiv 2102.09844, table 2"),
    "frame averaging": (0.0057, "Puny et al. 2022, arXiv 2110.03336, as given in Kaba et al. 2023"),
    "learned canonicalization": (0.0043, "Kaba et al. 2023, arXiv 2211.06489"),
}
THEIR_STEPS = 10_000 * 30  # epochs of 3,000 systems in batches of 100 (the EGNN paper's training)


class Systems(Dataset):
    """Batches of systems, each as the arguments of the network and the target; shuffled anew at every pass."""

    def __init__(self, data: Particles, batch: int, seed: int, *, turned: bool):
        self.data, self.batch, self.turned = data, batch, turned
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.arange(len(data.x))

    def __len__(self) -> int:
        return len(self.order) // self.batch

    def __getitem__(self, i: int) -> tuple[dict[str, Tensor], Tensor]:
        if i >= len(self):
            raise IndexError(i)
        if i == 0:
            self.order = torch.randperm(len(self.order), generator=self.generator)
        x, v, charge, target = (part[self.order[i * self.batch : (i + 1) * self.batch]] for part in self.data)
        if self.turned:
            g = group("E3").random(len(x), self.generator)
            x, v, target = act(g, x, "points"), act(g, v, "vectors"), act(g, target, "points")
        return {"x": x, "v": v, "charge": charge}, target


def train(network: nn.Module, data: Systems, epochs: int, lr: float) -> None:
    """Plain training, with the optimiser and the schedule that `fit` has."""
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * len(data) + 1, pct_start=0.05, cycle_momentum=False
    )
    for _ in range(epochs):
        for inputs, target in data:
            loss = F.mse_loss(network(**inputs), target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()


@torch.no_grad()
def error(model: nn.Module, data: Particles, *, turned: bool = False) -> float:
    """The mean squared error; `turned`: of the systems moved by random elements of E(3)."""
    x, v, charge, target = data
    if turned:
        g = group("E3").random(len(x), torch.Generator().manual_seed(1))
        x, v, target = act(g, x, "points"), act(g, v, "vectors"), act(g, target, "points")
    return float(F.mse_loss(model.eval()(x=x, v=v, charge=charge), target))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cache", type=Path, default=common.HERE.parent / ".cache", help="where the simulated systems are kept"
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--spread", type=float, default=180.0, help="of the frames in training, in degrees")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    parts = {part: charged_particles(part, args.cache) for part in ("train", "val", "test")}
    rows: dict[str, dict[str, Any]] = {}

    def note(name: str, model: nn.Module) -> None:
        figures = {f"{part}_mse": error(model, parts[part]) for part in ("val", "test")}
        rows[name] = figures | {"test_mse_turned": error(model, parts["test"], turned=True)}
        print(f"{name:34}", "  ".join(f"{key} {value:.4f}" for key, value in rows[name].items()), flush=True)

    still = parts["test"]
    rows["straight on"] = {"test_mse": float(F.mse_loss(still.x + still.v, still.target))}
    print(f"{'straight on':34} test_mse {rows['straight on']['test_mse']:.4f}", flush=True)

    def trained(*, turned: bool) -> MessagePassing:
        torch.manual_seed(args.seed)
        network = MessagePassing()
        train(network, Systems(parts["train"], args.batch, args.seed, turned=turned), args.epochs, args.lr)
        return network

    note("plain network", trained(turned=False))
    augmented, frames = trained(turned=True), PrincipalAxesCanonicalizer("E3", scores="equal")
    note("rotation augmentation", augmented)
    averaged = adapt(augmented, "E3", inputs=KINDS, outputs="points", canonicalizer=frames, top_k=frames.num_poses)
    note("the same, averaged over 8 frames", averaged)
    torch.manual_seed(args.seed)
    network = MessagePassing()
    frame = FrameCanonicalizer("E3", vectors=1, features=1, spread=args.spread)
    model = adapt(network, "E3", inputs=KINDS, outputs="points", canonicalizer=frame)
    fit(
        model,
        torch.utils.data.DataLoader(Systems(parts["train"], args.batch, args.seed, turned=False), batch_size=None),
        task_loss=F.mse_loss,
        prior_weight=0.0,  # the network learns in the frames it is given: none of them is canonical beforehand
        train_predictor=True,
        epochs=args.epochs,
        lr=args.lr,
        weight_decay=0.0,
        seed=args.seed,
    )
    note("adapted to E(3)", model)
    steps = args.epochs * (len(parts["train"].x) // args.batch)
    figures = {
        "rows": rows,
        "parameters": {
            "network": sum(p.numel() for p in network.parameters()),
            "canonicalizer": sum(p.numel() for p in frame.parameters()),
        },
        "steps": steps,
        "spread": args.spread,
        "share_of_their_steps": steps / THEIR_STEPS,
        "published": {name: {"test_mse": value, "source": source} for name, (value, source) in PUBLISHED.items()},
        "plain_over_adapted": rows["plain network"]["test_mse"] / rows["adapted to E(3)"]["test_mse"],
        "augmented_over_adapted": rows["rotation augmentation"]["test_mse"] / rows["adapted to E(3)"]["test_mse"],
    }
    print("figures in", common.keep("nbody", figures, args.out))


if __name__ == "__main__":
    main()
