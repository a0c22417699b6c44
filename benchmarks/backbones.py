"""MobileNets with folded batch norms and TensorFlow's padding as backbones: made lean, trainable, and lean again.

TensorFlow pads even sides at the far end alone, torch at the near end: with photo and kernels half-turned the two are the same
function, and no padded copy of every activation is made. A network without normalisation hardly trains: after each convolution
that learns a batch norm is put back, set from data so that the function stays the same; after training it is folded into the
convolution, so that it costs nothing. Networks of other kinds are left as they are.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights

import common
from equiform.canonicalizers import scorer


def scoring_network(reference: str) -> nn.Module:
    """A pretrained network, lean, with dropout and one score for its last layer."""
    network = scorer(common.predictor(reference))
    if isinstance(getattr(network, "classifier", None), nn.Linear):
        network.classifier = nn.Sequential(nn.Dropout(0.2), network.classifier)
    return lean(network)


class LeanConv(nn.Conv2d):
    """A convolution that pads by itself, with its activation inside and in place."""

    def __init__(self, conv: nn.Conv2d, activated: bool):
        size = conv.kernel_size[0]
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            size,
            conv.stride[0],
            size // 2 * conv.dilation[0],
            conv.dilation[0],
            conv.groups,
        )
        self.act = activated
        self.weight = nn.Parameter(conv.weight.detach().flip((-2, -1)).contiguous(memory_format=torch.channels_last))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return relu6_(y) if self.act else y


def relu6_(x: Tensor) -> Tensor:
    """ReLU6 in place. Read as integers, the bits of positive bfloat16 numbers are in the same order, and those of negative ones
    below 0, so that integer bounds give the same, in a third of the time; only NaN becomes 0 or 6."""
    if x.dtype == torch.bfloat16 and not x.requires_grad:
        x.view(torch.int16).clamp_(0, SIX)
        return x
    return F.relu6(x, inplace=True)


SIX = int(torch.tensor(6, dtype=torch.bfloat16).view(torch.int16))


class HalfTurned(nn.Module):
    """What a network whose kernels are half-turned says of upright views."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flip((-2, -1)))


def lean(network: nn.Module, frozen: int = 0) -> nn.Module:
    """The same function, faster, where its convolutions pad as TensorFlow does; the first `frozen` blocks learn nothing."""
    if not any(_pads_like_tensorflow(module) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if _pads_like_tensorflow(child):
                setattr(parent, name, LeanConv(child, child.act))
    if isinstance(blocks := getattr(network, "features", None), nn.Sequential):
        blocks[:frozen].requires_grad_(False)
    return HalfTurned(network)


def _pads_like_tensorflow(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and hasattr(module, "act") and module.padding == (0, 0)


class NormalisedConv(nn.Module):
    """A convolution (with its activation inside) and the batch norm between the two."""

    def __init__(self, conv: LeanConv):
        super().__init__()
        self.activated, conv.act = conv.act, False
        self.conv, self.norm = conv, nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return relu6_(y) if self.activated else y


@torch.no_grad()
def with_batch_norms(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy with batch norms behind the convolutions that learn, which computes the same as `network` on data like x."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LeanConv) and child.weight.requires_grad:
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
    return network.to(memory_format=torch.channels_last)


class FullLinear(nn.Linear):
    """A linear layer in float32 behind a network in bfloat16: no two views get the same score by rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def halved(network: nn.Module) -> nn.Module:
    """A copy in bfloat16 but for its last linear layer: half the time where the processor computes in it.

    A network without linear layers stays in float32: in bfloat16 its scores would tie.
    """
    network = copy.deepcopy(network)
    linears = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        return network
    name, last = linears[-1]
    network.bfloat16()
    full = FullLinear(last.in_features, last.out_features)
    full.load_state_dict(last.state_dict())
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, full)
    return network
