"""What the commands build from their options: models, networks and the checks that go before the work."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import ready, saving
from .._checks import named, reason
from ..canonicalizers.base import Canonicalizer
from ..canonicalizers.images import ImageCanonicalizer
from ..canonicalizers.networks import scorer
from ..canonicalizers.orbit import OrbitCanonicalizer
from ..equivariant import Equivariant, adapt
from ..geometry import nested
from ..geometry.actions import ACTIONS
from ..geometry.groups import Group
from ..geometry.groups import group as group_of
from ..geometry.kinds import Rows
from ..geometry.nested import first_logits
from ..images.files import ImageFiles, LabelledImages, Normalisation, find_images, normalised
from ..learning.fitting import Fit, fit_opinion
from ..learning.teacher import Teacher
from ..predictors import known_kinds
from ..predictors.references import IMAGENET, check_reference, load_reference, normalisation, parse_reference
from ..upright import Upright
from .text import count, say

NORMALISATIONS: dict[str, Normalisation | None] = {"auto": None, "imagenet": IMAGENET, "none": None}
FEWEST, MOST_ASIDE = 50, 500  # photos, of which a tenth is kept aside; as many at most
READERS = "for readers, which take a list of photos and give the text of each"
CLASSIFIED = ("logits", "invariant")  # the kinds that a classifier's answer may have


def to_fit(predictor: str, canonicalizer: Canonicalizer, outputs: str | None, runs: bool) -> Equivariant:
    """The model to fit: around the predictor, or a stand-in where it does not run and the kind of its outputs is given."""
    if outputs is not None and not runs:
        return adapt(stand_in, canonicalizer.group, outputs=outputs, canonicalizer=canonicalizer)
    loaded = load_reference(predictor)
    if outputs is not None:
        return adapt(loaded, canonicalizer.group, outputs=outputs, canonicalizer=canonicalizer)
    if known_kinds(loaded)[1] is None:
        raise ValueError(
            f"how the outputs of {predictor} move is not known: add --outputs logits for a classifier, --outputs mask for a "
            f"segmenter; known kinds: {', '.join(sorted(ACTIONS))}"
        )
    return adapt(loaded, canonicalizer.group, canonicalizer=canonicalizer)


def teacher_of(ref: str, size: int) -> Teacher:
    """A teacher that looks at the answers of the classifier that a reference names."""
    classifier = load_reference(ref)
    wanted = normalisation(ref, classifier)

    def features(images: Tensor) -> Tensor:
        logits = answer_of(f"--teacher {ref}", classifier, normalised(images, wanted))
        if logits is None or logits.ndim != 2:
            raise ValueError(f"--teacher {ref} gives no logits (b, k): a classifier is needed")
        return logits

    return Teacher(features, size)


def add_opinion(model: Equivariant, ref: str, folder: Path, size: int, batch_size: int) -> None:
    """Fit the second opinion of the predictor that a reference names on the photos of a folder."""
    photos = ImageFiles([(file, 0) for file in find_images(folder)], size)
    photos.normalisation = normalisation(ref, model.predictor)
    first_answer(ref, model.predictor, photos, torch.device("cpu"))
    fit_opinion(model, photos, batch_size=batch_size)


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


def begun(group: str, start: str | None, backbone: str | None, resolution: int | None) -> tuple[ImageCanonicalizer, str]:
    """What is to be fitted, and the name of the ready-made canonicalizer that the fit goes on from, "" where it is none.

    Raises ValueError where both such a name and a network of another kind are asked for.
    """
    own = [option for option, given in (("--backbone", backbone), ("--resolution", resolution)) if given is not None]
    start = start or (None if own else ready.default(group)) or "none"
    start = named("--start", start, [*ready.names(), "none"])
    if start == "none":
        check_group(group, own)
        return OrbitCanonicalizer(group, scoring_network(backbone), resolution=resolution or 64), ""
    if own:
        raise ValueError(f"--start {start} has a network and a resolution: leave out {' and '.join(own)}, or --start")
    canonicalizer: Any = saving.restore(start, stand_in, None)[0]
    if canonicalizer.group.name != group:
        way_out = "leave it out" if ready.default(group) else "--start none for a new network"
        raise ValueError(f"--start {start} is for {canonicalizer.group.name}, not for {group}: {way_out}")
    return canonicalizer, start


def check_group(name: str, own: Sequence[str]) -> None:
    """Raise ValueError for a group that no new network is for. `own`: the options that ask for one."""
    group = group_of(name)
    if group.dim != 2 or group.translations:
        raise ValueError(
            f"--group {name}: photos are turned, as by C4, D4, C16 or SO2; others are fitted in Python, by equiform.fit"
        )
    if group.order is None:
        known = ready.default(name)
        way_out = f"leave {' and '.join(own) or '--start'} out ({known}), or take" if known else "take"
        raise ValueError(f"--group {name}: a new network is for finite groups: {way_out} {group.finite.name}")


def check_network(canonicalizer: ImageCanonicalizer, backbone: str | None) -> None:
    """Raise ValueError at once where the backbone does not take views of that resolution."""
    if backbone is None:
        return
    side = canonicalizer.resolution
    try:
        with torch.no_grad():
            canonicalizer.eval()(torch.zeros(1, canonicalizer.channels, side, side))
    except Exception as error:  # modules raise whatever they like
        raise ValueError(
            f"--backbone {backbone} does not take {side} x {side} images (see --resolution): {reason(error)}"
        ) from error


def check_aside(folder: Path, val: Path | None) -> None:
    """Raise where there are no photos, or where those of `val` would be trained on too: they would say nothing."""
    files = find_images(folder)
    if val is None:
        return
    held_out = find_images(val)
    if both := {file.resolve() for file in files} & {file.resolve() for file in held_out}:
        raise ValueError(
            f"--val {val}: {len(both)} of its {count(len(held_out), 'photo')} lie in {folder} too, and would be trained on; "
            "keep them elsewhere, or leave --val out: a tenth is kept aside then"
        )


def kept_aside(folder: Path, seed: int) -> tuple[list[Path], list[Path] | None]:
    """The photos of a folder to train on, and a tenth of them kept aside, at most MOST_ASIDE; None where there are few."""
    files = find_images(folder)
    if len(files) < FEWEST:
        return files, None
    drawn = random.Random(seed).sample(files, min(len(files) // 10, MOST_ASIDE))
    return sorted(set(files) - set(drawn)), drawn


def say_reached(result: Fit, val: Path | None, aside: Any) -> None:
    """What a fit reached, and what would help."""
    accuracies = [epoch["pose_accuracy"] for epoch in result.history if "pose_accuracy" in epoch]
    if accuracies:
        where = f"on {val}" if val is not None else f"on {count(len(aside), 'photo')} kept aside"
        say(f"pose accuracy {where}: {max(accuracies):.3f}")
    say(f"loss {result.history[-1]['loss']:.3f} after {count(len(result.history), 'epoch')}; {result.advice}")


def check_adapter_folder(out: Path, overwrite: bool) -> None:
    """Raise where no adapter could be saved, or, unless it may be, one would be replaced, before hours are spent."""
    check_folder("--out", out)
    saving.check_ours(out)
    if out.is_dir() and any(out.iterdir()) and not (out / saving.WEIGHTS).is_file():
        raise FileExistsError(f"--out {out} holds other files; name a new folder, or one with an adapter to replace")
    if (out / saving.WEIGHTS).is_file() and not overwrite:
        raise FileExistsError(f"--out {out} holds an adapter already: --overwrite replaces it")


def check_folder(option: str, folder: Path) -> None:
    """Raise where nothing could be written in that folder, new or not."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{option} {folder} is a file; a folder is needed")
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise PermissionError(f"{option} {folder}: nothing can be written in {above}")


