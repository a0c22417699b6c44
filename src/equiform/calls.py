"""One call of a predictor as a value: its arguments beside their kinds, so that rows can be taken and the call repeated."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from . import kinds as k
from . import trees
from .actions import Size, moved_sizes
from .clouds import Cloud, batch_of, cloud_of, members, take_flat
from .kinds import Kind, Rows


class Call(NamedTuple):
    """Arguments that move (`values`, by name, with their `kinds`), the way back to a call, and what the canonicalizer sees.

    `seen`: the images, or a `Cloud` with the row of every point of a flat batch in `batch`.
    """

    values: dict[str, Any]
    kinds: dict[str, Any]
    run: Callable[[dict[str, Any]], Any]
    seen: Any
    sizes: list[Size]
    batch: Tensor | None = None

    @classmethod
    def bind(cls, predictor: Callable[..., Any], inputs: Any, args: tuple, kwargs: Mapping[str, Any], dim: int = 2) -> "Call":
        """Raises TypeError or ValueError where the arguments do not fit the kinds, or hold no image (in space: no points)."""
        names = _parameter_names(predictor, args)
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        wanted = _kinds_by_name(inputs, names, given)
        for name, value in given.items():
            if name not in wanted and any(_is_array(leaf) for _, leaf, _ in trees.leaves(None, value)):
                raise ValueError(
                    f"the argument {name!r} holds a tensor but has no kind: pass inputs={{{name!r}: ...}} to adapt"
                )
        values = {name: given[name] for name in wanted}
        kinds = {name: _rows_if_list(kind, given[name]) for name, kind in wanted.items()}

        def run(moved: dict[str, Any]) -> Any:
            everything = given | moved
            return predictor(*[everything[name] for name in names[: len(args)]], **{n: everything[n] for n in kwargs})

        if dim == 3:
            cloud, batch = cloud_of(values, kinds), batch_of(values, kinds)
            if cloud is None:
                raise ValueError("no points among the inputs: one of them must have the kind 'points' for the pose to be found")
            if batch is None:
                k.check_batch(values, kinds, len(cloud))
            return cls(values, kinds, run, cloud, [], batch)
        images = k.first_image(values, kinds)
        if images is None:
            raise ValueError("no image among the inputs: one of them must have the kind 'image' for the pose to be found")
        k.check_batch(values, kinds, len(images))
        return cls(values, kinds, run, images, k.image_sizes(values, kinds) or [])

    @property
    def canvas(self) -> Size:
        """The canvas of an empty batch."""
        return (1, 1) if isinstance(self.seen, list) else (int(self.seen.shape[-2]), int(self.seen.shape[-1]))

    def take(self, rows: Tensor) -> dict[str, Any]:
        """The arguments of those rows."""
        if self.batch is not None:
            return take_flat(self.values, self.kinds, self.batch, rows)
        return k.take(self.values, self.kinds, rows, len(self.seen))

    def batch_of(self, rows: Tensor) -> Tensor | None:
        """For every point of those rows of a flat batch, which of the rows it belongs to."""
        return None if self.batch is None else members(self.batch, rows.to(self.batch.device))[1]

    def parts(self, back: Float[Tensor, "m n n"], rows: Tensor) -> list[tuple[Size | None, Size | None, Tensor]]:
        """The canvas before and after, and the (row, pose) pairs, of every sub-batch; in space there is but one."""
        if isinstance(self.seen, Cloud):
            return [(None, None, torch.arange(len(rows)))]
        return [*by_canvas(back, [self.sizes[i] for i in rows.tolist()], self.canvas)]


def by_canvas(back: Float[Tensor, "m 3 3"], sizes: Sequence[Size], empty: Size) -> list[tuple[Size, Size, Tensor]]:
    """The rows of each (canvas before, canvas after being brought back): one sub-batch each; one empty one without rows."""
    if not sizes:
        return [(empty, empty, torch.zeros(0, dtype=torch.long))]
    found: dict[tuple[Size, Size], list[int]] = {}
    after = [size for g, size in zip(back, sizes, strict=True) for size in moved_sizes(g[None], size)]
    for i, pair in enumerate(zip(sizes, after, strict=True)):
        found.setdefault(pair, []).append(i)
    return [(*pair, torch.tensor(rows)) for pair, rows in found.items()]


def invoke(function: Callable[..., Any], predictor: Callable[..., Any], x: Any) -> Any:
    """`function` on the inputs of one batch of data: a tuple as arguments, a dict as those of its names."""
    if isinstance(x, tuple):
        return function(*x)
    names = _parameter_names(getattr(predictor, "predictor", predictor), ())  # an adapted model takes what its predictor takes
    if isinstance(x, Mapping) and all(name in names for name in x):
        return function(**x)
    return function(x)


def fitting_kinds(kind: Any, x: Any) -> Any:
    """The kinds for x: where several are named and x is one tensor, the first of them."""
    several = isinstance(kind, (Mapping, list, tuple))
    if not several or trees.is_container(x):
        return _rows_if_list(kind, x)
    return next(iter(kind.values())) if isinstance(kind, Mapping) else kind[0]


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _parameter_names(predictor: Callable[..., Any], args: tuple) -> list[str]:
    """Names for the positional arguments: the predictor's own where it tells them."""
    function = predictor.forward if isinstance(predictor, torch.nn.Module) else predictor
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # builtins and foreign callables have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names + [f"argument {i}" for i in range(len(names), len(args))]


def _kinds_by_name(inputs: Any, names: list[str], given: dict[str, Any]) -> dict[str, Any]:
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


def _rows_if_list(kind: Any, value: Any) -> Any:
    if isinstance(kind, Kind) and kind.name in ("image", "points") and isinstance(value, (list, tuple)):
        return Rows(kind)
    return kind
