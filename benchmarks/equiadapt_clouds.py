"""Train and measure equiadapt 0.1.2's VNSmall around a frozen predictor of clouds, and write the figures as JSON; or time it.

The defaults of the package's configuration: 20 neighbours, mean pooling, Gram-Schmidt, and its prior, the squared distance of
the found rotation to the identity on aligned clouds; trained for so many seconds. With `--cost` it canonicalizes 32 clouds for
every line it reads and says how many seconds that took, so that others can be timed in between.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

try:
    import torchvision  # noqa: F401  (only to see whether it loads)
except RuntimeError:  # a CUDA wheel beside a CPU torch: declare the operators that its C++ part would have
    SHIM = torch.library.Library("torchvision", "DEF")
    SHIM.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    SHIM.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import equiadapt.pointcloud as peer
from equiadapt.pointcloud.canonicalization_networks import VNSmall
from omegaconf import OmegaConf

BATCH = 16


def build() -> nn.Module:
    network = VNSmall(OmegaConf.create({"n_knn": 20, "pooling": "mean"}))
    return peer.EquivariantPointcloudCanonicalization(network, OmegaConf.create({}))


def canonical(canonicalizer: nn.Module, x: Tensor) -> Tensor:
    # channels first, whatever its docstring says
    return torch.cat([canonicalizer(part.mT.contiguous()).mT for part in x.split(BATCH)])


def main() -> None:
    """Read the clouds, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("clouds", "out", "predictors"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--predictor", default="pointnet_dales")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cost", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data, canonicalizer = load_file(args.clouds), build()
    if args.cost:
        time_on_request(canonicalizer.eval(), data["upright"][0, :32])
        return
    sys.path.insert(0, str(args.predictors))
    predictor = importlib.import_module("predictors").load(args.predictor).requires_grad_(False)
    optimizer = torch.optim.AdamW(canonicalizer.parameters(), lr=1e-3)
    start, steps = time.perf_counter(), 0
    canonicalizer.train()
    while time.perf_counter() - start < args.seconds:
        rows = torch.randperm(len(data["train"]))[:BATCH]
        canonicalizer(data["train"][rows].mT.contiguous())
        loss = canonicalizer.get_prior_regularization_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    canonicalizer.eval()
    found: dict[str, float] = {"steps": steps, "batch": BATCH, "fit_seconds": round(time.perf_counter() - start, 1)}
    with torch.no_grad():
        for name in ("upright", "z", "SO3"):
            x = data[name][0]  # one draw: its network is slow
            found[name] = float((predictor(canonical(canonicalizer, x)).argmax(1) == data["labels"]).float().mean())
        found["prior_loss_last"] = float(loss.detach())
    args.out.write_text(json.dumps(found))


def time_on_request(canonicalizer: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        for _ in sys.stdin:
            start = time.perf_counter()
            canonical(canonicalizer, x)
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
