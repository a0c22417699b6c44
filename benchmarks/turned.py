"""What both sides of the comparison measure alike: accuracy, poses and errors over turned images, and cost."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


@torch.inference_mode()
def measure(model: Callable[[Tensor], tuple[Tensor, Tensor]], turned: Tensor, labels: Tensor) -> dict[str, object]:
    """Figures over `turned` (element, image, 3, h, w), where element k is the upright image turned by 360 k / n."""
    rows = [map(torch.cat, zip(*map(model, images.split(100)), strict=True)) for images in turned]
    logits, poses = map(torch.stack, zip(*rows, strict=True))
    num, classes = len(turned), logits.argmax(-1)
    accuracy, element, quarters = (classes == labels).float().mean(1), torch.arange(num)[:, None], slice(None, None, num // 4)
    result: dict[str, object] = {
        "accuracy": accuracy.tolist(),
        "orbit_mean": accuracy.mean().item(),
        "worst": accuracy.min().item(),
        "pose_accuracy": (poses == element).float().mean(1).tolist(),
        "pose_not_equivariant": ((poses - poses[0] - element) % num != 0).float().mean(1).tolist(),
        "class_changes_under_a_quarter_turn": (classes[quarters] != classes[0]).any(0).float().mean().item(),
    }
    for name, out in {"logits": logits, "softmax": logits.softmax(-1)}.items():
        error = (out - out[0]).abs()
        for where, part in {"quarter_turns": error[quarters][1:], "all": error[1:]}.items():
            result[f"{name}_error_{where}"] = {"max": part.max().item(), "mean": part.mean().item()}
    return result


@torch.inference_mode()
def cost(adapted: Callable[[Tensor], object], predictor: nn.Module, x: Tensor, repeats: int) -> dict[str, float]:
    """Median milliseconds of the bare predictor and of the adapted model, timed in turns after two warm-ups."""
    calls = {"bare_ms": lambda: predictor(x), "adapted_ms": lambda: adapted(x)}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name in (repeats + 2) * list(calls):
        start = time.perf_counter()
        calls[name]()
        times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: float(np.median(values[2:])) for name, values in times.items()}
    return {**medians, "ratio": medians["adapted_ms"] / medians["bare_ms"]}
