"""Classes that change when a photo is shifted by a few pixels: classifiers bare, and adapted to cyclic shifts.

Four classifiers: MobileNetV2 on Imagenette, a small vision transformer trained here on CIFAR-10, one without position
embeddings, which a shift by whole patches leaves alone, and one of MNIST's digits on a plain ground. Cyclic shifts move what
leaves at one edge to the other; true shifts move the window of a crop, so that new pixels come in. Both by 1 to 15 pixels in x
and in y (of CIFAR-10, whose photos leave less room, and of MNIST true ones by 1 to 4), drawn with a seed.

    python benchmarks/shifts.py
    python benchmarks/shifts.py --tables digits --epochs 3
    python benchmarks/shifts.py --photos 20 --epochs 1 --out shifts.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Resampling
from torch import Tensor, nn

import common
import equiform
from equiform import adapt
from equiform.canonicalizers import PolyphaseCanonicalizer, SeamCanonicalizer
from equiform.images.files import find_images, open_image, to_tensor

SIDE, LARGER, MOST = 224, 256, 15  # pixels: of a crop, of the shorter side of the photo it is cut from, of a shift
PATCH, ROOM = 4, 4  # of the small sets: pixels of a patch, and how far the window of a crop may move


class SmallViT(nn.Module):
    """A vision transformer of four layers for squares of `side` pixels.

    `places`: whether it has position embeddings; without them the mean over patches does not depend on their order, and so not
    on cyclic shifts by whole patches.
    """

    def __init__(self, side: int, channels: int, places: bool, width: int = 64, depth: int = 4, classes: int = 10):
        super().__init__()
        self.patches = nn.Conv2d(channels, width, PATCH, PATCH)
        self.places = nn.Parameter(0.02 * torch.randn(1, (side // PATCH) ** 2, width)) if places else None
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches((x - 0.47) / 0.25).flatten(2).mT
        return self.head(self.layers(tokens if self.places is None else tokens + self.places).mean(1))


def trained(places: bool, images: Tensor, labels: Tensor, room: int, epochs: int, seed: int) -> nn.Module:
    """A transformer trained on random crops, with that much room on every side, and mirror images; of digits as they are."""
    torch.manual_seed(seed)
    model, digits = SmallViT(images.shape[-1] - 2 * room, images.shape[1], places), images.shape[1] == 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    batches = len(images) // 100
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * batches)
    for epoch in range(epochs):
        for rows in torch.randperm(len(images))[: 100 * batches].split(100):
            by = (room - torch.randint(2 * room + 1, (2,))).flip(0) * (not digits)
            x = window(images[rows], by.expand(len(rows), 2), room).float() / 255
            x = torch.where(torch.rand(len(x), 1, 1, 1) < (1 if digits else 0.5), x, x.flip(-1))
            loss = nn.functional.cross_entropy(model(x), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print("epoch", epoch + 1, flush=True)
    return model.eval()


def larger_photos(folder: Path, most: int) -> tuple[Tensor, Tensor]:
    """Centres of photos spread evenly over a folder, with room for shifts on every side, uint8 (n, 3, s, s); their classes."""
    paths, images, folders, side = list(find_images(folder)), [], [], SIDE + 2 * MOST
    for path in paths[:: max(1, len(paths) // most)][:most]:
        photo = open_image(path)
        scale = LARGER / min(photo.size)
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Resampling.BICUBIC)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        images.append(to_tensor(photo.crop((left, top, left + side, top + side))))
        folders.append(path.parent.name)
    return torch.stack(images), common.class_indices(folders, None)


def shifts(num: int, most: int, generator: torch.Generator) -> Tensor:
    """Shifts (num, 2) by 1 to `most` pixels in x and in y, either way."""
    sign = 2 * torch.randint(2, (num, 2), generator=generator) - 1
    return sign * torch.randint(1, most + 1, (num, 2), generator=generator)


def window(images: Tensor, by: Tensor, room: int) -> Tensor:
    """Crops that leave `room` on every side, with their content shifted by (x, y)."""
    side = images.shape[-1] - 2 * room
    rows = [x[:, room - dy : room - dy + side, room - dx : room - dx + side] for x, (dx, dy) in zip(images, by, strict=True)]
    return torch.stack(rows)


def rolled(images: Tensor, by: Tensor) -> Tensor:
    """Images shifted cyclically by (x, y)."""
    return torch.stack([x.roll((int(dy), int(dx)), (-2, -1)) for x, (dx, dy) in zip(images, by, strict=True)])


@torch.inference_mode()
def classes(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([model(part.float() / 255).argmax(1) for part in images.split(50)])


def measured(
    model: Callable[[Tensor], Tensor], larger: Tensor, labels: Tensor, room: int, rounds: int, seed: int
) -> dict[str, float]:
    """Accuracy as the photos are and shifted, and the share of (photo, shift) pairs whose class is not that of the photo."""
    generator = torch.Generator().manual_seed(seed)
    still = window(larger, torch.zeros(len(larger), 2, dtype=torch.long), room)
    first, found = classes(model, still), {"cyclic": [], "true": []}
    for _ in range(rounds):
        found["cyclic"].append(classes(model, rolled(still, shifts(len(still), MOST, generator))))
        found["true"].append(classes(model, window(larger, shifts(len(still), min(room, MOST), generator), room)))
    figures = {"accuracy": float((first == labels).float().mean())}
    for name, answers in found.items():
        figures[f"accuracy_{name}"] = float((torch.stack(answers) == labels).float().mean())
        figures[f"changes_{name}"] = float((torch.stack(answers) != first).float().mean())
    return figures


@torch.inference_mode()
def cost(model: Any, predictor: Any, images: Tensor) -> float:
    """The median ratio of the time of a batch to that of the bare predictor."""
    x, ratios = images[:16].float() / 255, []
    for _ in range(7):
        start = time.perf_counter()
        predictor(x)
        middle = time.perf_counter()
        model(x)
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return statistics.median(ratios[1:])


def table(predictor: Any, stride: int, larger: Tensor, labels: Tensor, room: int, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of every method around one predictor."""
    group = f"Shift{stride}"
    seam = SeamCanonicalizer(group, plain=larger.shape[1] == 1)
    methods = {
        "bare": predictor,
        "seam": adapt(predictor, group, outputs="logits", canonicalizer=seam),
        "seam, coverage 0.9": adapt(predictor, group, outputs="logits", canonicalizer=seam, coverage=0.9),
        "polyphase": adapt(predictor, group, outputs="logits", canonicalizer=PolyphaseCanonicalizer(group)),
    }
    still = window(larger, torch.zeros(len(larger), 2, dtype=torch.long), room)
    place = seam(still).g[:, :2, 2]
    figures: dict[str, Any] = {"photos": len(larger), "shifts_a_photo": args.rounds, "stride": stride}
    figures |= {"true_shifts": [1, min(room, MOST)], "seam_found": float((place == 0).all(1).float().mean())}
    for name, model in methods.items():
        figures[name] = measured(model, larger, labels, room, args.rounds, args.seed)
        figures[name]["time"] = 1.0 if name == "bare" else cost(model, predictor, still)
        print(f"{name:20}", {key: round(value, 3) for key, value in figures[name].items()}, flush=True)
    return figures


