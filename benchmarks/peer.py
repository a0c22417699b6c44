"""Side by side with equiadapt 0.1.2: same predictor, same images, same turned pixels, same number of training steps.

The peer runs in an environment of its own, which this script makes (numpy 1.26, torchvision 0.28.0 without its dependencies;
equiadapt_worker.py declares the operators it misses). Both sides run on one thread, one after the other. No task loss on
either side: the canonicalizers learn from upright images and the identity prior. When the peer's side fails, its log stays
beside the results. With your own data and predictor, which both environments must be able to load:

    python benchmarks/peer.py --data folder/ --predictor FILE.py:FUNCTION --out figures.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import common
import equiform
from equiform import GroupConvCanonicalizer, OrbitCanonicalizer, adapt, fit
from equiform.canonicalizers import Canonicalizer
from equiform.predictors.references import parse_reference
from turned import cost, measure

PINS = ["torch==2.13.0", "numpy==1.26.4"]


def logged(command: Sequence[str | Path], log: Path) -> None:
    """Run a command of the peer's side with its output in the log, which stays if it fails; leaves then, saying where."""
    with log.open("a", encoding="utf-8") as file:
        print("$", *command, file=file, flush=True)
        try:
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            code = f"{error}"
    if code:
        sys.exit(f"the peer could not be run ({code}): {log} has what it said")


def environment(folder: Path, log: Path) -> Path:
    """The Python of the peer's environment, made where it is missing."""
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    logged([sys.executable, "-m", "venv", "--clear", folder], log)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    logged([*pip, *PINS], log)
    logged([*pip, "--no-deps", "torchvision==0.28.0"], log)  # with dependencies it replaces torch
    logged([*pip, *PINS, "torchvision==0.28.0", "equiadapt==0.1.2", "safetensors"], log)
    (folder / "ready").touch()
    return python


def turned(images: Tensor, n: int) -> Tensor:
    """The images turned by 360 k / n counter-clockwise in plain torch: by index, or bilinear with edges repeated."""
    rows = []
    for k in range(n):
        if 4 * k % n == 0:
            rows.append(torch.rot90(images, 4 * k // n, (-2, -1)))
            continue
        angle = torch.tensor(2 * torch.pi * k / n)
        theta = torch.tensor([[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])
        grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
        rows.append(F.grid_sample(images, grid, padding_mode="border", align_corners=False))
    return torch.stack(rows)


def ours(canonicalizer: Canonicalizer, predictor: torch.nn.Module, data: dict, x: Tensor, args: argparse.Namespace) -> dict:
    model = adapt(predictor, args.group, outputs="logits", canonicalizer=canonicalizer)
    train = torch.from_numpy(data["train_images"]).permute(0, 3, 1, 2).contiguous()
    start = time.perf_counter()
    fit(
        model,
        train,
        seed=args.seed,
        max_steps=args.steps,
        epochs=1 + args.steps * args.batch // len(train),
        batch_size=args.batch,
    )
    figures: dict = {"train_seconds": time.perf_counter() - start}

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        output, pose = model.predict(images)
        return output, pose.index

    figures |= measure(answer, x, torch.from_numpy(data["test_labels"]).long())
    figures["parameters"] = sum(p.numel() for p in canonicalizer.parameters())
    figures["cost"] = {str(b): cost(model, predictor, x[0, :b], 30 if b < 100 else 10) for b in (32, 256)}
    return figures


def show(name: str, row: dict) -> None:
    errors = row["logits_error_quarter_turns"]["max"]
    poses = sum(row["pose_accuracy"]) / len(row["pose_accuracy"])
    costs = " ".join(f"{b}: {cost['ratio']:.2f}x" for b, cost in row.get("cost", {}).items())
    print(f"{name:24} mean {row['orbit_mean']:.4f} worst {row['worst']:.4f} pose {poses:.3f} error {errors:.1e} cost {costs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=common.DATA_HELP)
    parser.add_argument("--size", type=int, default=32, help="side of the photos of a folder")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    parser.add_argument("--predictor", default="resnet9_cifar10", help="a network beside the project, or FILE.py:FUNCTION")
    parser.add_argument("--group", choices=["C4", "C8"], default="C4")
    parser.add_argument("--steps", type=int, default=790)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--environment", type=Path, default=common.HERE.parent / ".venv-peer")
    parser.add_argument("--variants", nargs="+", default=["equivariant:32", "optimized:96"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    common.keep_memory(OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    if ":" in args.predictor and parse_reference(args.predictor).source != "file":
        sys.exit(f"--predictor {args.predictor}: the peer's environment has no such library; write FILE.py:FUNCTION")
    predictor = common.predictor(args.predictor)
    data = common.arrays(args.data or common.shared("data/cifar10.npz"), args.size, args.labels)
    log = common.results(f"peer-{args.group.lower()}", args.out).with_suffix(".log")
    log.unlink(missing_ok=True)
    x = turned(torch.from_numpy(data["test_images"]).permute(0, 3, 1, 2).float() / 255, int(args.group[1:]))
    figures: dict = {"steps": args.steps, "batch": args.batch, "group": args.group, "num_test": x.shape[1]}
    with tempfile.TemporaryDirectory() as scratch:
        pixels, result, source = (Path(scratch) / name for name in ("turned.safetensors", "peer.json", "data.npz"))
        save_file({"x": x.contiguous()}, pixels)
        np.savez(source, **data)
        command = [environment(args.environment, log), "-W", "ignore", common.HERE / "equiadapt_worker.py"]
        options = {"data": source, "predictors": common.DATA, "turned": pixels, "out": result, "group": args.group}
        options |= {"steps": args.steps, "batch": args.batch, "seed": args.seed, "predictor": args.predictor}
        flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        logged([*command, *flags, "--variants", *args.variants], log)
        theirs = json.loads(result.read_text())
    log.unlink()
    figures["bare"] = theirs.pop("bare")
    figures["equiadapt 0.1.2"] = {name: row for name, row in theirs.items() if ":" in name}
    figures[f"equiform {equiform.__version__}"] = {}
    for cls in (GroupConvCanonicalizer, OrbitCanonicalizer):
        torch.manual_seed(args.seed)
        row = ours(cls(args.group, resolution=32), predictor, data, x, args)
        figures[f"equiform {equiform.__version__}"][cls.name] = row
    show("bare", figures["bare"])
    for library, rows in figures.items():
        if library.startswith("equi"):
            for name, row in rows.items():
                show(f"{library} {name}", row)
    print("figures in", common.keep(f"peer-{args.group.lower()}", figures, args.out))


if __name__ == "__main__":
    main()
