"""Pictures of text, drawn at random: fonts, sizes, layouts, paper, photo-like backgrounds, noise, blur, JPEG, a slight skew."""

import functools
import io
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from matplotlib.font_manager import findSystemFonts
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import words

# families of the benchmark's pages and of the pages on which a fit is checked; none of either is trained on
TEST_FAMILIES = ("Liberation", "Open Sans", "Carlito", "EB Garamond", "Inconsolata", "League Spartan", "Courier Prime", "Cabin")
VALIDATION_FAMILIES = ("Lato", "Gentium", "PT Sans", "PT Serif", "Hack", "Roboto Slab", "Caladea", "Dosis")
NEEDED = "AZaz09éüñ,.-"
SYMBOLS = ("Symbols", "D050000L", "Last Resort", "Math", "Initials", "Keyboard", "Outline")

Fonts = dict[str, list[str]]
Draw = Callable[[random.Random, ImageFont.FreeTypeFont], list[str]]


def found_fonts() -> Fonts:
    """The font files of every family found on this machine (and shipped with matplotlib) that has the Latin letters."""
    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    families: Fonts = {}
    for path in sorted({*findSystemFonts(), *map(str, own.glob("*.ttf"))}):
        family = _family(path)
        if family is not None:
            families.setdefault(family, []).append(path)
    return families


def _family(path: str) -> str | None:
    try:
        name = ImageFont.truetype(path, 12).getname()[0] or ""
        with TTFont(path, fontNumber=0, lazy=True) as font:
            letters = font.getBestCmap() or {}
    except Exception:  # a font that cannot be read is left out, whatever is wrong with it
        return None
    return name if all(ord(c) in letters for c in NEEDED) and not any(word in name for word in SYMBOLS) else None


def of_families(fonts: Fonts, names: Iterable[str], *, other: bool = False) -> Fonts:
    """The families whose name begins with one of `names`; with `other`, those whose name does not."""
    return {family: files for family, files in fonts.items() if family.startswith(tuple(names)) != other}


@functools.lru_cache(maxsize=512)
def font_of(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


# ------------------------------------------------------------------------------------------------------------- texts


def some_words(rng: random.Random, count: int) -> str:
    """Words of one language, as a sentence would have them: a capital, a stop, here and there a comma or a number."""
    known = words.LANGUAGES[rng.choice(["english", *words.LANGUAGES])].split()
    chosen = [number(rng) if rng.random() < 0.04 else rng.choice(known) for _ in range(count)]
    chosen = [word + "," if rng.random() < 0.06 else word for word in chosen]
    text = " ".join(chosen)
    return text[0].upper() + text[1:] + rng.choice(["", ".", ".", ":", "?"])


def number(rng: random.Random) -> str:
    """A price, a date, a time, a telephone number, a count, a code."""
    digits = "".join(rng.choices("0123456789", k=rng.randint(2, 9)))
    return rng.choice(
        [
            digits,
            f"{rng.choice('€$£')}{rng.randint(0, 999)}.{rng.randint(0, 99):02d}",
            f"{rng.randint(0, 99)},{rng.randint(0, 99):02d} €",
            f"{rng.randint(1, 31):02d}/{rng.randint(1, 12):02d}/{rng.randint(1950, 2039)}",
            f"{rng.randint(1950, 2039)}-{rng.randint(1, 12):02d}-{rng.randint(1, 31):02d}",
            f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}",
            f"+{rng.randint(1, 99)} {rng.randint(100, 999)} {rng.randint(1000, 9999)}",
            "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3))) + f"-{digits[:4]}",
        ]
    )


