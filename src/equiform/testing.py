"""Equivariance of any model, measured (`equivariance_error`) and judged (`check_equivariant`)."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .batching.calls import invoke
from .equivariant import Equivariant
from .geometry import groups, nested
from .geometry.actions import Size
from .geometry.groups import Group
from .geometry.kinds import Rows, as_kinds
from .geometry.moving import act, image_sizes, precision


def equivariance_error(
    model: Callable[[Any], Any],
    x: Any,
    group: str | Group,
    inputs: Any = None,
    outputs: Any = None,
    *,
    canvas: Size | list[Size] | None = None,
) -> Float[Tensor, " n"]:
    """The greatest absolute difference between model(g.x) and g.model(x), for every element.

    Of a continuous group for 16 elements, drawn with a fixed seed. Elements are float64 where x is.
    Zero means equal to the bit. Shapes that differ count as infinite. x: the argument of the model, a tuple of its arguments,
    or a dict of them by name. Kinds: those of an adapted model, else "image" and "invariant"; `canvas`: see `act`.
    """
    inputs, outputs = _kinds(model, inputs, outputs, groups.group(group))
    canvas = canvas if canvas is not None else image_sizes(x, inputs)
    upright = invoke(model, model, x)
    errors = []
    for element in groups.group(group).sample().to(precision(x)):
        got = invoke(model, model, act(element[None], x, inputs))
        expected = act(element[None], upright, outputs, canvas)
        errors.append(difference(got, expected, outputs))
    return torch.tensor(errors)


def check_equivariant(
    model: Callable[[Any], Any],
    x: Any,
    group: str | Group,
    inputs: Any = None,
    outputs: Any = None,
    *,
    canvas: Size | list[Size] | None = None,
    tolerance: float = 0.0,
) -> None:
    """Raise AssertionError, naming the worst element, unless every error is at most `tolerance`."""
    errors = equivariance_error(model, x, group, inputs, outputs, canvas=canvas)
    worst = int(errors.argmax())
    if not errors[worst] <= tolerance:
        raise AssertionError(
            f"not equivariant to {groups.group(group).name}: element {worst} differs by {float(errors[worst]):.3g}, "
            f"more than {tolerance:g}"
        )


def _kinds(model: Any, inputs: Any, outputs: Any, group: Group) -> tuple[Any, Any]:
    adapted = isinstance(model, Equivariant)
    inputs = inputs if inputs is not None else model.inputs if adapted else "image"
    outputs = outputs if outputs is not None else model.outputs if adapted else "invariant"
    return as_kinds(inputs, group), as_kinds(outputs, group)


def difference(got: Any, expected: Any, outputs: Any) -> float:
    """The greatest absolute difference between two values of one structure; infinite where shapes differ."""
    worst, ours, theirs = 0.0, nested.leaves(outputs, got), nested.leaves(outputs, expected)
    if len(ours) != len(theirs):  # more words were read, more objects found
        return float("inf")
    for (kind, a, _), (_, b, _) in zip(ours, theirs, strict=True):
        if isinstance(kind, Rows):
            rows = [difference(i, j, kind.kinds) for i, j in zip(a, b, strict=True)]
            worst = max([worst, *rows])
            continue
        if isinstance(a, str) or isinstance(b, str):  # words do not differ a little
            worst = worst if a == b else float("inf")
            continue
        a, b = torch.as_tensor(a).detach(), torch.as_tensor(b).detach()
        if a.shape != b.shape:
            return float("inf")
        if a.numel() and not torch.equal(a, b):
            worst = max(worst, float((a.double() - b.double()).abs().nan_to_num(float("inf")).max()))
    return worst
