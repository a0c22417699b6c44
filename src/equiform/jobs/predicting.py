"""The job of `equiform predict`: what an adapted model says of every file."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..batching.calls import fitting_kinds
from ..equivariant import Equivariant
from ..geometry import nested
from ..geometry.arrays import as_tensor
from ..geometry.kinds import Kind, Rows
from ..geometry.moving import unstacked
from ..geometry.nested import is_container
from .job import Item, Row, Work, failed, told

POSE = {"angle": "float", "flip": "int", "confidence": "float"}
Values = dict[str, tuple[str, Any]]  # by column, a type and a value


class Reader(NamedTuple):
    """A model, and how it wants its photos: `read` makes one of a file; stacked to a tensor, or as a list.

    `names`: the classes in words, by how many there are; nothing where they have none.
    """

    model: Equivariant
    read: Callable[[Path], Tensor]
    stacked: bool = True
    device: torch.device = torch.device("cpu")
    names: Callable[[int], Sequence[str]] = lambda number: ()

    def answers(self, photos: Sequence[Tensor]) -> list[Values]:
        """The pose and the answer of every photo."""
        with torch.no_grad():
            output, pose = self.model.predict(self._batch(photos))
        angles, flips = self.model.group.angles(pose.g) if self.model.group.dim == 2 else ([0.0], [0])
        rows = by_row(self.model.outputs, output, len(photos))
        if rows and rows[0].keys() >= {"class", "probability"} and (names := self.names(_num_classes(output))):
            rows = [row | {"name": ("str", names[row["class"][1]])} for row in rows]
        for row, *found in zip(rows, angles, flips, pose.confidence.tolist(), strict=True):
            values = (float(found[0]), int(found[1]), round(found[2], 4))
            row |= {name: (POSE[name], value) for name, value in zip(POSE, values, strict=True)}
        return rows

    def bare(self, photos: Sequence[Tensor]) -> Any:
        """What the predictor itself says of photos as they lie."""
        batch = self._batch(photos)
        with torch.no_grad():
            return self.model.predictor(unstacked(batch, fitting_kinds(self.model.inputs, batch)))

    def _batch(self, photos: Sequence[Tensor]) -> Any:
        return torch.stack(list(photos)).to(self.device) if self.stacked else list(photos)


@dataclass(frozen=True)
class Predicting:
    """What a model says of every file. `make`: makes model and reader in the process that works; `answers`: the columns of an
    answer, as `columns_of` finds them."""

    make: Callable[[], Reader]
    answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        return {"file": "str", **POSE, **self.answers, "error": "str"}

    def start(self) -> Work:
        reader = self.make()
        return lambda items: self._rows(reader, items)

    def _rows(self, reader: Reader, items: Sequence[Item]) -> list[Row]:
        photos: list[Any] = []
        for item in items:
            try:
                photos.append(reader.read(item.source))
            except Exception as error:
                photos.append(error)
        good = [photo for photo in photos if isinstance(photo, Tensor)]
        try:
            answers = iter(reader.answers(good) if good else [])
        except Exception as error:
            if len(items) > 1:  # whose fault is it?
                return [row for item in items for row in self._rows(reader, [item])]
            photos, answers = [error], iter(())
        rows = []
        for item, photo in zip(items, photos, strict=True):
            if isinstance(photo, Exception):
                rows.append(failed(item, self.columns, told(item, photo)))
            else:
                values = {name: value for name, (_, value) in next(answers).items()}
                rows.append({**dict.fromkeys(self.columns), **values, "file": item.file})
        return rows


def _num_classes(output: Any) -> int:
    logits = nested.first_logits(output)
    return 0 if logits is None else logits.shape[-1]


def columns_of(reader: Reader, photo: Tensor) -> dict[str, str]:
    """The columns of what is answered, beside those of the pose, as one photo shows them."""
    return {name: kind for name, (kind, _) in reader.answers([photo])[0].items() if name not in POSE}


def by_row(kinds: Any, output: Any, number: int) -> list[Values]:
    """The answer of each row of a batch, its leaves by name; of logits the likeliest class and its probability.

    Raises ValueError where an output has no entry for each row.
    """
    rows: list[Values] = [{} for _ in range(number)]
    for kind, leaf, path in nested.leaves(kinds, output, ""):
        for row, values in zip(rows, _split(kind, leaf, path, number), strict=True):
            row |= values
    return rows


def _split(kind: Any, leaf: Any, path: str, number: int) -> list[Values]:
    if isinstance(kind, Rows):
        each = [nested.leaves(kind.kinds, entry, path) for entry in leaf]
        return [{_name(where): _value(one) for _, one, where in entry} for entry in each]
    if not isinstance(kind, Kind) or kind.axis is None:  # shared by all: no answer of a row
        return [{} for _ in range(number)]
    tensor = as_tensor(leaf) if hasattr(leaf, "__array__") and not isinstance(leaf, Tensor) else leaf
    if not isinstance(tensor, Tensor) or tensor.ndim <= kind.axis or tensor.shape[kind.axis] != number:
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else f"a {type(leaf).__name__}"
        raise ValueError(f"a row is kept for each photo, and the output {_name(path)} has {shape} for {number} photos")
    entries = tensor.detach().movedim(kind.axis, 0).cpu()
    if kind.name == "logits" and entries.ndim == 2:
        return _classes(kind, entries)
    return [{_name(path): _value(entry)} for entry in entries]


def _classes(kind: Kind, logits: Tensor) -> list[Values]:
    """Of a single logit, class 1 where it is above 0."""
    one = logits.shape[1] == 1
    sigmoid = one or kind.averaging == "sigmoid"
    logits = torch.cat([-logits, logits], 1) if one else logits
    shares = logits.double().sigmoid() if sigmoid else logits.double().softmax(1)
    best, index = shares.max(1)
    pairs = zip(index.tolist(), best.tolist(), strict=True)
    return [{"class": ("int", i), "probability": ("float", round(p, 6))} for i, p in pairs]


def _name(path: str) -> str:
    """The name of a leaf: its keys, joined."""
    return "_".join(re.findall(r"\w+", path)) or "output"


def _value(leaf: Any) -> tuple[str, Any]:
    """The type of a value of a row, and the value: a list for each axis of a tensor."""
    if hasattr(leaf, "__array__") or isinstance(leaf, Tensor):
        tensor = as_tensor(leaf).detach().cpu()
        return ("float" if tensor.dtype.is_floating_point else "int") + "[]" * tensor.ndim, _plain(tensor)
    if is_container(leaf):
        entries = [_value(entry) for entry in leaf]
        return (entries[0][0] if entries else "str") + "[]", [value for _, value in entries]
    kind = "int" if isinstance(leaf, (bool, int)) else "float" if isinstance(leaf, float) else "str"
    return kind, leaf if kind != "str" else str(leaf)


def _plain(tensor: Tensor) -> Any:
    return (tensor.float() if tensor.dtype.is_floating_point else tensor.long()).tolist()
