"""How the inputs and outputs of known predictors move: one table, looked up by the class of the predictor."""

from fnmatch import fnmatchcase
from typing import Any

from . import timm, torchvision, transformers
from .table import Adapter

# the first match counts, the predictor's own class before its bases
ADAPTERS: list[Adapter] = [*transformers.ADAPTERS, *timm.ADAPTERS, *torchvision.ADAPTERS]


def known_kinds(predictor: Any) -> tuple[Any, Any]:
    """The (inputs, outputs) kinds of a predictor of a known class; (None, None) for any other."""
    for cls in type(predictor).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        for adapter in ADAPTERS:
            if fnmatchcase(name, adapter.classes):
                inputs, outputs = (kinds(predictor) if callable(kinds) else kinds for kinds in adapter[1:])
                return inputs, outputs
    return None, None
