"""The short tables of the README's first screen, from the committed figures: four rows, the cost, what is gained."""

from collections.abc import Callable
from typing import Any

from choosing import reading_times

Figures = Callable[[str], Any]  # from the name of a JSON under results/ to what it holds

LITE0, ANY_ANGLE = "EfficientNet-Lite0", "efficientnet-lite0"
FRAME, CLASSES = "crop", "of 1000 classes"
# the row as it is called here: in quarter turns, at all angles
ROWS = {
    "bare": ("bare", "bare"),
    "orbit averaging": ("orbit averaging", "orbit averaging"),
    "training-free": ("training-free", "training-free"),
    "**Equiform**": ("photos-c4, coverage 0.9", "SO(2), coverage 0.9"),
}
PREDICTORS = {"EfficientNet-Lite0": LITE0, "ResNet-50": "ResNet-50", "ViT-B": "ViT-B/16", "SAM ViT-B": "SAM ViT-B, encoder"}


def with_interval(row: dict[str, Any]) -> str:
    low, high = row["mean_interval"]
    return f"{row['mean']:.3f} ({low:.2f} to {high:.2f})"


def all_angles(figures: Figures) -> dict[str, Any]:
    return figures("angles")["classifiers"][ANY_ANGLE]["frames"][FRAME][CLASSES]


def words(figures: Figures) -> str:
    """One sentence: what both say of the temple of the picture, in all its turns."""
    bare, adapted = ([name for name, _ in figures("pictures")["turns"]["temple"][model]] for model in ("bare", "adapted"))
    said = f"says {adapted[0]} four times" if len({*adapted}) == 1 else f"{', '.join(adapted)}"
    return (
        f"Shown the temple in all four turns, `net` says {', '.join(bare)}; `model` {said}\n"
        "([the lines that show it](docs/index.md#the-first-five-minutes))."
    )


def rows(figures: Figures) -> str:
    """Markdown: bare, the two classical remedies and Equiform, in quarter turns and at all angles."""
    measured = figures("ready-models")["predictors"][LITE0]
    turned, angles = measured["rows"], figures("angles")
    around = all_angles(figures)
    lines = [
        f"| {LITE0}, top-1, nothing fitted | quarter turns, {measured['photos']} photos | passes | "
        f"{len(angles['angles'])} angles, {angles['photos']} photos |",
        "| :-- | --: | --: | --: |",
    ]
    for label, (quarter, any_angle) in ROWS.items():
        row, at_all = turned[quarter], with_interval(around[any_angle])
        lines.append(f"| {label} | {with_interval(row)} | {row['passes']:.1f} | {at_all} |")
    return "\n".join(lines)


def costs(figures: Figures) -> str:
    """One line: the time of one photo over the bare predictor's, the small predictors first."""
    of = figures("cost")["predictors"]
    parts = []
    for name in ("photos-c4", "photos-c4-small"):
        times = [f"{of[key]['batches']['1'][name]['ratio']:.2f}x {label}" for label, key in PREDICTORS.items()]
        parts.append(f"`{name}` {', '.join(times)}")
    return f"The time of one photo, times the bare predictor's: {'; '.join(parts)}."


def gains(figures: Figures) -> str:
    """Markdown: problem, what to call, what it costs, what it gained in our measurements."""
    ready, text, volumes = figures("ready-models")["predictors"], figures("text")["figures"], figures("volumes")["O"]
    cloud, nbody, upright = figures("pointclouds")["accuracy"], figures("nbody")["rows"], figures("upright")
    careful, around = upright["runs"]["careful"], all_angles(figures)

    def gained(name: str, adapted: str) -> str:
        found = ready[name]["rows"]
        shown = f"{found['bare']['mean']:.3f} → {found[adapted]['mean']:.3f}"
        return f"{name}, {ready[name]['metric']}: {shown} ({ready[name]['photos']} photos)"

    def passes(name: str, row: str) -> str:
        return f"{ready[name]['rows'][row]['passes']:.1f} passes"

    times = figures("cost")["predictors"][PREDICTORS["ViT-B"]]["batches"]["1"]["photos-c4"]["ratio"]
    vit, sure = f"{times:.1f}x a ViT-B's time", "photos-c4, coverage 0.9"
    any_angle = f"{around['bare']['mean']:.3f} → {around['SO(2), coverage 0.9']['mean']:.3f}"
    put_right = f"{careful['turned before']} → {careful['wrong after']}, {careful['upright and turned']} turned wrongly"
    letters = [text[reader]["page"]["cer"][2] for reader in ("bare", "adapted")]
    dice = " → ".join(f"{volumes['dice'][model]['mean']:.3f}" for model in ("bare", "adapted"))
    errors = " → ".join(f"{nbody[model]['test_mse']:.4f}" for model in ("plain network", "adapted to E(3)"))
    clouds = f"{cloud['bare']['SO3']:.3f} → {cloud['search, frozen, 1 pose']['SO3']:.3f}"
    rows = [
        ("problem", "what to call", "what it costs", "what it gains here"),
        (":--", ":--", ":--", ":--"),
        (
            "photos on their side: classify",
            '`adapt(net, "C4", coverage=0.9)`',
            f"{vit} and one pass; {LITE0} took {passes(LITE0, sure)}",
            gained(LITE0, sure),
        ),
        (
            "the same: segment, detect",
            '`adapt(net, "C4")`',
            f"one pass; {vit}",
            f"{gained('DeepLabV3', 'photos-c4')}; {gained('FastestDet', 'photos-c4')}",
        ),
        (
            "drones, robots: any angle",
            '`adapt(net, "SO2", canonicalizer="photos-so2", coverage=0.9, inputs=geometry.Image("bicubic", border="reflect"))`',
            "as `photos-c4`",
            f"{LITE0}, top-1 of {figures('angles')['photos']} photos at {len(figures('angles')['angles'])} angles: {any_angle}",
        ),
        (
            "a photo library, most of it upright",
            f"`equiform upright {' '.join(careful['options'])}`",
            "no predictor runs",
            f"wrong photos of {upright['counted']:,}: {put_right}, {careful['left alone']} left alone",
        ),
        (
            "text on its side",
            '`load("text-c4", reader)`',
            f"{reading_times(figures)} Tesseract's time",
            f"wrong letters of {figures('text')['pages']['page']} pages, upside down: {letters[0]:.1%} → {letters[1]:.1%}",
        ),
        (
            "microscopes, textures: no up",
            '`UniformCanonicalizer("D4")`, `top_k=8`',
            "8 passes",
            "not measured here; `diagnose` says whether it is your case",
        ),
        (
            "volumes: CT, MR, stacks",
            '`adapt(net, "O", inputs="volume", outputs=...)`, `fit`',
            f"{volumes['dice']['adapted']['time']:.2f}x the time",
            f"a U-Net, Dice, {volumes['test']} synthetic bodies: {dice}",
        ),
        (
            "point clouds, any rotation",
            '`adapt(net, "SO3", outputs=...)`, `fit`',
            f"{figures('pointclouds-cost')['over_dgcnn_32_clouds']['search']:.1%} of a DGCNN's time",
            f"PointNet, accuracy: {clouds} (150 clouds, 3 draws)",
        ),
        (
            "molecules, particles",
            '`adapt(net, "E3", inputs=..., outputs="points")`, `fit(task_loss=...)`',
            "trained with the model",
            f"charged particles, test error: {errors} (2,000 systems; lower is better)",
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
