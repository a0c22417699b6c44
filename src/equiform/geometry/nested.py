"""Nested values: dicts, lists, tuples, named tuples and dataclass-like outputs, walked beside the kinds of their leaves."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from .arrays import as_tensor

Function = Callable[[Any, Any, str], Any]


def is_container(value: Any) -> bool:
    """Whether `value` holds other values (a leaf is anything else: a tensor, an array, a number, None)."""
    return isinstance(value, (Mapping, list, tuple)) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def children(value: Any) -> list[tuple[str, Any]]:
    """The (key, child) pairs of a container; empty fields of a dataclass-like output are left out."""
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        pairs = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return [(key, child) for key, child in pairs if child is not None]
    if hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    return [(str(i), child) for i, child in enumerate(value)]


def rebuild(value: Any, new: list[Any]) -> Any:
    """A container like `value` (same type, same keys) with other children, in the order of `children`."""
    keys = [key for key, _ in children(value)]
    # a transformers.ModelOutput is both a dict and a dataclass: it must be rebuilt as a dataclass to keep its fields in step
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _replaced(value, dict(zip(keys, new, strict=True)))
    if isinstance(value, Mapping):
        result: Any = copy.copy(value)
        for key, child in zip(keys, new, strict=True):
            result[key] = child
        return result
    make: Any = type(value)
    return make(*new) if hasattr(value, "_fields") else make(new)


def _replaced(value: Any, new: dict[str, Any]) -> Any:
    """The dataclass with new values, also in fields with `init=False`."""
    made = {field.name for field in dataclasses.fields(value) if field.init}
    result = dataclasses.replace(value, **{key: child for key, child in new.items() if key in made})
    for key in new.keys() - made:
        object.__setattr__(result, key, new[key])  # a frozen one has no other way
    return result


def walk(function: Function, kinds: Any, value: Any, path: str) -> Any:
    """`function(kind, leaf, path)` on every leaf, in a structure like `value`.

    One kind holds for every leaf below it; a dict, list or tuple of kinds must have the shape of the value, but a dataclass
    (the outputs of transformers) may lack what the kinds name, for its fields are optional. None leaves stay None.
    Raises ValueError with the path of the first place where the two differ.
    """
    if value is None:
        return None
    if not isinstance(kinds, (Mapping, list, tuple)):
        if not is_container(value) or getattr(kinds, "takes_lists", False):
            return function(kinds, value, path)
        return rebuild(value, [walk(function, kinds, child, f"{path}[{key!r}]") for key, child in children(value)])
    if not is_container(value):
        raise ValueError(f"{path}: expected {_describe(kinds)}, got a {type(value).__name__}")
    pairs = children(value)
    if isinstance(kinds, Mapping):
        if not dataclasses.is_dataclass(value):
            _check_present(kinds, [key for key, _ in pairs], path)
        return rebuild(value, _walk_keys(function, kinds, pairs, path))
    if len(kinds) != len(pairs):
        hint = " (for one entry per row of the batch, use equiform.Rows(kinds))" if isinstance(value, list) else ""
        raise ValueError(f"{path}: expected {_describe(kinds)}, got {len(pairs)} values{hint}")
    new = [walk(function, kind, child, f"{path}[{key}]") for kind, (key, child) in zip(kinds, pairs, strict=True)]
    return rebuild(value, new)


def _check_present(kinds: Mapping, names: list[str], path: str) -> None:
    for key in kinds:
        if key not in names:
            raise ValueError(f"{path}[{key!r}]: expected by the kinds, but the value has only {', '.join(map(repr, names))}")


def _walk_keys(function: Function, kinds: Mapping, pairs: list[tuple[str, Any]], path: str) -> list[Any]:
    for key, child in pairs:
        if key not in kinds and child is not None:
            known = ", ".join(map(repr, kinds))
            raise ValueError(f"{path}[{key!r}]: has no kind; known here: {known}. Give it a kind, or leave it out")
    return [walk(function, kinds.get(key), child, f"{path}[{key!r}]") for key, child in pairs]


def leaves(kinds: Any, value: Any, path: str = "value") -> list[tuple[Any, Any, str]]:
    """The (kind, leaf, path) triples, in the order of the value."""
    if not isinstance(kinds, (Mapping, list, tuple)) and not is_container(value):
        return [] if value is None else [(kinds, value, path)]
    found: list[tuple[Any, Any, str]] = []
    walk(lambda kind, leaf, where: found.append((kind, leaf, where)), kinds, value, path)
    return found


def filled(kinds: Any, value: Any, new: Iterator[Any]) -> Any:
    """A structure like `value` with the next of `new` in the place of every leaf."""
    if not is_container(value):
        return value if value is None else next(new)
    return walk(lambda kind, leaf, path: next(new), kinds, value, "value")


def map_kinds(function: Callable[[Any], Any], kinds: Any) -> Any:
    """The same structure of kinds with `function` applied to each."""
    if isinstance(kinds, Mapping):
        return {key: map_kinds(function, kind) for key, kind in kinds.items()}
    if isinstance(kinds, (list, tuple)):
        return type(kinds)(map_kinds(function, kind) for kind in kinds)
    return function(kinds)


def _describe(kinds: Any) -> str:
    if isinstance(kinds, Mapping):
        return f"a dict with {', '.join(map(repr, kinds))}"
    return f"{len(kinds)} values in a {type(kinds).__name__}"


def first_logits(answer: Any) -> Tensor | None:
    """The entry "logits" of an answer, else its first floating-point tensor of two or more axes; None without one."""
    if is_container(answer):
        named = dict(children(answer)).get("logits")
        if named is not None:
            return first_logits(named)
        found = (first_logits(child) for _, child in children(answer))
        return next((tensor for tensor in found if tensor is not None), None)
    tensor = as_tensor(answer) if hasattr(answer, "__array__") else answer
    return tensor if isinstance(tensor, Tensor) and tensor.ndim >= 2 and tensor.dtype.is_floating_point else None
