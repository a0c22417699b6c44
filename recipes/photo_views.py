"""Training views of photos for canonicalizers that are to know photos of any kind: cut, turned, blurred, saved again.

Every view is resampled alike, whatever its pose, with either interpolation, so that interpolation does not tell the pose. Crops
of any aspect hide that most photos are landscape; squares in front, cut rims and JPEG at many qualities hide marks that a
collection has in one corner.
"""

import io
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from equiform.images.views import disc, radius, standardise

TILT = math.radians(10)  # of quarter-turn views


@dataclass(frozen=True)
class Views:
    """Random views (size, size) of photos: by quarter turns, or at any angle in a disc (`any_angle`).

    `mild`: larger crops, and less often grey, dark, or with something in front. `upright`: not turned.
    """

    size: int
    any_angle: bool = False
    mild: bool = False
    upright: bool = False

    @property
    def _odds(self) -> float:
        return 0.5 if self.mild else 1.0

    def draw(self, photo: np.ndarray, rng: random.Random) -> tuple[np.ndarray, float]:
        """One view, float32 (size, size, 3) in [0, 1], and its angle, counter-clockwise."""
        if self.any_angle:
            angle = rng.uniform(0, 2 * math.pi)
            if rng.random() < 0.1:  # saved before it was turned
                photo = np.asarray(saved_again(Image.fromarray(photo), rng))
            return self._finished(self._cut(photo, rng, angle), rng, 0), angle
        turns = 0 if self.upright else rng.randrange(4)
        tilt = rng.uniform(-TILT, TILT) if rng.random() < 0.4 else 0.0
        return self._finished(self._cut(photo, rng, tilt), rng, turns), turns * math.pi / 2

    def batch(self, views: list[np.ndarray]) -> Float[Tensor, "b 3 s s"]:
        """Views as the network sees them."""
        x = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).double()
        if not self.any_angle:
            return standardise(x)
        return disc(standardise(x, radius(self.size) < self.size / 2))

    def _cut(self, photo: np.ndarray, rng: random.Random, angle: float) -> Image.Image:
        """A crop of random place, area and aspect, its content turned by `angle` and mirrored half the time."""
        image = Image.fromarray(photo)
        width, height = image.size
        aspect = math.exp(rng.uniform(-0.15, 0.15) if self.any_angle else rng.uniform(-0.42, 0.42))
        area = rng.uniform(0.35, 1.0) if rng.random() < 0.7 else rng.uniform(0.15, 0.5)
        area = rng.uniform(0.5, 1.0) if self.mild else area
        a, b = math.sqrt(aspect), 1 / math.sqrt(aspect)  # half the sides
        cos, sin = math.cos(angle), math.sin(angle)
        # how far the crop reaches: a turned ellipse of which the disc is cut, or a turned rectangle
        reach = math.hypot if self.any_angle else lambda p, q: p + q
        across, down = reach(a * abs(cos), b * abs(sin)), reach(a * abs(sin), b * abs(cos))
        largest = min(width / 2 / across, height / 2 / down)
        wanted = largest * math.sqrt(area) if self.any_angle else math.sqrt(area * width * height / (4 * a * b))
        scale = min(largest, wanted)
        x = width / 2 + rng.uniform(-1, 1) * (width / 2 - across * scale)
        y = height / 2 + rng.uniform(-1, 1) * (height / 2 - down * scale)
        mirror = -1 if rng.random() < 0.5 else 1
        corners = ((-1, -1), (-1, 1), (1, 1), (1, -1))
        quad = [
            place
            for u, v in corners
            for place in (x + mirror * a * scale * (u * cos - v * sin), y + b * scale * (u * sin + v * cos))
        ]
        interpolation = Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
        side = 2 * self.size  # sampled at twice the size and halved, against aliasing
        fill = (rng.randrange(256),) * 3
        return image.transform((side, side), Image.Transform.QUAD, quad, interpolation, fillcolor=fill).reduce(2)

    def _finished(self, image: Image.Image, rng: random.Random, turns: int) -> np.ndarray:
        if not self.any_angle and rng.random() < 0.1:
            image = saved_again(image, rng)  # before it was turned
        if turns:
            image = image.transpose(QUARTER_TURNS[turns])
        what = rng.random()
        if what < 0.15:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6)))
        elif what < 0.25:
            small = rng.randrange(self.size // 4, self.size // 2)
            image = image.resize((small, small), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)
        if rng.random() < 0.4:
            image = saved_again(image, rng)
        x = recoloured(np.asarray(image, dtype=np.float32) / 255, rng, self._odds)
        return in_front(dark(x, rng, self._odds), rng, self._odds)


QUARTER_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def saved_again(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image after JPEG of a random quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.uniform(20, 95)))
    return Image.open(file).convert("RGB")


def recoloured(x: np.ndarray, rng: random.Random, odds: float = 1.0) -> np.ndarray:
    """Grey, or with its channels mixed a little; then any gamma from 1/1.8 to 1.8."""
    if rng.random() < 0.2 * odds:
        x = np.repeat(x.mean(-1, keepdims=True), 3, -1)
    else:
        x = x @ (np.eye(3) + 0.12 * np.random.default_rng(rng.getrandbits(32)).standard_normal((3, 3))).astype(np.float32)
    low = x.min()
    return ((x - low) / max(x.max() - low, 1e-6)) ** np.float32(1.8 ** rng.uniform(-1, 1))


def dark(x: np.ndarray, rng: random.Random, odds: float = 1.0) -> np.ndarray:
    """Sometimes in low light, with its noise."""
    if rng.random() >= 0.12 * odds:
        return x
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0.01, 0.05), x.shape).astype(np.float32)
    return np.clip(x * rng.uniform(0.1, 0.5) + noise, 0, 1)


def in_front(x: np.ndarray, rng: random.Random, odds: float = 1.0) -> np.ndarray:
    """Sometimes with one or two grey rectangles before it (random erasing, Zhong et al. 2017, arXiv 1708.04896)."""
    size = len(x)
    for _ in range(rng.randrange(1, 3) if rng.random() < 0.25 * odds else 0):
        height, width = rng.randrange(size // 8, size // 2), rng.randrange(size // 8, size // 2)
        y, left = rng.randrange(size - height), rng.randrange(size - width)
        x[y : y + height, left : left + width] = rng.random()
    return x
