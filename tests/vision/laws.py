"""The law of every adapter: a different element in each row, on photos that are not square, and a bare model that fails."""

from collections.abc import Mapping
from typing import Any

import torch

from asserting import same
from equiform import Equivariant, OrbitCanonicalizer, act, adapt, group
from equiform.geometry.moving import image_sizes
from equiform.geometry.nested import children, is_container

# rows of one tensor share a canvas: elements that leave it as it is, and elements that swap height and width
TOGETHER = {"C4": ([0, 2], [1, 3]), "D4": ([0, 2, 4, 6], [1, 3, 5, 7])}
# in a list the first two photos have one size and the last two another; sub-batches of one canvas then hold the same rows
# before and after the move, as the law to the bit needs it: networks round differently for another batch
APART = {"C4": ([0, 2, 1, 3], [3, 1, 2, 0]), "D4": ([0, 6, 1, 3], [5, 7, 4, 2])}


def alike(a: Any, b: Any) -> bool:
    """The same structure, types and dtypes, whatever the numbers are."""
    if is_container(a):
        pairs, others = children(a), children(b)
        return type(a) is type(b) and all(alike(x, y) for (_, x), (_, y) in zip(pairs, others, strict=True))
    return type(a) is type(b) and getattr(a, "dtype", None) == getattr(b, "dtype", None)


def check(predictor: Any, *arguments: Any) -> Equivariant:
    """Raise AssertionError unless the adapted predictor, whose kinds are looked up, is equivariant to the bit over C4 and D4.

    arguments: tensors of four rows, or lists of four photos.
    """
    broken = False
    with torch.no_grad():
        for name in TOGETHER:
            model = adapt(predictor, name, canonicalizer=OrbitCanonicalizer(name, resolution=16))
            several = isinstance(model.inputs, Mapping)
            keys = list(model.inputs) if several else ["image"]
            kinds = model.inputs if several else {"image": model.inputs}
            for elements in (APART if isinstance(arguments[0], list) else TOGETHER)[name]:
                x = {key: value[: len(elements)] for key, value in zip(keys, arguments, strict=True)}
                g, sizes = group(name).elements[elements], image_sizes(x, kinds)
                moved = act(g, x, kinds)
                upright, got = model(*x.values()), model(*moved.values())
                assert alike(got, predictor(*moved.values())), f"{name}, {elements}: structure and types of the bare answer"
                assert same(got, act(g, upright, model.outputs, sizes)), f"{name}, {elements}: not equivariant"
                bare = act(g, predictor(*x.values()), model.outputs, sizes)
                broken |= not same(predictor(*moved.values()), bare)
    assert broken, "control: the bare predictor fails the same law"
    return model
