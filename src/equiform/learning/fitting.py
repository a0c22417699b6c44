"""Fitting a canonicalizer: on unlabelled upright inputs with the prior alone, or jointly with a task loss."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from equiform.canonicalizers.clouds import CloudCanonicalizer

from .._optional import optional
from ..batching.calls import fitting_kinds, images_of, inputs_of, invoke, to_device
from ..canonicalizers.base import Canonicalizer
from ..equivariant import Equivariant
from ..geometry.groups import AboutZ, Group, Octahedral, inverse, protocol
from ..geometry.moving import act
from ..images.files import read_squares
from ..learning import priors
from ..predictors.pairs import read_photo
from ..second_opinion import Opinion, linear_scorer, orbit_logits
from .augmentation import Augmentation, random_crops
from .cloud_augmentation import CloudAugmentation
from .data import batches
from .teacher import Teacher

EPOCHS, LR, AUGMENTATION, CLOUD_AUGMENTATION = 24, 1e-3, Augmentation(), CloudAugmentation()
SQUARE = 1.5  # side of the images kept for training, in sides of the view: crops down to 2/3 of it lose no detail


@dataclass(frozen=True)
class Fit:
    """What `fit` did: one dict a epoch (loss, and pose_accuracy where there is validation data), the files it skipped."""

    history: list[dict[str, float]]
    skipped: list[str] = field(default_factory=list)


def fit(
    model: Equivariant,
    data: Any,
    *,
    val: Any = None,
    teacher: Teacher | None = None,
    prior: str | Tensor = "identity",
    task_loss: Callable[[Any, Any], Tensor] | None = None,
    prior_weight: float = 1.0,
    train_predictor: bool = False,
    group: str | Group | None = None,
    targets: Any = None,
    epochs: int = EPOCHS,
    lr: float = LR,
    weight_decay: float = 0.05,
    batch_size: int = 32,
    augmentation: Augmentation | CloudAugmentation | None = AUGMENTATION,
    patience: int | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    **trainer_options: Any,
) -> Fit:
    """Train the canonicalizer of `model`, in place. Returns the history; the canonicalizer is left in eval mode.

    data: unlabelled inputs in the poses the predictor knows: a tensor (n, c, h, w), a folder of images, a list of files or PIL
    images, a Dataset or a DataLoader of inputs, or of tuples that begin with them; in a dict the image is found by its kind.
    Files and tensors are kept in memory as small squares: whole images, or what the canonicalizer cuts of them.
    teacher: large pretrained features that judge each image once before training, against overfitting on few images.
    val: the same, held out; pose accuracy on it decides which epoch is kept, and `patience` epochs without a better one end
    the training. prior: "identity", "uniform", or a histogram of |G| counts.
    Clouds: data are inputs as the predictor takes them, kept as they are, or a list of clouds (n, 3) of many sizes; prior:
    "identity", "upright" (the z axis alone), or a weight for each axis; augmentation: a `CloudAugmentation`.

    By default the predictor never runs. With `task_loss(output, target)` the data are (inputs, target) batches and the whole
    model is trained, straight through the choice of a pose (Mondal et al. 2023, sec. 3), on floating-point images; the prior's
    loss is added with `prior_weight`. On images that are not square, only poses of one canvas compete. The predictor itself is
    trained only with `train_predictor=True`. group: how the clouds of joint training are turned at every step, and their
    targets with them, as the outputs move or as `targets` says: a group of space, or a protocol, "z/z", "z/SO3" or "SO3/SO3",
    whose first part it is; `evaluate` takes the second.

    checkpoint: a folder; a run that was killed goes on from it when called again alike. Everything else goes to
    `lightning.Trainer` (devices, strategy, precision, enable_progress_bar, max_time, ...). Two runs with one seed agree.

    Raises ValueError or TypeError where the data, the options or the canonicalizer cannot be used.
    """
    _check_adapted(model)
    canonicalizer = model.canonicalizer
    if not canonicalizer.learns or not any(p.requires_grad for p in canonicalizer.parameters()):
        other = "a SearchCanonicalizer" if model.group.dim == 3 else "an OrbitCanonicalizer (of a cascade, fit each alone)"
        raise ValueError(f"the {canonicalizer.name} canonicalizer has nothing to learn: use {other}")
    if task_loss is None and (targets is not None or train_predictor or prior_weight != 1.0):
        raise ValueError(
            "targets, train_predictor and prior_weight are for training with task_loss: without one the prior is all"
        )
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1; got {value!r}")
    turning = _turning(model, group, task_loss is not None)
    optional("lightning", "all")  # which says what is wrong where a torchvision beside it does not load
    from . import training

    is_cloud = isinstance(canonicalizer, CloudCanonicalizer)
    if is_cloud and augmentation is AUGMENTATION:
        augmentation = CLOUD_AUGMENTATION
    if augmentation is not None and isinstance(augmentation, CloudAugmentation) is not is_cloud:
        wanted = "a CloudAugmentation" if is_cloud else "an Augmentation"
        raise TypeError(f"the {canonicalizer.name} canonicalizer needs {wanted}; got a {type(augmentation).__name__}")
    side = 0 if is_cloud else round(SQUARE * max(canonicalizer.view_size, teacher.size if teacher is not None else 0))
    histogram = priors.frame_prior(prior) if is_cloud else priors.prior(canonicalizer.group, prior)
    if is_cloud and task_loss is None:
        _orbit(canonicalizer, prior)  # which says where the prior leaves nothing to learn
    data, skipped = _in_memory(data, canonicalizer, side) if task_loss is None else (data, [])
    if teacher is not None:
        if not isinstance(data, Tensor) or is_cloud:
            raise TypeError("a teacher needs a tensor or a folder of images, and no task_loss")
        posteriors = teacher.posteriors(data, canonicalizer.group, seed)
        data = TensorDataset(data, (1 - teacher.weight) * histogram + teacher.weight * posteriors)
    squeezed = None if is_cloud else SquareCollate(side, model.inputs, canonicalizer.squares)
    collate = None if task_loss is not None or teacher is not None else squeezed
    loader = batches(data, model.inputs, batch_size, seed=seed, collate=collate)
    held_out, skipped_too = _in_memory(val, canonicalizer, side)
    held_out = None if val is None else batches(held_out, model.inputs, batch_size, collate=squeezed)
    options = training.Options(epochs, lr, weight_decay, augmentation, seed, side, histogram, teacher is not None)
    with quiet(), _restored(model, task_loss is not None), torch.random.fork_rng():
        torch.manual_seed(seed)
        if task_loss is None:
            module = training.PriorTraining(canonicalizer, model.inputs, options)
        else:
            module = training.JointTraining(model, options, task_loss, prior_weight, train_predictor, turning, targets)
        training.run(module, loader, held_out, options, patience, checkpoint, trainer_options)
    return Fit(module.history, skipped + skipped_too)


def fit_opinion(
    model: Equivariant,
    data: Any,
    *,
    batch_size: int = 32,
    penalty: float = 0.05,
    prior: str | Tensor = "identity",
    crops: int = 1,
    seed: int = 0,
) -> None:
    """Fit the predictor's second opinion on unlabelled canonical inputs, in place; for classifiers.

    data: inputs as the predictor takes them: a tensor (n, c, h, w), a Dataset or a DataLoader (of inputs, or of tuples that
    begin with them). It counts wherever several poses are run (top_k, coverage). Beside every square image, that many random
    crops of it are judged, against overfitting on few images. Costs (1 + crops) |G| forward passes an input, once.
    Clouds (b, n, 3) of continuous groups are turned by the rotations of the cube; prior: as in `fit`.
    """
    _check_adapted(model)
    loader = batches(data, model.inputs, batch_size)
    back = inverse(_orbit(model.canonicalizer, prior))
    logits, generator = [], torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for batch in loader:
            whole = to_device(inputs_of(batch, model.inputs), back.device)
            moving = fitting_kinds(model.inputs, whole)
            for x in (whole, *_crops(whole, model, crops, generator)):
                orbit = (act(g[None], x, moving) for g in back)
                logits.append(orbit_logits((invoke(model.predictor, model.predictor, y) for y in orbit), model.outputs))
    if not bool((features := torch.cat(logits)).isfinite().all()):
        raise ValueError("the predictor's logits on these data are not all finite: are all inputs?")
    weight = linear_scorer(features, penalty)
    model.opinion = Opinion(weight).to(back.device)


def _crops(x: Any, model: Equivariant, crops: int, generator: torch.Generator) -> Iterator[Any]:
    """Random crops, resized to what they were cut from; none of what is no batch or list of square floating-point images."""
    if isinstance(model.canonicalizer, CloudCanonicalizer):
        return
    alike = isinstance(x, list) and len({getattr(image, "shape", None) for image in x}) == 1
    images = torch.stack(x) if alike and isinstance(x[0], Tensor) else x
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.dtype.is_floating_point:
        return
    if images.shape[2] == images.shape[3]:
        for _ in range(crops):
            cut = random_crops(images, model.group, images.shape[3], AUGMENTATION, generator, model.group.identity(len(images)))
            yield list(cut.to(images.dtype)) if alike else cut.to(images.dtype)


def _check_adapted(model: Any) -> None:
    if not isinstance(model, Equivariant):
        raise TypeError(f"model is what equiform.adapt returns; got a {type(model).__name__}")


def _turning(model: Equivariant, which: str | Group | None, joint: bool) -> Group | None:
    """The group that training clouds are turned by; None where they stay as they come."""
    if which is None:
        return None
    if not joint:
        raise ValueError(
            "group is for training with task_loss: without one, every view is turned by the whole group of the model, and "
            "prior='upright' says that turns about z are alike"
        )
    turning = protocol(which, 0)
    if model.group.dim != 3 or turning.dim != 3:
        raise ValueError(f"group turns clouds by a group of space; the model's is {model.group.name}, got {turning.name}")
    return turning


def _orbit(canonicalizer: Canonicalizer, prior: str | Tensor) -> Tensor:
    """The identity, and elements that the prior tells from it. Raises ValueError where there are none."""
    if not isinstance(canonicalizer, CloudCanonicalizer):
        return canonicalizer.elements
    group = canonicalizer.space
    elements = (group if group.order else AboutZ(4) if group.axis else Octahedral(group.reflections)).elements
    apart = priors.frame_distance(elements[:, :3, :3], torch.eye(3), priors.frame_prior(prior))
    if not bool((apart > 0.1).any()):
        raise ValueError(
            f"the prior {prior!r} takes all of {group.name} as alike, which leaves nothing to learn: use 'identity'"
        )
    return torch.cat([elements[:1], elements[apart > 0.1]]).to(canonicalizer.device)


@contextlib.contextmanager
def _restored(model: Equivariant, moved: bool) -> Iterator[None]:
    """Leave modes, requires_grad, dtypes and devices as they were, but for the canonicalizer's mode."""
    dtypes = [tensor.dtype for tensor in _tensors(model.canonicalizer)]
    modes = {module: module.training for module in model.modules()}
    grads = {p: p.requires_grad for p in model.parameters()}
    device = model.canonicalizer.device
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, needed in grads.items():
            parameter.requires_grad_(needed)
        # only what may have been moved: a predictor that took no part stays where it is
        trained = model if moved else model.canonicalizer
        trained.to(device)
        for tensor, dtype in zip(_tensors(model.canonicalizer), dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)
        model.canonicalizer.eval()


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the trainer's advice on workers and its line on accelerators; real warnings still come through."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for advice in ("num_workers", "log_every_n_steps", "in eval mode", "validation_step", "is not empty", "LeafSpec"):
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        try:
            yield
        finally:
            logger.setLevel(level)


