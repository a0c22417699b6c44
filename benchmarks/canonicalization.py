"""Canonicalization alone: what it costs beside equiadapt 0.1.2, orbit averaging and ttach, and how that cost grows.

    python benchmarks/canonicalization.py
    python benchmarks/canonicalization.py --plot      # the picture of the docs, from the committed figures

Noise for images, one thread. Ours is a whole adapted model around a predictor that answers at once: the pose, the images
brought back, nothing else. The peer's is a call of its canonicalizer, whose network sees the image at 64 px (group-equivariant)
or 96 px (optimized), as in its examples; orbit averaging and ttach are what they add to one pass of a ResNet-50. The peer and
ttach run in an environment of their own (see peer.py), asked once a round, in turns with ours. Shares are of a ResNet-50's time
in the same round (theirs of torchvision, ours of transformers); medians over rounds.
How often the pose is right after the same training budget is what `peer.py` measures.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import common
import equiform
from cost import PREDICTORS, AtOnce, seconds
from equiform import Equivariant, GroupConvCanonicalizer, OrbitCanonicalizer, saving
from equiform.canonicalizers import UniformCanonicalizer
from equiform.canonicalizers.base import Canonicalizer
from peer import PINS, environment, logged

PEERS = ("equivariant:64", "optimized:96")
OURS = ("orbit", "group convolutions", "photos-c4-small", "photos-c4")
POINT = {"order": 4, "side": 224, "b": 8}
GROWTH = {"order": (4, 8, 16, 32, 64), "side": (224, 384, 512, 768, 1024), "b": (1, 4, 16, 64, 256)}
GROWING = ("orbit", "photos-c4-small", "equivariant:64", "optimized:96")
MOST_PIXELS = 64 * 224 * 224  # of a batch that the peer is given, which takes 100 times the memory


class Worker:
    """The other environment, which runs what it is asked for."""

    def __init__(self, folder: Path, log: Path):
        python = environment(folder, log)
        if not (folder / "ttach").exists():
            logged([python, "-m", "pip", "install", "--quiet", *PINS, "ttach"], log)
            (folder / "ttach").touch()
        command = [python, "-W", "ignore", common.HERE / "equiadapt_times.py"]
        self.errors = log.open("a", encoding="utf-8")
        self.process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=self.errors, text=True)

    def __call__(self, what: str, order: int, side: int, b: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"what": what, "order": order, "side": side, "b": b}), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def canonicalizer(name: str, order: int) -> Canonicalizer:
    if name.startswith("photos"):
        return saving.restore(name, canonicalizer, None)[0]
    made = {"orbit": OrbitCanonicalizer, "group convolutions": GroupConvCanonicalizer, "averaging": UniformCanonicalizer}[name]
    found = made(f"C{order}")
    found.fitted = True  # its poses do not count here
    return found


def ours(name: str, order: int, side: int, b: int) -> Callable[[], Any]:
    model = Equivariant(AtOnce(torch.zeros(b, 10)), canonicalizer(name, order).eval(), "image", "logits")
    return partial(model, torch.rand(b, 3, side, side))


def rounds_of(calls: dict[str, Callable[[], Any]], worker: Worker, theirs: dict[str, dict], rounds: int) -> dict[str, list]:
    """Seconds by name and round, after one to warm up. `theirs`: what the worker is asked for."""
    found: dict[str, list[float]] = {name: [] for name in (*calls, *theirs)}
    for i in range(rounds + 1):
        for name, call in calls.items():
            found[name] += [seconds(call)][: 1 if i else 0]
        for name, asked in theirs.items():
            found[name] += [worker(**asked)][: 1 if i else 0]
    return found


@torch.inference_mode()
def compared(worker: Worker, rounds: int) -> dict[str, float]:
    """The time of each as a share of a ResNet-50's, for C4 at 224 px and batches of 8."""
    torch.manual_seed(0)
    predictor, x = PREDICTORS["ResNet-50"].make(), torch.rand(POINT["b"], 3, POINT["side"], POINT["side"])
    averaging = Equivariant(predictor, canonicalizer("averaging", 4), "image", "logits", top_k=4)
    calls: dict[str, Callable[[], Any]] = {name: ours(name, **POINT) for name in OURS}
    calls |= {"bare": partial(predictor, x), "orbit averaging": partial(averaging, x)}
    theirs = {name: {"what": name} | POINT for name in (*PEERS, "ttach")} | {"their bare": {"what": "bare"} | POINT}
    times = rounds_of(calls, worker, theirs, rounds)
    shares = {}
    for name, taken in times.items():
        beside = times["their bare" if name in (*PEERS, "ttach") else "bare"]
        passes = 1 if name in ("orbit averaging", "ttach") else 0  # of the predictor, which is not what is added
        shares[name] = statistics.median(one / bare - passes for one, bare in zip(taken, beside, strict=True))
    # seconds beside seconds of the same round, since the two predictors are not the same code
    for name in PEERS:
        for own in ("orbit", "photos-c4-small"):
            pairs = zip(times[name], times[own], strict=True)
            shares[f"{name} over {own}"] = statistics.median(their / our for their, our in pairs)
    return {name: share for name, share in shares.items() if "bare" not in name}


