"""Group convolutions permute with the group, to rounding on the grid and measured elsewhere; backbones made into scorers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equiform import OrbitCanonicalizer, act, group, inverse
from equiform.canonicalizers import scorer
from equiform.canonicalizers.networks import GroupConvNetwork, ScoreNetwork
from equiform.canonicalizers.networks.groupconv import GroupConv2d
from equiform.geometry import Image
from equiform.images.views import disc

ON_GRID = ["C1", "C2", "C4", "D1", "D2", "D4"]


def lively(network: nn.Module) -> nn.Module:
    """Weights, running means and deviations away from their first values."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.add_(0.1 * torch.rand_like(tensor))
    return network.eval()


def permutation_error(network: nn.Module, name: str, x: Tensor) -> tuple[float, float]:
    """The greatest |scores(g.x)[h] - scores(x)[g^-1 h]| over the group, and the spread over h, in shares of the scores."""
    elements = group(name).elements
    with torch.no_grad():
        scores = network(x)
        errors = []
        for g in elements.split(1):
            moved = network(act(g, x, Image(border="edge")))
            errors.append((moved - scores[:, group(name).index(inverse(g) @ elements)]).abs().max())
    return float(max(errors) / scores.abs().max()), float((scores.amax(1) - scores.amin(1)).max() / scores.abs().max())


@pytest.mark.parametrize("name", ON_GRID)
def test_group_convolutions_are_exact_on_the_grid(name):
    network, x = lively(GroupConvNetwork(name, widths=(4, 8, 8))), torch.rand(3, 3, 16, 16)
    error, spread = permutation_error(network, name, x)
    assert error < 1e-5
    if name != "C1":
        assert spread > 100 * error, "control: the scores differ from element to element"
        rolled = permutation_error(lambda y: network(y).roll(1, 1), name, x)[0]
        assert name in ("C2", "C4", "D1", "D2") or rolled > 100 * error, "control: the wrong order of elements"


def test_a_plain_network_is_not():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).mean((-2, -1))

    error, _ = permutation_error(Plain(), "D4", torch.rand(3, 3, 16, 16))
    assert error > 1e-3


def test_the_order_of_elements():
    """An element of D4 that does not commute tells g^-1 h from h g^-1, g h and h g."""
    d4, network, x = group("D4"), lively(GroupConvNetwork("D4", widths=(4, 8))), torch.rand(2, 3, 16, 16)
    g, h = d4.elements[5:6], d4.elements
    with torch.no_grad():
        moved, scores = network(act(g, x)), network(x)
    candidates = {"g^-1 h": inverse(g) @ h, "h g^-1": h @ inverse(g), "g h": g @ h, "h g": h @ g}
    agree = [name for name, e in candidates.items() if torch.allclose(moved, scores[:, d4.index(e)], atol=1e-5)]
    assert agree == ["g^-1 h", "g h"], "a flip is its own inverse"
    g = d4.elements[1:2]
    with torch.no_grad():
        moved = network(act(g, x))
    candidates = {"g^-1 h": inverse(g) @ h, "h g^-1": h @ inverse(g), "g h": g @ h, "h g": h @ g}
    assert [name for name, e in candidates.items() if torch.allclose(moved, scores[:, d4.index(e)], atol=1e-5)] == ["g^-1 h"]


@pytest.mark.parametrize(("name", "measured"), [("C8", 0.05), ("D8", 0.05), ("C5", 0.3)])
def test_other_elements_are_measured(name, measured):
    """Smooth pictures in a disc, random weights. Turned filters differ between an eighth turn and a quarter by as much as
    the scores do, so that only the error in shares of the scores is small; the quarter turns in C8 and D8 are exact.
    """
    x = disc(F.interpolate(torch.rand(2, 3, 5, 5), (64, 64), mode="bicubic"))
    network = GroupConvNetwork(name, widths=(4, 8)).eval()
    error, _ = permutation_error(network, name, x)
    assert 1e-4 < error < measured
    if name != "C5":
        quarter, scores = group(name).elements[2:3], network(x)
        moved = network(act(quarter, x))
        order = group(name).index(inverse(quarter) @ group(name).elements)
        assert (moved - scores[:, order]).abs().max() < 1e-5 * scores.abs().max()
        assert (moved - scores).abs().max() > 1e-4 * scores.abs().max(), "control"


