"""How the inputs and outputs of timm's models move: classifiers, pooled features, feature maps."""

from typing import Any

from torch import nn

from .table import Adapter


def feature_maps(extractor: Any) -> str | None:
    """Maps (b, c, h, w); None for channels last, such as Swin's, which no kind describes."""
    layout = getattr(extractor, "output_fmt", None)
    return "image" if layout is not None and layout.value == "NCHW" else None


def answers(model: Any) -> str | None:
    """Logits; features where there is no classifier; maps where there is no pooling; None for a block, or for tokens."""
    if not hasattr(model, "get_classifier"):
        return None
    pools = [getattr(part, "global_pool", None) for part in (model, getattr(model, "head", None))]
    module = next((pool for pool in pools if isinstance(pool, nn.Module)), None)
    if module is None and "" in pools:  # a transformer without pooling
        return None
    if module is not None and getattr(module, "pool_type", "avg") == "":
        return "image" if getattr(model, "output_fmt", "NCHW") == "NCHW" else None
    return "invariant" if model.num_classes == 0 or isinstance(model.get_classifier(), nn.Identity) else "logits"


ADAPTERS = [
    Adapter("timm.models._*", "image", feature_maps),  # features_only=True
    Adapter("timm.models.*Features", "image", "image"),  # the same, of the families that have an extractor of their own
    Adapter("timm.models.*", "image", answers),
]
