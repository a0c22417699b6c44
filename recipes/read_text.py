"""Read the text of pictures that lie in any quarter turn, with Tesseract.

    python recipes/read_text.py scan.png photo.jpg          the text, upright
    python recipes/read_text.py --json scan.png photo.jpg   a JSON object a line: file, page, text, words, turn, confidence

Every word has its `text` and its `box`, xyxy in the pixels of the picture as it is shown (its EXIF orientation applied), where
the word lies in it. `turn`: by how many degrees the text was turned, counter-clockwise. `page`: from 1 on; every page of a TIFF
is read, each with its own turn.
"""

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

import equiform
from equiform.images.files import UnreadableImage, open_pages, to_tensor

INSTALL = "tesseract is needed here: apt-get install tesseract-ocr (Debian, Ubuntu), brew install tesseract (macOS)"


class TesseractError(RuntimeError):
    """Tesseract is missing, or has failed; the message is one line."""


def read(photos: Sequence[Tensor], psm: int = 3) -> list[dict[str, Any]]:
    """Per photo (3, h, w), uint8: its text, its words, and their boxes (k, 4), xyxy. `psm`: Tesseract's segmentation mode."""
    return [_read(photo, psm) for photo in photos]


def _read(photo: Tensor, psm: int) -> dict[str, Any]:
    rows = [row for row in _table(photo, psm) if row["text"].strip()]
    corners = [[int(row[key]) for key in ("left", "top", "width", "height")] for row in rows]
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners], dtype=torch.float32).reshape(-1, 4)
    return {"text": _joined(rows), "words": [row["text"] for row in rows], "boxes": boxes}


def _joined(rows: list[dict[str, str]]) -> str:
    """Words of a line with spaces between them, lines with line breaks, paragraphs with an empty line."""
    text, last = "", None
    for row in rows:
        line = tuple(row[key] for key in ("page_num", "block_num", "par_num", "line_num"))
        if last is not None:
            text += " " if line == last else "\n" if line[:3] == last[:3] else "\n\n"
        text, last = text + row["text"], line
    return text


def _table(photo: Tensor, psm: int) -> list[dict[str, str]]:
    """The rows of Tesseract's table: blocks, paragraphs, lines, words."""
    program = shutil.which("tesseract")
    if program is None:
        raise TesseractError(INSTALL)
    file = io.BytesIO()
    grey = Image.fromarray(photo.permute(1, 2, 0).numpy()).convert("L")
    # the threshold below takes what is darker than its surroundings for ink
    dark = np.median(np.asarray(grey)) < 128
    (ImageOps.invert(grey) if dark else grey).save(file, "PPM")
    # Sauvola's threshold: light on a photo is uneven
    command = [program, "stdin", "stdout", "--psm", str(psm), "-c", "thresholding_method=2", "tsv"]
    done = subprocess.run(command, input=file.getvalue(), capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise TesseractError(f"tesseract failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
    table = done.stdout.decode(errors="replace").splitlines()
    return list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))


def as_json(file: Path, page: int, model: equiform.Equivariant, photo: Tensor) -> dict[str, Any]:
    """What is said of one page."""
    (answer,), pose = model.predict([photo])
    words = [{"text": word, "box": box} for word, box in zip(answer["words"], answer["boxes"].tolist(), strict=True)]
    turn, confidence = 90 * int(pose.index[0]), round(float(pose.confidence[0]), 4)
    said = {"text": answer["text"], "words": words, "turn": turn, "confidence": confidence}
    return {"file": str(file), "page": page, **said}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 2 where a file could not be read; the others are read all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="picture files")
    parser.add_argument("--json", action="store_true", help="one JSON object a line and page")
    args = parser.parse_args(arguments)
    if shutil.which("tesseract") is None:
        _say(INSTALL)
        return 2
    model = equiform.load("text-c4", read)
    failed = False
    for file in args.files:
        try:
            for page, image in enumerate(open_pages(file), 1):
                found = as_json(file, page, model, to_tensor(image))
                print(json.dumps(found, ensure_ascii=False) if args.json else found["text"], flush=True)
        except FileNotFoundError:
            failed = _say(f"no file {file}")
        except UnreadableImage as error:
            failed = _say(error)
        except TesseractError as error:
            failed = _say(f"{file}: {error}")
    return 2 if failed else 0


def _say(error: object) -> bool:
    print(f"error: {error}", file=sys.stderr)
    return True


if __name__ == "__main__":
    sys.exit(main())
