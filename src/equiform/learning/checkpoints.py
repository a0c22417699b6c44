"""Checkpoints of a run: written whole or not at all, the previous one kept, checked before a run resumes."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from .._checks import reason

OURS = "equiform"
LAST, BEFORE, SCRATCH = "last.ckpt", "before.ckpt", ".last.ckpt.part"


class LastEpoch(Checkpoint):
    """Keeps the state of the last epoch and of the one before. A kill at any moment leaves one of them whole."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        scratch, last = self.folder / SCRATCH, self.folder / LAST
        trainer.save_checkpoint(scratch)  # beside the target: a rename from another file system is a copy, which may be cut
        if trainer.is_global_zero:
            if last.exists():
                last.replace(self.folder / BEFORE)
            scratch.replace(last)
        trainer.strategy.barrier()


def resumed_from(folder: Path, state: Mapping[str, Any], options: Mapping[str, Any]) -> Path | None:
    """The checkpoint in a folder to resume from, None without one; where the last is damaged, the one before.

    Raises ValueError where none can be read, or where it is of another canonicalizer or of other options.
    """
    damaged = []
    for path in (folder / LAST, folder / BEFORE):
        if not path.exists():
            continue
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            weights, theirs = saved["state_dict"], saved[OURS]["options"]
        except Exception as error:  # torch raises whatever it likes for a file that is cut
            damaged.append(f"{path} is damaged: {reason(error)}")
            continue
        if damaged:
            warnings.warn(f"{damaged[0]}; going on from {path}", stacklevel=2)
        _check_same(path, weights, theirs, state, options)
        return path
    if damaged:
        raise ValueError(f"{damaged[0]}; no checkpoint to resume from: delete {folder} to start afresh")
    return None


def _check_same(
    path: Path, weights: Mapping[str, Any], theirs: Mapping[str, Any], state: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    saved, mine = ({k: v.shape for k, v in tensors.items() if isinstance(v, Tensor)} for tensors in (weights, state))
    if saved != mine:
        raise ValueError(f"{path} is of another canonicalizer or group: choose another folder, or delete it to start afresh")
    for name, now in options.items():
        if theirs.get(name) != now:
            raise ValueError(
                f"{path} is of a run with {name}={theirs.get(name)!r}, now {now!r}: call it with the same data and options, "
                "choose another folder, or delete it to start afresh"
            )