def photos(args: argparse.Namespace) -> dict[str, Any]:
    larger, labels = larger_photos(common.shared("data/imagenette/val"), args.photos)
    print("MobileNetV2 on Imagenette")
    return {"MobileNetV2, Imagenette": table(common.predictor("mobilenet_v2"), 32, larger, labels, MOST, args)}


def transformer(name: str, pad: int, places: bool, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of a transformer trained on 10,000 images of one of the small sets, padded with zeros."""
    data = common.arrays(common.shared(f"data/{name.lower().replace('-', '')}.npz"), 32)
    images = {part: torch.from_numpy(data[f"{part}_images"][:10000]) for part in ("train", "test")}
    images = {part: x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2) for part, x in images.items()}
    train, test = (nn.functional.pad(images[part], (pad,) * 4) for part in ("train", "test"))
    labels = {part: torch.from_numpy(data[f"{part}_labels"]).long() for part in ("train", "test")}
    print(title := f"ViT{'' if places else ' without positions'}, {name}", flush=True)
    model, num = trained(places, train, labels["train"], ROOM, args.epochs, args.seed), 4 * args.photos
    return {title: table(model, PATCH, test[:num], labels["test"][:num], ROOM, args) | {"epochs": args.epochs}}


TABLES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "photos": photos,
    "small photos": lambda args: transformer("CIFAR-10", 0, True, args),
    "without positions": lambda args: transformer("CIFAR-10", 0, False, args),
    "digits": lambda args: transformer("MNIST", 2 * ROOM, True, args),
}


METHODS = ("bare", "seam", "seam, coverage 0.9", "polyphase")
COLUMNS = ("accuracy", "accuracy_cyclic", "changes_cyclic", "accuracy_true", "changes_true")


def markdown(figures: dict[str, Any]) -> str:
    """The figures as the table of docs/shifts.md."""
    head = ["model", "photos as they are", "shifted cyclically", "classes that change", "true shifts", "classes that change"]
    rows = [head, ["---"] * len(head)]
    for title, one in figures.items():
        if isinstance(one, dict) and "stride" in one:
            for method in METHODS:
                rows.append([f"{title}: {method}", *(f"{100 * one[method][column]:.1f} %" for column in COLUMNS)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=250, help="of Imagenette; of CIFAR-10 four times as many")
    parser.add_argument("--rounds", type=int, default=3, help="shifts of every photo")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    path = common.results("shifts", args.out)
    for name in args.tables:
        figures = {"equiform": equiform.__version__} | TABLES[name](args)
        before = json.loads(path.read_text("utf-8")) if path.exists() else {}  # tables made before stay
        print("figures in", common.keep("shifts", before | figures, args.out))


if __name__ == "__main__":
    main()
