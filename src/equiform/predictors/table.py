"""Tables that are looked up by the class of a predictor, without importing its library."""

from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any, NamedTuple, TypeVar

Row = TypeVar("Row")


class Adapter(NamedTuple):
    """The kinds of a family of predictors. `classes`: a pattern for `module.Class`, so that nothing is imported.

    `inputs`, `outputs`: kinds, or a function predictor -> kinds where they depend on how it was built; None where the class
    does not tell.
    """

    classes: str
    inputs: Any
    outputs: Any


def first_match(rows: Iterable[Row], predictor: Any) -> Row | None:
    """The first row whose `classes` fit the predictor's class, or else one of its bases; None where none does."""
    for cls in type(predictor).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        for row in rows:
            if fnmatch(name, row.classes):  # pyright: ignore[reportAttributeAccessIssue]  (any named tuple with that field)
                return row
    return None
