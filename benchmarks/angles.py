"""ImageNet classifiers on photos at all angles, in steps of 15 degrees: bare, adapted with nothing to fit, fine-tuned.

In both protocols of `evaluate`: turned inside their frame, where corners are lost, and the middle of larger turned photos. The
methods: the bare classifier; C4 (photos-c4); SO(2) (photos-so2), with its likeliest pose and with as many as cover 0.9 of the
posterior; C8, the poses of photos-so2 rounded to eighths of a turn; an oracle, which knows the true angle; and the classifier
itself fine-tuned on photos turned at random; and over 16 turns of each photo the mean of the classifier's answers (orbit
averaging) and the answer that it is surest of (training-free). What is fine-tuned learns to answer as the bare classifier does
on the upright photo, since labels of ten classes would tell it that the other 990 never come. Adapted models bring photos back
bicubic, with a reflected border, which was chosen on 60 photos of imagenette/train.

Adapted models answer alike when a photo is turned by quarter turns: they are measured in the first quarter of the circle, which
stands for the others. `--draw` makes the picture of the figures that are there; `--methods` measures some methods alone, and
adds them to these figures.

    python benchmarks/angles.py --photos 100
    python benchmarks/angles.py --photos 120 --classifiers efficientnet-lite0 --methods "orbit averaging" training-free
    python benchmarks/angles.py --draw docs/angles.png
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import backbones
import common
from equiform import act, group, saving
from equiform.canonicalizers import Canonicalizer
from equiform.canonicalizers.poses import Pose, pose_of
from equiform.evaluation.figures import COLOURS
from equiform.evaluation.frames import FRAMES, framed, uncropped
from equiform.geometry import Image, Kind, inverse
from equiform.geometry.groups import turn
from equiform.predictors.efficientnet_lite import LITE0

SIDE = 224  # of what the classifiers see
BACK = Image("bicubic", border="reflect")
SEEN_IN_ALL = ("bare", "fine-tuned")  # measured at every angle
ORBIT, TURNS = ("orbit averaging", "training-free"), 16  # as many turns as the baselines of `evaluate` take
POSED = ("C4", "C8", "SO(2)", "SO(2), coverage 0.9", "oracle")
METHODS = (SEEN_IN_ALL[0], *ORBIT, SEEN_IN_ALL[1], *POSED)
CLASSES = ("of 1000 classes", "of ten classes")
TEN = torch.tensor(sorted(common.IMAGENETTE.values()))
RESAMPLES = 2000


def photos_of(folder: Path, limit: int | None) -> tuple[dict[str, Tensor], Tensor]:
    """Photos of all classes by frame, uint8, so large that `SIDE` pixels are shown of each; and their classes."""
    sides = {"inside": SIDE, "crop": uncropped(SIDE)}
    read = {frame: common.photos(folder, sides[frame], limit) for frame in FRAMES}
    return {frame: photos for frame, (photos, _) in read.items()}, common.class_indices(read["inside"][1], None)


def shown(x: Tensor, g: Tensor, frame: str) -> Tensor:
    """Photos (b, 3, h, w) in [0, 1] turned by g as `evaluate` shows them."""
    return framed(act(g, x), Kind("image"), frame).contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------------------------------------------- fine-tuning


def fine_tuned(classifier: nn.Module, photos: dict[str, Tensor], args: argparse.Namespace) -> tuple[nn.Module, dict]:
    """A copy that was taught to answer turned photos as `classifier` answers upright ones; and how.

    Angles are uniform; batches come in both protocols alike; half of the photos are mirrored.
    """
    torch.manual_seed(args.seed)
    num, start = len(photos[FRAMES[0]]), time.perf_counter()
    x = photos["inside"][:64].float() / 255
    # with batch norms to learn by, where they were folded away
    network = backbones.with_batch_norms(backbones.lean(classifier), x).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.01)
    rows_of = [rows for _ in range(args.epochs) for rows in torch.randperm(num).split(args.batch_size)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, len(rows_of) + 1)
    turns, loss = group("SO2"), torch.zeros(())
    for rows in rows_of:
        frame = FRAMES[int(torch.randint(len(FRAMES), ()))]
        x = photos[frame][rows].float() / 255
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)
        with torch.no_grad():
            target = classifier(shown(x, turns.identity(), frame)).softmax(1)
        loss = F.cross_entropy(network(shown(x, turns.random(len(x)), frame)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    minutes = round((time.perf_counter() - start) / 60, 1)
    how = {"photos": num, "epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr, "minutes": minutes}
    return backbones.folded(network), how | {"last_loss": float(loss.detach())}


# ---------------------------------------------------------------------------------------------------------- measuring


def poses_of(x: Tensor, g: Tensor, c4: Canonicalizer, so2: Canonicalizer) -> dict[str, tuple[Pose, float | None]]:
    """The poses by which each method brings photos back, that were turned by g (1, 3, 3), and the coverage it asks for."""
    any_angle = so2(x)
    b, n = any_angle.scores.shape
    eighths = group("C8").nearest(any_angle.candidates.flatten(0, 1)).reshape(b, n, 3, 3)
    return {
        "C4": (c4(x), None),
        "C8": (pose_of(any_angle.scores, eighths), None),
        "SO(2)": (any_angle, None),
        "SO(2), coverage 0.9": (any_angle, 0.9),
        "oracle": (pose_of(torch.zeros(b, 1), g.expand(b, 1, 3, 3)), None),
    }


def over_the_orbit(classifier: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Class probabilities in 16 turns of the photos: their mean, and those of the turn with the surest class."""
    shares = [classifier(act(g[None], x, BACK)).softmax(1) for g in inverse(group(f"C{TURNS}").elements)]
    found = torch.stack(shares, 1)
    surest = found[torch.arange(len(x)), found.amax(2).argmax(1)]
    return dict(zip(ORBIT, (found.mean(1), surest), strict=True))