# ---------------------------------------------------------------------------------------------------------------- data


def _in_memory(data: Any, canonicalizer: Canonicalizer, side: int) -> tuple[Any, list[str]]:
    """Files and tensors as one tensor of squares, other data (all of it for side 0) as they are; and the files skipped."""
    if side == 0:
        return data, []
    listed = isinstance(data, list) and bool(data)
    if isinstance(data, (str, Path)) or (listed and all(isinstance(file, (str, Path)) for file in data)):
        return read_squares(data, side, canonicalizer.read)
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    if listed and any(_is_picture(photo) for photo in data):
        data = [read_photo(photo) for photo in data]
    if isinstance(data, Tensor):
        return torch.cat([canonicalizer.squares(part, side) for part in data.split(256)]), []
    return data, []


def _is_picture(image: Any) -> bool:
    return isinstance(image, optional("PIL.Image", "all").Image)


@dataclass(frozen=True)
class SquareCollate:
    """Samples to a batch of squares, whatever the sizes of their images (a class, so that workers can be sent it)."""

    side: int
    inputs: Any
    squares: Callable[[Any, int], Tensor]

    def __call__(self, samples: Sequence[Any]) -> Tensor:
        images = [images_of(sample, self.inputs) for sample in samples]
        images = [read_photo(image) if isinstance(image, (str, Path)) or _is_picture(image) else image for image in images]
        return torch.cat([self.squares(image[None] if isinstance(image, Tensor) else image, self.side) for image in images])
