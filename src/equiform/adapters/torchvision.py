"""How the inputs and outputs of torchvision's models move."""

from .table import Adapter

ADAPTERS = [
    Adapter("torchvision.models.segmentation.*", "image", "mask"),
    Adapter("torchvision.models.detection.*", None, None),
    Adapter("torchvision.models.optical_flow.*", None, None),
    Adapter("torchvision.models.video.*", None, None),
    Adapter("torchvision.models.*", "image", "logits"),
]
