"""Networks of clouds in recipes/: what comes out, the order of the points, and that they learn."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.dgcnn import DGCNN, edges
from recipes.particles import MessagePassing
from recipes.pointnet import PointNet, PointNetParts

B, N = 6, 24
# how each is made, and the shape of its answer on (B, N, 3)
OF_CLOUDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pointnet": (lambda: PointNet(4, (16, 32, 64)), (B, 4)),
    "parts": (lambda: PointNetParts(3, (16, 32, 64)), (B, N, 3)),
    "dgcnn": (lambda: DGCNN(4, k=5), (B, 4)),
}


@pytest.mark.parametrize("name", OF_CLOUDS)
def test_answers_have_their_shape_and_follow_the_order_of_the_points(name):
    make, shape = OF_CLOUDS[name]
    network, x, order = make().eval(), torch.randn(B, N, 3), torch.randperm(N)
    with torch.no_grad():
        answer, again = network(x), network(x[:, order])
    assert answer.shape == shape
    expected = answer[:, order] if len(shape) == 3 else answer
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)
    if len(shape) == 3:
        assert not torch.allclose(again, answer, atol=1e-3), "control: points have answers of their own"
    with torch.no_grad():
        assert not torch.allclose(network(x.flip(-1)), answer, atol=1e-3), "control: a turned cloud is another one to it"
        assert not torch.allclose(answer[0], answer[1], atol=1e-3), "control: clouds differ"


@pytest.mark.parametrize("name", OF_CLOUDS)
def test_training_lowers_the_loss(name):
    make, shape = OF_CLOUDS[name]
    network, x = make(), torch.randn(B, N, 3)
    for module in network.modules():
        module.training = not isinstance(module, nn.Dropout)
    target = torch.arange(B * N).reshape(B, N)[: shape[0], : 1 if len(shape) == 2 else N].reshape(shape[:-1]) % 3

    def loss() -> Tensor:
        return F.cross_entropy(network(x).flatten(0, -2), target.flatten())

    falls(network, loss)


def falls(network: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Every parameter gets a gradient, and a few steps take a third of the loss away."""
    optimizer, before = torch.optim.Adam(network.parameters(), 3e-3), loss()
    before.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    for _ in range(40):
        optimizer.step()
        optimizer.zero_grad()
        after = loss()
        after.backward()
    assert float(after.detach()) < 0.67 * float(before.detach())


def test_a_points_edges_lead_to_its_nearest():
    x = torch.tensor([[0.0, 1.0, 3.0, 7.0]])[:, None]  # one channel, four points on a line
    found = edges(x, 2)
    assert found.shape == (1, 2, 4, 2)
    assert found[0, 0].tolist() == [[0, 1], [0, -1], [0, -2], [0, -4]]  # to itself, and to the nearest other
    assert found[0, 1].tolist() == [[0, 0], [1, 1], [3, 3], [7, 7]]


def particles() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(B, 5, 3), torch.randn(B, 5, 3), torch.randint(2, (B, 5)) * 2.0 - 1


def test_particles_hear_each_other_and_are_learnt():
    network, (x, v, charge), order = MessagePassing(16, 2).eval(), particles(), torch.randperm(5)
    with torch.no_grad():
        answer = network(x, v, charge)
        assert answer.shape == (B, 5, 3)
        torch.testing.assert_close(network(x[:, order], v[:, order], charge[:, order]), answer[:, order])
        for i, changed in enumerate(((x + torch.eye(5)[0, :, None], v, charge), (x, -v, charge), (x, v, -charge))):
            assert not torch.allclose(network(*changed)[:, 1:], answer[:, 1:], atol=1e-4), f"argument {i} is heard"
    network, (x, v, charge) = MessagePassing(16, 2), particles()
    target = x + v + torch.linalg.cross(v, x)
    falls(network, lambda: F.mse_loss(network(x, v, charge), target))
