"""`equiform web`: a page to play with."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import ready
from .._checks import named
from ..equivariant import Equivariant
from ..predictors import PhotoPredictor
from ..predictors.class_names import class_names
from ..predictors.efficientnet_lite import LITE0, LITE0_PIXELS, efficientnet_lite0
from ..predictors.references import check_reference, load_reference, parse_reference
from ..web.answers import SHOWN, Setup, first_answer, nothing, takes_lists
from ..web.page import check_host, serve
from .models import NORMALISATIONS, READERS, around, check_adapter, chosen_normalisation, device_of, for_readers, tell_of_pixels
from .options import MAX_SIDE, SIDE, Adapter, Backbone, Device
from .text import say

DEFAULT = ready.DEFAULTS["SO2"]


def web_command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="timm:NAME, torchvision:NAME, transformers:REPO (or a folder), or FILE.py:FUNCTION. [default: "
            "efficientnet-lite0, which the extra `web` installs]",
            show_default=False,
        ),
    ] = None,
    adapter: Adapter = None,
    backbone: Backbone = None,
    outputs: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="What a MODEL of unknown class gives: logits or mask. [default: as saved, logits]"),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=16,
            max=MAX_SIDE,
            help=f"Side in pixels of the photos that MODEL is shown. [default: {SIDE}; for boxes and masks {SHOWN}]",
        ),
    ] = None,
    normalize: Annotated[
        str, typer.Option(metavar="NAME", help="What MODEL wants instead of RGB in [0, 1]: imagenet, none, or auto.")
    ] = "auto",
    device: Device = "cpu",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the page is served: with 0.0.0.0 everyone who reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help="[default: the first free one from 7860 on]")
    ] = None,
) -> None:
    """Open a page to play with: turn a photo, compare the answers.

    Drop a photo, turn it with a slider, and see side by side what the bare model says and what the adapted one says, the pose
    that was found, and how both fare at all angles. Without a MODEL it is a small classifier that needs no download; with no
    adapter named, the ready-made one for photos at any angle. Needs the extra `web`. Nothing is fetched, nothing leaves this
    machine.

    \b
    equiform web
    equiform web timm:resnet50
    equiform web torchvision:fasterrcnn_resnet50_fpn
    equiform web my_models.py:classifier --adapter adapter
    """
    normalize, place = named("normalization", normalize, NORMALISATIONS), device_of(device)
    if model is not None:
        check_reference(model)
    check_host(host)
    check_adapter(adapter or DEFAULT, backbone)
    if model is None and (outputs or size or normalize != "auto"):
        raise ValueError(f"--outputs, --size and --normalize are for a MODEL of yours; without one it is {LITE0}")
    setup = _default(adapter or DEFAULT, backbone) if model is None else _of(model, adapter, backbone, outputs, size, normalize)
    setup.model.to(place)
    said = first_answer(setup)
    setup = setup._replace(names=class_names(model, setup.model.predictor, 0 if said.classes is None else len(said.classes)))
    if host not in ("127.0.0.1", "localhost", "::1"):
        say(f"note: --host {host}: whoever reaches this machine there can use the page", err=True)
    serve(setup, host, port, say)


def _default(adapter: str, backbone: str | None) -> Setup:
    try:
        classifier = efficientnet_lite0()
    except ModuleNotFoundError:
        title = f"{_without_folder(adapter)}, no classifier"
        return Setup(around(nothing, adapter, backbone, None, None, "invariant"), title, SIDE)
    model = around(classifier, adapter, backbone, None, None, "logits")
    return Setup(model, f"EfficientNet-Lite0, {_without_folder(adapter)}", SIDE, LITE0_PIXELS)


def _of(ref: str, adapter: str | None, backbone: str | None, outputs: str | None, size: int | None, normalize: str) -> Setup:
    """The setup of a reference. A file may give a model that is adapted already, of whatever `adapt` takes."""
    loaded: Any = load_reference(ref)
    if isinstance(loaded, Equivariant) and (adapter or outputs):
        raise ValueError(f"{ref} is adapted already: leave out {'--adapter' if adapter else '--outputs'}")
    adapter = adapter or DEFAULT
    model = loaded if isinstance(loaded, Equivariant) else around(loaded, adapter, backbone, None, None, outputs)
    if for_readers(model.outputs):
        raise ValueError(
            f"{adapter} is {READERS}, and the page draws none: take --adapter photos-c4, or add --outputs logits or mask"
        )
    parsed = parse_reference(ref)
    if isinstance(model.predictor, PhotoPredictor) and (size or normalize != "auto"):
        raise ValueError(f"--size and --normalize: the processor of {ref} knows them; leave them out")
    title = str(parsed._replace(name=_without_folder(parsed.name)))
    title = title if isinstance(loaded, Equivariant) else f"{title}, {_without_folder(adapter)}"
    if takes_lists(model) and normalize == "auto":
        normalize = "none"  # such a model normalises photos itself
    elif not isinstance(model.predictor, PhotoPredictor):
        tell_of_pixels(ref, normalize)
    wanted = chosen_normalisation(normalize, ref, model.predictor)
    return Setup(model, title, size or (SIDE if "logits" in repr(model.outputs) else SHOWN), wanted)


def _without_folder(name: str) -> str:
    """What the page shows of a file or a folder of this machine; any other name as it is."""
    return Path(name).resolve().name if Path(name).exists() else name
