"""Pose accuracy of the recipe of photos-c4 on kinds of photos it never saw: whole sources are left out, in turn.

    python benchmarks/sources.py --photos photos/ --backbone efficientnet-lite0.pth

`photos/` holds a folder for each source. Each fold fits the recipe (recipes/fit_photos.py) on the other sources, at a part of
the budget of the file that ships: single views, then whole orbits. What it finds on the sources left out is a lower bound of
what the shipped file would, had it not seen them: that one is fitted on all sources, and for longer.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import common
import ready
from equiform import saving

sys.path.insert(0, str(common.HERE.parent / "recipes"))
import fit_photos

# sources left out together, so that kin (COCO's two, ImageNet's classes) are never split
FOLDS = (
    ("sports22", "flickr8k_small", "imagenette_train", "coco_captions", "coco_vqa", "grocery", "houses"),
    ("bsds500", "caltech101", "ccp_street", "jetson", "labelmefacade", "pacs_photo", "scene15", "weather"),
)
STEPS = (
    ["--resolution", "96", "--epochs", "4", "--lr", "1.5e-3", "--batch-size", "48"],
    ["--resolution", "96", "--epochs", "1", "--lr", "3e-4", "--batch-size", "12", "--orbits"],
)
MOST = 120  # photos of a source that are measured


def fit_without(sources: tuple[str, ...], args: argparse.Namespace, folder: Path) -> Any:
    """The canonicalizer fitted on all other sources."""
    start = ["--backbone", str(args.backbone)]
    for step in STEPS:
        where = ["--name", "photos-c4", "--out", str(folder), "--threads", str(args.threads)]
        fit_photos.main([str(args.photos), *where, *step, *start, "--without", *sources])
        start = ["--start", str(folder)]
    return saving.restore(folder, fit_photos.read, None)[0]


def measured(canonicalizer: Any, folder: Path) -> dict[str, float]:
    photos = ready.pictures(folder, MOST)
    return {"photos": len(photos), **ready.over_quarter_turns(canonicalizer, photos)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=common.DATA / "data" / "photos")
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    present = {folder.name for folder in args.photos.iterdir() if folder.is_dir()}
    rows, minutes = {}, []
    for fold in FOLDS:
        sources = tuple(name for name in fold if name in present)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            canonicalizer = fit_without(sources, args, Path(folder) / "adapter")
        minutes.append(round((time.perf_counter() - start) / 60, 1))
        for name in sources:
            rows[name] = measured(canonicalizer, args.photos / name)
            print(name, rows[name], flush=True)
    num = sum(row["photos"] for row in rows.values())
    mean = sum(row["photos"] * row["pose_accuracy"] for row in rows.values()) / num
    print(f"pose accuracy on sources never seen: {mean:.3f} of {num} photos")
    figures = {"sources": rows, "photos": num, "pose_accuracy": mean, "minutes": minutes, "folds": FOLDS, "steps": STEPS}
    print("figures in", common.keep("sources", figures, args.out))


if __name__ == "__main__":
    main()
