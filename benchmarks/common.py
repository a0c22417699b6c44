"""What the benchmark scripts share: where the data is, how it is read, and how figures are kept."""

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equiform.images import find_images, open_image, to_tensor
from equiform.references import load_reference

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("EQUIFORM_DATA", HERE.parent.parent / "shared"))
RESULTS = HERE / "results"


def shared(name: str) -> Path:
    """A path of the data beside the project; leaves with one line where it is absent."""
    path = DATA / name
    if not path.exists():
        sys.exit(f"{path} is absent: name your own data and predictor (see --help), or set EQUIFORM_DATA")
    return path


def predictor(reference: str) -> Any:
    """A predictor by reference; a bare name is one of the networks beside the project."""
    if ":" in reference:
        return load_reference(reference)
    shared("predictors")
    if str(DATA) not in sys.path:
        sys.path.insert(0, str(DATA))
    import predictors

    return predictors.load(reference).to(memory_format=torch.channels_last)


def photos(folder: Path, size: int | None = None) -> tuple[Tensor, list[str]]:
    """All photos below a folder as uint8 (n, 3, h, w), and the name of the subfolder of each."""
    from PIL.Image import Resampling

    images, names = [], []
    for path in find_images(folder):
        image = open_image(path)
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Resampling.BICUBIC)
        images.append(to_tensor(image))
        names.append(path.parent.name)
    return torch.stack(images), names


class Photos(torch.utils.data.Dataset):
    """Labelled photos in [0, 1] (or normalised), converted one by one: a data set of floats would not fit everywhere."""

    def __init__(self, images: Tensor, labels: Tensor, normalise: Callable[[Tensor], Tensor] | None = None):
        self.images, self.labels, self.normalise = images, labels, normalise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        image = self.images[i].float() / 255
        return (self.normalise(image) if self.normalise else image), self.labels[i]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.machine()}


def keep(name: str, figures: dict[str, Any], out: Path | None) -> Path:
    """Write figures as JSON, whole or not at all."""
    from equiform.hub import write

    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, (json.dumps({"machine": machine(), **figures}, indent=1, ensure_ascii=False) + "\n").encode())
    return path
