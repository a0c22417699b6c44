"""The training loops behind `fit`, as lightning modules. Imported when something is fitted."""

import math
import multiprocessing
import multiprocessing.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar, TQDMProgressBar
from torch import Tensor, nn

from .._checks import reason
from ..batching.calls import arguments, cloud_in, fitting_kinds, invoke, target_kinds
from ..equivariant import Equivariant
from ..geometry.clouds import batch_of
from ..geometry.groups import Group
from ..geometry.kinds import as_kinds
from ..geometry.moving import act
from .augmentation import Augmentation
from .checkpoints import OURS, LastEpoch, resumed_from
from .cloud_augmentation import CloudAugmentation
from .objective import Objective
from .volume_augmentation import VolumeAugmentation

MONITOR = "pose_accuracy"


@dataclass(frozen=True)
class Options:
    """The numbers of a run; of one with a checkpoint also what tells its data, and those for validation, from others."""

    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    augmentation: Augmentation | CloudAugmentation | VolumeAugmentation | None
    seed: int
    data: str
    val: str


class PriorTraining(lightning.LightningModule):
    """Trains the canonicalizer alone, on augmented views of canonical inputs. Ends with the weights of the best epoch."""

    def __init__(self, objective: Objective, options: Options):
        super().__init__()
        self.objective, self.options = objective, options
        self.canonicalizer = objective.canonicalizer.train()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] | None = None  # value and weights, where there is validation data

    def in_common(self) -> dict[str, Any]:
        """The options that a resumed run must share with the first."""
        learnt = {"side": self.objective.side, "taught": self.objective.taught, "prior": self.objective.prior.tolist()}
        return vars(self.options) | {"augmentation": repr(self.options.augmentation)} | learnt

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[OURS] = {"options": self.in_common(), "best": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best = checkpoint[OURS]["best"]

    def get_extra_state(self) -> list[dict[str, float]]:
        # beside the weights, which are all that comes back from the processes of a strategy that spawns them
        return self.history

    def set_extra_state(self, state: list[dict[str, float]]) -> None:
        self.history = list(state)

    def on_train_epoch_start(self) -> None:
        # every epoch starts from its own seed, so that a resumed run repeats the uninterrupted one
        torch.manual_seed(self.options.seed * 10_007 + self.current_epoch)

    def _generator(self, step: int) -> torch.Generator:
        step = step * self.trainer.world_size + self.global_rank  # no two processes augment alike
        return torch.Generator().manual_seed((self.options.seed * 10_007 + self.current_epoch) * 100_003 + step)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, right = self.objective.loss(batch, self.options.augmentation, self._generator(batch_idx))
        if not loss.isfinite():
            raise ValueError(f"the loss is {float(loss.detach())} in epoch {self.current_epoch + 1}: are all images finite?")
        self.log("loss", loss.detach(), on_epoch=True, on_step=False, prog_bar=True, batch_size=1, sync_dist=True)
        found = right.float().mean()
        self.log("training_accuracy", found, on_epoch=True, on_step=False, batch_size=len(right), sync_dist=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        _, right = self.objective.loss(batch, None, self._generator(batch_idx))
        self.log(MONITOR, right.float().mean(), prog_bar=True, batch_size=len(right), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        value = float(self.trainer.callback_metrics[MONITOR])
        if self.best is None or value >= self.best["value"]:  # of equal ones the last, which is the surest
            self.best = {"value": value, "weights": {name: tensor.clone() for name, tensor in self._trained().items()}}

    def _trained(self) -> dict[str, Tensor]:
        """The weights that training changes."""
        return {name: value for name, value in self.state_dict().items() if isinstance(value, Tensor)}

    def on_train_epoch_end(self) -> None:
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        self.history.append({"epoch": self.current_epoch + 1, **metrics})

    def on_fit_end(self) -> None:
        if self.best is not None:
            self.load_state_dict(self.best["weights"], strict=False)  # the history stays that of the whole run
        # gradients are shared at every step, running statistics are not
        for buffer in self.buffers() if self.trainer.world_size > 1 else ():
            buffer.copy_(self.trainer.strategy.broadcast(buffer))
        if multiprocessing.parent_process() is not None and torch.distributed.is_initialized():
            # a spawned process that ends before the threads of its group do is aborted now and then
            multiprocessing.util.Finalize(None, torch.distributed.destroy_process_group, exitpriority=10)

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
    """Trains on a task, straight through the choice of a pose; the predictor is frozen unless `train_predictor`."""

    def __init__(
        self,
        model: Equivariant,
        objective: Objective,
        options: Options,
        task_loss: Callable[[Any, Any], Tensor],
        prior_weight: float,
        train_predictor: bool,
        turning: Group | None = None,
        targets: Any = None,
    ):
        super().__init__(objective, options)
        self.turning, self.targets = turning, None if targets is None else as_kinds(targets, model.group)
        self.model, self.task_loss, self.prior_weight, self.train_predictor = model, task_loss, prior_weight, train_predictor
        if isinstance(model.predictor, nn.Module):
            model.predictor.requires_grad_(train_predictor)
        elif train_predictor:
            raise TypeError(f"train_predictor needs a module, the predictor is a {type(model.predictor).__name__}")

    def in_common(self) -> dict[str, Any]:
        turning = None if self.turning is None else self.turning.name
        joint = {"prior_weight": self.prior_weight, "train_predictor": self.train_predictor, "group": turning}
        return super().in_common() | joint

    def _trained(self) -> dict[str, Tensor]:
        kept = super()._trained()
        return kept if self.train_predictor else {k: v for k, v in kept.items() if not k.startswith("model.predictor.")}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if isinstance(self.model.predictor, nn.Module):
            self.model.predictor.train(self.train_predictor)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(f"with task_loss the data are (inputs, target) pairs; got a {type(batch).__name__}")
        x, target, frame = arguments(batch[0], self.model.inputs), batch[1], None
        self.objective.before_joint(x)
        if self.turning is not None:
            x, target, frame = self._turned(self.turning, x, target, batch_idx)
        answer = invoke(self.model.predict, self.model.predictor, x)
        task = self.task_loss(answer.output, target)
        if not isinstance(task, Tensor) or task.numel() != 1:
            came = f"shape {tuple(task.shape)}" if isinstance(task, Tensor) else f"a {type(task).__name__}"
            raise TypeError(f"task_loss(output, target) returns one number as a tensor, with its gradient; got {came}")
        prior = self.objective.pose_loss(answer.pose, frame)
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


def run(
    module: PriorTraining,
    loader: Any,
    held_out: Any,
    patience: int | None,
    checkpoint: str | Path | None,
    trainer_options: dict[str, Any],
) -> None:
    """Train, and go on from the folder `checkpoint` where it holds a run. Raises ValueError where that is another run."""
    if patience is not None and held_out is None:
        raise ValueError("patience needs validation data: pass val=")
    theirs = trainer_options.get("callbacks") or []
    callbacks: list[Callback] = [theirs] if isinstance(theirs, Callback) else list(theirs)
    if checkpoint is not None:
        callbacks.append(LastEpoch(Path(checkpoint)))
    if patience is not None:
        callbacks.append(EarlyStopping(MONITOR, mode="max", patience=patience))
    options = {
        "max_epochs": module.options.epochs,
        "gradient_clip_val": 1.0,
        "logger": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": sys.stdout.isatty(),  # in a log file a bar is thousands of lines
        **trainer_options,
    }
    if options["enable_progress_bar"] and not any(isinstance(callback, ProgressBar) for callback in callbacks):
        callbacks.append(TQDMProgressBar(leave=False))
    try:
        trainer = lightning.Trainer(**{**options, "callbacks": callbacks})
    except TypeError as error:
        raise TypeError(f"fit and lightning.Trainer do not know an option: {reason(error)}") from None
    last = None if checkpoint is None else resumed_from(Path(checkpoint), module.state_dict(), module.in_common())
    trainer.fit(module, loader, held_out, ckpt_path=None if last is None else str(last), weights_only=True)
