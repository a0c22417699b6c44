"""What got slower: the fast benchmarks again, beside the committed figures.

    make bench                              # compares
    python benchmarks/guard.py --write      # keeps what is measured as the figures to compare with

Ratios and counts alone, which machines share as far as machines can: what canonicalization adds to a ResNet-50 (as in
`cost.py`), what moving images costs beside copying them, and the Python calls of a batch (as in `data_path.py`). Each is
measured several times over; its noise is the range of what was seen. Something is said to be worse where all that was seen lies
above all that was seen before, by more than a twentieth. Nothing fails: the figures are for a person to look at, on a machine
that does nothing else.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import common
import data_path
import equiform
from cost import DEFAULT, PREDICTORS, canonicalizer, seconds, timed
from equiform import act

LEAST = 1.05  # what is worse is so by more than this factor
CANONICALIZERS = (DEFAULT, "photos-c4-small", "photos-so2")


def added(b: int, rounds: int) -> dict[str, float]:
    """What each canonicalizer adds to a ResNet-50, as a share of its time."""
    torch.manual_seed(0)
    predictor, x = PREDICTORS["ResNet-50"].make(), torch.rand(b, 3, 224, 224)
    found = timed(predictor, x, "logits", {name: canonicalizer(name) for name in CANONICALIZERS}, rounds)
    return {f"{name}, added to ResNet-50, batch {b}": found[name]["added"] for name in CANONICALIZERS}


@torch.inference_mode()
def moving(name: str, rounds: int) -> dict[str, float]:
    """The time of moving 32 images, each by an element of its own, over that of copying them."""
    x, group = torch.rand(32, 3, 224, 224), equiform.group(name)
    g = group.random(32, torch.Generator().manual_seed(0))
    calls: tuple[Callable[[], Any], ...] = (x.clone, partial(act, g, x))
    times = [tuple(map(seconds, calls)) for _ in range(rounds + 2)][2:]
    return {f"act, {name}, over a copy": statistics.median(moved / copied for copied, moved in times)}


def calls() -> dict[str, float]:
    """Python calls of the package in one batch."""
    model = equiform.adapt(data_path.classifier, "C4", outputs="logits")
    model.canonicalizer.fitted = True
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model(x)
    with torch.no_grad():
        return {"Python calls of a batch": data_path.counted(model, x)["calls"]}


def once(rounds: int) -> dict[str, float]:
    return added(1, rounds) | added(8, rounds) | moving("C4", 3 * rounds) | moving("SO2", rounds) | calls()


def measured(repeats: int, rounds: int) -> dict[str, list[float]]:
    """All that was seen of each figure, from the least to the greatest."""
    seen = [once(rounds) for _ in range(repeats)]
    return {name: sorted(one[name] for one in seen) for name in seen[0]}


def verdict(now: list[float], before: list[float] | None) -> str:
    if before is None:
        return "new"
    if now[0] > LEAST * before[-1]:
        return f"WORSE: {before[0]:.3g} to {before[-1]:.3g} before"
    return "better" if now[-1] * LEAST < before[0] else "as before"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="keep the figures, instead of comparing with those kept")
    parser.add_argument("--out", type=Path, help="the JSON file of the figures")
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(1)
    found, path = measured(args.repeats, args.rounds), common.results("guard", args.out)
    before = json.loads(path.read_text(encoding="utf-8"))["seen"] if path.exists() and not args.write else {}
    width = max(map(len, found))
    for name, now in found.items():
        said = "" if args.write else verdict(now, before.get(name))
        print(f"{name:<{width}}  {now[0]:.3g} to {now[-1]:.3g}  {said}".rstrip())
    if args.write:
        print("figures in", common.keep("guard", {"equiform": equiform.__version__, "seen": found}, args.out))


if __name__ == "__main__":
    main()
