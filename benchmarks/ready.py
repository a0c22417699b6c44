"""The ready-made canonicalizers on photos they were not fitted on: how often the pose is right, and whether they know it.

    python benchmarks/ready.py                                      # the sets beside the project
    python benchmarks/ready.py --photos holiday/ --photos objects/  # folders of upright photos of your own

Over C4 a canonicalizer is exactly equivariant: its pose is right in all turns of a photo or in none, so that upright photos are
enough. Over the circle every photo is turned by angles drawn with a seed, in its central square; a pose is right within 5, and
within 10 degrees. Calibration error: of 15 bins of confidence. Risk: the share of wrong ones among the 90 % of
photos with the greatest confidence. Recordings of noise: on grey noise, and on it saved as JPEG, turned, and saved again, no
pose should be found.
"""

import argparse
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import common
from equiform import act, group, ready, saving
from equiform.evaluation.confidence import Confidence
from equiform.geometry.groups import turn
from equiform.images.files import UnreadableImage, find_images, open_image, to_tensor
from equiform.images.views import central_square

SETS = {"imagenette/val": "data/imagenette/val", "coco128": "data/coco128/images"}
ANGLES_A_PHOTO = 4


def pictures(folder: Path, most: int | None = None) -> list[Tensor]:
    """The photos that can be read, uint8; at most so many of them, evenly spread over the folder."""
    found, paths = [], list(find_images(folder))
    for path in paths[:: max(1, math.ceil(len(paths) / most))] if most else paths:
        try:
            found.append(to_tensor(open_image(path)))
        except UnreadableImage as error:
            print("left out:", error)
    return found


def summary(confidence: Tensor, right: Tensor) -> dict[str, float]:
    """The pose accuracy, the calibration error, and the risk at 90 % coverage."""
    known = Confidence.of(confidence, right)
    return {
        "pose_accuracy": float(right.float().mean()),
        "confidence": float(confidence.mean()),
        "calibration_error": known.error,
        "risk_at_90": known.risk(0.9),
    }


@torch.no_grad()
def over_quarter_turns(canonicalizer: Any, photos: list[Tensor]) -> dict[str, float]:
    poses = [canonicalizer([photo]) for photo in photos]
    confidence, index = torch.cat([pose.confidence for pose in poses]), torch.cat([pose.index for pose in poses])
    return summary(confidence, index == 0)


@torch.no_grad()
def over_the_circle(canonicalizer: Any, photos: list[Tensor], seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    confidence, apart = [], []
    for photo in photos:
        square = central_square(photo)[None].float()
        angles = 2 * math.pi * torch.rand(ANGLES_A_PHOTO, generator=generator, dtype=torch.float64)
        for g in turn(angles).float():
            pose = canonicalizer(act(g[None], square, "image"))
            confidence.append(pose.confidence)
            apart.append(torch.rad2deg(group("SO2").distance(pose.g, g[None])))
    degrees = torch.cat(apart)
    within = {f"within_{limit}": float((degrees <= limit).float().mean()) for limit in (5, 10)}
    return within | summary(torch.cat(confidence), degrees <= 10) | {"median_degrees": float(degrees.median())}


def noise_pictures(num: int, seed: int = 0) -> list[Tensor]:
    """Grey noise as JPEG, turned by a quarter turn or not, and saved again: blocks and interpolation must not tell the pose."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(num):
        noise = Image.fromarray(rng.integers(0, 256, (96, 96), dtype=np.uint8)).resize((192, 192), Image.Resampling.BICUBIC)
        turned = saved(saved(noise, 60).rotate(90 * (i % 4)), 90)
        found.append(to_tensor(turned))
    return found


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@torch.no_grad()
def on_noise(canonicalizer: Any, num: int = 400) -> dict[str, float]:
    """How often the quarter turn of noise is found (chance: 0.25), and how sure the canonicalizer is."""
    poses = [canonicalizer([picture]) for picture in noise_pictures(num)]
    g, confidence = torch.cat([pose.g for pose in poses]), torch.cat([pose.confidence for pose in poses])
    found = group("C4").index(g)
    return {"found": float((found == torch.arange(num) % 4).float().mean()), "confidence": float(confidence.mean())}


@torch.no_grad()
def after_a_save(canonicalizer: Any, photos: list[Tensor]) -> float:
    """Pose accuracy on upright photos saved once more at quality 90, less that on the photos as they are."""
    again = [to_tensor(saved(Image.fromarray(photo.permute(1, 2, 0).numpy()), 90)) for photo in photos]
    degrees = [torch.rad2deg(group("SO2").distance(canonicalizer([x]).g, torch.eye(3)[None])) for x in [*photos, *again]]
    right = (torch.cat(degrees) <= 10).float()
    return float(right[len(photos) :].mean() - right[: len(photos)].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, action="append", help="folder of upright photos; repeatable")
    parser.add_argument("--names", nargs="*", default=[name for name in ready.names() if name.startswith("photos")])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folders = {str(folder): folder for folder in args.photos or ()} or {name: common.shared(at) for name, at in SETS.items()}
    path = common.results("ready", args.out)
    figures: dict[str, Any] = json.loads(path.read_text())["files"] if path.exists() else {}  # of names not measured now
    for name in args.names:
        canonicalizer = saving.restore(name, main, None)[0]
        measure = over_the_circle if canonicalizer.group.order is None else over_quarter_turns
        rows = {}
        for label, folder in folders.items():
            photos = pictures(folder)
            rows[label] = {"photos": len(photos), **measure(canonicalizer, photos)}
            rows[label]["after_a_save"] = after_a_save(canonicalizer, photos)
            print(name, label, rows[label], flush=True)
        figures[name] = {"sets": rows, "noise": on_noise(canonicalizer)}
        print(name, "noise", figures[name]["noise"], flush=True)
    print("figures in", common.keep("ready", {"files": figures}, args.out))


if __name__ == "__main__":
    main()
