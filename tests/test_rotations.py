"""Rotations drawn, measured and found from vectors: laws on random ones, worked examples for what laws cannot see."""

import math

import pytest
import torch
from torch import Tensor

from equiform.geometry.rotations import (
    about_z,
    gram_schmidt,
    icosahedral,
    nearest_rotation,
    octahedral,
    random_rotations,
    rotation_angle,
)

EYE = torch.eye(3, dtype=torch.float64)


def off(frame: Tensor, reflections: bool = False) -> float:
    """How far matrices are from being rotations; with reflections, from being orthogonal."""
    sign = torch.linalg.det(frame)
    wrong = (sign.abs() if reflections else sign) - 1
    return max(float((frame.mT @ frame - EYE.to(frame)).abs().max()), float(wrong.abs().max()))


def test_random_rotations_are_uniform():
    r = random_rotations(20_000, torch.Generator().manual_seed(0))
    assert off(r) < 1e-12
    # every entry of a uniform rotation has mean 0 and mean square 1/3, and the angle has the density (1 - cos t) / pi
    assert float(r.mean(0).abs().max()) < 0.02
    assert float((r.square().mean(0) - 1 / 3).abs().max()) < 0.01
    angles = rotation_angle(r)
    assert float(angles.mean()) == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.02)
    # the control: uniform angles about uniform axes are not uniform rotations
    assert abs(math.pi / 2 - float(angles.mean())) > 0.5


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, 3.0, math.pi - 1e-9, math.pi])
def test_the_angle_is_accurate_at_both_ends(angle):
    base = random_rotations(20)
    turned = base @ about_z(torch.tensor(angle, dtype=torch.float64)) @ base.mT
    assert torch.allclose(rotation_angle(turned), torch.tensor(angle, dtype=torch.float64), rtol=1e-6, atol=1e-15)
    assert bool((rotation_angle(-turned) == math.pi).all()), "nothing turns into its mirror image"


@pytest.mark.parametrize("reflections", [False, True])
def test_the_nearest_rotation_and_its_gradient(reflections):
    m = torch.randn(50, 3, 3, dtype=torch.float64)
    near = nearest_rotation(m, reflections)
    assert off(near, reflections) < 1e-12
    others = random_rotations(400)
    others = torch.cat([others, -others]) if reflections else others
    assert bool(((near - m).square().sum((1, 2))[:, None] <= (others - m[:, None]).square().sum((2, 3)) + 1e-12).all())
    assert bool((torch.linalg.det(near) < 0).any()) is reflections
    # by differences; also where singular values are equal, and the gradient of an SVD is not finite.
    for m in (torch.randn(3, 3).double(), random_rotations(1)[0], torch.diag(torch.tensor([2.0, 2, 1])).double()):
        assert torch.autograd.gradcheck(lambda m: nearest_rotation(m, reflections), m.requires_grad_())
    m = torch.stack([torch.zeros(3, 3), 1e-17 * torch.randn(3, 3), torch.diag(torch.tensor([1.0, 0, 0]))]).double()
    m.requires_grad_()
    (nearest_rotation(m, reflections) * torch.randn(3, 3)).sum().backward()
    assert m.grad is not None
    assert m.grad.isfinite().all()
    assert torch.equal(m.grad[:2], torch.zeros(2, 3, 3).double())
    assert float(m.grad[2].abs().max()) > 0.01, "where the first axis goes is known"


@pytest.mark.parametrize("reflections", [False, True])
def test_frames_turn_with_their_vectors(reflections):
    v, g = torch.randn(40, 3, 3, dtype=torch.float64), random_rotations(40)
    g = torch.where(torch.arange(40)[:, None, None] % 2 == 1, -g, g) if reflections else g
    for make in (lambda x: gram_schmidt(x, reflections)[0], lambda x: nearest_rotation(x, reflections)):
        assert off(make(v), reflections) < 1e-12
        # not all of them are well conditioned
        assert float((make(g @ v) - g @ make(v)).abs().amax((1, 2)).median()) < 1e-14
        assert float((make(g @ v) - g @ make(v)).abs().max()) < 1e-11
        # control: a mirrored cloud has no rotated frame
        if not reflections:
            assert float((make(-v) + make(v)).abs().amax((1, 2)).min()) > 0.1


def test_gram_schmidt_by_hand_and_of_open_sides():
    v = torch.tensor([[0.0, 3, 1], [2, 1, 0], [0, 0, -5]], dtype=torch.float64)  # columns
    frame, certainty = gram_schmidt(v)
    assert torch.equal(frame, torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]]).double())
    assert float(certainty) == pytest.approx(3 / math.sqrt(10))
    mirrored = v * torch.tensor([1.0, 1, -1])
    assert torch.equal(gram_schmidt(mirrored)[0], frame), "a rotation takes no notice of the third"
    assert torch.equal(gram_schmidt(mirrored, reflections=True)[0][:, 2], torch.tensor([0.0, 0, 1]).double())
    v = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]]).double()[None]
    assert (float(gram_schmidt(v)[1]), float(gram_schmidt(v, reflections=True)[1])) == (1, 0)


DEGENERATE = {
    "nothing": torch.zeros(3, 3),
    "no first": torch.tensor([[0.0, 1, 2], [0, 2, 1], [0, 3, 1]]),
    "no second": torch.tensor([[1.0, 0, 2], [1, 0, 1], [1, 0, 1]]),
    "parallel": torch.tensor([[1.0, 2, 3], [1, 2, 3], [1, 2, 3]]),
    "opposite": torch.tensor([[1.0, -1, 3], [0.1, -0.1, 1], [0.3, -0.3, 3]]),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("reflections", [False, True])
def test_degenerate_vectors_give_a_valid_frame_without_certainty(name, reflections):
    for scale in (1e-8, 1.0, 1e8):
        frame, certainty = gram_schmidt(scale * DEGENERATE[name].double()[None], reflections)
        assert off(frame, reflections) < 1e-12
        assert float(certainty) < 1e-12
    assert float(gram_schmidt(EYE[None], reflections)[1]) == 1


def test_each_polyhedron_keeps_its_own_vertices():
    golden, cube = (1 + math.sqrt(5)) / 2, torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).double()
    vertices = torch.tensor([[0, s, t * golden] for s in (-1, 1) for t in (-1, 1)], dtype=torch.float64)
    vertices = torch.cat([vertices.roll(k, 1) for k in range(3)])

    def kept(elements: Tensor, points: Tensor) -> bool:
        return float(((points @ elements.mT).flatten(0, 1)[:, None] - points).abs().amax(-1).amin(1).max()) < 1e-9

    assert kept(octahedral(), cube)
    assert kept(icosahedral(), vertices)
    assert not kept(octahedral(), vertices)
    assert not kept(icosahedral(), cube)
