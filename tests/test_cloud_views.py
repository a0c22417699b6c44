"""Training views of clouds, and the priors of frames."""

import math

import pytest
import torch
from torch import Tensor

from equiform import O3, SE3, SO3, Rows
from equiform.batching.calls import cloud_in
from equiform.canonicalizers import PrincipalAxesCanonicalizer
from equiform.geometry import AboutZ
from equiform.geometry.clouds import Cloud
from equiform.geometry.kinds import as_kinds
from equiform.geometry.rotations import about_z, random_rotations, rotation_angle
from equiform.learning import CloudAugmentation
from equiform.learning.cloud_augmentation import varied
from equiform.learning.priors import CONCENTRATION, frame_distance, frame_loss, frame_prior

STILL = CloudAugmentation(keep=(1, 1), reach=(1, 1), stretch=0, jitter=0, degrees=0, mirror=False)


def clouds(b: int = 8, n: int = 64) -> Cloud:
    x = torch.randn(b, n, 3).double()
    return Cloud(x, torch.ones(b, n, dtype=torch.bool), x[:, :, None] * 2, torch.zeros(b, n, 0).double())


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("group", [SO3(), SE3(), O3(), AboutZ()], ids=lambda g: g.name)
def test_clouds_are_moved_by_what_is_said(group):
    x = clouds()
    moved, r = varied(x, group, STILL, drawn())
    t = moved.points[:, :1] - x.points[:, :1] @ r.mT
    assert torch.allclose(moved.points, x.points @ r.mT + t, atol=1e-6)
    assert torch.allclose(moved.vectors, x.vectors @ r[:, None].mT, atol=1e-6)
    assert (float(t.abs().max()) > 0.1) is group.translations
    assert bool((torch.linalg.det(r) < 0).any()) is group.reflections
    again, _ = varied(x, group, STILL, drawn())
    other, _ = varied(x, group, STILL, drawn(1))
    assert torch.equal(again.points, moved.points)
    assert not torch.allclose(other.points, moved.points)


def test_every_option_does_something():
    x = clouds()
    still, _ = varied(x, SO3(), None, drawn())
    options = {"keep": (0.3, 0.5), "reach": (0.5, 0.6), "stretch": 0.3, "jitter": 0.1, "degrees": 20, "turns": 4}
    for name, value in [*options.items(), ("mirror", True)]:
        augmentation = CloudAugmentation(**{**vars(STILL), name: value})
        moved, r = varied(x, SO3(), augmentation, drawn())
        back, before = moved.points @ r, x.points
        difference = (back - before).abs().amax((1, 2))
        count = moved.present.sum(1)
        if name in ("keep", "reach"):
            assert bool(((count < 64) & (count > 10)).all())
            assert float(difference.max()) < 1e-5
            continue
        assert bool((count == 64).all())
        assert float(difference.max()) > 0.05, name
        if name == "turns":
            angle = torch.rad2deg(rotation_angle(torch.linalg.lstsq(before, back).solution.mT))
            assert float((angle / 90 - (angle / 90).round()).abs().max()) < 1e-4
        if name == "mirror":
            assert bool(((difference < 1e-5) | (back[..., 1:] - before[..., 1:]).abs().amax((1, 2)).lt(1e-5)).all())
    mirrored = CloudAugmentation(**{**vars(STILL), "mirror": True})
    moved, r = varied(x, O3(), mirrored, drawn())
    assert torch.allclose(moved.points @ r, x.points, atol=1e-5), "a group with reflections has mirrored them already"
    assert torch.allclose(still.points.norm(dim=-1), x.points.norm(dim=-1))


def test_small_clouds_lose_no_points():
    moved, _ = varied(clouds(4, 5), SO3(), CloudAugmentation(), drawn())
    assert moved.present.all()


