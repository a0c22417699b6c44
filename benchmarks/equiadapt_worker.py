"""Train and measure equiadapt 0.1.2's canonicalizers around a frozen predictor of small images, and write the figures as JSON.

Follows the package's own classification example, but for the task loss: the predictor takes no part in training.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from turned import cost, measure

try:
    import torchvision  # noqa: F401  (only to see whether it loads)
except RuntimeError:  # a CUDA wheel beside a CPU torch: declare the operators that its C++ part would have
    SHIM = torch.library.Library("torchvision", "DEF")
    SHIM.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    SHIM.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import equiadapt.images as peer
from omegaconf import OmegaConf
from torchvision import transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)  # the example's
PRIOR_WEIGHT, CONTRAST_WEIGHT = 100.0, 2e-4  # the latter 1e-4 in its configuration, which its training step adds twice
DEFAULTS = {"predictor": "resnet9_cifar10", "group": "C4", "steps": 790, "batch": 128, "lr": 1e-3, "seed": 0, "threads": 1}


def load(reference: str, folder: Path) -> nn.Module:
    """A network beside the project, or what the function in FILE.py:FUNCTION returns."""
    path, _, function = reference.rpartition(":")
    sys.path.insert(0, str(Path(path).resolve().parent if path else folder))
    if not path:
        return importlib.import_module("predictors").load(reference)
    return getattr(importlib.import_module(Path(path).stem), function)().eval()


def build(variant: str, num_rotations: int, resize: int, side: int) -> nn.Module:
    """The canonicalizer for images of that side; its network sees the middle 80 % resized to `resize` a side."""
    group = {"group_type": "rotation", "num_rotations": num_rotations}
    common = {"beta": 1.0, "input_crop_ratio": 0.8, "resize_shape": resize, "learn_ref_vec": False, "artifact_err_wt": 0}
    config, seen = OmegaConf.create(common | group), (3, resize, resize)
    if variant == "optimized":
        network = peer.ConvNetwork(seen, out_channels=16, kernel_size=7, num_layers=3, out_vector_size=128)
        return peer.OptimizedGroupEquivariantImageCanonicalization(network, config, (3, side, side))
    kind = {"equivariant": peer.CustomEquivariantNetwork, "e2cnn": peer.ESCNNEquivariantNetwork}[variant]
    network = kind(seen, out_channels=32, kernel_size=5, num_layers=3, **group)
    network.group_type, network.num_rotations = "rotation", num_rotations  # CustomEquivariantNetwork forgets to
    return peer.GroupEquivariantImageCanonicalization(network, config, (3, side, side))


def batches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Endless shuffled batches under the example's default augmentation, at their own size rather than resized to 224."""
    side = images.shape[1]
    augmentation = [
        transforms.RandomCrop(side, padding=side // 8),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(5),
    ]
    transform = transforms.Compose([*augmentation, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    while True:
        for rows in torch.randperm(len(images)).split(size):
            yield torch.stack([transform(Image.fromarray(images[row])) for row in rows.tolist()])


def train(canonicalizer: nn.Module, images: np.ndarray, args: argparse.Namespace) -> dict[str, float]:
    """Train with the prior loss (and the optimized variant's contrast loss); seconds, and the last share left upright."""
    optimizer = torch.optim.AdamW([weight for weight in canonicalizer.parameters() if weight.requires_grad], lr=args.lr)
    canonicalizer.train()
    start, upright = time.perf_counter(), []
    for _, x in zip(range(args.steps), batches(images, args.batch), strict=False):
        canonicalizer(x)
        loss = PRIOR_WEIGHT * canonicalizer.get_prior_regularization_loss()
        if hasattr(canonicalizer, "get_optimization_specific_loss"):
            loss = loss + CONTRAST_WEIGHT * canonicalizer.get_optimization_specific_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        upright.append(canonicalizer.get_identity_metric().item())
    return {"train_seconds": time.perf_counter() - start, "train_upright": float(np.mean(upright[-50:]))}


def main() -> None:
    """Read the data and the predictor, run each variant, write the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "predictors", "turned", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--variants", nargs="+", default=["equivariant:32", "optimized:96"], help="or e2cnn:SIDE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictor = load(args.predictor, args.predictors).requires_grad_(False)
    data, turned, num = np.load(args.data), load_file(args.turned)["x"], int(args.group[1:])
    if len(turned) != num:
        raise ValueError(f"{args.turned} holds {len(turned)} elements; {args.group} has {num}")
    turned, labels = turned / 255 if turned.dtype == torch.uint8 else turned, torch.from_numpy(data["test_labels"]).long()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    result: dict[str, object] = {"library": "equiadapt 0.1.2", "options": {k: str(v) for k, v in vars(args).items()}}
    result["bare"] = measure(lambda x: (predictor(x), torch.zeros(len(x), dtype=torch.long)), turned, labels)
    for variant in args.variants:
        torch.manual_seed(args.seed)
        name, _, side = variant.partition(":")
        canonicalizer = build(name, num, int(side), turned.shape[-1])
        row: dict[str, object] = {**train(canonicalizer, data["train_images"], args)}

        def model(x: Tensor, canonicalizer: nn.Module = canonicalizer) -> tuple[Tensor, Tensor]:
            upright = canonicalizer((x - mean) / std) * std + mean  # the predictor normalises inside
            angle = canonicalizer.canonicalization_info_dict["group_element"]["rotation"]
            return predictor(upright), (angle * num / 360).round().long() % num

        canonicalizer.eval()
        row |= measure(model, turned, labels) | {"parameters": sum(p.numel() for p in canonicalizer.parameters())}

        def adapted(x: Tensor, canonicalizer: nn.Module = canonicalizer) -> Tensor:
            return predictor(canonicalizer(x))  # timed without the conversions above, in the peer's favour

        times = {b: cost(adapted, predictor, turned[0, :b], 30 if b < 100 else 10) for b in (32, 256)}
        result[variant] = row | {"cost": times}
        args.out.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
