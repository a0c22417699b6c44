"""Exported models against eager ones: how many answers are equal, and how far the others are.

    python benchmarks/exports.py

For every group, task and format: a model is exported with an example of two images, and asked 40 batches of 1 to 8 images
(smooth noise, turned at random) that it has not seen. onnxruntime runs the .onnx files, torch the .pt2 files. Counted by batch:
`to the bit`, `within`: the tolerance of `equiform.export`, and the largest difference as a share of the largest answer.
Ready-made canonicalizers, and a small predictor with random weights: nothing is said of accuracy.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import common
import equiform
from equiform import OrbitCanonicalizer, adapt, export
from equiform._optional import optional
from equiform.exporting import CONTINUOUS, POSE, TOLERANCE
from equiform.geometry.nested import leaves

SIDE, BATCHES, MOST = 64, 40, 8
GROUPS = {"C4": "photos-c4-small", "D4": None, "C8": None, "SO2": "photos-so2"}
TASKS: dict[str, Any] = {"logits": "logits", "image": "image", "boxes": {"boxes": "boxes", "scores": "invariant"}, "pose": None}


class Small(nn.Module):
    def __init__(self, task: str):
        super().__init__()
        self.task, self.layers = task, nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Any:
        y = self.layers(x)
        if self.task == "boxes":
            corner = y.mean(3).mT.abs() * 20
            return {"boxes": torch.cat([corner[..., :2], corner[..., :2] + corner[..., 2:]], -1), "scores": y.mean((1, 3))}
        return y[:, :, : SIDE // 4].mean((2, 3)) if self.task == "logits" else y


def scenes(b: int, seed: int) -> Tensor:
    coarse = torch.rand(b, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0, 1)


def runner(file: Path) -> Callable[[Tensor], list[Tensor]]:
    if file.suffix == ".pt2":
        graph = torch.export.load(file).module()
        return lambda x: [leaf for _, leaf, _ in leaves(None, graph(x))]
    session = optional("onnxruntime", "onnx").InferenceSession(str(file))
    name = session.get_inputs()[0].name
    return lambda x: list(map(torch.from_numpy, session.run(None, {name: x.numpy()})))


@torch.no_grad()
def compared(group: str, task: str, suffix: str, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    canonicalizer: Any = GROUPS[group] or OrbitCanonicalizer(group, resolution=64)
    model = adapt(Small(task).eval(), group, inputs="image", outputs=TASKS[task] or "logits", canonicalizer=canonicalizer)
    model.canonicalizer.fitted = True  # its poses do not count here
    of: Any = model.canonicalizer if task == "pose" else model
    ask = runner(export(of, folder / f"{group}-{task}{suffix}", scenes(2, 0)))
    tolerance = CONTINUOUS if model.group.order is None else TOLERANCE
    equal = within = 0
    worst = 0.0
    for seed in range(1, BATCHES + 1):
        b = (seed - 1) % MOST + 1
        x = equiform.act(model.group.random(b, torch.Generator().manual_seed(seed)), scenes(b, seed))
        expected = [getattr(of(x), name) for name in POSE] if task == "pose" else [leaf for _, leaf, _ in leaves(None, of(x))]
        found = ask(x)
        apart = max(
            float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1))
            for got, wanted in zip(found, expected, strict=True)
        )
        equal += apart == 0
        within += apart <= tolerance
        worst = max(worst, apart)
    return {"batches": BATCHES, "to the bit": equal, "within": within, "largest": worst}


def table(figures: dict[str, Any]) -> str:
    """Markdown: batches within the tolerance, to the bit, and the largest difference."""
    lines = [["", *TASKS], [":--"] + ["--:"] * len(TASKS)]
    for suffix, groups in figures["formats"].items():
        for group, tasks in groups.items():
            cells = [f"{one['within']} of {one['batches']}, {one['to the bit']} to the bit" for one in tasks.values()]
            lines.append([f"{group}, {suffix}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {"equiform": equiform.__version__, "torch": torch.__version__, "formats": {}}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".pt2", ".onnx"):
            for group in args.groups:
                found = figures["formats"].setdefault(suffix, {}).setdefault(group, {})
                for task in TASKS:
                    found[task] = compared(group, task, suffix, Path(folder))
                    path = common.keep("exports", figures, args.out)
    print(table(figures))
    print("figures in", path)


if __name__ == "__main__":
    main()
