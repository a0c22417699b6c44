"""Any angle: the ring turns with the image, exactly by quarter turns, and is learnt between them."""

import math

import pytest
import torch
from torch import nn

import equiform
from asserting import refused
from equiform import act, adapt
from equiform.canonicalizers.ring import RingCanonicalizer, sectors
from equiform.geometry.groups import group, turn
from small_photos import scenes

BINS = 72


class Gradient(nn.Module):
    """Knows the angle by hand: canonical views are bright above, brighter the higher."""

    def forward(self, x):
        r = x.shape[-1]
        axis, grey = torch.arange(r, dtype=x.dtype) + 0.5 - r / 2, x.mean(1) - 0.5
        up, left = -(grey * axis[:, None]).sum((1, 2)), -(grey * axis).sum((1, 2))
        angle = torch.atan2(left, up)  # counter-clockwise on the screen
        bins = 2 * math.pi * torch.arange(BINS, dtype=x.dtype) / BINS
        return 60 * torch.cos(angle[:, None] - bins)


def ring(name="SO2", network=None, **options):
    return RingCanonicalizer(name, network or Gradient(), num_bins=BINS, resolution=32, **options).eval()


def degrees_apart(a, b):
    return torch.rad2deg(group("SO2").distance(a, b))


@pytest.mark.parametrize("num_views", [4, 8])
def test_any_angle_is_found_between_the_bins(num_views):
    angles = torch.deg2rad(torch.tensor([0.0, 13, 90, 100, 187, 271, 359]))
    pose = ring(num_views=num_views)(act(turn(angles), scenes(7)))
    assert degrees_apart(pose.g, turn(angles)).max() < 3
    assert (pose.confidence > 0.9).all()


@pytest.mark.parametrize("size", [(48, 48), (48, 61), (60, 49)])
def test_a_quarter_turn_moves_the_pose_exactly(size):
    torch.manual_seed(3)
    canonicalizer = ring(network=nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, BINS)))
    images, quarter = torch.rand(3, 3, *size), group("C4").elements[1:2]
    pose, turned = canonicalizer(images), canonicalizer(act(quarter, images))
    assert torch.equal(turned.scores, pose.scores)
    assert torch.allclose(turned.g, quarter @ pose.g, atol=1e-6)


def test_flips_are_told_by_the_ring_of_the_mirrored_image():
    class Handed(nn.Module):
        """Bright above and, less so, at the left: mirrored it looks worse at every angle."""

        def forward(self, x):
            r = x.shape[-1]
            axis, grey = torch.arange(r, dtype=x.dtype) + 0.5 - r / 2, (x.mean(1) - 0.5).flatten(1)
            bins = 2 * math.pi * torch.arange(BINS, dtype=x.dtype) / BINS
            up = -(bins.cos()[:, None, None] * axis[:, None] + bins.sin()[:, None, None] * axis)
            left = -(bins.cos()[:, None, None] * axis - bins.sin()[:, None, None] * axis[:, None])
            pattern = (up * left.sign() * (left.abs() > 3)).flatten(1) + 0.5 * up.flatten(1)
            return grey @ pattern.T / 20

    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    image = (-y * torch.sign(-x) * (x.abs() > 0.2) - 0.5 * y)[None, None].expand(1, 3, -1, -1)
    canonicalizer = ring("O2", Handed())
    for angle in (0.0, 40.0, 200.0):
        for flip in (False, True):
            g = turn(torch.deg2rad(torch.tensor([angle])), torch.tensor([flip]))
            assert degrees_apart(canonicalizer(act(g, image)).g, g).max() < 12, (angle, flip)


def test_sectors_of_a_ring_and_what_it_is_not_for():
    scores = torch.randn(2, BINS).double()
    logs, turns = sectors(scores)
    assert torch.allclose(logs.logsumexp(1), scores.logsumexp(1))
    moved_logs, moved_turns = sectors(scores.roll(5, 1))
    assert torch.allclose(moved_logs, logs)
    assert torch.allclose(moved_turns, turn(torch.tensor(5 * 2 * math.pi / BINS).double()) @ turns, atol=1e-9)
    assert torch.equal(sectors(scores.roll(BINS // 4, 1))[1], group("C4").elements[1].double() @ turns)
    refused(ValueError, r"SO2 and O2; C8.*OrbitCanonicalizer", lambda: RingCanonicalizer("C8"))
    refused(ValueError, r"num_bins.*multiple", lambda: RingCanonicalizer("SO2", num_bins=60))
    with pytest.raises(ValueError, match=r"one score per angle, .*72\); got shape \(4, 7\)"):
        ring(network=nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7)))(scenes(1))


def test_a_ring_is_fitted():
    torch.manual_seed(0)
    canonicalizer = RingCanonicalizer("SO2", num_bins=BINS, resolution=32)
    model = adapt(lambda x: x.mean((2, 3)), "SO2", outputs="logits", canonicalizer=canonicalizer)
    before = [p.clone() for p in canonicalizer.parameters()]
    assert math.isfinite(equiform.fit(model, scenes(24), epochs=1, batch_size=12).history[-1]["loss"])
    assert any(not torch.equal(p, q) for p, q in zip(before, canonicalizer.parameters(), strict=True))
