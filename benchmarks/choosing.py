"""The decision table of docs/choose.md: data, group, canonicalizer; accuracy and cost from the committed figures."""

from collections.abc import Callable
from typing import Any

Figures = Callable[[str], Any]  # from the name of a JSON under results/ to what it holds

HEADS = ("your data", "group", "take", "fit?", "how good", "what it costs")
BESIDE = {"EfficientNet-Lite0": "an EfficientNet-Lite0", "ResNet-50": "a ResNet-50", "ViT-B/16": "a ViT-B"}


def table(figures: Figures) -> str:
    """Markdown, a row for each kind of data."""
    text, volumes, nbody = figures("text")["figures"]["adapted"], figures("volumes")["O"], figures("nbody")["rows"]
    shifted = figures("shifts")["MobileNetV2, Imagenette"]["seam"]["changes_cyclic"]
    energy = figures("ready-models")["predictors"]["EfficientNet-Lite0"]["rows"]["training-free"]
    clouds = figures("pointclouds")["accuracy"]
    dice = volumes["dice"]["adapted"]
    so2 = "`photos-so2`, and say [how to resample](angles.md#what-resampling-costs)"
    own = "the default, then [`fit`](guide.md#fitting) on some hundred upright ones"
    rows = [
        ("photos in quarter turns (phones, cameras held sideways)", "`C4`", "`photos-c4`", "no")
        + (poses(figures, "photos-c4"), beside(figures, "photos-c4")),
        ("the same, and time counts", "`C4`", "`photos-c4-small`", "no")
        + (poses(figures, "photos-c4-small"), beside(figures, "photos-c4-small")),
        ("photos at any angle (drones, robots, hand-held)", "`SO2`", so2, "no")
        + (f"{poses(figures, 'photos-so2')}, within 10 degrees", beside(figures, "photos-so2")),
        ("scanned pages, signs, labels", "`C4`", "[`text-c4`](text.md)", "no")
        + (
            f"{text['page']['cer'][2]:.1%} of letters wrong on pages upside down, upright {text['page']['cer'][0]:.1%}",
            f"{reading_times(figures)} Tesseract",
        ),
        ("images with an up, of a kind of their own (X-rays, satellite tiles with shadows)", "`C4`, `D4`", own, "yes, minutes")
        + ("as your data allow: `fit` ends with it", beside(figures, "default network")),
        ("no up at all (microscopes, textures, flat lays)", "`C4`, `D4`")
        + ("`UniformCanonicalizer(group)` with `top_k` = the order of the group: it averages", "no", "that of the average")
        + ("as many passes as the group has elements",),
        (
            "you cannot fit, and have time",
            "`C4`",
            "`EnergyCanonicalizer(group, predictor)`: the pose that the predictor is surest of",
            "no",
        )
        + (
            f"EfficientNet-Lite0 {energy['mean']:.2f} top-1, upright {energy_upright(figures):.2f}",
            "one pass more for each element",
        ),
        ("the same object shown smaller than usual", "`Scale(0.35,1,5)`", "the default, then `fit`: [sizes](sizes.md)", "yes")
        + (smaller(figures), f"{figures('sizes')['cost']['ratio']:.1f}x a MobileNetV2"),
        ("pictures that are shifted, cyclically", "`Shift16`", "the default: [shifts](shifts.md)", "no")
        + (f"{shifted:.1%} of the answers change", "a few passes over the pixels"),
        ("point clouds, any rotation", "`SO3`, `O3`", "the default: [clouds](clouds.md), then `fit`", "yes, minutes")
        + (f"PointNet {clouds['search, frozen, 1 pose']['SO3']:.3f}, upright {clouds['bare']['upright']:.3f}",)
        + (f"{figures('pointclouds-cost')['over_dgcnn_32_clouds']['search']:.1%} of a DGCNN",),
        (
            "molecules, particles, robots' states",
            "`E3`, `SE3`",
            "`FrameCanonicalizer`, trained jointly: [graphs and forces](forces.md)",
        )
        + (
            "yes, with the model",
            f"error {nbody['adapted to E(3)']['test_mse'] / nbody['plain network']['test_mse']:.2f}x the plain model's",
        )
        + ("one small network",),
        ("CT, MR, stacks", "`O`, `Oh`", "the default, then `fit`: [volumes](volumes.md)", "yes, minutes")
        + (f"Dice {dice['mean']:.3f}, upright {volumes['dice']['bare']['upright']:.3f}", f"{dice['time']:.2f}x a small U-Net"),
    ]
    lines = [HEADS, (":--",) * len(HEADS), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def poses(figures: Figures, name: str) -> str:
    shares = [row["pose_accuracy"] for row in figures("ready")["files"][name]["sets"].values()]
    return f"pose right of {min(shares):.0%} to {max(shares):.0%} of photos"


def beside(figures: Figures, name: str) -> str:
    measured = figures("cost")["predictors"]
    return ", ".join(f"{measured[key]['batches']['1'][name]['ratio']:.2f}x {label}" for key, label in BESIDE.items())


def reading_times(figures: Figures) -> str:
    """The least and the most that reading pages, lines and signs took, over Tesseract's time."""
    measured = figures("text")["figures"]["adapted"]
    ratios = [measured[name]["time"] for name in ("page", "line", "sign")]
    return times((min(ratios), max(ratios)))


def times(ratios: Any) -> str:
    return " to ".join(f"{ratio:.2f}x" for ratio in ratios)


def energy_upright(figures: Figures) -> float:
    return figures("ready-models")["predictors"]["EfficientNet-Lite0"]["rows"]["bare"]["upright"]


def smaller(figures: Figures) -> str:
    row = figures("sizes")["black"]["by_size"]["0.5"]
    return f"MobileNetV2 at half the size {row['adapted']['top1']:.2f} top-1, bare {row['bare']['top1']:.2f}"
