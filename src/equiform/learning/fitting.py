"""Fitting a canonicalizer: on unlabelled upright inputs with the prior alone, or jointly with a task loss."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._checks import MAX_SEED, check_positive, check_whole
from .._optional import beside_torchvision
from ..batching.calls import fitting_kinds, inputs_of, invoke, to_device
from ..canonicalizers.product import ProductCanonicalizer
from ..equivariant import Equivariant
from ..geometry.groups import Group, inverse, protocol
from ..geometry.kinds import looked_at
from ..geometry.moving import act
from ..second_opinion import Opinion, linear_scorer, orbit_logits
from .advice import advice
from .augmentation import Augmentation
from .cloud_augmentation import CloudAugmentation
from .cloud_objective import CloudObjective
from .data import batches, fingerprint
from .image_objective import ImageObjective
from .objective import Objective
from .teacher import Teacher
from .volume_augmentation import VolumeAugmentation
from .volume_objective import VolumeObjective

# the budget is in steps of training, whatever the number of inputs: as many passes over few, as that takes, up to MOST_EPOCHS
STEPS, FURTHER_STEPS, MOST_EPOCHS = 1_200, 100, 100
FURTHER_LR = 1e-4  # for a canonicalizer that was fitted before; of new ones see `Objective.lr`
STREAM_EPOCHS = 10  # passes over data that do not say how many they are
# by the kind that the canonicalizer looks at
OBJECTIVES: dict[str, type[ImageObjective] | type[CloudObjective] | type[VolumeObjective]] = {
    "image": ImageObjective,
    "clip": ImageObjective,
    "points": CloudObjective,
    "volume": VolumeObjective,
}


@dataclass(frozen=True)
class Fit:
    """What `fit` returns: one dict per epoch, and the files it skipped.

    Of an epoch: the loss, the share of poses found in training (without a task loss), on `val` pose_accuracy; of a product the
    group of the factor too.
    """

    history: list[dict[str, Any]]
    skipped: list[str] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """Whether more epochs or more data would help, in a sentence, as far as the history tells."""
        return advice(self.history)

    def __str__(self) -> str:
        """What was reached, and the advice."""
        last = {name: value for name, value in (self.history or [{}])[-1].items() if isinstance(value, float)}
        reached = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in last.items())
        skipped = f", {len(self.skipped)} files skipped" if self.skipped else ""
        num = len(self.history)
        return f"{num} epoch{'s' * (num != 1)}{skipped}, the last: {reached}\n{self.advice}"


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
    epochs: int | None = None,
    lr: float | None = None,
    weight_decay: float = 0.05,
    batch_size: int = 32,
    augmentation: Augmentation | CloudAugmentation | VolumeAugmentation | Literal["default"] | None = "default",
    patience: int | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    **trainer_options: Any,
) -> Fit:
    """Train the canonicalizer of `model`, in place. Returns the history; the canonicalizer is left in eval mode.

    data: unlabelled inputs in the poses the predictor knows: a tensor (n, c, h, w), a folder of images, a list of files or PIL
    images, a Dataset or a DataLoader of inputs, or of tuples that begin with them; in a dict the image is found by its kind.
    Files and tensors are kept in memory as small square thumbnails, or the tiles that the canonicalizer cuts.
    epochs, lr: by default as many epochs as make about 1,200 steps (of `batch_size` inputs), 1 to 100, at 1e-3, of clouds at
    2e-3; about 100 steps at 1e-4 for a canonicalizer that was fitted before, such as a ready-made one.
    teacher: large pretrained features that score each image once before training, against overfitting on few images.
    Of a product of groups the canonicalizer of each factor that is not fitted yet is trained alone, on the same data.
    val: held-out data; the epoch with the best pose accuracy on it is kept, and `patience` epochs without a better one end the
    training; without it all data are trained on, and nothing says how often poses are found on new ones (the command keeps a
    tenth aside by itself). prior: "identity", "uniform", or a histogram of |G| counts.
    Clouds: data are inputs as the predictor takes them, or a list of clouds (n, 3) of any sizes; prior: "identity", "upright"
    (the z axis alone), or a weight for each axis; augmentation: a `CloudAugmentation`.
    Volumes: data are (n, c, d, h, w), or a list of (c, d, h, w) of any sizes; augmentation: a `VolumeAugmentation`.

    By default the predictor never runs. With `task_loss(output, target)` the data are (inputs, target) batches and the whole
    model is trained, straight through the choice of a pose (Mondal et al. 2023, sec. 3), on floating-point images; the prior's
    loss is added with `prior_weight`. On images that are not square, gradients compare poses of one canvas. The predictor is
    trained with `train_predictor=True` alone. group: the group by which the clouds of joint training are turned at every step,
    and their targets with them (`targets`: their kinds, by default those of the outputs): a group of space, or a protocol,
    "z/z", "z/SO3" or "SO3/SO3", of which this is the first part; `evaluate` takes the second.

    checkpoint: a folder; a run that was killed resumes from it when called with the same data and options. All others go to
    `lightning.Trainer` (devices, strategy, precision, enable_progress_bar, max_time, ...). Two runs with one seed agree.

    Raises ValueError or TypeError where the data, the options or the canonicalizer cannot be used.
    """
    _check_adapted(model)
    check_whole(least=0, most=MAX_SEED, seed=seed)
    if lr is not None:
        check_positive(lr=lr)
    joint = task_loss is not None
    if isinstance(model.canonicalizer, ProductCanonicalizer) and not joint:
        alike = {"val": val, "teacher": teacher, "prior": prior, "epochs": epochs, "lr": lr, "weight_decay": weight_decay}
        alike |= {"batch_size": batch_size, "augmentation": augmentation, "patience": patience, "seed": seed}
        return _fit_factors(model, model.canonicalizer, data, checkpoint, alike | trainer_options)
    _check_learns(model)
    if not joint and (targets is not None or train_predictor or prior_weight != 1.0):
        raise ValueError(
            "targets, train_predictor and prior_weight are for training with task_loss: without one the prior is all"
        )
    fitted = model.canonicalizer.fitted
    check_whole(batch_size=batch_size, **({} if epochs is None else {"epochs": epochs}))
    turning = _turning(model, group, joint)
    with beside_torchvision():
        from . import training

    objective = OBJECTIVES[looked_at(model.inputs)](model, prior, teacher)
    data, skipped = (data, []) if joint else _kept(objective, data)
    if teacher is not None:
        data = objective.taught_by(teacher, data, seed)
    collate = None if joint or teacher is not None else objective.collate
    loader = batches(data, model.inputs, batch_size, seed=seed, collate=collate)
    epochs = epochs if epochs is not None else epochs_of(loader, FURTHER_STEPS if fitted else STEPS)
    lr = lr if lr is not None else FURTHER_LR if fitted else objective.lr
    held_out = None
    if val is not None:
        val, skipped_too = objective.in_memory(val)
        held_out, skipped = batches(val, model.inputs, batch_size, collate=objective.collate), skipped + skipped_too
    views = objective.augmentation(augmentation)
    seen = ["" if checkpoint is None else fingerprint(part) for part in (loader, [] if held_out is None else held_out)]
    options = training.Options(epochs, lr, weight_decay, batch_size, views, seed, *seen)
    with quiet(), _restored(model, joint), torch.random.fork_rng():
        torch.manual_seed(seed)
        if task_loss is None:
            module = training.PriorTraining(objective, options)
        else:
            module = training.JointTraining(
                model, objective, options, task_loss, prior_weight, train_predictor, turning, targets
            )
        training.run(module, loader, held_out, patience, checkpoint, trainer_options)
    model.canonicalizer.fitted = True
    if model.canonicalizer.card is not None:  # its figures are of the weights that were
        model.canonicalizer.card = {"started_from": dict(model.canonicalizer.card)}
    return Fit(module.history, skipped)


def epochs_of(loader: Any, steps: int) -> int:
    """The passes over a loader that make about that many steps."""
    try:
        each = len(loader)
    except TypeError:  # a stream
        return STREAM_EPOCHS
    return min(max(round(steps / max(each, 1)), 1), MOST_EPOCHS)


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
    begin with them). It is used wherever several poses are run (top_k, coverage). `crops` random crops of every square image
    are added, against overfitting on few images. Costs (1 + crops) |G| forward passes an input, once.
    Clouds (b, n, 3) of continuous groups are turned by the rotations of the cube; prior: as in `fit`.
    """
    _check_adapted(model)
    check_whole(least=0, most=MAX_SEED, seed=seed)
    objective = OBJECTIVES[looked_at(model.inputs)](model, prior)
    loader = batches(data, model.inputs, batch_size)
    back = inverse(objective.orbit())
    logits, generator = [], torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for batch in loader:
            whole = to_device(inputs_of(batch, model.inputs), back.device)
            moving = fitting_kinds(model.inputs, whole)
            for x in (whole, *objective.crops(whole, crops, generator)):
                orbit = (act(g[None], x, moving) for g in back)
                logits.append(orbit_logits((invoke(model.predictor, model.predictor, y) for y in orbit), model.outputs))
    if not bool((features := torch.cat(logits)).isfinite().all()):
        raise ValueError("the predictor's logits on these data are not all finite: are all inputs?")
    weight = linear_scorer(features, penalty)
    model.opinion = Opinion(weight).to(back.device)


