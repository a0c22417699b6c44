"""The command `equiform diagnose`."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor
from torch.utils.data import IterableDataset

from .._files import write
from ..canonicalizers.energy import EnergyCanonicalizer
from ..equivariant import Equivariant, adapt
from ..evaluation.diagnose import diagnose
from ..geometry.groups import group as group_of
from ..images.files import ImageFiles, LabelledImages, find_images
from ..predictors import known_kinds
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
    named,
)
from .options import ADAPTER_HELP, Backbone, Predictor
from .text import list_files, say

GROUP = "C4"


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
    adapter: Annotated[
        str | None,
        typer.Option(metavar="DIR", help=ADAPTER_HELP + " [default: none, the pose is the one the predictor is surest of]"),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Without --adapter: the group whose poses are looked for. [default: {GROUP}]"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help='Class index of each subfolder as JSON, {"cats": 281, ...}: accuracy is measured. [default: whether answers '
            "change]",
        ),
    ] = None,
    num: Annotated[int, typer.Option(metavar="N", min=1, help="Images to look at, drawn with the seed.")] = 200,
    size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Side in pixels to which images are squeezed for the predictor.")
    ] = 224,
    normalize: Annotated[
        str, typer.Option(metavar="NAME", help="What the predictor wants instead of RGB in [0, 1]: imagenet, none, or auto.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Images in a batch.")] = 20,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps, ...")] = "cpu",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random numbers.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write what was found as JSON.")] = None,
    backbone: Backbone = None,
) -> None:
    """Say whether turning hurts a classifier, and what to do.

    On some images of a folder: does turning them hurt, do they have a pose at all, which group matters, what would be gained
    at what cost, and what to do about it in one sentence. Textures, flat lays and images from a microscope have no pose.

    \b
    equiform diagnose timm:resnet18 photos/
    equiform diagnose timm:resnet18 photos/ --adapter adapter --num 500
    equiform diagnose timm:resnet18 test/ --labels labels.json --out diagnosis.json
    """
    normalize = named("normalization", normalize, NORMALISATIONS)
    if adapter is not None and group is not None:
        raise ValueError(f"--group {group} is of no use beside --adapter {adapter}, which has its own: leave one of them out")
    if adapter is None and backbone is not None:
        raise ValueError(f"--backbone {backbone} is for an adapter that was fitted with it: add --adapter")
    group_of(group or GROUP)
    if out is not None:
        check_file("--out", out)
    if labels is None:
        data = ImageFiles([(file, 0) for file in find_images(images)], size)
    else:
        data = LabelledImages(images, labels, size)
    random.Random(seed).shuffle(data.files)
    place = device_of(device)
    check_reference(predictor)
    if adapter is not None:
        check_adapter(adapter, backbone)
    loaded = load_reference(predictor)
    data.normalisation = chosen_normalisation(normalize, predictor, loaded)
    model = _by_confidence(loaded, group or GROUP) if adapter is None else adapted(loaded, adapter, backbone, None, None)
    model = model.to(place)
    if isinstance(data, LabelledImages):
        check_predictor(predictor, loaded, data, False, place)
    else:
        first_answer(predictor, loaded, data, place)
    alone = data if isinstance(data, LabelledImages) else Alone(data)
    found = diagnose(model, alone, num=num, batch_size=batch_size, seed=seed)
    list_files("skipped", data.skipped)
    say(found)
    if out is not None:
        write(out, found.to_json().encode())
        say(f"saved {out}")


def _by_confidence(predictor: Any, group: str) -> Equivariant:
    """The classifier with the poses that it is surest of."""
    outputs = "logits" if known_kinds(predictor)[1] is None else None
    return adapt(predictor, group, outputs=outputs, canonicalizer=EnergyCanonicalizer(group, predictor))
