"""The command `equiform diagnose`."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor
from torch.utils.data import IterableDataset

from .. import ready
from .._checks import named
from .._files import write
from ..evaluation.diagnose import diagnose
from ..images.files import ImageFiles, LabelledImages, find_images
from ..predictors.references import check_reference, load_reference
from .models import (
    NORMALISATIONS,
    adapted,
    check_adapter,
    check_file,
    check_predictor,
    chosen_normalisation,
    device_of,
    first_answer,
    tell_of_pixels,
)
from .options import SIDE, Adapter, Backbone, Device, Normalize, Predictor, Replace, Seed, Size
from .text import list_files, say


class Alone(IterableDataset):
    """The images of files without a label."""

    def __init__(self, files: ImageFiles):
        self.files = files

    def __iter__(self) -> Iterator[Tensor]:
        return (image for image, _ in self.files)


def diagnose_command(
    predictor: Predictor,
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="A folder of images as they come; with --labels, a subfolder for each class."),
    ],
    adapter: Adapter = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help='Class index of each subfolder as JSON, {"cats": 281, ...}: accuracy is measured. [default: whether answers '
            "change]",
        ),
    ] = None,
    num: Annotated[int, typer.Option(metavar="N", min=1, help="Images to look at, drawn with the seed.")] = 200,
    size: Size = SIDE,
    normalize: Normalize = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images in a batch.")] = 20,
    device: Device = "cpu",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write what was found as JSON.")] = None,
    backbone: Backbone = None,
    overwrite: Replace = False,
) -> int:
    """Say whether turning hurts a classifier, and what to do.

    On some images of a folder: does turning them hurt, do they have a pose at all, which group matters, what would be gained
    at what cost, and what to do about it in one sentence. Textures, flat lays and images from a microscope have no pose. The
    exit code is 1 where images were skipped.

    \b
    equiform diagnose timm:resnet18 photos/
    equiform diagnose timm:resnet18 photos/ --adapter adapter --num 500
    equiform diagnose timm:resnet18 test/ --labels labels.json --out diagnosis.json
    """
    normalize = named("normalization", normalize, NORMALISATIONS)
    if out is not None:
        check_file("--out", out, overwrite)
    if labels is None:
        data = ImageFiles([(file, 0) for file in find_images(images)], size)
    else:
        data = LabelledImages(images, labels, size)
    random.Random(seed).shuffle(data.files)
    place = device_of(device)
    check_reference(predictor)
    adapter = adapter or ready.DEFAULTS["C4"]
    check_adapter(adapter, backbone)
    loaded = load_reference(predictor)
    data.normalisation = chosen_normalisation(normalize, predictor, loaded)
    model = adapted(loaded, adapter, backbone, None, None).to(place)
    if isinstance(data, LabelledImages):
        check_predictor(predictor, loaded, data, False, place)
    else:
        first_answer(predictor, loaded, data, place)
    tell_of_pixels(predictor, normalize)
    alone = data if isinstance(data, LabelledImages) else Alone(data)
    found = diagnose(model, alone, num=num, batch_size=batch_size, seed=seed)
    list_files("skipped", data.skipped)
    say(found)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(out, found.to_json().encode())
        say(f"saved {out}")
    return len(data.skipped)
