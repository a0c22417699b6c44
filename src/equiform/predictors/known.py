"""The kinds of the inputs and outputs of known predictors: one table, looked up by the class of the predictor.

A family of predictors has a file here, which imports nothing of its library, and a place in `ADAPTERS` below.
"""

from typing import Any

from . import efficientnet_lite, pairs, timm, torchvision, transformers
from .table import Adapter, first_match

# the first match counts, the predictor's own class before its bases
ADAPTERS: list[Adapter] = [
    *pairs.ADAPTERS,
    *transformers.ADAPTERS,
    *timm.ADAPTERS,
    *torchvision.ADAPTERS,
    *efficientnet_lite.ADAPTERS,
]


def known_kinds(predictor: Any) -> tuple[Any, Any]:
    """The (inputs, outputs) kinds of a predictor of a known class; (None, None) for any other."""
    adapter = first_match(ADAPTERS, predictor)
    return (None, None) if adapter is None else (_told(adapter.inputs, predictor), _told(adapter.outputs, predictor))


def _told(kinds: Any, predictor: Any) -> Any:
    return kinds(predictor) if callable(kinds) else kinds