def test_batches_that_begin_with_clouds():
    x, there, label = torch.randn(2, 5, 3), torch.ones(2, 5), torch.zeros(2)
    for batch, kinds in [
        (x, "points"),
        ([x], "points"),
        ((x, label), "points"),
        ({"x": x, "there": there}, {"x": "points", "there": "presence"}),
        (({"x": x, "there": there}, label), {"x": "points", "there": "presence"}),
        ((x, there), ("points", "presence")),
        (((x, there), label), ("points", "presence")),
        ((x, label), {"x": "points"}),
    ]:
        assert torch.equal(cloud_in(batch, as_kinds(kinds)).points, x.double())
    for batch in (list(x), (list(x), label)):
        assert torch.equal(cloud_in(batch, Rows(as_kinds("points"))).points, x.double())
    with pytest.raises(ValueError, match="no points in the training data"):
        cloud_in(x, as_kinds("vectors"))


# -------------------------------------------------------------------------------------------------- priors of frames


def test_distance_is_that_of_matrices():
    a, b = random_rotations(20), random_rotations(20)
    ones = frame_prior("identity")
    assert torch.allclose(frame_distance(a, b, ones), (a - b).square().sum((1, 2)))
    assert torch.allclose(frame_distance(a, b, ones), 4 - 4 * torch.cos(rotation_angle(a.mT @ b)))
    up = frame_prior("upright")
    turned = a @ about_z(torch.rand(20).double())
    assert torch.allclose(frame_distance(turned, b, up), frame_distance(a, b, up)), "what turns about z is as upright"
    assert not torch.allclose(frame_distance(turned, b, ones), frame_distance(a, b, ones)), "control"


def test_the_loss_of_one_frame_is_its_distance():
    a, target = random_rotations(20), random_rotations(20)
    loss = frame_loss(torch.randn(20, 1).double(), a[:, None], target, frame_prior("identity"))
    assert float(loss) == pytest.approx(CONCENTRATION / 2 * float(frame_distance(a, target, torch.ones(3)).mean()))


def test_the_density_of_a_direction_is_that_of_von_mises_and_fisher():
    """exp(k cos t), normalised over the sphere by k / (2 pi (e^k - e^-k)): ratios of it are the loss's."""
    k, angles = 3.0, torch.linspace(0, math.pi, 7).double()
    zero = torch.zeros(7, 1).double()
    tilt = about_z(angles).roll((1, 1), (1, 2))  # about x
    per = torch.stack(
        [frame_loss(zero[:1], torch.eye(3).double()[None, None], t[None], frame_prior("upright"), k) for t in tilt]
    )
    assert torch.allclose(-per, k * torch.cos(angles) - k)


def test_the_loss_prefers_scores_and_frames_that_are_right():
    frames = torch.stack([torch.eye(3).double(), about_z(torch.tensor(math.pi).double())])[None]
    target = torch.eye(3).double()[None]

    def loss(*scores: float) -> float:
        return float(frame_loss(torch.tensor([scores]).double(), frames, target, torch.ones(3)))

    assert loss(5, 0) < loss(0, 0) < loss(0, 5)
    assert loss(0, 0) == pytest.approx(math.log(2), abs=1e-6), "one of two is right"
    either = float(frame_loss(torch.zeros(1, 2).double(), frames, target, frame_prior("upright")))
    assert either == pytest.approx(0, abs=1e-9), "both are upright"


@pytest.mark.parametrize("which", ["uniform", torch.ones(4), torch.tensor([1.0, -1, 0]), torch.zeros(3)])
def test_bad_priors_are_named(which: str | Tensor):
    with pytest.raises(ValueError, match="prior"):
        frame_prior(which)


def test_axes_a_twentieth_apart_are_told_apart_for_certain():
    """Worked: deviations 1, 0.9 and 0.7 are clear; 1, 0.975 and 0.7 are half as far apart as they should be."""
    corners = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)], dtype=torch.float64)
    canonicalizer = PrincipalAxesCanonicalizer("SO3", scores="equal")
    for second, certainty in ((0.9, 1.0), (0.975, 0.5)):
        pose = canonicalizer(corners[None] * torch.tensor([1.0, second, 0.7]))
        assert float(pose.confidence) * 4 == pytest.approx(certainty, abs=1e-6), "four candidates, none preferred"
