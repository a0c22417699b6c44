"""The training loops behind `fit`, as lightning modules. Imported only when something is fitted."""

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar, TQDMProgressBar
from torch import Tensor, nn

from equiform.canonicalizers.clouds import CloudCanonicalizer

from ..batching.calls import arguments, cloud_in, fitting_kinds, images_of, invoke, target_kinds
from ..canonicalizers.base import Canonicalizer
from ..canonicalizers.poses import Pose, pose_of
from ..equivariant import Equivariant
from ..geometry.clouds import batch_of
from ..geometry.groups import Group
from ..geometry.kinds import as_kinds
from ..geometry.moving import act, first_image
from .augmentation import Augmentation, blended, training_views
from .cloud_augmentation import CloudAugmentation, varied
from .priors import frame_distance, frame_loss, moved_prior, prior_loss

MONITOR = "pose_accuracy"
OURS = "equiform"
NEAR = (2 * math.sin(math.radians(20) / 2)) ** 2  # a frame counts as right whose axes are, on average, 20 degrees off at most


@dataclass(frozen=True)
class Options:
    """The numbers of a run."""

    epochs: int
    lr: float
    weight_decay: float
    augmentation: Augmentation | CloudAugmentation | None
    seed: int
    side: int
    prior: Tensor
    taught: bool = False

    def plain(self) -> dict[str, Any]:
        """What a resumed run must have in common with the first."""
        numbers = {name: getattr(self, name) for name in ("epochs", "lr", "weight_decay", "seed", "side", "taught")}
        return numbers | {"prior": self.prior.tolist()}


