"""Fit the canonicalizer of `equiform.load("text-c4", reader)` on rendered text, with every font found on this machine.

    python recipes/fit_text.py --out text-c4/

The more font families, the better: on Debian, `apt-get install 'fonts-*'` of a few dozen Latin ones. Families held out for the
benchmark and for the check at the end are not trained on. Says which families it used, in fit.json.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import equiform
from equiform.canonicalizers import TileCanonicalizer
from equiform.images.files import to_tensor
from equiform.images.tiles import tile_squares
from equiform.learning import Augmentation
from equiform.learning.pixel_objective import KEPT
from read_text import read
from render_text import LAYOUTS, TEST_FAMILIES, VALIDATION_FAMILIES, Fonts, found_fonts, of_families, picture

OUTPUTS = [{"text": "invariant", "words": "invariant", "boxes": "boxes"}]
SHARES = {"word": 4, "line": 4, "sign": 3, "page": 1, "form": 2, "digits": 2}  # the less text, the harder
TILES_A_PICTURE = 12
CARD = {
    "made_for": "text of the Latin script in any quarter turn: scans, signs, screens; photos in which there is none are told "
    "by a confidence near chance (take photos-c4 for those)",
    "recipe": "recipes/fit_text.py on rendered text; the figures of the fit are in fit.json",
    "licence": "Apache-2.0 (weights)",
    "limits": "Handwriting, other scripts, text along a curve: not fitted for them. Pictures without text get a confidence "
    "near chance, but for a few in a hundred (benchmarks/text_or_photo.py).",
}
AUGMENTATION = Augmentation(area=(0.4, 1.0), aspect=1.25, degrees=3.0, flip=False, grey=0.0, mix=0.0, gamma=1.3)


def training_tiles(fonts: Fonts, num_pictures: int, side: int, seed: int) -> Tensor:
    """Upright tiles of random pictures, uint8 (n, 1, side, side)."""
    rng = random.Random(seed)
    layouts = rng.choices(list(SHARES), list(SHARES.values()), k=num_pictures)
    tiles = [tile_squares([to_tensor(picture(rng, fonts, layout))], side, TILES_A_PICTURE) for layout in layouts]
    return torch.cat(tiles)


@torch.no_grad()
def pose_accuracy(canonicalizer: TileCanonicalizer, fonts: Fonts, num_pictures: int, seed: int) -> dict[str, float]:
    """The share of whole pictures that are taken for upright, for every layout (of an orbit, all answers follow from one)."""
    rng = random.Random(seed)
    accuracy = {}
    for layout in LAYOUTS:
        pictures = [to_tensor(picture(rng, fonts, layout)) for _ in range(num_pictures)]
        accuracy[layout] = float((canonicalizer(pictures).index == 0).float().mean())
    return accuracy


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--start", type=Path, help="go on from this adapter, instead of random weights")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--check-pictures", type=int, default=50, help="pictures of each layout in the check at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiles", type=Path, help="keep the training tiles in this file; one that is there is used")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    args = arguments(given)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    found = found_fonts()
    fonts = of_families(found, TEST_FAMILIES + VALIDATION_FAMILIES, other=True)
    canonicalizer = equiform.load(args.start, read).canonicalizer if args.start else TileCanonicalizer("C4")
    side = round(KEPT * canonicalizer.resolution)
    if args.tiles and args.tiles.exists():
        tiles = torch.load(args.tiles, weights_only=True)
    else:
        tiles = training_tiles(fonts, args.pictures, side, args.seed)
        if args.tiles:
            torch.save(tiles, args.tiles)
    print(f"{len(tiles):,} tiles in {len(fonts)} font families after {time.perf_counter() - start:.0f} s", flush=True)

    model = equiform.adapt(read, "C4", outputs=OUTPUTS, canonicalizer=canonicalizer)
    options = {"epochs": args.epochs, "lr": args.lr, "batch_size": args.batch_size, "seed": args.seed}
    history = equiform.fit(model, tiles, augmentation=AUGMENTATION, **options).history
    earlier = json.loads((args.start / "fit.json").read_text()) if args.start else None
    checked = of_families(found, VALIDATION_FAMILIES) or fonts
    accuracy = pose_accuracy(canonicalizer, checked, args.check_pictures, args.seed + 1)
    canonicalizer.card = {"pictures": args.pictures + (earlier["pictures"] if earlier else 0), **CARD}
    model.save(args.out)
    figures = {
        **options,
        "pictures": args.pictures,
        "tiles": len(tiles),
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "losses": [round(epoch["loss"], 4) for epoch in history],
        "pose_accuracy": accuracy,
        "went_on_from": earlier,
        "families": sorted(fonts),
        "families_of_the_check": sorted(checked),
    }
    (args.out / "fit.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({name: figures[name] for name in ("minutes", "losses", "pose_accuracy")}, indent=1))


if __name__ == "__main__":
    main()
