"""CIFAR-10 over C8: how much of the loss is due to resampling, to lost corners, and to wrong poses.

Images are turned, brought back by their true pose (an oracle) or by the one that the canonicalizer of cifar10.py finds, and
shown to the classifier. Quarter turns move pixels: elements that differ by one give the same answers, so that the upright
images and those turned by 45 degrees stand for all eight. What is lost adds up to the loss of the adapted classifier:

- enlarging: 64 px instead of 32 px to turn on, with the classifier shown 32 px again;
- resampling: there and back on a canvas that is padded first, so that no corner is lost;
- corners: what the oracle loses more, turned inside the frame (what comes out where they were, the border says);
- poses 45 degrees off, and poses further off.

    python benchmarks/cifar10_oracle.py --canonicalizer turns --epochs 30 --precision 32-true
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import backbones
import cifar10
import common
from equiform import act, load
from equiform.canonicalizers import Canonicalizer
from equiform.geometry import Image, Kind
from equiform.geometry.groups import Cyclic, inverse

ELEMENTS = Cyclic(8).elements.float()
STEPS = ELEMENTS[:2]  # upright, and between two quarter turns
ROWS = ("upright", "enlarged", "no corner lost", "oracle", "adapted", "coverage 0.9", "off")
BATCH = 250


@dataclass(frozen=True)
class Setting:
    """How images are turned, how they are brought back, and the side they have meanwhile."""

    turned: Kind
    back: Kind
    side: int


BLACK = Image("bilinear")
SETTINGS = {
    "bilinear, black corners": Setting(BLACK, BLACK, 32),
    "the same at 64 px": Setting(BLACK, BLACK, 64),
    "brought back bicubic": Setting(BLACK, Image("bicubic"), 32),
    "brought back bicubic, edge": Setting(BLACK, Image("bicubic", border="edge"), 32),
    "brought back bicubic, reflect": Setting(BLACK, cifar10.SHARP, 32),
    "the same, turned bicubic": Setting(Image("bicubic"), cifar10.SHARP, 32),
    "the same, turned bicubic at 64 px": Setting(Image("bicubic"), cifar10.SHARP, 64),
}


class Shrunk(nn.Module):
    """The predictor on images brought to `side` pixels."""

    def __init__(self, predictor: Any, side: int):
        super().__init__()
        self.predictor, self.side = predictor, side

    def forward(self, x: Tensor) -> Tensor:
        return self.predictor(resized(x, self.side))


def resized(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True, align_corners=False)


@torch.no_grad()
def measured(predictor: Any, canonicalizer: Canonicalizer, data: common.Photos) -> dict[str, dict[str, Any]]:
    """What is kept and lost in every setting, as shares of the images, mean over C8."""
    batches = zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True)
    parts = [_measured(predictor, canonicalizer, x.float() / 255, y) for x, y in batches]
    return {name: _summary({row: torch.cat([part[name][row] for part in parts], 1) for row in ROWS}) for name in SETTINGS}


def _measured(predictor: Any, canonicalizer: Canonicalizer, x: Tensor, y: Tensor) -> dict[str, dict[str, Tensor]]:
    """By setting: which answers are right, (2, b), by element and image; and by how many elements each pose is off."""
    shown = Shrunk(predictor, x.shape[-1])
    upright = shown(x).argmax(1) == y
    rows: dict[str, dict[str, list[Tensor]]] = {name: {row: [] for row in ROWS} for name in SETTINGS}
    for k, g in enumerate(STEPS[:, None]):
        poses: dict[Any, Any] = {}  # found once for all settings whose images are turned alike
        for name, setting in SETTINGS.items():
            large = resized(x, setting.side * x.shape[-1] // 32)
            moved, wide = act(g, large, setting.turned), act(g, padded(large), setting.turned)
            alike = setting.turned, setting.side
            pose = poses[alike] if alike in poses else canonicalizer(moved)
            poses[alike] = pose
            answers = {
                "enlarged": shown(large),
                "no corner lost": shown(unpadded(act(inverse(g), wide, setting.back))),
                "oracle": shown(act(inverse(g), moved, setting.back)),
                "adapted": common.answered(shown, moved, pose, setting.back),
                "coverage 0.9": common.answered(shown, moved, pose, setting.back, coverage=0.9),
            }
            right = {row: answer.argmax(1) == y for row, answer in answers.items()}
            for row, values in {"upright": upright, **right, "off": (pose.index - k) % len(ELEMENTS)}.items():
                rows[name][row].append(values)
    return {name: {row: torch.stack(values) for row, values in found.items()} for name, found in rows.items()}


def _summary(found: dict[str, Tensor]) -> dict[str, Any]:
    off = found.pop("off")
    right = {row: answers.float() for row, answers in found.items()}
    mean = {row: float(answers.mean()) for row, answers in right.items()}
    by_pose = {"right": off == 0, "45 degrees off": (off == 1) | (off == len(ELEMENTS) - 1)}
    by_pose["further off"] = ~(by_pose["right"] | by_pose["45 degrees off"])
    loss = right["oracle"] - right["adapted"]
    lost = {
        "enlarging": mean["upright"] - mean["enlarged"],
        "resampling": mean["enlarged"] - mean["no corner lost"],
        "corners": mean["no corner lost"] - mean["oracle"],
        "poses 45 degrees off": float((loss * by_pose["45 degrees off"]).mean()),
        "poses further off": float((loss * by_pose["further off"]).mean()),
    }
    return {
        "mean": mean,
        "between_quarter_turns": {row: float(answers[1].mean()) for row, answers in right.items()},
        "lost": lost,
        "share_of_poses": {name: float(rows.float().mean()) for name, rows in by_pose.items()},
    }


def padded(x: Tensor) -> Tensor:
    """Reflected around, so far that the corners stay inside the canvas at every angle."""
    return F.pad(x, (x.shape[-1] // 2,) * 4, mode="reflect")


def unpadded(x: Tensor) -> Tensor:
    rim = x.shape[-1] // 4
    return x[..., rim:-rim, rim:-rim]


def restored_or_fitted(train: Tensor, predictor: Any, args: argparse.Namespace) -> tuple[Canonicalizer, dict[str, Any]]:
    """The canonicalizer of `--adapter` where one lies there, else a fitted one; and how it was fitted."""
    if args.adapter and (args.adapter / "fit.json").exists():
        own = args.canonicalizer in cifar10.OF_PREDICTOR
        network = cifar10.canonicalizer_of(args.canonicalizer, "C8", predictor, 32).network if own else None
        canonicalizer = load(args.adapter, predictor, network=backbones.halved(network) if own else None).canonicalizer
        return canonicalizer, json.loads((args.adapter / "fit.json").read_text())
    model, how = cifar10.fitted("C8", predictor, train, args)
    if args.adapter:
        model.save(args.adapter)
        (args.adapter / "fit.json").write_text(json.dumps(how))
    return model.canonicalizer, how


TABLE = {
    "bilinear, black corners": "bilinear, black corners (the default)",
    "brought back bicubic": "bicubic, black corners",
    "brought back bicubic, edge": 'bicubic, `border="edge"`',
    "brought back bicubic, reflect": 'bicubic, `border="reflect"`',
    "the same at 64 px": "bilinear, black corners, enlarged to 64 px before",
}


def table(figures: dict[str, Any]) -> str:
    """Markdown: by how images are brought back, accuracy by the true pose and adapted, and what the loss is due to."""
    lost = list(figures["settings"]["bilinear, black corners"]["lost"])[1:]
    heads = ["brought back", "true pose", "adapted", "true pose, mean over C8", "adapted", "with coverage 0.9", *lost]
    lines = [f"| {' | '.join(heads)} |", "| :-- |" + " --: |" * (len(heads) - 1)]
    for name, title in TABLE.items():
        row = figures["settings"][name]
        between, mean = row["between_quarter_turns"], row["mean"]
        values = [between["oracle"], between["adapted"], mean["oracle"], mean["adapted"], mean["coverage 0.9"]]
        values += [row["lost"][part] for part in lost]
        lines.append(f"| {title} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = cifar10.options(__doc__)
    parser.add_argument("--adapter", type=Path, help="save the fitted adapter in this folder; one that is there is measured")
    parser.add_argument("--limit", type=int, help="measure on that many images, the first")
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    train, test, predictor = cifar10.read(args)
    test = common.Photos(test.images[: args.limit], test.labels[: args.limit])
    canonicalizer, how = restored_or_fitted(train, predictor, args)
    settings = measured(predictor, canonicalizer, test)
    for name, row in settings.items():
        print(f"{name}: {row}")
    figures = {"predictor": args.predictor, "group": "C8", "num_images": len(test), "fit": how, "settings": settings}
    print("figures in", common.keep("cifar10_oracle", figures, args.out))


if __name__ == "__main__":
    main()
