"""Backbones whose batch norms were folded away, made trainable again and folded afterwards.

A network without normalisation hardly trains. After each convolution a batch norm is put back, set from data so that the
function stays the same; after training it is folded into the convolution, so that it costs nothing.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights


class NormalisedConv(nn.Module):
    """A convolution (with its activation inside) and the batch norm between the two."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.activated, conv.act = conv.act, False
        self.conv, self.norm = conv, nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return F.relu6(y) if self.activated else y


@torch.no_grad()
def with_batch_norms(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy with batch norms, which computes the same as `network` on data like x."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and hasattr(child, "act"):
                setattr(parent, name, NormalisedConv(child))
    layers = [m for m in network.modules() if isinstance(m, NormalisedConv)]

    def set_from(layer: NormalisedConv) -> object:
        def hook(_: nn.Module, __: object, y: Tensor) -> None:
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
            layer.norm.running_mean.copy_(mean)
            layer.norm.running_var.copy_(variance)
            layer.norm.weight.copy_((variance + layer.norm.eps).sqrt())
            layer.norm.bias.copy_(mean)

        return layer.conv.register_forward_hook(hook)

    hooks = [set_from(layer) for layer in layers]
    network.eval()(x)
    for hook in hooks:
        hook.remove()
    return network


@torch.no_grad()
def folded(network: nn.Module) -> nn.Module:
    """A copy with the batch norms of `with_batch_norms` folded into their convolutions."""
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, NormalisedConv):
                conv, norm = layer.conv, layer.norm
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                conv.act = layer.activated
                setattr(parent, name, conv)
    return network
