"""A row of the table of known predictors."""

from typing import Any, NamedTuple


class Adapter(NamedTuple):
    """The kinds of a family of predictors. `classes`: a pattern for `module.Class`, so that nothing is imported.

    `inputs`, `outputs`: kinds, or a function predictor -> kinds where they depend on how it was built; None where the class
    does not tell.
    """

    classes: str
    inputs: Any
    outputs: Any