class PriorTraining(lightning.LightningModule):
    """The canonicalizer alone: cross-entropy of its posterior with the prior, on varied views of upright inputs."""

    def __init__(self, canonicalizer: Canonicalizer, inputs: Any, options: Options):
        super().__init__()
        self.canonicalizer, self.inputs, self.options = canonicalizer.train(), inputs, options
        self.history: list[dict[str, float]] = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[OURS] = {"options": self.options.plain()}

    def get_extra_state(self) -> list[dict[str, float]]:
        # beside the weights, which are all that comes back from the processes of a strategy that spawns them
        return self.history

    def set_extra_state(self, state: list[dict[str, float]]) -> None:
        self.history = list(state)

    def on_train_epoch_start(self) -> None:
        # every epoch starts from its own seed, so that a resumed run repeats the uninterrupted one
        torch.manual_seed(self.options.seed * 10_007 + self.current_epoch)

    def _generator(self, step: int) -> torch.Generator:
        step = step * self.trainer.world_size + self.global_rank  # no two processes vary their views alike
        return torch.Generator().manual_seed((self.options.seed * 10_007 + self.current_epoch) * 100_003 + step)

    def _prior_loss(self, batch: Any, augmentation: Any, step: int) -> tuple[Tensor, Tensor]:
        """The loss, and per row whether the likeliest pose is the right one."""
        if isinstance(self.canonicalizer, CloudCanonicalizer):
            return self._cloud_loss(batch, augmentation, step)
        taught = batch[1] if self.options.taught and isinstance(batch, (tuple, list)) and len(batch) == 2 else None
        images = _channels(
            self.canonicalizer.squares(images_of(batch, self.inputs), self.options.side), self.canonicalizer.channels
        )
        group, generator = self.canonicalizer.group, self._generator(step)
        target = self.options.prior.expand(len(images), -1) if taught is None else taught
        images, target = blended(images, target, augmentation.blend if augmentation else 0.0, generator)
        views, g = training_views(images, group, self.canonicalizer.view_size, augmentation, generator)
        scores = self.canonicalizer.scores(views).float()
        target = moved_prior(target, g, group).to(scores)
        return prior_loss(scores, target), pose_of(scores, self.canonicalizer.elements).index == target.argmax(1)

    def _cloud_loss(self, batch: Any, augmentation: CloudAugmentation | None, step: int) -> tuple[Tensor, Tensor]:
        cloud = cloud_in(batch, self.inputs)
        if not bool((cloud.points.isfinite().all(-1) | ~cloud.present).all()):
            raise ValueError(f"a cloud of the data is not finite in epoch {self.current_epoch + 1}: leave it out")
        cloud, target = varied(cloud, self.canonicalizer.group, augmentation, self._generator(step))
        pose = self.canonicalizer(cloud)
        apart = frame_distance(pose.g[:, :3, :3], target, self.options.prior) / self.options.prior.sum()
        return self._pose_loss(pose, target), apart < NEAR

    def _pose_loss(self, pose: Pose, target: Tensor | None = None) -> Tensor:
        """How far the poses are from the prior's; the prior may have been moved to `target`."""
        if not isinstance(self.canonicalizer, CloudCanonicalizer):
            return prior_loss(pose.scores, self.options.prior.to(pose.scores))
        target = torch.eye(3).to(pose.g).expand(len(pose.g), 3, 3) if target is None else target
        return frame_loss(pose.scores, pose.candidates[..., :3, :3], target, self.options.prior)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, _ = self._prior_loss(batch, self.options.augmentation, batch_idx)
        if not loss.isfinite():
            raise ValueError(f"the loss is {float(loss.detach())} in epoch {self.current_epoch + 1}: are all images finite?")
        self.log("loss", loss.detach(), on_epoch=True, on_step=False, prog_bar=True, batch_size=1, sync_dist=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        _, right = self._prior_loss(batch, None, batch_idx)
        self.log(MONITOR, right.float().mean(), prog_bar=True, batch_size=len(right), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        self.history.append({"epoch": self.current_epoch + 1, **metrics})

    def on_train_end(self) -> None:
        # gradients are shared at every step, running statistics are not
        for buffer in self.buffers() if self.trainer.world_size > 1 else ():
            buffer.copy_(self.trainer.strategy.broadcast(buffer))

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.parameters() if p.requires_grad]
        # no decay on biases and norms, as usual
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.options.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.options.lr)
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps) or steps < 1:  # a stream of unknown length: no schedule knows its end
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.options.lr, total_steps=int(steps) + 1, pct_start=0.05, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class JointTraining(PriorTraining):
    """The whole model on a task, straight through the choice of a pose; the predictor frozen unless told otherwise."""

    def __init__(
        self,
        model: Equivariant,
        options: Options,
        task_loss: Callable[[Any, Any], Tensor],
        prior_weight: float,
        train_predictor: bool,
        turning: Group | None = None,
        targets: Any = None,
    ):
        super().__init__(model.canonicalizer, model.inputs, options)
        self.turning, self.targets = turning, None if targets is None else as_kinds(targets, model.group)
        self.model, self.task_loss, self.prior_weight, self.train_predictor = model, task_loss, prior_weight, train_predictor
        if isinstance(model.predictor, nn.Module):
            model.predictor.requires_grad_(train_predictor)
        elif train_predictor:
            raise TypeError(f"train_predictor needs a module, the predictor is a {type(model.predictor).__name__}")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if isinstance(self.model.predictor, nn.Module):
            self.model.predictor.train(self.train_predictor)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(f"with task_loss the data are (inputs, target) pairs; got a {type(batch).__name__}")
        x, target, frame = arguments(batch[0], self.model.inputs), batch[1], None
        if not isinstance(self.canonicalizer, CloudCanonicalizer):
            self._check_images(x)
        if self.turning is not None:
            x, target, frame = self._turned(self.turning, x, target, batch_idx)
        answer = invoke(self.model.predict, self.model.predictor, x)
        task = self.task_loss(answer.output, target)
        if not isinstance(task, Tensor) or task.numel() != 1:
            came = f"shape {tuple(task.shape)}" if isinstance(task, Tensor) else f"a {type(task).__name__}"
            raise TypeError(f"task_loss(output, target) returns one number as a tensor, with its gradient; got {came}")
        prior = self._pose_loss(answer.pose, frame)
        if not (task + prior).isfinite():
            values = f"{float(task.detach())} and the prior's {float(prior.detach())}"
            raise ValueError(f"task_loss is {values} in epoch {self.current_epoch + 1}: are all inputs and targets finite?")
        losses = {"loss": task.detach(), "prior_loss": prior.detach()}
        self.log_dict(losses, on_epoch=True, on_step=False, batch_size=1, sync_dist=True)
        return task + self.prior_weight * prior

    def _turned(self, group: Group, x: Any, target: Any, step: int) -> tuple[Any, Any, Tensor]:
        """Clouds and their targets, each moved by a random element, and the linear parts of these."""
        moving = fitting_kinds(self.model.inputs, x)
        cloud, batch = cloud_in(x, self.model.inputs), batch_of(x, moving)
        g = group.random(len(cloud), self._generator(step)).to(cloud.device)
        kinds = target_kinds(self.model.inputs, self.model.outputs, target) if self.targets is None else self.targets
        moved = act(g, x, moving, batch=batch, name="input"), act(g, target, kinds, batch=batch, name="target")
        return *moved, g[:, :3, :3].double()

    def _check_images(self, x: Any) -> None:
        images = first_image(x, fitting_kinds(self.model.inputs, x))
        if not isinstance(images, Tensor) or not images.dtype.is_floating_point:
            came = f"{images.dtype}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise ValueError(f"joint training needs the gradient of floating-point images in one tensor; got {came}")