@pytest.mark.parametrize("lifting", [True, False])
@pytest.mark.parametrize("name", ["C4", "D4"])
def test_every_layer_is_equivariant(name, lifting):
    """A map on the group moves in space and over the group: (g.f)(h, p) = f(g^-1 h, g^-1 p)."""
    elements, n = group(name).elements, group(name).order
    layer = GroupConv2d(group(name), 2, 3, lifting=lifting)
    x = torch.rand(2, 2, 1 if lifting else n, 7, 7)

    def moved(g: Tensor, y: Tensor) -> Tensor:
        order = group(name).index(inverse(g) @ elements)
        return act(g, y if y.shape[2] == 1 else y[:, :, order])

    with torch.no_grad():
        for g in elements.split(1):
            assert torch.allclose(layer(moved(g, x)), moved(g, layer(x)), atol=1e-5)
        assert not torch.allclose(layer(act(elements[1:2], x)), act(elements[1:2], layer(x)), atol=1e-3), "control"


def test_training_reaches_every_weight():
    network = GroupConvNetwork("D4", widths=(4, 8)).train()
    network(torch.rand(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert set(network.state_dict()) == set(GroupConvNetwork("C4", widths=(4, 8)).state_dict()), "tables are not saved"


def test_bad_resolutions(unchecked):
    with pytest.raises(ValueError, match="multiple of 4; got 18"):
        GroupConvNetwork("C4", widths=(4, 8))(torch.rand(1, 3, 18, 18))


def test_score_networks_give_one_score_per_row():
    for channels, resolution, widths in [(3, 64, (24, 48, 96)), (1, 16, (4, 8)), (24, 9, (24, 48))]:
        network = ScoreNetwork(channels, widths).eval()
        x = torch.rand(3, channels, resolution, resolution)
        assert network(x).shape == (3,)
        assert len(set(network(x).tolist())) == 3
        assert torch.allclose(network(x)[1:2], network(x[1:2]), atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- scorer


class Named(nn.Module):
    """A classifier with its head in a submodule of its own."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU())
        self.neck = nn.ModuleDict({"head": nn.Sequential(nn.Dropout(), nn.Linear(6, 10))})

    def forward(self, x: Tensor) -> Tensor:
        return self.neck["head"](self.features(x).mean((-2, -1)))


BACKBONES = {
    "sequential": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
    "submodule": Named,
    "1x1 convolution": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 10, 1), nn.Flatten()),
    "no bias, double": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10, bias=False)).double(),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_become_scorers(name):
    backbone = BACKBONES[name]().eval()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    network = scorer(backbone)
    dtype = next(backbone.parameters()).dtype
    assert network(torch.rand(5, 3, 16, 16, dtype=dtype)).numel() == 5
    assert backbone(torch.rand(5, 3, 16, 16, dtype=dtype)).shape == (5, 10)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items()), "a copy: the backbone keeps its weights"
    canonicalizer = OrbitCanonicalizer("C4", scorer(backbone), resolution=16).eval()
    x = torch.rand(4, 3, 12, 12)
    pose, turned = canonicalizer(x), canonicalizer(torch.rot90(x, 1, (-2, -1)))
    assert torch.equal(turned.index, (pose.index + 1) % 4)
    assert len({round(v, 6) for v in pose.scores[0].tolist()}) == 4


def test_the_body_of_the_backbone_is_kept():
    backbone = Named()
    network = scorer(backbone)
    assert torch.equal(network.features[0].weight, backbone.features[0].weight)
    assert network.neck["head"][1].out_features == 1


def test_scorers_of_transformers_classifiers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=16,
        patch_size=8,
        num_labels=5,
    )
    network = scorer(transformers.ViTForImageClassification(config).eval())
    canonicalizer = OrbitCanonicalizer("C4", network, resolution=16).eval()
    x = torch.rand(4, 3, 12, 12)
    assert torch.equal(canonicalizer(torch.rot90(x, 1, (-2, -1))).index, (canonicalizer(x).index + 1) % 4)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (nn.Sequential(nn.Flatten()), "Sequential has no linear or convolution layer to replace"),
        (nn.Sequential(nn.Linear(2, 2), nn.Conv2d(3, 4, 3)), "the last layer of Sequential, '1', is no linear layer"),
    ],
)
def test_backbones_without_a_head(backbone, message):
    with pytest.raises(ValueError, match=message):
        scorer(backbone)
