"""From tensors, lists, Datasets and DataLoaders to batches of what a model takes."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset, default_collate

from ..batching.calls import check_sample, is_row_list
from ..geometry.arrays import as_tensor
from ..geometry.kinds import Rows

Collate = Callable[[list[Any]], Any]


def batches(
    data: Any, inputs: Any, batch_size: int, *, seed: int | None = None, collate: Collate | None = None, lists: bool = False
) -> Any:
    """Batches of the data, shuffled where there is a seed. A DataLoader is taken as it is.

    `inputs`: the kinds of the model's inputs. `lists`: whether batches are lists, as they also are where those kinds are
    `Rows`, or the data are a list whose entries differ in size. Raises TypeError or ValueError where the data do not fit.
    """
    if isinstance(data, DataLoader):
        if data.collate_fn is default_collate:
            check_sample(data.dataset, inputs)
        return data
    if isinstance(data, (str, Path)):
        came = f"got {str(data)!r}"
        raise TypeError(f"only fit reads folders, of images and without task_loss: pass a tensor, a list or a Dataset; {came}")
    data = data if isinstance(data, Dataset) else Columns(*_columns(data, inputs))
    stream = isinstance(data, IterableDataset)
    if not stream and len(data) == 0:
        raise ValueError("there is nothing in the data")
    if collate is None:
        check_sample(data, inputs)
        lists = lists or isinstance(inputs, Rows) or (isinstance(data, Columns) and data.ragged)
        collate = listed if lists else stacked
    sampler = None if seed is None or stream else EpochSampler(data, seed)
    return DataLoader(data, batch_size, sampler=sampler, collate_fn=collate)


def fingerprint(loader: Any) -> str:
    """How many samples a loader has, and of those in memory a checksum: what tells the data of one run from another's.

    Of a Dataset of someone else's it is the number alone.
    """
    data = getattr(loader, "dataset", loader)
    try:
        num = len(data)
    except TypeError:
        return "a stream"
    columns = data.tensors if isinstance(data, TensorDataset) else data.columns if isinstance(data, Columns) else []
    checksum = 0
    for column in columns:
        for entry in column if isinstance(column, list) else [column]:
            checksum = zlib.crc32(_bytes(entry), checksum)
    return f"{num} inputs ({checksum:08x})"


def _bytes(entry: Any) -> bytes | memoryview:
    if not isinstance(entry, (Tensor, np.ndarray)):
        return repr(entry).encode(errors="surrogateescape") if isinstance(entry, (bool, int, float, str)) else b""
    return as_tensor(entry).detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _columns(data: Any, inputs: Any) -> list[Any]:
    """A tensor or a per-sample list is one column; a tuple (or list) of these is several."""
    rows = [as_tensor(row) if isinstance(row, np.ndarray) else row for row in data] if isinstance(data, list) else data
    if isinstance(data, (Tensor, np.ndarray)) or (isinstance(data, list) and (not data or is_row_list(rows, inputs))):
        return [rows]
    if isinstance(data, (tuple, list)) and data and all(isinstance(part, (Tensor, np.ndarray, list)) for part in data):
        return list(data)
    raise TypeError(f"data is a tensor, a folder, a Dataset or a DataLoader, or a list of tensors; got a {type(data).__name__}")


class Columns(Dataset):
    """A data set of columns of one length, tensors or lists; its samples are tuples, or of one column its entries."""

    def __init__(self, *columns: Any):
        self.columns = [as_tensor(column) if isinstance(column, np.ndarray) else column for column in columns]
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            came = " and ".join(map(str, lengths))
            raise ValueError(f"inputs, and targets, are tensors or lists with one entry per row, equally long; got {came}")

    @property
    def ragged(self) -> bool:
        """Whether a column is a list of tensors that differ in size."""
        lists = (column for column in self.columns if isinstance(column, list))
        return any(len({row.shape for row in column if isinstance(row, (Tensor, np.ndarray))}) > 1 for column in lists)

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, i: int) -> Any:
        return tuple(column[i] for column in self.columns) if len(self.columns) > 1 else self.columns[0][i]


def stacked(samples: list[Any]) -> Any:
    """Samples of one size as tensors. Raises ValueError for others, with the way out."""
    try:
        return default_collate(samples)
    except RuntimeError as error:
        raise ValueError(
            "samples of different sizes make no tensor: for a predictor of lists say inputs=Rows('points') or Rows('image'); "
            "for others pass a DataLoader whose collate_fn pads them, clouds with an argument of the kind 'presence'"
        ) from error


def listed(samples: list[Any]) -> Any:
    """Samples as a list, pairs as two; targets that are numbers become a tensor."""
    if not isinstance(samples[0], (tuple, list)):
        return list(samples)
    inputs, *others = ([*column] for column in zip(*samples, strict=True))
    return inputs, *(torch.stack([*map(torch.as_tensor, column)]) if _numbers(column) else column for column in others)


def _numbers(column: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) or (isinstance(value, Tensor) and value.ndim == 0) for value in column)


class EpochSampler(Sampler[int]):
    """A random order that depends on the seed and the epoch alone, so that a resumed run repeats the uninterrupted one.

    Where there are several processes the trainer wraps it, and each gets its share. It holds no generator: torch cannot send
    one to a process.
    """

    def __init__(self, data: Any, seed: int):
        self.num, self.seed, self.epoch = len(data), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Iterator[int]:
        order = torch.Generator().manual_seed(self.seed * 10_007 + self.epoch)
        yield from torch.randperm(self.num, generator=order).tolist()
