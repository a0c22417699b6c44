"""What adapting costs where a model runs: in batches, eager and compiled, in time and in peak memory.

    python benchmarks/deploy.py                                         # batches of 1 and 32 at 224 px
    python benchmarks/deploy.py --device cuda --dtype bfloat16 --batches 64 256

ResNet-50 and ViT-B/16 of transformers, from default configurations with random weights (time does not depend on them), as
in `cost.py`, around the ready-made canonicalizers for quarter turns and the default network for C4, D4 and C8. Images are
noise, so that poses differ and rows are moved. In every round all are timed, one after the other; figures are
medians over rounds of ratios to the bare predictor of the same round, compiled ones to the compiled predictor. `added`: the
adapted model around a predictor that answers at once, which is all but the predictor's own pass, and steadier.
Peak memory is that of a process of its own which runs the model once on the largest batch, over that of the bare predictor.
Rows of other predictors and batches that the JSON holds are kept, and so is the peak of a larger batch.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import common
import equiform
from cost import PREDICTORS, AtOnce, seconds
from equiform import Equivariant, OrbitCanonicalizer, saving

NAMES, WARM_UPS, SIDE = ("ResNet-50", "ViT-B/16"), 2, 224
WAYS = ("photos-c4-small", "photos-c4", "C4", "D4", "C8")  # a ready-made canonicalizer, or the default network of a group
COMPILED = ("photos-c4-small", "photos-c4", "C4")


def adapted(predictor: Callable[[Tensor], Any], way: str) -> Equivariant:
    ready = way.startswith("photos")
    canonicalizer = saving.restore(way, adapted, None)[0] if ready else OrbitCanonicalizer(way)
    canonicalizer.fitted = True  # its poses do not count here
    return Equivariant(predictor, canonicalizer.eval(), "image", "logits")


def placed(module: nn.Module, args: argparse.Namespace) -> nn.Module:
    return module.to(args.device, getattr(torch, args.dtype)) if args.device != "cpu" else module


def timed(call: Callable[[], Any], device: str) -> float:
    def finished() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return seconds(finished)


@torch.inference_mode()
def ratios(predictor: nn.Module, b: int, args: argparse.Namespace, compiled: bool) -> dict[str, Any]:
    """For one batch, by canonicalizer: `ratio` of the adapted model to the bare one, and `added`."""
    torch.compiler.reset()  # what was compiled before counts against the limit of graphs
    x = torch.rand(b, 3, SIDE, SIDE, device=args.device, dtype=getattr(torch, args.dtype))
    made = torch.compile if compiled else lambda module: module
    at_once, bare = AtOnce(predictor(x)), made(predictor)
    calls: dict[tuple[str, str], Callable[[], Any]] = {("bare", ""): partial(bare, x)}
    for way in COMPILED if compiled else WAYS:
        calls[way, "ratio"] = partial(made(placed(adapted(predictor, way), args)), x)
        if not compiled:
            calls[way, "added"] = partial(placed(adapted(at_once, way), args), x)
    for call in calls.values():
        for _ in range(WARM_UPS):
            call()
    times = [{label: timed(call, args.device) for label, call in calls.items()} for _ in range(args.rounds)]
    found: dict[str, Any] = {}
    for way, what in calls:
        if what:
            shares = [one[way, what] / one["bare", ""] for one in times]
            found.setdefault(way, {})[what] = statistics.median(shares)
            found[way][f"{what}_range"] = [min(shares), max(shares)]
    return found


@torch.inference_mode()
def peak(name: str, way: str, b: int) -> None:
    """Print the peak memory of this process, in MB, once the model has run."""
    torch.manual_seed(0)
    predictor = PREDICTORS[name].make()
    model = predictor if way == "bare" else adapted(predictor, way)
    model(torch.rand(b, 3, SIDE, SIDE))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peaks(name: str, b: int) -> dict[str, float]:
    """Peak memory of each adapted model over the bare one's."""

    def of(way: str) -> float:
        command = [sys.executable, __file__, "--peak", name, way, str(b)]
        ordinary = {key: value for key, value in os.environ.items() if key not in common.MEMORY}
        return float(subprocess.run(command, capture_output=True, text=True, check=True, env=ordinary).stdout)

    bare = of("bare")
    return {way: of(way) / bare for way in WAYS}


def table(figures: dict[str, Any]) -> str:
    """Markdown: the ratio by predictor, batch and canonicalizer, eager and compiled, and the peak of memory."""
    lines = [["", *(f"`{way}`" if way.startswith("photos") else f"default network, {way}" for way in WAYS)]]
    lines.append([":--"] + ["--:"] * len(WAYS))
    for name, one in figures["predictors"].items():
        for label, found in one["times"].items():
            lines.append([f"{name}, {label}", *(f"{found[way]['ratio']:.2f}x" if way in found else "-" for way in WAYS)])
        if "memory" in one:
            lines.append([f"{name}, peak memory", *(f"{one['memory'][way]:.2f}x" for way in WAYS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictors", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled rows out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    name_of = "deploy" if args.device == "cpu" else f"deploy-{args.device}"
    path = common.results(name_of, args.out)
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"predictors": {}}
    figures |= {"equiform": equiform.__version__, "device": args.device, "dtype": args.dtype, "rounds": args.rounds}
    for name in args.predictors:
        torch.manual_seed(0)
        predictor = placed(PREDICTORS[name].make(), args)
        found = figures["predictors"].setdefault(name, {"times": {}})
        times, most = found["times"], max(args.batches)
        if args.device == "cpu" and most >= found.get("memory_batch", 0):
            found |= {"memory": peaks(name, most), "memory_batch": most}
        for compiled in (False,) if args.no_compile else (False, True):
            for b in args.batches:
                times[f"batch {b}" + ", compiled" * compiled] = ratios(predictor, b, args, compiled)
                path = common.keep(name_of, figures, args.out)
    print(table(figures))
    print("figures in", path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # a process of its own, of which the peak is asked
        peak(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