def check_file(option: str, file: Path, overwrite: bool = True) -> None:
    """Raise where that file could not be written, or, unless it may be, where it would be overwritten."""
    if file.is_dir():
        raise IsADirectoryError(f"{option} {file} is a folder; name a file")
    if file.exists() and not overwrite:
        raise FileExistsError(f"{option} {file} is there already: --overwrite replaces it")
    check_folder(option, file.absolute().parent)


def chosen_normalisation(choice: str, ref: str, predictor: Any) -> Normalisation | None:
    return normalisation(ref, predictor) if choice == "auto" else NORMALISATIONS[choice]


def tell_of_pixels(ref: str, choice: str) -> None:
    """Say what pixels the predictor of a file is given, unless the user has said it: with others it is wrong without a word."""
    if choice == "auto" and parse_reference(ref).source == "file":
        say(f"note: {ref} is given RGB in [0, 1]; if it wants other pixels: --normalize imagenet (none: no note)", err=True)


def tell_of_poses(adapter: str, known: Group, measured: str | None) -> None:
    """Say that some of the poses that are measured are none that the adapter finds."""
    if measured is None or not known.dim == group_of(measured).dim == 2:
        return
    elements = group_of(measured).finite.elements
    if not torch.allclose(known.nearest(elements), elements, atol=1e-3):
        say(f"note: {adapter} finds poses of {known.name}; other poses of {measured} are measured, and not found", err=True)


