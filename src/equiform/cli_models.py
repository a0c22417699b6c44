"""What the commands build from their options: models, networks and the checks that go before the work."""

import os
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor, nn

from . import hub
from .actions import ACTIONS
from .adapters import known_kinds
from .canonicalizers import Canonicalizer, first_logits
from .equivariant import Equivariant, adapt
from .images import LabelledImages
from .networks import scorer
from .references import IMAGENET, Normalisation, load_reference, normalisation, parse_reference


def say(text: object, *, err: bool = False) -> None:
    """A line to standard output or standard error; a file name that is no text is shown with escapes."""
    typer.echo(str(text).encode(errors="backslashreplace").decode(), err=err)


def to_fit(predictor: str, canonicalizer: Canonicalizer, outputs: str | None) -> Equivariant:
    """The model to fit: around the predictor, or around a stand-in where the kind of its outputs is given."""
    if outputs is not None:
        parse_reference(predictor)
        return adapt(stand_in, canonicalizer.group, outputs=outputs, canonicalizer=canonicalizer)
    loaded = load_reference(predictor)
    if known_kinds(loaded)[1] is None:
        raise ValueError(
            f"how the outputs of {predictor} move is not known: add --outputs logits for a classifier, --outputs mask for a "
            f"segmenter; known kinds: {', '.join(sorted(ACTIONS))}"
        )
    return adapt(loaded, canonicalizer.group, canonicalizer=canonicalizer)


def stand_in(images: Tensor) -> Tensor:
    raise RuntimeError("fitting does not run the predictor")


def scoring_network(backbone: str | None) -> nn.Module | None:
    """The scoring network that a reference gives."""
    if backbone is None:
        return None
    module = load_reference(backbone)
    if not isinstance(module, nn.Module):
        raise TypeError(f"--backbone {backbone} gives a {type(module).__name__}; a module is needed, to be trained")
    return scorer(module)


def check_network(canonicalizer: Canonicalizer, backbone: str | None) -> None:
    """Raise ValueError at once where the backbone does not take views of that resolution."""
    if backbone is None:
        return
    side = canonicalizer.resolution
    try:
        with torch.no_grad():
            canonicalizer.eval()(torch.zeros(1, canonicalizer.channels, side, side))
    except Exception as error:  # modules raise whatever they like
        raise ValueError(f"--backbone {backbone} does not take {side} x {side} images (see --resolution): {error}") from error


def check_folder(out: Path) -> None:
    """Raise where nothing could be saved, before hours are spent."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file; a folder is needed")
    if out.is_dir() and any(out.iterdir()) and not (out / hub.CONFIG).is_file():
        raise FileExistsError(f"--out {out} holds other files; name a new folder, or one with an adapter to replace")
    above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(above, os.W_OK):
        raise PermissionError(f"--out {out}: nothing can be written in {above}")


def chosen_normalisation(choice: str, ref: str, predictor: Any) -> Normalisation | None:
    known = {"imagenet": IMAGENET, "none": None}
    if choice == "auto":
        return normalisation(ref, predictor)
    if choice not in known:
        raise ValueError(f"unknown normalization {choice!r}; known: auto, {', '.join(known)}")
    return known[choice]


def device_of(name: str) -> torch.device:
    try:
        return torch.zeros(0, device=name).device
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError
        raise ValueError(f"--device {name} cannot be used here: {str(error).strip().partition(chr(10))[0]}") from error


def adapted(predictor: Any, adapter: str, backbone: str | None, top_k: int | None, coverage: float | None) -> Equivariant:
    """The saved canonicalizer around this predictor: kinds from the table of known predictors, else as they were saved."""
    canonicalizer, saved = restored(adapter, predictor, backbone)
    known = known_kinds(predictor)
    kinds = (
        {"inputs": known[0], "outputs": known[1]}
        if None not in known
        else {name: saved[name] for name in ("inputs", "outputs")}
    )
    doubt = {"top_k": saved["top_k"], "coverage": saved["coverage"]}
    if top_k is not None or coverage is not None:
        doubt = {"top_k": top_k or 1, "coverage": coverage}
    model = adapt(predictor, canonicalizer.group, canonicalizer=canonicalizer, **kinds, **doubt)
    model.opinion = saved.get("opinion")
    return model


def restored(adapter: str, predictor: Any, backbone: str | None) -> tuple[Canonicalizer, dict[str, Any]]:
    network = hub.read(adapter)[0].get("network")
    if network is not None and backbone is None:
        raise ValueError(f"{adapter} was fitted with a backbone, a {network}: add --backbone with the reference it was given")
    if network is None and backbone is not None:
        raise ValueError(f"{adapter} was fitted without a backbone: leave --backbone {backbone} out")
    return hub.restore(adapter, predictor, scoring_network(backbone))


def check_predictor(ref: str, predictor: Any, data: LabelledImages, in_order: bool, device: torch.device) -> None:
    """Run it once: raise where it does not take the images or has too few classes, and warn where labels seem to be missing."""
    first = next(iter(data), None)
    if first is None:
        raise ValueError(f"none of the {len(data)} images can be read; the first: {data.skipped[0]}")
    try:
        with torch.no_grad():
            logits = first_logits(predictor(first[0][None].to(device)))
    except Exception as error:  # predictors raise whatever they like
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{ref} fails on an image of {data.size} x {data.size} pixels (see --size): {reason}") from error
    if logits is None or logits.ndim != 2:
        return
    num_classes, greatest = logits.shape[1], max(data.index.values())
    if greatest >= num_classes:
        raise ValueError(f"{ref} knows {num_classes} classes, and the class index goes up to {greatest}")
    if in_order and num_classes != len(data.index):
        say(
            f"note: {ref} knows {num_classes} classes and the folder has {len(data.index)} subfolders, taken for classes 0 to "
            f"{greatest} in sorted order; should there be --labels?",
            err=True,
        )


def no_predictor(*args: Any) -> Any:
    raise ValueError("this canonicalizer needs its predictor")
