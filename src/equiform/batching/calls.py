"""Matches inputs, targets and arguments with their kinds, and finds what the canonicalizer looks at."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from ..geometry import nested
from ..geometry.arrays import as_tensor
from ..geometry.clouds import Cloud, cloud_of
from ..geometry.kinds import Kind, Rows, axes_of, looked_at


def invoke(function: Callable[..., Any], predictor: Callable[..., Any], x: Any) -> Any:
    """`function` on the inputs of one batch of data: a tuple as positional arguments, a dict as keyword arguments."""
    if isinstance(x, tuple):
        return function(*x)
    names = parameter_names(getattr(predictor, "predictor", predictor), ())  # an adapted model takes what its predictor takes
    if isinstance(x, Mapping) and all(name in names for name in x):
        return function(**x)
    return function(x)


def fitting_kinds(kind: Any, x: Any) -> Any:
    """The kinds for x: those of the arguments given; for a single input, that of the image, the volume or the points."""
    if isinstance(kind, Mapping) and isinstance(x, Mapping):
        return {name: one for name, one in kind.items() if x.get(name) is not None}
    several = isinstance(kind, Mapping) or (isinstance(kind, (list, tuple)) and not nested.is_container(x))
    if not several or isinstance(x, tuple):
        return rows_if_list(kind, x)
    each, seen = _listed(kind), looked_at(kind)
    return next((one for one in each if _is(seen, one)), each[0])


def target_kinds(inputs: Any, outputs: Any, target: Any) -> Any:
    """The kinds of the targets: those of the outputs of the same names, or the only kind that the outputs have.

    Raises ValueError where that is not clear.
    """
    if isinstance(outputs, Rows) and isinstance(target, (list, tuple)):
        if target and not isinstance(target[0], Mapping):
            return Rows(_of_one(outputs.kinds, target[0]))
        return Rows(_of_keys(outputs.kinds, {key for entry in target if isinstance(entry, Mapping) for key in entry}))
    if isinstance(target, Mapping):
        return _of_keys(outputs, set(target))
    if nested.is_container(target) or not isinstance(outputs, (Mapping, list, tuple)):
        return outputs
    if isinstance(inputs, Mapping) and "labels" in inputs:  # what transformers calls the targets that its models take
        return inputs["labels"]
    known = _all_kinds(outputs)
    if len(known) > 1 and not all(kind.name in ("invariant", "logits") for kind in known if isinstance(kind, Kind)):
        raise _unclear(outputs)
    return known[0]


def _of_one(outputs: Any, entry: Any) -> Any:
    """The kind of one entry in a list of targets: for arrays the only kind of the outputs that moves, else "invariant"."""
    if not isinstance(outputs, Mapping) or nested.is_container(entry):
        return outputs
    kinds = _all_kinds(outputs) if _is_array(entry) else []
    moving = [kind for kind in kinds if isinstance(kind, Rows) or kind.name not in ("invariant", "logits")]
    if len(moving) > 1:
        raise _unclear(outputs)
    return moving[0] if moving else Kind("invariant")


def _all_kinds(outputs: Any) -> list[Any]:
    """Each kind once."""
    return list({kind: None for kind, _, _ in nested.leaves(outputs, nested.map_kinds(lambda kind: 0, outputs))})


def _unclear(outputs: Any) -> ValueError:
    return ValueError(f"how the targets move is not clear from the outputs {outputs!r}: pass targets= with their kind")


def _of_keys(outputs: Any, keys: set[Any]) -> Any:
    """The kinds of the outputs for the keys that the target has: ground truth has no scores."""
    if not isinstance(outputs, Mapping) or (keys and keys.isdisjoint(outputs)):
        return outputs  # with no name in common the error says which are expected
    return {key: kind for key, kind in outputs.items() if key in keys}


def arguments(x: Any, kinds: Any) -> Any:
    """Several inputs, a tuple or the list that collation makes of it, as a dict by name; a tuple where the kinds have no names.

    Kinds by name are in the order of the predictor's parameters. A single input stays as it is.
    """
    several = isinstance(x, (tuple, list)) and isinstance(kinds, (Mapping, tuple, list)) and bool(x) and _is_array(x[0])
    if not several or is_row_list(x, kinds) or not (isinstance(x, tuple) or all(isinstance(part, Tensor) for part in x)):
        return x
    return dict(zip(kinds, x, strict=False)) if isinstance(kinds, Mapping) and len(x) <= len(kinds) else tuple(x)


def inputs_of(batch: Any, kinds: Any) -> Any:
    """The predictor's inputs in a batch (or sample) of data: the batch itself, or the first entry of (inputs, targets).

    Of a dict, the entries that have a kind, or the first where the kinds have no names. A tuple as long as the kinds holds the
    arguments; with an image and kinds by name only inside (inputs, targets), since (images, labels) has two entries as well.
    """
    pair = False
    while isinstance(batch, (tuple, list)) and not is_row_list(batch, kinds):
        if not batch:
            raise ValueError("an empty batch in the data")
        alone = isinstance(kinds, Mapping) and not pair and looked_at(kinds) != "points"
        if isinstance(kinds, (Mapping, tuple, list)) and len(batch) == len(kinds) and _is_array(batch[0]) and not alone:
            return arguments(batch, kinds)
        batch, pair = batch[0], True
    if not isinstance(batch, Mapping):
        return batch
    if isinstance(kinds, Mapping):
        return {name: batch[name] for name in kinds if name in batch}
    if not batch:
        raise ValueError("an empty batch in the data")
    return inputs_of(next(iter(batch.values())), kinds)


def check_sample(data: Any, inputs: Any) -> None:
    """Raise ValueError where a sample of a map-style data set is no cloud (n, 3), but a point of one."""
    if looked_at(inputs) != "points" or isinstance(data, IterableDataset) or len(data) == 0:
        return
    x = inputs_of(data[0], inputs)
    for kind, leaf, path in nested.leaves(fitting_kinds(inputs, x), x, "sample"):
        if _is("points", kind) and isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim != 2:
            raise ValueError(
                f"{path}: each sample of the data has points of shape (n, 3); got {tuple(leaf.shape)}: one cloud alone is "
                "x[None], clouds of many sizes are a list, and flat batches come from a DataLoader"
            )


def images_of(batch: Any, kinds: Any) -> Any:
    """The images (or volumes) in a batch (or sample) of data: a tensor, or a list of (c, h, w).

    Raises ValueError where there are none.
    """
    x, seen = inputs_of(batch, kinds), looked_at(kinds)
    if not isinstance(x, (Mapping, tuple)):
        return x
    pairs = [(kinds[name], value) for name, value in x.items()] if isinstance(x, Mapping) else zip(kinds, x, strict=True)
    for kind, value in pairs:
        if _is(seen, kind):
            return value
    keys = f", only {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else ""
    raise ValueError(f"there is no {seen} in the data{keys}; the model's inputs are {kinds!r}")


def cloud_in(batch: Any, kinds: Any) -> Cloud:
    """The clouds in a batch of data. Raises ValueError where there are none."""
    x = inputs_of(batch, kinds)
    cloud = seen_cloud(x, fitting_kinds(kinds, x))
    if cloud is None:
        raise ValueError(f"no points in the training data, a {type(batch).__name__}: one input must have the kind 'points'")
    return cloud


def seen_cloud(x: Any, kinds: Any) -> Cloud | None:
    """The clouds among arguments of those kinds. Raises TypeError or ValueError for points, mask or batch of another form."""
    found = [(kind.name, leaf, path) for kind, leaf, path in nested.leaves(kinds, x, "input") if isinstance(kind, Kind)]
    flat = any(name == "batch" for name, _, _ in found)
    for name, leaf, path in found:
        if name not in ("points", "presence", "batch"):
            continue
        if not _is_array(leaf):
            raise TypeError(f"{path}: {name} are a tensor or an array; got a {type(leaf).__name__}")
        tensor, shape = as_tensor(leaf), tuple(leaf.shape)
        if name == "points" and tensor.ndim == 2 and not flat:
            raise ValueError(
                f"{path}: points have shape (b, n, 3); got {shape}: one cloud is x[None], and a flat batch has an argument of "
                "the kind 'batch' beside it"
            )
        if name == "batch" and (tensor.dtype.is_floating_point or tensor.dtype == torch.bool):
            raise ValueError(f"{path}: batch is the row of each point, whole numbers; got {tensor.dtype} of shape {shape}")
        if name == "presence" and tensor.dtype != torch.bool and not bool(((tensor == 0) | (tensor == 1)).all()):
            raise ValueError(
                f"{path}: presence is a padding mask, true or 1 where there is a point, else 0; got other numbers: of an "
                "additive mask, pass mask == 0"
            )
    return cloud_of(x, kinds)


def is_row_list(batch: Any, kinds: Any) -> bool:
    """Whether it is a per-sample list, of images (c, h, w), volumes (c, d, h, w) or clouds (n, 3)."""
    ndim = axes_of(kinds) + 1 if looked_at(kinds) != "points" else 2
    return isinstance(batch, list) and bool(batch) and all(isinstance(x, Tensor) and x.ndim == ndim for x in batch)


def to_device(x: Any, device: torch.device) -> Any:
    """The same values with every tensor on that device."""
    return nested.walk(lambda _, leaf, __: leaf.to(device) if isinstance(leaf, Tensor) else leaf, None, x, "data")


def _is(name: str, kind: Any) -> bool:
    inner = kind.kinds if isinstance(kind, Rows) else kind
    return isinstance(inner, Kind) and inner.name == name


def _listed(kinds: Any) -> list[Any]:
    return list(kinds.values()) if isinstance(kinds, Mapping) else list(kinds) if isinstance(kinds, (list, tuple)) else [kinds]


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def parameter_names(predictor: Callable[..., Any], args: tuple) -> list[str]:
    """Names for the positional arguments: those of the predictor's signature where it has one."""
    function = predictor.forward if isinstance(predictor, torch.nn.Module) else predictor
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # builtins and foreign callables have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names + [f"argument {i}" for i in range(len(names), len(args))]