@torch.no_grad()
def answers(
    x: Tensor, angles: list[int], frame: str, models: dict[str, Any], judges: Any, methods: Sequence[str]
) -> Iterator[tuple[str, str, Tensor]]:
    """(classifier, method, class probabilities) of photos at one angle after the other."""
    for angle in angles:
        g = turn(torch.deg2rad(torch.tensor([angle], dtype=torch.float64))).float()
        moved = shown(x, g, frame)
        poses = poses_of(moved, g, *judges) if angle < 90 else {}
        for name, networks in models.items():
            for method in set(methods) & set(networks):
                yield name, method, networks[method](moved)
            if angle < 90 and set(methods) & set(ORBIT):
                for method, shares in over_the_orbit(networks["bare"], moved).items():
                    yield name, method, shares
            for method, (pose, coverage) in poses.items():
                if method in methods:
                    yield name, method, common.answered(networks["bare"], moved, pose, BACK, coverage)


def measured(
    models: dict[str, Any], judges: Any, photos: Tensor, labels: Tensor, frame: str, args: argparse.Namespace
) -> dict[str, dict[str, Tensor]]:
    """By classifier and method: whether each photo is right at each angle, (2, angles, n), among 1000 and among ten classes."""
    angles, found, done = list(range(0, 360, args.step)), {}, 0
    for x, y in zip(photos.split(args.batch_size), labels.split(args.batch_size), strict=True):
        rows: dict[tuple[str, str], list[Tensor]] = {}
        for name, method, output in answers(x.float() / 255, angles, frame, models, judges, args.methods):
            right = torch.stack([output.argmax(1) == y, TEN[output[:, TEN].argmax(1)] == y])
            rows.setdefault((name, method), []).append(right)
        for key, values in rows.items():
            found.setdefault(key, []).append(torch.stack(values, 1))
        done += len(x)
        print(f"{frame}: {done} of {len(photos)} photos", flush=True)
    whole: dict[str, dict[str, Tensor]] = {}
    for (name, method), parts in found.items():
        right = torch.cat(parts, 2)
        whole.setdefault(name, {})[method] = right.repeat(1, len(angles) // right.shape[1], 1)
    return whole


def summary(right: dict[str, Tensor]) -> dict[str, Any]:
    """Accuracy by angle, its mean, and the share of the oracle's mean that is kept, with 95 % intervals over photos."""
    num = next(iter(right.values())).shape[2]
    weights = np.random.default_rng(0).multinomial(num, [1 / num] * num, RESAMPLES) / num
    figures: dict[str, Any] = {}
    for which, classes in enumerate(CLASSES):
        by_photo = {method: answers[which].float().mean(0).numpy() for method, answers in right.items()}
        oracle = by_photo["oracle"]
        drawn = np.maximum(weights @ oracle, 1 / RESAMPLES)  # of very few photos perhaps none that is right
        figures[classes] = {
            method: {
                "accuracy": [round(float(value), 4) for value in right[method][which].float().mean(1)],
                "mean": float(mean.mean()),
                "mean_interval": ends(weights @ mean),
                "kept": float(mean.mean() / max(oracle.mean(), 1 / RESAMPLES)),
                "kept_interval": ends(weights @ mean / drawn),
            }
            for method, mean in by_photo.items()
        }
    return figures


def ends(values: np.ndarray) -> list[float]:
    return [float(end) for end in np.percentile(values, (2.5, 97.5))]


# ------------------------------------------------------------------------------------------------------------ picture

LINES = ("oracle", "SO(2)", "C8", "C4", "fine-tuned", "bare")  # from the top
NAMES = {"inside": "turned inside the frame, corners lost", "crop": "cropped from a larger photo, none lost"}
GAP = 0.05  # between the labels of two lines


def picture(figures: dict[str, Any], path: Path) -> None:
    """Accuracy by angle, a panel for each protocol and a line for each method, of the first classifier."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    name, of_first = next(iter(figures["classifiers"].items()))
    figure = FigureCanvasAgg(Figure(figsize=(10, 4.2), layout="constrained")).figure
    panels: Any = figure.subplots(1, len(FRAMES), sharey=True)
    for axes, frame in zip(panels, FRAMES, strict=True):
        _panel(axes, figures["angles"], of_first["frames"][frame][CLASSES[0]])
        axes.set_title(NAMES[frame], loc="left", fontsize=11)
    panels[0].set_ylabel(f"top-1 of {name}, {figures['photos']} photos")
    figure.savefig(path, dpi=150)


def _panel(axes: Any, angles: list[int], rows: dict[str, Any]) -> None:
    # half a turn to both sides, where the lines are furthest apart; upright in the middle
    around = [*sorted((angle + 180) % 360 - 180 for angle in angles), 180]
    ends_at = {}
    for method, colour in zip(LINES, COLOURS, strict=False):
        by_angle = dict(zip(angles, rows[method]["accuracy"], strict=True))
        values = [by_angle[angle % 360] for angle in around]
        axes.plot(around, values, color=colour, linewidth=2)
        ends_at[method] = (values[-1], colour)
    for method, height in _spread({method: value for method, (value, _) in ends_at.items()}).items():
        axes.text(186, height, method, color=ends_at[method][1], va="center", fontsize=10)
    axes.set(xlim=(-180, 180), ylim=(0, 1), xticks=range(-180, 181, 90), xlabel="turned by (degrees, counter-clockwise)")
    axes.grid(axis="y", color="#e4e7ec")
    axes.spines[["top", "right"]].set_visible(False)


def _spread(heights: dict[str, float]) -> dict[str, float]:
    """Heights of labels, moved apart by as little as will do where they would overlap."""
    placed = dict(sorted(heights.items(), key=lambda item: item[1]))
    for lower, upper in [*pairwise(placed)] * 50:
        overlap = max(0.0, GAP - (placed[upper] - placed[lower]))
        placed[lower], placed[upper] = placed[lower] - overlap / 2, placed[upper] + overlap / 2
    return placed


# -------------------------------------------------------------------------------------------------------------- table


def table(figures: dict[str, Any]) -> str:
    """Markdown: by classifier and method the mean over all angles, and the share of the oracle's that is kept."""
    heads = [f"{NAMES[frame]}: mean | kept of the oracle's" for frame in FRAMES]
    lines = [f"| classifier ({figures['photos']} photos) | method | {' | '.join(heads)} |", "| :-- | :-- |" + " --: |" * 4]
    for name, found in figures["classifiers"].items():
        rows = [found["frames"][frame][CLASSES[0]] for frame in FRAMES]
        for method in (method for method in METHODS if method in rows[0]):
            cells = [
                f"{row[method]['mean']:.3f} | {row[method]['kept']:.0%} ({low:.0%} to {high:.0%})"
                for row in rows
                for low, high in [row[method]["kept_interval"]]
            ]
            lines.append(f"| {name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------------------- main


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifiers", nargs="+", default=[LITE0, "mobilenet_v2"], help="the first is in the picture")
    parser.add_argument("--c4", default="photos-c4", help="name or folder of a canonicalizer of C4")
    parser.add_argument("--so2", default="photos-so2", help="name or folder of a canonicalizer of SO2")
    parser.add_argument("--train", type=Path, help="folder of upright photos to fine-tune on")
    parser.add_argument("--test", type=Path, help="folder of upright photos, a subfolder for each class")
    parser.add_argument("--photos", type=int, help="measure on that many photos, of all classes alike")
    parser.add_argument("--step", type=int, default=15, help="degrees between two angles; divides 90")
    parser.add_argument("--train-photos", type=int, help="fine-tune on that many photos")
    parser.add_argument("--epochs", type=int, default=3, help="of the fine-tuning")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="measure these alone; the other figures stay")
    parser.add_argument("--draw", type=Path, help="draw the figures that are there into this file, and measure nothing")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.draw:
        picture(json.loads(common.results("angles", args.out).read_text(encoding="utf-8")), args.draw)
        return
    common.keep_memory()
    torch.set_num_threads(args.threads)
    judges = [saving.restore(name, main, None)[0] for name in (args.c4, args.so2)]
    fitted = not args.methods or SEEN_IN_ALL[1] in args.methods
    train = photos_of(args.train or common.shared("data/imagenette/train"), args.train_photos)[0] if fitted else {}
    models, how = {}, {}
    for name in args.classifiers:
        models[name] = {"bare": common.predictor(name).eval()}
        if fitted:
            models[name]["fine-tuned"], how[name] = fine_tuned(models[name]["bare"], train, args)
            print(f"{name}: fine-tuned {how[name]}", flush=True)
    photos, labels = photos_of(args.test or common.shared("data/imagenette/val"), args.photos)
    figures = started_from(args, len(labels))
    args.methods = [*(args.methods or METHODS), "oracle"]  # of which shares are
    right = {frame: measured(models, judges, photos[frame], labels, frame, args) for frame in FRAMES}
    for name in models:
        found = figures["classifiers"].setdefault(name, {"fine_tuning": how.get(name), "frames": {}})
        for frame in FRAMES:
            rows = summary(right[frame][name])
            for classes in CLASSES:
                found["frames"].setdefault(frame, {}).setdefault(classes, {}).update(rows[classes])
            kept = {method: round(row["kept"], 3) for method, row in rows[CLASSES[0]].items()}
            print(f"{name}, {frame}: kept of the oracle's mean {kept}")
    print("figures in", common.keep("angles", figures, args.out))


def started_from(args: argparse.Namespace, num_photos: int) -> dict[str, Any]:
    """The figures to add to: with `--methods` those that are there, if they are of as many photos and the same angles."""
    path = common.results("angles", args.out)
    fresh = {"photos": num_photos, "angles": list(range(0, 360, args.step))}
    if not args.methods or not path.exists():
        return fresh | {"classifiers": {}}
    there = json.loads(path.read_text(encoding="utf-8"))
    if any(there[name] != value for name, value in fresh.items()):
        sys.exit(f"{path} is of {there['photos']} photos at {len(there['angles'])} angles: name as many, or another --out")
    return there


if __name__ == "__main__":
    main()
