"""`equiform upright` on a folder of 2,000 photos, as a user would run it: photos a second, left alone, wrong.

    python benchmarks/upright.py                                 # the photos beside the project
    python benchmarks/upright.py --photos holiday/ --num 500     # a folder of upright photos of your own

One photo in twenty is turned first: two in five of them by 90, two in five by 270, one in five by 180 degrees. Photos that the
ready-made canonicalizer was fitted on fill the folder up and count for the rate alone; the poses counted are those of photos it
was not fitted on.
"""

import argparse
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from PIL import Image

import common
from equiform.images.files import find_images

ASIDE = 25  # of the photos fitted on, one in so many was kept aside: see recipes/fit_photos.py
NEVER_SEEN = ("data/imagenette/val", "data/coco128/images")
SHARE_TURNED = 0.05
TURNS = {90: 0.4, 270: 0.4, 180: 0.2}
RUNS = {"default": [], "careful": ["--prior", "0.95", "--at-least", "0.97"]}


def photos_beside(num: int) -> tuple[list[Path], set[Path]]:
    """So many photos, and those of them that were never fitted on."""
    fitted = find_images(common.shared("data/photos"))
    aside = fitted[7::ASIDE]
    new = [path for folder in NEVER_SEEN for path in find_images(common.shared(folder))] + aside
    rest = sorted(set(fitted) - set(aside))
    random.Random(0).shuffle(rest)
    return (new + rest)[:num], set(new)


def laid_out(photos: list[Path], folder: Path, seed: int) -> dict[str, int]:
    """Copies of the photos in one folder, a few of them turned: by name, by how many degrees."""
    rng = random.Random(seed)
    turned = {}
    for i, path in enumerate(photos):
        name = f"{i:05d}{path.suffix}"
        turned[name] = rng.choices(list(TURNS), list(TURNS.values()))[0] if rng.random() < SHARE_TURNED else 0
        if turned[name]:
            with Image.open(path) as image:
                image.convert("RGB").rotate(turned[name], expand=True).save(folder / name, quality=95)
        else:
            shutil.copyfile(path, folder / name)
    return turned


def run(folder: Path, out: Path, options: list[str]) -> tuple[list[dict[str, str]], float]:
    """The table of the command, and the seconds it took."""
    command = [sys.executable, "-m", "equiform", "upright", str(folder), "--out", str(out), *options]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):  # 1: some could not be read
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    with (out / "poses.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file)), seconds


def counted(table: list[dict[str, str]], turned: dict[str, int], counts: set[str]) -> dict[str, int]:
    """What became of the photos that count."""
    found: Counter[str] = Counter()
    for row in table:
        name = Path(row["file"]).name
        if name not in counts:
            continue
        true, undone = turned[name], round(float(row["angle"])) if row["done"] == "turned" else 0
        state = "turned" if true else "upright"
        found[f"{state} before"] += 1
        found["left alone"] += row["done"] == "left alone"
        right = (true - undone) % 360 == 0
        found["wrong after"] += not right
        found["turned and put right"] += bool(true) and right
        found["upright and turned"] += not true and not right
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of upright photos, all of which count")
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.photos:
        photos = find_images(args.photos)[: args.num]
        new = set(photos)
    else:
        photos, new = photos_beside(args.num)
    figures = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        folder.mkdir()
        turned = laid_out(photos, folder, args.seed)
        counts = {name for name, path in zip(turned, photos, strict=True) if path in new}
        for name, options in RUNS.items():
            table, seconds = run(folder, Path(place) / name, options)
            figures[name] = {"options": options, "photos_a_second": round(len(photos) / seconds, 1)}
            figures[name] |= counted(table, turned, counts)
            print(name, figures[name], flush=True)
    figures = {"photos": len(photos), "counted": len(counts), "runs": figures}
    print("figures in", common.keep("upright", figures, args.out))


if __name__ == "__main__":
    main()