def _fit_factors(
    model: Equivariant, product: ProductCanonicalizer, data: Any, checkpoint: str | Path | None, options: dict[str, Any]
) -> Fit:
    """Each part of a product that is not fitted yet, alone; where all are, all that learn."""
    learning = {name: part for name, part in product.parts.items() if part.learns or isinstance(part, ProductCanonicalizer)}
    unfitted = {name: part for name, part in learning.items() if part.untrained} or learning
    history, skipped = [], []
    for name, part in unfitted.items():
        alone = Equivariant(model.predictor, part, model.inputs, model.outputs)
        done = fit(alone, data, checkpoint=None if checkpoint is None else Path(checkpoint) / name, **options)
        history += [{"group": part.group.name, **epoch} for epoch in done.history]
        skipped = done.skipped
    return Fit(history, skipped)


def _check_adapted(model: Any) -> None:
    if not isinstance(model, Equivariant):
        raise TypeError(f"model is what equiform.adapt returns; got a {type(model).__name__}")


def _check_learns(model: Equivariant) -> None:
    canonicalizer = model.canonicalizer
    if not canonicalizer.learns or not any(p.requires_grad for p in canonicalizer.parameters()):
        other = "a SearchCanonicalizer" if model.group.dim == 3 else "an OrbitCanonicalizer (of a cascade, fit each alone)"
        other = "a VolumeCanonicalizer" if looked_at(model.inputs) == "volume" else other
        way_out = f"use {other}"
        if model.group.wraps:
            way_out = "the model needs no fit"
        elif not canonicalizer.learns and not canonicalizer.parts:
            way_out = f"the model needs no fit; to learn poses, adapt with {other.partition(' (')[0]}"
        raise ValueError(f"the {canonicalizer.name} canonicalizer has nothing to learn: {way_out}")


def _turning(model: Equivariant, which: str | Group | None, joint: bool) -> Group | None:
    """The group that training clouds are turned by; None where they are not turned."""
    if which is None:
        return None
    if not joint:
        raise ValueError(
            "group is for training with task_loss: without one, every view is turned by the whole group of the model, and "
            "prior='upright' says that turns about z are alike"
        )
    turning = protocol(which, 0)
    if looked_at(model.inputs) == "volume" or model.group.dim != 3 or turning.dim != 3:
        came = "volumes" if looked_at(model.inputs) == "volume" else turning.name
        raise ValueError(f"group turns clouds by a group of space; the model's is {model.group.name}, got {came}")
    return turning


def _kept(objective: Objective, data: Any) -> tuple[Any, list[str]]:
    objective.orbit()  # which says where the prior leaves nothing to learn
    return objective.in_memory(data)


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
