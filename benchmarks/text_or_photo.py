"""Whether `text-c4` tells photos from text: of how many it is sure, at confidence 0.5 or more, and what the threshold is.

`SUSPECTED` of the tiles is chosen on photos and pages that are not those of the figures: photos of Imagenette's training part
and of a collection of sources, pages in font families of their own. It is the one at which as many photos are taken for text as
pages are lost. The figures are of COCO's photos, Imagenette's validation part, and pages in the families of
`benchmarks/text.py`, drawn by `recipes/render_text.py`: single words, signs and forms too, noisy, blurred, down to 9 pixels.

    python benchmarks/text_or_photo.py
"""

import argparse
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import common
import equiform
from equiform.canonicalizers import TileCanonicalizer
from equiform.canonicalizers.tiles import SEEN, SUSPECTED, evidence, pooled
from equiform.images.files import find_images, open_image, to_tensor
from text import rendered, scans

sys.path.insert(0, str(common.HERE.parent / "recipes"))

from render_text import LAYOUTS, TEST_FAMILIES, VALIDATION_FAMILIES, Fonts, found_fonts, of_families, picture

STEPS = [round(0.05 * i, 2) for i in range(13)]  # thresholds that are tried
REPORTED_ELSEWHERE = ("coco", "imagenette")  # sources of the collection that the figures are of


class Seen(NamedTuple):
    """What the canonicalizer makes of pictures: the scores of the tiles of each."""

    scores: list[Tensor]

    def shares(self, suspected: float = SUSPECTED) -> dict[str, float]:
        """The shares it is sure of, and it is sure of and right."""
        posteriors = torch.stack([(pooled(row[None])[0] * evidence(row, suspected)).softmax(-1) for row in self.scores])
        confidence, index = posteriors.max(1)
        sure = confidence >= SEEN
        right = sure & (index == 0)
        return {"number": len(sure)} | {
            n: round(float(v.double().mean()), 4) for n, v in {"sure": sure, "right": right}.items()
        }


@torch.no_grad()
def seen(canonicalizer: TileCanonicalizer, pictures: Iterable[Tensor]) -> Seen:
    return Seen([canonicalizer.tile_scores(canonicalizer.view([image]))[0] for image in pictures])


def photos(folder: Path, number: int | None, seed: int) -> Iterable[Tensor]:
    files = find_images(folder)
    chosen = files if number is None else random.Random(seed).sample(files, min(number, len(files)))
    return (to_tensor(open_image(file)) for file in chosen)


def pages(fonts: Fonts, number: int, seed: int) -> dict[str, Iterable[Tensor]]:
    """By layout, so many pictures of each."""
    return {
        layout: (to_tensor(picture(rng, fonts, layout)) for _ in range(number))
        for i, layout in enumerate(LAYOUTS)
        for rng in [random.Random(1000 * seed + i)]
    }


def chosen(of_photos: Seen, of_pages: Seen) -> tuple[float, list[dict[str, float]]]:
    """The threshold at which the share of photos taken for text is closest to that of pages that are lost; all of them.

    A page is lost that is found where nothing is asked of its tiles.
    """
    found = of_pages.shares(-1e6)["right"]
    curve = [
        {"suspected": s, "photos": of_photos.shares(s)["sure"], "lost": round(1 - of_pages.shares(s)["right"] / found, 4)}
        for s in STEPS
    ]
    return min(curve, key=lambda row: abs(row["photos"] - row["lost"]))["suspected"], curve


def table(kept: dict[str, Any]) -> str:
    """A row for every set: how many pictures, and of how many it is sure."""
    lines = ["| pictures | number | confidence 0.5 or more | and the right pose |", "| --- | --- | --- | --- |"]
    for name, row in kept["figures"].items():
        lines.append(f"| {name} | {row['number']} | {row['sure']:.3f} | {row['right']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pages", type=int, default=40, help="pictures of each layout")
    parser.add_argument("--photos", type=int, default=200, help="photos to choose on, of Imagenette and of the other sources")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fonts = [of_families(found_fonts(), names) for names in (VALIDATION_FAMILIES, TEST_FAMILIES)]
    if not all(fonts):
        sys.exit("no fonts to choose with, or none to report: apt-get install fonts-lato fonts-liberation, and others")
    canonicalizer: Any = equiform.load("text-c4", lambda photos: []).canonicalizer
    data = common.shared("data")
    sources = [path for path in sorted((data / "photos").iterdir()) if not path.name.startswith(REPORTED_ELSEWHERE)]
    to_choose = [photos(data / "imagenette" / "train", args.photos, args.seed)]
    to_choose += [photos(path, -(-args.photos // len(sources)), args.seed) for path in sources]
    of_photos = Seen([row for some in to_choose for row in seen(canonicalizer, some).scores])
    drawn = pages(fonts[0], args.pages, args.seed + 1).values()
    of_pages = Seen([row for some in drawn for row in seen(canonicalizer, some).scores])
    suspected, curve = chosen(of_photos, of_pages)
    print(
        f"chosen on {len(of_photos.scores)} photos and {len(of_pages.scores)} pages: {suspected}; the package has {SUSPECTED}"
    )
    sets: dict[str, Iterable[Tensor]] = {
        "photos: COCO": photos(data / "coco128" / "images", None, 0),
        "photos: Imagenette": photos(data / "imagenette" / "val", None, 0),
    }
    sets |= {f"drawn: {layout}": some for layout, some in pages(fonts[1], args.pages, args.seed + 2).items()}
    sets["the pages above"] = (page.image for page in [*rendered(fonts[1], args.seed), *scans()])
    figures = {name: seen(canonicalizer, some).shares() for name, some in sets.items()}
    kept = {
        "chosen": {"suspected": suspected, "photos": len(of_photos.scores), "pages": len(of_pages.scores), "curve": curve},
        "families": [sorted(some) for some in fonts],
        "figures": figures,
        "equiform": equiform.__version__,
    }
    print(table(kept))
    print("figures in", common.keep("text_or_photo", kept, args.out))


if __name__ == "__main__":
    main()