def phrase(rng: random.Random, count: int) -> str:
    """A line to put on a page: words, a sign, a number; often in capitals."""
    roll = rng.random()
    if roll < 0.2:
        return " ".join(number(rng) for _ in range(max(1, count // 3)))
    if roll < 0.4:
        return rng.choice(words.phrases(words.SIGNS))
    text = some_words(rng, count)
    return text.upper() if rng.random() < 0.4 else text


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The lines of a text that is `width` pixels wide."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


# ------------------------------------------------------------------------------------------- layouts: lists of lines


def word_lines(rng: random.Random, font: ImageFont.FreeTypeFont) -> list[str]:
    return [phrase(rng, rng.randint(1, 3))]


def one_line(rng: random.Random, font: ImageFont.FreeTypeFont) -> list[str]:
    return [phrase(rng, rng.randint(4, 12))]


def sign_lines(rng: random.Random, font: ImageFont.FreeTypeFont) -> list[str]:
    return [phrase(rng, rng.randint(1, 4)) for _ in range(rng.randint(2, 5))]


def paragraph_lines(rng: random.Random, font: ImageFont.FreeTypeFont) -> list[str]:
    width = font.size * rng.uniform(9, 30)
    return [line for _ in range(rng.randint(1, 3)) for line in wrapped(some_words(rng, rng.randint(10, 60)), font, width)]


def form_lines(rng: random.Random, font: ImageFont.FreeTypeFont) -> list[str]:
    rows = []
    for _ in range(rng.randint(4, 14)):
        field = rng.choice(words.phrases(words.FIELDS + "|" + words.GOODS))
        value = number(rng) if rng.random() < 0.6 else some_words(rng, rng.randint(1, 3))
        value = value if rng.random() < 0.8 else "_" * rng.randint(5, 20)
        rows.append(f"{field}{rng.choice([':', ' ', '   ', ' ..... '])} {value}")
    return [row.upper() for row in rows] if rng.random() < 0.3 else rows


def table_lines(rng: random.Random, font: ImageFont.FreeTypeFont) -> list[str]:
    count = rng.randint(2, 4)
    return ["   ".join(number(rng) for _ in range(count)) for _ in range(rng.randint(2, 12))]


LAYOUTS: dict[str, Draw] = {
    "word": word_lines,
    "line": one_line,
    "sign": sign_lines,
    "page": paragraph_lines,
    "form": form_lines,
    "digits": table_lines,
}


# ----------------------------------------------------------------------------------------------------------- drawing


def picture(rng: random.Random, fonts: Fonts, layout: str, *, size: float | None = None, plain: bool = False) -> Image.Image:
    """A picture of text in a random font of `fonts`, `size` pixels high; `plain`: clean dark text on light paper."""
    size = size or math.exp(rng.uniform(math.log(9), math.log(52)))
    font = font_of(rng.choice(fonts[rng.choice(sorted(fonts))]), max(7, round(size)))
    blocks = [LAYOUTS[layout](rng, font) for _ in range(rng.choice([1, 1, 2]) if layout in ("page", "form") else 1)]
    ink = _ink(rng, font, blocks)
    if not plain and rng.random() < 0.5:
        ink = ink.rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC, expand=True)
    return photographed(rng, ink) if not plain else Image.eval(ink, lambda v: 255 - v).convert("RGB")


def _ink(rng: random.Random, font: ImageFont.FreeTypeFont, blocks: list[list[str]]) -> Image.Image:
    """How much ink lies where: blocks of lines side by side, with margins."""
    pitch = font.size * rng.uniform(1.05, 1.7)
    gap = font.size * 2
    widths = [max(font.getlength(line) for line in block) for block in blocks]
    margin = font.size * rng.choice([0.3, 0.6, 1, 1, 2, 4])
    width = min(2400, round(sum(widths) + gap * (len(blocks) - 1) + 2 * margin))
    height = min(2400, round(max(map(len, blocks)) * pitch + 2 * margin))
    ink = Image.new("L", (width, height))
    draw, x, centred = ImageDraw.Draw(ink), margin, rng.random() < 0.3
    for block, block_width in zip(blocks, widths, strict=True):
        for i, line in enumerate(block):
            indent = (block_width - font.getlength(line)) / 2 if centred else 0
            draw.text((x + indent, margin + i * pitch), line, fill=255, font=font)
        x += block_width + gap
    if rng.random() < 0.12:  # a frame, as signs, forms and tables have it
        draw.rectangle((2, 2, width - 3, height - 3), outline=255, width=max(1, round(font.size / 12)))
    return ink


def photographed(rng: random.Random, ink: Image.Image) -> Image.Image:
    """The ink on a background, with colours of its own, blurred, noisy, compressed."""
    if rng.random() < 0.25:
        ink = _with_margin(rng, ink)
    light, dark = _tones(rng)
    paper = _background(rng, ink.size, light)
    share = np.asarray(ink, np.float32)[..., None] / 255
    if rng.random() < 0.3:  # light on dark
        paper, dark = 255 - paper, 255 - dark
    x = paper * (1 - share) + dark * share
    if rng.random() < 0.3:
        x = x * _field(rng, ink.size, rng.uniform(0.5, 0.95), 1)[..., None]
    image = Image.fromarray(x.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.4)))
    if rng.random() < 0.35:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(
            0, rng.uniform(2, 28), (*image.size[::-1], rng.choice([1, 3]))
        )
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.35:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(12, 85))
        image = Image.open(file).convert("RGB")
    return image


