"""What a row of the table of adapters is."""

from typing import Any, NamedTuple


class Adapter(NamedTuple):
    """The kinds of a family of predictors. `classes`: a pattern for `module.Class`, so that nothing is imported.

    `inputs`, `outputs`: kinds, or a function from the predictor to them where its configuration decides; None where they
    cannot be known, and `adapt` asks for them.
    """

    classes: str
    inputs: Any
    outputs: Any
