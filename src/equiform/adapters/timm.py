"""How the inputs and outputs of timm's models move."""

from .table import Adapter

ADAPTERS = [
    Adapter("timm.models._*", None, None),  # feature lists and other wrappers: no answer that all share
    Adapter("timm.models.*", "image", "logits"),
]