def _with_margin(rng: random.Random, ink: Image.Image) -> Image.Image:
    """The ink somewhere on a larger, otherwise empty canvas."""
    width, height = (min(1600, round(extent * rng.uniform(1.2, 3) + rng.uniform(0, 120))) for extent in ink.size)
    canvas = Image.new("L", (max(width, ink.width), max(height, ink.height)))
    canvas.paste(ink, (rng.randint(0, canvas.width - ink.width), rng.randint(0, canvas.height - ink.height)))
    return canvas


def _tones(rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """A light and a dark colour, at least 60 grey levels apart."""
    dark_level = rng.choice([0, 0, rng.uniform(0, 120)])
    light_level = rng.uniform(dark_level + 60, 255) if rng.random() < 0.5 else rng.uniform(220, 255)
    tint = [rng.gauss(0, rng.choice([0, 0, 25])) for _ in range(6)]
    return np.clip(light_level + np.array(tint[:3]), 0, 255), np.clip(dark_level + np.array(tint[3:]), 0, 255)


def _background(rng: random.Random, size: tuple[int, int], colour: np.ndarray) -> np.ndarray:
    """Plain, or paper with a grain and a gradient, or blotches and shapes as behind a sign in a photo; (h, w, 3)."""
    flat = np.broadcast_to(colour.astype(np.float32), (size[1], size[0], 3))
    roll = rng.random()
    if roll < 0.45:
        return flat
    if roll < 0.75:
        return flat * _field(rng, size, rng.uniform(0.75, 0.98), rng.choice([2, 30, 120]))[..., None]
    blotches = _field(rng, size, rng.uniform(0.3, 0.8), rng.choice([6, 20, 60]))[..., None]
    shapes = Image.new("L", size, 255)
    draw = ImageDraw.Draw(shapes)
    for _ in range(rng.randint(0, 6)):
        x, y = rng.uniform(-0.2, 1) * size[0], rng.uniform(-0.2, 1) * size[1]
        box = (x, y, x + rng.uniform(0.05, 0.5) * size[0], y + rng.uniform(0.05, 0.5) * size[1])
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=rng.randint(150, 255))
    return flat * blotches * (np.asarray(shapes, np.float32)[..., None] / 255)


def _field(rng: random.Random, size: tuple[int, int], low: float, cells: int) -> np.ndarray:
    """A smooth random field between `low` and 1 with about `cells` bumps along the longer side; (h, w)."""
    noise = np.random.default_rng(rng.getrandbits(32))
    width, height = (max(2, math.ceil(cells * extent / max(size)) + 1) for extent in size)
    coarse = Image.fromarray((noise.random((height, width)) * 255).astype(np.uint8))
    return low + (1 - low) * np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
