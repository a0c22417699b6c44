"""Networks of clouds: vector neurons turn with their input, layer by layer; occupancy moves by index as it does anew."""

import pytest
import torch
from torch import Tensor

from equiform import O3
from equiform.canonicalizers.networks import OccupancyNetwork, VectorNetwork
from equiform.canonicalizers.networks.occupancy import moved_cells
from equiform.canonicalizers.networks.vectorneurons import VectorLinear, VectorNorm, VectorReLU
from equiform.geometry import Octahedral
from equiform.geometry.clouds import Cloud, standardised
from equiform.geometry.rotations import octahedral, random_rotations

LAYERS = {"linear": VectorLinear(5, 7), "relu": VectorReLU(5), "norm": VectorNorm(5)}


def cloud(b: int = 6, n: int = 20, vectors: int = 0, features: int = 0) -> Cloud:
    parts = torch.randn(b, n, 3), torch.rand(b, n) > 0.2, torch.randn(b, n, vectors, 3), torch.randn(b, n, features)
    return standardised(Cloud(parts[0].double(), parts[1], parts[2].double(), parts[3].double()))[0]


def turned(x: Cloud, r: Tensor) -> Cloud:
    return Cloud(x.points @ r.mT, x.present, x.vectors @ r[:, None].mT, x.features)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_turn_and_mirror_with_their_vectors(name):
    v, r = torch.randn(8, 5, 3, dtype=torch.float64), O3().nearest(O3().random(8).double())[:, :3, :3]
    layer = LAYERS[name]
    assert torch.allclose(layer(v @ r.mT), layer(v) @ r.mT, atol=1e-13)
    assert not torch.allclose(layer(v @ r.mT), layer(v), atol=0.01), "control: the answer moves"
    assert not torch.allclose(layer(v + 1), layer(v) + 1, atol=0.01), "control: and not by anything else"


def test_a_bias_would_not_turn():
    """The control of the law above."""
    v, r = torch.randn(8, 5, 3, dtype=torch.float64), random_rotations(8)
    biased = torch.nn.Linear(5, 7, dtype=torch.float64)
    assert not torch.allclose(biased(v.mT @ torch.eye(5).double()).mT, biased((v @ r.mT).mT).mT @ r, atol=0.01)


def test_layers_by_hand():
    relu = VectorReLU(1, slope=0.0)
    with torch.no_grad():
        relu.direction.weight.fill_(1)
    v = torch.tensor([[[3.0, 4, 0]]]).double()
    assert torch.equal(relu(v), v), "what points along the direction stays"
    with torch.no_grad():
        relu.direction.weight.fill_(-1)
    assert torch.allclose(relu(v), torch.zeros(1, 1, 3).double(), atol=0.01), "what points against it goes"
    norm = VectorNorm(2)
    v = torch.tensor([[[30.0, 40, 0], [0, 0, 50]]]).double()
    assert torch.allclose(norm(v), v / 50, atol=1e-4)


@pytest.mark.parametrize(("vectors", "features"), [(0, 0), (2, 1)])
def test_the_network_turns_with_its_cloud(vectors, features):
    network, x = VectorNetwork(4, vectors=vectors, features=features), cloud(vectors=vectors, features=features)
    r = O3().nearest(O3().random(6).double())[:, :3, :3]
    order = torch.randperm(20)
    shuffled = Cloud(x.points[:, order], x.present[:, order], x.vectors[:, order], x.features[:, order])
    with torch.no_grad():
        v, share = network(x)
        w, same = network(turned(shuffled, r))
    assert torch.allclose(w, v @ r.mT, atol=1e-12)
    assert torch.allclose(same, share, atol=1e-11)
    assert bool(((share >= 0) & (share <= 1)).all())
    assert not torch.allclose(w, v, atol=0.01), "control"


def test_points_that_cancel_leave_nothing():
    points = torch.randn(1, 10, 3).double()
    points = torch.cat([points, -points], 1)
    even = Cloud(points, torch.ones(1, 20, dtype=torch.bool), torch.zeros(1, 20, 0, 3).double(), torch.zeros(1, 20, 0).double())
    with torch.no_grad():
        # a network of odd functions alone: the first layer's gates are even
        network = VectorNetwork(3, depth=0)
        assert float(network(even)[1].max()) < 1e-12
        assert float(network(cloud(1))[1].min()) > 1e-3, "control"


def test_cells_move_by_index():
    network, x = OccupancyNetwork(side=5, width=16).eval(), cloud(3)
    elements = octahedral()
    with torch.no_grad():
        by_index, six = network(x, elements)
        # an element that is off by nothing but rounding is counted anew
        anew, again = network(x, elements + 1e-15 * torch.eye(3))
    assert torch.allclose(by_index, anew, atol=1e-9)
    assert torch.allclose(six, again, atol=1e-9)
    wrong = network._cells(x, x.points)[0][0][:, moved_cells(elements.mT, 5)]
    right = network._cells(x, x.points)[0][0][:, moved_cells(elements, 5)]
    assert not torch.allclose(wrong, right, atol=0.1), "control: the other direction is another order"


def test_scores_of_a_turned_cloud_are_in_another_order():
    network, x = OccupancyNetwork(side=4, width=16).eval(), cloud(4)
    group = Octahedral()
    h = group.elements[torch.tensor([3, 7, 11, 20])].double()
    with torch.no_grad():
        scores, _ = network(x, group.matrices)
        moved, _ = network(turned(x, h[:, :3, :3]), group.matrices)
    for row, element in enumerate(h):
        order = group.index(torch.linalg.inv(element) @ group.elements.double())
        assert torch.allclose(moved[row], scores[row, order], atol=1e-9)
        assert not torch.allclose(moved[row], scores[row], atol=1e-9), "control"
