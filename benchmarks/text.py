"""Character error rate of Tesseract on turned pages: bare, adapted, and with its own orientation detection (--psm 1).

Pages are rendered here, in font families and with texts that the ready-made canonicalizer was not fitted on; the scans are
scikit-image's `page` (print) and `text` (handwritten formulas, of which Tesseract reads nothing in any pose: its errors are the
characters that it makes up). The three are timed in turn on every turned page; time is relative to the bare reader's.

    python benchmarks/text.py
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor
from torchmetrics.functional.text import char_error_rate

import common
import equiform
from equiform import act
from equiform.images.files import to_tensor

sys.path.insert(0, str(common.HERE.parent / "recipes"))

from read_text import read
from render_text import TEST_FAMILIES, Fonts, found_fonts, of_families

PASSAGES = [
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing "
    "particular to interest me on shore, I thought I would sail about a little and see the watery part of the world.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. "
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so "
    "well fixed in the minds of the surrounding families, that he is considered the rightful property of their daughters.",
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice "
    "she had peeped into the book her sister was reading, but it had no pictures or conversations in it, and what is the use "
    "of a book, thought Alice, without pictures or conversations?",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was the "
    "epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Darkness.",
    "Mr. Sherlock Holmes, who was usually very late in the mornings, save upon those not infrequent occasions when he stayed "
    "up all night, was seated at the breakfast table. I stood upon the hearth-rug and picked up the stick which our visitor "
    "had left behind him the night before.",
    "Four score and seven years ago our fathers brought forth upon this continent a new nation, conceived in liberty and "
    "dedicated to the proposition that all men are created equal.",
    "The Time Traveller, for so it will be convenient to speak of him, was expounding a recondite matter to us. His pale grey "
    "eyes shone and twinkled, and his usually pale face was flushed and animated.",
]
SIGNS = [
    ["BRIDGE AHEAD"],
    ["TICKETS", "SOLD HERE"],
    ["Fragile", "Handle with care"],
    ["DETOUR"],
    ["ROAD WORK", "NEXT 3 MILES"],
    ["Visitors must report", "to reception"],
    ["BICYCLES", "PROHIBITED"],
    ["Fresh Strawberries", "2.40 a punnet"],
    ["LIFEBOAT STATION"],
    ["Quiet Coach"],
    ["SHALLOW WATER", "NO DIVING"],
    ["Baggage Reclaim"],
    ["ANTIQUES", "bought and sold"],
    ["DEPARTURES"],
]
GREYS = [(0, 255), (0, 255), (40, 215), (20, 240), (245, 30)]  # ink and paper
METHODS = ("bare", "adapted", "psm 1")
SCAN = (
    "Region-based segmentation Let us first determine markers of the coins and the background. These markers are pixels that "
    "we can label unambiguously as either object or background. Here, the markers are found at the two extreme parts of the "
    "histogram of grey values: >>> markers = np.zeros_like(coins)"
)


class Page(NamedTuple):
    """A picture and what it says."""

    layout: str
    image: Tensor
    text: str


def rendered(fonts: Fonts, seed: int) -> list[Page]:
    """Lines, signs and full pages, in turn in every family; every other one with noise and a slight blur."""
    rng = random.Random(seed)
    sentences = [part.strip() + "." for passage in PASSAGES for part in passage.split(".") if len(part) > 30]
    lines = [[" ".join(sentence.split()[: rng.randint(5, 10)])] for sentence in sentences]
    families = sorted(fonts)
    wanted = {"line": (lines + [[line[0].upper()] for line in lines])[:16], "sign": SIGNS, "page": [[p] for p in 2 * PASSAGES]}
    pages = []
    for layout, texts in wanted.items():
        for i, text in enumerate(texts):
            path = rng.choice(_upright_files(fonts[families[(i + len(pages)) % len(families)]]))
            size = rng.randint(18, 34) if layout != "sign" else rng.randint(36, 90)
            font = ImageFont.truetype(path, size)
            drawn = _wrapped(text[0], font, size * rng.randint(18, 30)) if layout == "page" else text
            pages.append(Page(layout, to_tensor(_drawn(drawn, font, rng, degraded=i % 2 == 1)), " ".join(text)))
    return pages


def _upright_files(files: list[str]) -> list[str]:
    """Regular and bold faces: neither hairlines nor slanted letters, which are another test."""
    plain = [path for path in files if not any(word in path for word in ("Italic", "Oblique", "Light", "Thin", "Hairline"))]
    return plain or files


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _drawn(lines: list[str], font: ImageFont.FreeTypeFont, rng: random.Random, *, degraded: bool) -> Image.Image:
    ink, paper = rng.choice(GREYS)
    margin = round(font.size * rng.uniform(0.6, 2.5))
    width = round(max(font.getlength(line) for line in lines)) + 2 * margin
    image = Image.new("L", (width, round(1.4 * font.size * len(lines)) + 2 * margin), paper)
    for i, line in enumerate(lines):
        ImageDraw.Draw(image).text((margin, margin + 1.4 * font.size * i), line, fill=ink, font=font)
    if not degraded:
        return image
    image = image.filter(ImageFilter.GaussianBlur(0.6))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 12, image.size[::-1])
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def scans() -> list[Page]:
    """The two photos of paper that come with scikit-image; the handwritten one counts as empty."""
    try:
        from skimage import data
    except ModuleNotFoundError:
        sys.exit("scikit-image is needed here: pip install 'equiform[dev]'")
    page, text = (to_tensor(Image.fromarray(np.asarray(image))) for image in (data.page(), data.text()))
    return [Page("scan", page, SCAN), Page("handwriting", text, "")]


class Tally:
    """Per method: errors and characters by layout and angle, seconds by page, and of the adapted one the right poses."""

    def __init__(self, methods: dict[str, Callable[[Tensor], str]]):
        self.methods = methods
        self.errors: dict[str, dict[str, list[list[float]]]] = {name: {} for name in methods}
        self.ratios: dict[str, dict[str, list[float]]] = {name: {} for name in methods}

    def add(self, page: Page) -> None:
        seconds: dict[str, list[float]] = {name: [] for name in self.methods}
        for turns, g in enumerate(equiform.group("C4").elements.split(1)):
            photo = act(g, page.image[None])[0]
            for name, method in self.methods.items():
                start = time.perf_counter()
                said = " ".join(method(photo).split())
                seconds[name].append(time.perf_counter() - start)
                rows = self.errors[name].setdefault(page.layout, [[] for _ in range(4)])
                rows[turns].append(_errors(said, page.text))
        for name in self.methods:
            self.ratios[name].setdefault(page.layout, []).append(sum(seconds[name]) / sum(seconds["bare"]))

    def figures(self, pages: list[Page]) -> dict[str, Any]:
        """Character error rates by layout and angle, over all their characters, and median relative times."""
        layouts = list(dict.fromkeys(page.layout for page in pages))
        characters = {layout: sum(len(page.text) for page in pages if page.layout == layout) or 1 for layout in layouts}
        return {
            name: {
                layout: {
                    "cer": [round(sum(errors) / characters[layout], 4) for errors in self.errors[name][layout]],
                    "time": round(statistics.median(self.ratios[name][layout]), 2),
                }
                for layout in layouts
            }
            for name in self.methods
        }


def _errors(said: str, truth: str) -> float:
    """The edits between two texts; of a page that says nothing, the characters read."""
    return float(char_error_rate([said], [truth])) * len(truth) if truth else float(len(said))


def table(kept: dict[str, Any]) -> str:
    """A row for every layout and method: the rate at 0, 90, 180, 270 degrees, and the time."""
    lines = ["| pages | reader | 0° | 90° | 180° | 270° | time |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for layout, count in kept["pages"].items():
        for name in METHODS:
            row = kept["figures"][name][layout]
            rates = " | ".join(f"{rate:.3f}" for rate in row["cer"])
            lines.append(f"| {f'{count} {layout}' if name == 'bare' else ''} | {name} | {rates} | {row['time']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fonts = of_families(found_fonts(), TEST_FAMILIES)
    if not fonts:
        sys.exit(
            f"none of the held-out font families is installed: {', '.join(TEST_FAMILIES)} (apt-get install fonts-liberation)"
        )
    pages = [*rendered(fonts, args.seed), *scans()]
    model = equiform.load("text-c4", read)
    tally = Tally(
        {
            "bare": lambda photo: read([photo])[0]["text"],
            "adapted": lambda photo: model([photo])[0]["text"],
            "psm 1": lambda photo: read([photo], psm=1)[0]["text"],
        }
    )
    with torch.no_grad():
        tally.methods["adapted"](pages[0].image)  # warms up
        for page in pages:
            tally.add(page)
        right = [float(model.canonicalizer([page.image]).index == 0) for page in pages]
    counts = {layout: sum(page.layout == layout for page in pages) for layout in dict.fromkeys(page.layout for page in pages)}
    wrong = [f"{page.layout}: {page.text[:40]}" for page, ok in zip(pages, right, strict=True) if not ok]
    kept = {"pages": counts, "families": sorted(fonts), "figures": tally.figures(pages), "poses_wrong": wrong}
    print(table(kept))
    print(f"poses found: {len(pages) - len(wrong)} of {len(pages)}", *wrong, sep="\n")
    print("figures in", common.keep("text", kept | {"equiform": equiform.__version__}, args.out))


if __name__ == "__main__":
    main()