def _channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] not in (1, channels):
        raise ValueError(
            f"the canonicalizer looks at {channels} channels (or 1), the training images have {images.shape[1]}: "
            f"build it for them, OrbitCanonicalizer(group, channels={images.shape[1]})"
        )
    return images.expand(-1, channels, -1, -1)


def run(
    module: PriorTraining,
    loader: Any,
    held_out: Any,
    options: Options,
    patience: int | None,
    checkpoint: str | Path | None,
    trainer_options: dict[str, Any],
) -> None:
    """Train, keep the best epoch where there is validation data, and go on from `checkpoint` where it holds a run."""
    if patience is not None and held_out is None:
        raise ValueError("patience needs validation data: pass val=")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(checkpoint) if checkpoint is not None else Path(scratch)
        keep = ModelCheckpoint(
            folder,
            "best",
            monitor=MONITOR if held_out is not None else None,
            mode="max",
            save_last=True,
            enable_version_counter=False,
        )
        callbacks: list[Callback] = [keep] if checkpoint is not None or held_out is not None else []
        if patience is not None:
            callbacks.append(EarlyStopping(MONITOR, mode="max", patience=patience))
        defaults: dict[str, Any] = {
            "max_epochs": options.epochs,
            "gradient_clip_val": 1.0,
            "logger": False,
            "enable_model_summary": False,
            "enable_checkpointing": bool(callbacks),
            "enable_progress_bar": sys.stdout.isatty(),  # in a log file a bar is thousands of lines
        }
        trainer_options = {**defaults, **trainer_options}
        theirs = trainer_options.pop("callbacks", None) or []
        theirs = [theirs] if isinstance(theirs, Callback) else list(theirs)
        if trainer_options["enable_progress_bar"] and not any(isinstance(callback, ProgressBar) for callback in theirs):
            callbacks.append(TQDMProgressBar(leave=False))
        callbacks += theirs
        try:
            trainer = lightning.Trainer(**trainer_options, callbacks=callbacks)
        except TypeError as error:
            raise TypeError(f"fit and lightning.Trainer do not know an option: {error}") from None
        last = folder / "last.ckpt"
        if last.exists():
            _check_same(module, last)
        trainer.fit(module, loader, held_out, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        if held_out is not None and keep.best_model_path:
            module.load_state_dict(_weights(keep.best_model_path), strict=False)  # the history stays that of the whole run
        trainer.strategy.barrier()  # other processes may still be reading from the scratch folder of this one


def _weights(path: str | Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _check_same(module: PriorTraining, path: Path) -> None:
    try:
        saved, options = _weights(path), torch.load(path, map_location="cpu", weights_only=True)[OURS]["options"]
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint that can be gone on from: {error}") from None
    mine = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if saved.keys() != mine.keys() or any(saved[name].shape != mine[name].shape for name in mine):
        raise ValueError(f"{path} is of another canonicalizer or group: choose another folder, or delete it to start afresh")
    for name, mine_now in module.options.plain().items():
        if options.get(name) != mine_now:
            raise ValueError(
                f"{path} is of a run with {name}={options.get(name)!r}, now {mine_now!r}: call it with the same options, "
                "choose another folder, or delete it to start afresh"
            )
