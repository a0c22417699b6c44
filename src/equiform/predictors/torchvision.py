"""How the inputs and outputs of torchvision's models move: classification, segmentation, detection, optical flow."""

from typing import Any

from torch import nn

from ..geometry.kinds import Points, Rows
from .table import Adapter

HEADS = ("fc", "classifier", "head", "heads")  # what its classifiers call their last layers


def answers(model: Any) -> str | None:
    """Logits; features where the last layer was taken off; None for a block."""
    head = next((getattr(model, name) for name in HEADS if hasattr(model, name)), None)
    if head is None:
        return None
    last = list(head.modules())[-1]
    return "invariant" if isinstance(last, nn.Identity | nn.Sequential) else "logits"


def detections(model: Any) -> Rows | None:
    """A list with a dict per photo: boxes, and masks and keypoints where there are heads for them; None for a block."""
    if not hasattr(model, "transform"):
        return None
    kinds: dict[str, Any] = {"boxes": "boxes", "labels": "invariant", "scores": "invariant"}
    heads = getattr(model, "roi_heads", None)
    if heads is not None and heads.has_mask():
        kinds["masks"] = "mask"
    if heads is not None and heads.has_keypoint():
        kinds |= {"keypoints": Points(extra=1), "keypoints_scores": "invariant"}  # x, y, visibility
    return Rows(kinds)


ADAPTERS = [
    Adapter("torchvision.models._utils.IntermediateLayerGetter", "image", "image"),
    Adapter("torchvision.models.segmentation.*", "image", "mask"),
    Adapter("torchvision.models.detection.backbone_utils.*", "image", "image"),
    Adapter("torchvision.models.detection.*", Rows("image"), detections),
    Adapter("torchvision.models.optical_flow.*", {"image1": "image", "image2": "image"}, "field"),
    Adapter("torchvision.models.video.*", None, None),  # the canonicalizer looks at images, and a clip is not one
    Adapter("torchvision.models.*", "image", answers),
]