def device_of(name: str) -> torch.device:
    try:
        return torch.zeros(0, device=name).device
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError
        raise ValueError(f"--device {name} cannot be used here: {reason(error)}") from error


def check_adapter(adapter: str, backbone: str | None) -> None:
    """Raise where there is no such adapter, or where it wants a backbone, or another one."""
    network = saving.read(adapter)[0].get("network")
    if network is not None and backbone is None:
        raise ValueError(f"{adapter} was fitted with a backbone, a {network}: add --backbone with the reference it was given")
    if network is None and backbone is not None:
        raise ValueError(f"{adapter} was fitted without a backbone: leave --backbone {backbone} out")
    if backbone is not None:
        check_reference(backbone)


def restored(adapter: str, predictor: Any, backbone: str | None) -> tuple[Canonicalizer, dict[str, Any]]:
    check_adapter(adapter, backbone)
    return saving.restore(adapter, predictor, scoring_network(backbone))


def around(
    predictor: Any,
    adapter: str,
    backbone: str | None,
    top_k: int | None,
    coverage: float | None,
    outputs: str | None = None,
) -> Equivariant:
    """The saved canonicalizer around this predictor: kinds from the table of known ones, else as they were saved."""
    canonicalizer, saved = restored(adapter, predictor, backbone)
    kinds = kinds_of(predictor, saved, outputs)
    doubt = {"top_k": saved["top_k"], "coverage": saved["coverage"]}
    prior = saved["prior"]
    if top_k is not None or coverage is not None:
        doubt = {"top_k": top_k or 1, "coverage": coverage}
    model = adapt(predictor, canonicalizer.group, canonicalizer=canonicalizer, prior=prior, **kinds, **doubt)
    model.opinion = saved.get("opinion")
    return model


def kinds_of(predictor: Any, saved: Mapping[str, Any], outputs: str | None) -> dict[str, Any]:
    """The kinds of a predictor: as said, of the table of known ones, or as they were saved.

    A ready-made adapter is for any predictor of photos; where nothing else is said they are classifiers. One for readers of
    text is for any other whose outputs are said.
    """
    inputs, known = known_kinds(predictor)
    if for_readers(saved["outputs"]) and (outputs or known):
        saved = {"inputs": None, "outputs": None}
    return {
        "inputs": inputs or saved["inputs"] or "image",
        "outputs": outputs or known or saved["outputs"] or "logits",
    }


def for_readers(outputs: Any) -> bool:
    """Whether outputs are those of a reader: the text of each photo of a list."""
    return isinstance(outputs, Rows) and isinstance(outputs.kinds, dict) and "text" in outputs.kinds


