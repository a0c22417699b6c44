"""Runs equiadapt 0.1.2's canonicalizers, and ttach, once for every line that it is asked for, and says how long that took.

A line is JSON: {"what": "equivariant:64" | "optimized:96" | "ttach" | "bare", "order": 4, "side": 224, "b": 8}; the answer is
seconds. So two environments take turns in one run: see canonicalization.py.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equiadapt_worker import build

MADE: dict[tuple, Any] = {}


def made(key: tuple, make: Callable[[], Any]) -> Any:
    if key not in MADE:
        MADE[key] = make()
    return MADE[key]


def bare() -> Any:
    from torchvision.models import resnet50

    torch.manual_seed(0)
    return resnet50().eval()


def call(what: str, order: int, side: int, b: int) -> Callable[[], Any]:
    x: Tensor = made(("x", side, b), lambda: torch.rand(b, 3, side, side))
    predictor = made(("bare",), bare)
    if what == "bare":
        return lambda: predictor(x)
    if what == "ttach":
        import ttach

        turned = ttach.Compose([ttach.Rotate90(angles=[0, 90, 180, 270])])
        return lambda: ttach.ClassificationTTAWrapper(predictor, turned)(x)
    variant, _, resize = what.partition(":")
    canonicalizer = made((what, order, side), lambda: build(variant, order, int(resize), side).eval())
    return lambda: canonicalizer(x)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        run = call(**json.loads(line))
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
