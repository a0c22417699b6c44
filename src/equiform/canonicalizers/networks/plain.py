"""Networks that give one score per view: a small one, and any backbone with its last layer replaced."""

import copy

from jaxtyping import Float
from torch import Tensor, nn


def _conv(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(_conv(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.last = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.body(x))


class ScoreNetwork(nn.Module):
    """A small residual network from views (b, channels, r, r) to one score per row; every width halves the resolution."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (24, 48, 96)):
        super().__init__()
        self.widths = tuple(widths)
        layers: list[nn.Module] = []
        for into, out in zip((channels, *widths), widths, strict=False):
            layers += [_conv(into, out, 2), *([_Residual(out)] if into != channels else [])]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], 1)

    def forward(self, x: Float[Tensor, "b c r r"]) -> Float[Tensor, " b"]:
        return self.classifier(self.features(x).mean((-2, -1)))[:, 0]


def scorer(backbone: nn.Module) -> nn.Module:
    """A copy of `backbone` whose last linear (or 1x1 convolution) layer gives one score: a network for `OrbitCanonicalizer`.

    Works for classifiers whose last layer is a module: timm, torchvision and transformers classifiers, your own.
    Raises ValueError where there is no such layer.
    """
    network = copy.deepcopy(backbone)
    heads = [(name, m) for name, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    if not heads:
        raise ValueError(f"{type(backbone).__name__} has no linear or convolution layer to replace")
    name, last = heads[-1]
    if isinstance(last, nn.Linear):
        new: nn.Module = nn.Linear(last.in_features, 1)
    elif last.kernel_size == (1, 1):
        new = nn.Conv2d(last.in_channels, 1, 1)
    else:
        raise ValueError(f"the last layer of {type(backbone).__name__}, {name!r}, is no linear layer: replace it yourself")
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new.to(last.weight))
    network.untrained = True  # pyright: ignore[reportArgumentType]  (until it is fitted)
    return network
