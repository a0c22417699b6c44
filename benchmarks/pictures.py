"""The pictures of the README and of the page of concepts, from the photos that ship in scikit-image and scikit-learn.

    python benchmarks/pictures.py          # docs/photos.png and docs/pictures/; needs the extra `web`

`docs/photos.png` holds every sample of the page to play with, none chosen and none left out, each in one quarter turn, and what
EfficientNet-Lite0 says of it bare and behind `photos-c4`, as the snippet of the README has it. What is said is kept in
`results/pictures.json`, of every photo in all its turns.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

import common
from equiform import act, adapt, group
from equiform.evaluation.figures import COLOURS
from equiform.geometry import inverse
from equiform.geometry.groups import turn
from equiform.predictors.class_names import imagenet
from equiform.web.photos import TURNED, Sample, read, samples, turned

SIDE = 224  # of what the classifier sees
BARE, ADAPTED = COLOURS[1], COLOURS[0]
GREY = "#5b6472"


def figure(width: float, height: float) -> Figure:
    return FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained")).figure


def shown(axes: Any, photo: Tensor, title: str = "", **style: Any) -> None:
    axes.imshow(photo.clamp(0, 1).movedim(0, 2).numpy())
    axes.set_title(title, fontsize=10, **style)
    axes.axis("off")


def photo_of(title: str) -> Tensor:
    return small(read(next(sample.path for sample in samples() if sample.title == title)))


def small(photo: Tensor, side: int = SIDE) -> Tensor:
    return F.interpolate(photo[None], (side, side), mode="bilinear", antialias=True)[0]


# -------------------------------------------------------------------------------------------------- before and after


@torch.no_grad()
def before_and_after(path: Path, photos: Sequence[Sample]) -> dict[str, Any]:
    """A column for each photo: as it lies, the share of the class that each model names, above what it says upright.

    Returns what each says in all four turns, by photo.
    """
    classifier, names = common.efficientnet_lite0(), imagenet()
    model = adapt(classifier, "C4", outputs="logits", canonicalizer="photos-c4")
    all_said: dict[str, Any] = {}
    drawn = figure(8.6, 2.75)
    columns: Any = drawn.subplots(2, len(photos), height_ratios=(2.4, 1), squeeze=False)
    for i, sample in enumerate(photos):
        upright = small(read(sample.path))[None]
        turns = torch.cat([torch.rot90(upright, k, (-2, -1)) for k in range(4)])
        said = {
            name: [(names[int(p.argmax())], round(float(p.max()), 4)) for p in network(turns).softmax(1)]
            for name, network in (("bare", classifier), ("adapted", model))
        }
        lies = 1 + i % 3
        shown(columns[0][i], turns[lies], f"upright:\n{said['bare'][0][0]}", color=GREY)
        _bars(columns[1][i], {name: rows[lies] for name, rows in said.items()})
        all_said[sample.title] = said | {"shown": lies}
    drawn.text(
        0.01,
        0.02,
        "lying so: orange, the bare network says; blue, the same network adapted; bars: probability",
        color=GREY,
        fontsize=9,
    )
    drawn.get_layout_engine().set(rect=(0, 0.06, 1, 0.94))  # pyright: ignore[reportOptionalMemberAccess]
    drawn.savefig(path, dpi=140)
    return all_said


def _bars(axes: Any, said: dict[str, tuple[str, float]]) -> None:
    for place, (colour, (name, share)) in enumerate(zip((BARE, ADAPTED), said.values(), strict=True)):
        axes.barh(-place, 1, color="#eef0f3", height=0.34)
        axes.barh(-place, share, color=colour, height=0.34)
        axes.text(0, -place + 0.22, f"{name} {share:.0%}", color=colour, fontsize=9, va="bottom")
    axes.set(xlim=(0, 1), ylim=(-1.3, 0.75))
    axes.axis("off")


# ------------------------------------------------------------------------------------------------------- of concepts


def of_groups(path: Path) -> None:
    """The orbits of one photo under three groups."""
    photo = photo_of("camera")
    drawn = figure(9, 3.6)
    upper, lower = drawn.subfigures(2, 1)
    g = group("D4").elements
    _row(upper, act(g, photo.expand(8, -1, -1, -1)), [group("D4").label(one) for one in g])
    upper.suptitle("D4: quarter turns, and the same mirrored", fontsize=10, color=GREY)
    angles = [360 * i // 8 for i in range(8)]
    _row(lower, turned(photo, angles), [f"{angle}°" for angle in angles])
    lower.suptitle("C8: eighths of a turn; SO2 has every angle between", fontsize=10, color=GREY)
    drawn.savefig(path, dpi=100)


def _row(part: Any, photos: Tensor, labels: Sequence[str]) -> None:
    for axes, photo, label in zip(part.subplots(1, len(photos)), photos, labels, strict=True):
        shown(axes, photo, label)


def of_steps(path: Path) -> None:
    """What happens to a photo: found, brought back, answered, moved to where it belongs."""
    photo = photo_of("camera")
    x = torch.rot90(photo, 1, (-2, -1))
    model = adapt(lambda image: image, "C4", outputs="invariant", canonicalizer="photos-c4")
    pose = model.canonicalizer(x[None])
    canonical = act(inverse(pose.g), x[None])[0]
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 30:175, 75:135] = 1  # stands for a segmenter's answer: about the man
    drawn = figure(9, 2.8)
    axes: Any = drawn.subplots(1, 4)
    shown(axes[0], x, "x, as it came")
    shown(
        axes[1], canonical, f"canonical form, act(g⁻¹, x)\n{model.group.label(pose.g[0])}, confidence {pose.confidence[0]:.2f}"
    )
    shown(axes[2], tinted(canonical, mask), "y, the predictor's answer")
    shown(axes[3], tinted(x, act(pose.g, mask[None])[0]), "act(g, y), for x as it came")
    drawn.savefig(path, dpi=100)


def tinted(photo: Tensor, mask: Tensor) -> Tensor:
    colour = torch.tensor([0.84, 0.37, 0.0])[:, None, None]
    return torch.where(mask > 0.5, 0.4 * photo + 0.6 * colour, photo)


def of_poses(path: Path, titles: Sequence[str] = ("camera", "flower", "coffee", "cat")) -> None:
    """How likely each quarter turn is: clear of some photos, doubtful of others."""
    canonicalizer = adapt(lambda image: image, "C4", outputs="invariant", canonicalizer="photos-c4").canonicalizer
    drawn = figure(9, 3.4)
    rows: Any = drawn.subplots(2, len(titles), height_ratios=(2, 1))
    for axes, bars, title in zip(*rows, titles, strict=True):
        photo = photo_of(title)
        shares = canonicalizer(photo[None]).probabilities[0]
        shown(axes, photo)
        bars.bar(range(4), shares.tolist(), color=ADAPTED)
        bars.set(ylim=(0, 1), xticks=range(4), xticklabels=["0°", "90°", "180°", "270°"], yticks=(0, 1))
        bars.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=100)


KINDS_OF_TURN = ((90, "image", "by index"), (30, "image", "black corners"), (30, TURNED, "mirrored border"))


def of_exactness(path: Path) -> None:
    """A quarter turn there and back is the photo itself; another angle loses corners and a little sharpness."""
    photo = photo_of("camera")
    drawn = figure(9, 2.9)
    axes: Any = drawn.subplots(1, 4)
    shown(axes[0], photo, "the photo")
    for place, (degrees, kind, name) in enumerate(KINDS_OF_TURN, 1):
        g = turn(torch.tensor([math.radians(degrees)]))
        back = act(inverse(g), act(g, photo[None], kind), kind)[0]
        left = float((back - photo).abs().mean())
        shown(axes[place], back, f"{degrees}° and back, {name},\nmean difference {left:.2g}")
    drawn.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=common.HERE.parent / "docs")
    out = parser.parse_args().out
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    common.keep(
        "pictures",
        {"predictor": common.LITE0, "canonicalizer": "photos-c4", "turns": before_and_after(out / "photos.png", samples())},
        None,
    )
    for name, draw in {"groups": of_groups, "steps": of_steps, "poses": of_poses, "exactness": of_exactness}.items():
        draw(out / "pictures" / f"{name}.png")


if __name__ == "__main__":
    main()