@torch.inference_mode()
def growth(axis: str, worker: Worker, rounds: int) -> dict[str, dict[str, float]]:
    """The time at each value of one axis over that of the default network at the first."""
    found: dict[str, dict[str, float]] = {name: {} for name in GROWING}
    unit = 0.0
    for value in GROWTH[axis]:
        at = (POINT | {"b": 1} if axis == "side" else POINT) | {axis: value}
        small = at["b"] * at["side"] ** 2 <= MOST_PIXELS
        calls = {name: ours(name, **at) for name in GROWING[:2] if at["order"] == 4 or name == "orbit"}
        theirs = {name: {"what": name} | at for name in GROWING[2:]} if small else {}
        for name, taken in rounds_of(calls, worker, theirs, rounds).items():
            unit = unit or statistics.median(taken)  # of "orbit", which comes first
            found[name][str(value)] = statistics.median(taken) / unit
    return found


def plot(figures: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    names = {"order": "elements of the group", "side": "side of the image, pixels", "b": "images in a batch"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
    for ax, (axis, label) in zip(axes, names.items(), strict=True):
        for name, values in figures["growth"][axis].items():
            own = name in ("orbit", "photos-c4-small")
            shown = {"orbit": "default network"}.get(name, name if own else f"equiadapt, {name.partition(':')[0]}")
            ax.plot(list(map(int, values)), list(values.values()), "o-" if own else "s--", label=shown, markersize=4)
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.set_xticks(GROWTH[axis], list(map(str, GROWTH[axis])), minor=False)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("time of canonicalization\n(default network, leftmost = 1)")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def table(figures: dict[str, Any]) -> str:
    """Markdown: the time of each over a ResNet-50's."""
    shown = {
        "orbit": "default network",
        "equivariant:64": "equiadapt, group-equivariant",
        "optimized:96": "equiadapt, optimized",
    }
    rows = [name for name in figures["shares"] if " over " not in name]
    lines = [["", "share of a ResNet-50's time"], [":--", "--:"]]
    lines += [[shown.get(name, f"`{name}`" if "photos" in name else name), f"{figures['shares'][name]:.1%}"] for name in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--environment", type=Path, default=common.HERE.parent / ".venv-peer")
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    path, picture = common.results("canonicalization", args.out), common.HERE.parent / "docs" / "canonicalization.png"
    if args.plot:
        plot(json.loads(path.read_text(encoding="utf-8")), picture)
        return
    common.keep_memory(OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    log = path.with_suffix(".log")
    worker = Worker(args.environment, log)
    figures: dict[str, Any] = {"equiform": equiform.__version__, "peer": "equiadapt 0.1.2", "rounds": args.rounds}
    figures["shares"] = compared(worker, args.rounds)
    common.keep("canonicalization", figures, args.out)
    figures["growth"] = {}
    for axis in GROWTH:
        figures["growth"][axis] = growth(axis, worker, args.rounds)
        common.keep("canonicalization", figures, args.out)
    worker.process.terminate()
    log.unlink()
    print(table(figures))
    print("figures in", path)


if __name__ == "__main__":
    main()