def adapted(predictor: Any, adapter: str, backbone: str | None, top_k: int | None, coverage: float | None) -> Equivariant:
    """The saved canonicalizer around this classifier. Raises ValueError where it gives no classes."""
    model = around(predictor, adapter, backbone, top_k, coverage)
    if for_readers(model.outputs):
        raise ValueError(
            f"{adapter} is {READERS}, and this command is for classifiers: with one take --adapter photos-c4; a "
            "reader is measured in Python, by equiform.evaluate"
        )
    found: list[Any] = []
    nested.map_kinds(found.append, model.outputs)
    if not any(getattr(kind, "name", "") in CLASSIFIED for kind in found):
        raise ValueError(
            f"outputs that move as {model.outputs!r} (so says {adapter}) are no classes, and this command measures "
            "classifiers: fit with --outputs logits if the predictor is one, or measure it in Python with equiform.evaluate"
        )
    return model


def answer_of(ref: str, predictor: Callable[..., Any], images: Tensor) -> Tensor | None:
    """The logits of images, None where there are none. Raises ValueError naming the predictor and the size it failed on."""
    try:
        with torch.no_grad():
            return first_logits(predictor(images))
    except Exception as error:  # predictors raise whatever they like
        size, said = " x ".join(map(str, images.shape[2:])), f"{type(error).__name__}: {reason(error)}"
        raise ValueError(f"{ref} fails on an image of {size} pixels (see --size): {said}") from error


def first_answer(ref: str, predictor: Callable[..., Any], data: ImageFiles, device: torch.device) -> Tensor | None:
    """What the predictor says of the first image that can be read."""
    first = next(iter(data), None)
    if first is None:
        raise ValueError(f"none of the {len(data)} images can be read; the first: {data.skipped[0]}")
    return answer_of(ref, predictor, first[0][None].to(device))


def check_predictor(ref: str, predictor: Any, data: LabelledImages, in_order: bool, device: torch.device) -> None:
    """Run it once: raise where it does not take the images or has too few classes, and warn where labels seem to be missing."""
    logits = first_answer(ref, predictor, data, device)
    if logits is None or logits.ndim != 2:
        return
    num_classes, greatest = max(logits.shape[1], 2), max(data.index.values())  # one logit: yes or no
    subfolders = count(len(data.index), "subfolder")
    if greatest >= num_classes:
        raise ValueError(f"{ref} knows {num_classes} classes, and the class index goes up to {greatest}")
    if in_order and num_classes != len(data.index):
        say(
            f"note: {ref} knows {num_classes} classes and the folder has {subfolders}, taken for classes 0 to "
            f"{greatest} in sorted order; should there be --labels?",
            err=True,
        )


def upright_step(adapter: str | None, backbone: str | None, any_angle: bool, **options: Any) -> Upright:
    """What turns files upright: the adapter that was named, or the ready-made one for quarter turns or for any angle.

    Raises ValueError for one that needs its predictor, and for one of quarter turns where any angle is asked for.
    """
    adapter = adapter or ready.DEFAULTS["SO2" if any_angle else "C4"]
    canonicalizer, saved = restored(adapter, no_predictor, backbone)
    if not canonicalizer.learns:
        raise ValueError(
            f"{adapter} holds a canonicalizer of kind {canonicalizer.name}, which says nothing without its predictor"
        )
    group = canonicalizer.group
    if any_angle and group.on_grid:
        raise ValueError(
            f"--any-angle: {adapter} is for {group.name}, which has no other turns: leave --adapter out, or take one for SO2"
        )
    if group.on_grid and (options["quarter"] or options["fill"] is not None):
        raise ValueError(
            f"--quarter and --fill are for --any-angle; {adapter} is for {group.name}, turned without loss as it is"
        )
    options["prior"] = saved["prior"] if options["prior"] is None else options["prior"]
    return Upright(canonicalizer, **options)


def no_predictor(*args: Any) -> Any:
    raise ValueError("this canonicalizer needs its predictor")
