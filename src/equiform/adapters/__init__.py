"""How the inputs and outputs of known predictors move: one table, looked up by the class of the predictor."""

from typing import Any

from .table import Adapter, first_match

# the first match counts, the predictor's own class before its bases
ADAPTERS = [
    Adapter("transformers.models.*ForImageClassification", {"pixel_values": "image"}, {"logits": "logits"}),
    Adapter("timm.models._*", None, None),  # feature lists and other wrappers: no answer that all share
    Adapter("timm.models.*", "image", "logits"),
    Adapter("torchvision.models.segmentation.*", "image", "mask"),
    Adapter("torchvision.models.detection.*", None, None),
    Adapter("torchvision.models.optical_flow.*", None, None),
    Adapter("torchvision.models.video.*", None, None),
    Adapter("torchvision.models.*", "image", "logits"),
]


def known_kinds(predictor: Any) -> tuple[Any, Any]:
    """The (inputs, outputs) kinds of a predictor of a known class; (None, None) for any other."""
    adapter = first_match(ADAPTERS, predictor)
    return (None, None) if adapter is None else (adapter.inputs, adapter.outputs)
