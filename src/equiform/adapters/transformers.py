"""How the inputs and outputs of transformers' models move."""

from .table import Adapter

ADAPTERS = [
    Adapter("transformers.models.*ForImageClassification", {"pixel_values": "image"}, {"logits": "logits"}),
]
