"""The command `equiform export`."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.nn import functional as F

from .. import ready
from .._checks import named
from ..exporting import FORMATS, export
from ..images.files import normalised
from ..predictors.references import check_reference, load_reference
from .models import NORMALISATIONS, adapted, check_adapter, check_file, chosen_normalisation, no_predictor, restored
from .options import MAX_SIDE, SIDE, Adapter, Backbone, Replace
from .text import say


def export_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What is written: FILE.onnx, or FILE.pt2 for torch.")],
    predictor: Annotated[
        str | None,
        typer.Argument(
            metavar="[PREDICTOR]", help="A reference as for `equiform fit`. Without one the canonicalizer alone is exported."
        ),
    ] = None,
    adapter: Adapter = None,
    size: Annotated[
        int, typer.Option(metavar="N", min=1, max=MAX_SIDE, help="Side in pixels of the square images that it will take.")
    ] = SIDE,
    normalize: Annotated[
        str,
        typer.Option(metavar="NAME", help="What the images are when they come: imagenet, none, or auto, as for `evaluate`."),
    ] = "auto",
    backbone: Backbone = None,
    overwrite: Replace = False,
) -> None:
    """Write an adapted classifier as ONNX.

    Or the canonicalizer alone: ONNX for onnxruntime and others, .pt2 for torch. Any number of images of one size; it is checked
    to answer as the model does before the file is there.

    \b
    equiform export model.onnx timm:resnet50
    equiform export model.onnx my_models.py:classifier --adapter adapter --size 256
    equiform export pose.onnx --adapter photos-c4-small
    """
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"an export ends in {' or '.join(FORMATS)}; got {file}")
    check_file("FILE", file, overwrite)
    normalize = named("normalization", normalize, NORMALISATIONS)
    adapter = adapter or ready.DEFAULTS["C4"]
    check_adapter(adapter, backbone)
    torch.manual_seed(0)
    example = F.interpolate(torch.rand(2, 3, 8, 8), (size, size), mode="bicubic").clamp(0, 1)
    if predictor is None:
        model = restored(adapter, no_predictor, backbone)[0].eval()
    else:
        check_reference(predictor)
        loaded = load_reference(predictor)
        model = adapted(loaded, adapter, backbone, 1, None)
        example = normalised(example, chosen_normalisation(normalize, predictor, loaded))
    file.parent.mkdir(parents=True, exist_ok=True)
    export(model, file, example)
    what = adapter if predictor is None else f"{predictor} with {adapter}"
    megabytes = file.stat().st_size / 1e6
    say(f"exported {what} for images of {size} x {size} to {file} ({megabytes:.1f} MB): it answers as the model does")
