"""The photos of the page: its samples, what is uploaded, and how they are shown turned."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry import kinds
from ..geometry.groups import turn
from ..geometry.moving import act
from ..images.files import open_finite, rgb, to_tensor

SHOWN = 448  # side in pixels of the photos as they are shown
TURNED = kinds.Image("bicubic", border="reflect")  # corners that would be empty show the photo mirrored


class Sample(NamedTuple):
    """A picture that ships inside an installed package."""

    title: str
    credit: str
    path: Path


# package, folder in it, file, title, author and licence as the package states them
PICTURES = (
    ("skimage", "data", "camera.png", "camera", "Lav Varshney, CC0"),
    ("sklearn", "datasets/images", "china.jpg", "temple", "danielbuechele, CC BY 2.0"),
    ("skimage", "data", "astronaut.png", "astronaut", "NASA, public domain"),
    ("skimage", "data", "coffee.png", "coffee", "Rachel Michetti, CC0"),
    ("sklearn", "datasets/images", "flower.jpg", "flower", "vultilion, CC BY 2.0"),
    ("skimage", "data", "chelsea.png", "cat", "Stefan van der Walt, CC0"),
)


def samples() -> list[Sample]:
    """The pictures of scikit-image and scikit-learn, those of them that are installed; neither is imported."""
    found = []
    for package, folder, file, title, credit in PICTURES:
        spec = importlib.util.find_spec(package)
        places = [] if spec is None else spec.submodule_search_locations or []
        found += [Sample(title, credit, path) for place in places if (path := Path(place, folder, file)).is_file()]
    return found


def read(path: str | Path) -> Float[Tensor, "3 s s"]:
    """The central square of a photo, at the size that the page keeps. Raises UnreadableImage, which names no folder."""
    import PIL.Image

    image = open_finite(path, at_least=SHOWN)
    left, top = (image.width - image.height) // 2, (image.height - image.width) // 2
    box = (max(0, left), max(0, top), image.width - max(0, left), image.height - max(0, top))
    image = rgb(image.crop(box)).resize((SHOWN, SHOWN), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)
    return to_tensor(image).float() / 255


def turned(photo: Float[Tensor, "3 s s"], degrees: Sequence[float]) -> Float[Tensor, "n 3 s s"]:
    """A photo turned by so many degrees, counter-clockwise, in its own frame. Quarter turns move its pixels by index."""
    g = turn(torch.tensor([math.radians(angle) for angle in degrees]))
    return act(g, photo.expand(len(degrees), -1, -1, -1), TURNED).clamp(0, 1)