def in_order(kinds: Any, predictor: Callable[..., Any]) -> Any:
    """Kinds by name in the order of the predictor's parameters, in which tuples of inputs come."""
    names = parameter_names(predictor, ())
    if not isinstance(kinds, Mapping):
        return kinds
    return dict(sorted(kinds.items(), key=lambda item: names.index(item[0]) if item[0] in names else len(names)))


def kinds_by_name(inputs: Any, names: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The kinds of the arguments by their names. Raises TypeError or ValueError where they do not fit the call."""
    if not given:
        raise TypeError("the model was called without arguments")
    first = next(iter(given))
    if isinstance(inputs, (Kind, Rows)):
        return {first: inputs}
    if isinstance(inputs, Mapping):
        if len(given) == 1 and isinstance(given[first], Mapping) and first not in inputs:
            return {first: inputs}
        known = {name: kind for name, kind in inputs.items() if given.get(name) is not None}
        if not known:
            raise ValueError(f"none of the arguments {', '.join(given)} has a kind; the kinds are for {', '.join(inputs)}")
        return known
    if len(given) == 1 and len(inputs) > 1:
        return {first: inputs}
    if len(inputs) > len(given):
        raise ValueError(f"expected {len(inputs)} arguments for the kinds {inputs!r}, got {len(given)}")
    return dict(zip(given, inputs, strict=False))


def rows_if_list(kind: Any, value: Any) -> Any:
    """The kind of each entry where images, volumes or clouds come as a list."""
    if isinstance(kind, Kind) and kind.name in ("image", "clip", "volume", "points") and isinstance(value, (list, tuple)):
        return Rows(kind)
    return kind
