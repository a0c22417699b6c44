"""How the inputs and outputs of known predictors move: one table, looked up by the class of the predictor."""

from fnmatch import fnmatch
from typing import Any, NamedTuple


class Adapter(NamedTuple):
    """The kinds of a family of predictors. `classes`: a pattern for `module.Class`, so that nothing is imported."""

    classes: str
    inputs: Any
    outputs: Any


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
    for cls in type(predictor).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        for adapter in ADAPTERS:
            if fnmatch(name, adapter.classes):
                return adapter.inputs, adapter.outputs
    return None, None
