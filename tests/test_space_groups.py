"""Groups of space and how points, vectors and matrices move by them; the laws of `test_groups` with four rows."""

import math
import warnings

import pytest
import torch
from torch import Tensor

import equiform
import test_groups
from asserting import refused
from equiform import E3, O2, O3, SE3, SO2, SO3, Points, Rows, act, group, inverse
from equiform.geometry import AboutZ, Flips, Icosahedral, Octahedral, Similarity
from equiform.geometry.actions import ACTIONS, act_invariant
from equiform.geometry.groups import size_of, unscaled
from equiform.geometry.rotations import rotation_angle
from test_groups import belongs, by_name, every_pair

FINITE = [AboutZ(1), AboutZ(4), AboutZ(5), Octahedral(), Octahedral(True), Icosahedral(), Icosahedral(True), Flips()]
CONTINUOUS = [SO3(), O3(), SE3(), E3(), Similarity(), AboutZ()]
GROUPS = [*FINITE, *CONTINUOUS]
EVERY = [*GROUPS, *test_groups.GROUPS]


@pytest.mark.parametrize("g", EVERY, ids=by_name)
def test_every_group_is_closed_drawn_by_its_generator_and_known_by_name(g):
    a, b = every_pair(g)
    identity = torch.eye(g.dim + 1).expand_as(a)
    assert all(belongs(g, element) for element in (a, a @ b, inverse(a)))
    assert torch.allclose(inverse(a) @ a, identity, atol=1e-5)
    assert torch.allclose(a @ inverse(a), identity, atol=1e-5)
    assert torch.allclose(inverse(a @ b), inverse(b) @ inverse(a), atol=1e-5)
    assert g.dim == 2 or not g.on_grid
    first, again, other = (g.random(50, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert g.order == 1 or not torch.equal(first, other)
    state = torch.random.get_rng_state()
    g.random(5, torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), state), "a generator of one's own leaves the global one alone"
    assert (group(g.name), hash(group(g.name))) == (g, hash(g))
    assert group(g) is g
    assert (eval(repr(g), {"equiform": equiform}), [h for h in EVERY if h == g]) == (g, [g])
    assert g != g.name


def test_what_is_outside_a_group_is_told_apart():
    """The control of the closure law."""
    shifted, mirrored, turned = SE3().random(1), -torch.eye(4)[None], SO3().random(1)
    mirrored[0, 3, 3] = 1
    assert not belongs(SO3(), shifted)
    assert not belongs(SO3(), mirrored)
    assert not belongs(SE3(), mirrored)
    assert belongs(E3(), shifted @ mirrored)
    assert not any(belongs(g, turned) for g in [*FINITE, AboutZ()])


@pytest.mark.parametrize("g", [g for g in EVERY if g.order], ids=by_name)
def test_elements_are_distinct_and_the_identity_comes_first(g):
    assert g.elements.shape == (g.order, g.dim + 1, g.dim + 1)
    assert torch.equal(g.elements[:1], g.identity())
    assert torch.equal(g.identity(3), torch.eye(g.dim + 1).repeat(3, 1, 1))
    assert torch.equal(g.index(g.elements), torch.arange(g.order))
    noisy = g.elements + (0.05 if g.dim == 2 else 0.02) * torch.randn_like(g.elements)
    assert torch.equal(g.index(noisy), torch.arange(g.order))
    assert torch.equal(g.nearest(noisy), g.elements)
    negative = torch.linalg.det(g.elements) < 0
    assert int(negative.sum()) == (g.order // 2 if g.reflections else 0)


@pytest.mark.parametrize("g", [*CONTINUOUS, SO2(), O2()], ids=by_name)
def test_continuous_groups_have_no_elements(g):
    assert g.order is None
    refused(ValueError, f"{g.name} is continuous", lambda: g.elements)


@pytest.mark.parametrize("g", [*GROUPS, *test_groups.FINITE], ids=by_name)
def test_random_elements_are_uniform(g):
    first = g.random(4000 if g.order is None else 400 * g.order, torch.Generator().manual_seed(3))
    if g.order:
        counts = g.index(first).bincount(minlength=g.order)
        assert ((counts - 400.0) ** 2 / 400).sum() < g.order - 1 + 4 * math.sqrt(2 * g.order), counts
    else:
        # the mean over a uniform group is its projection to what it keeps: z for the turns about it, nothing else
        kept = torch.diag(torch.tensor([0.0, 0, 1 if g.name == "SO2z" else 0]))
        assert float((first[:, :3, :3].mean(0) - kept).abs().max()) < 0.05
        assert float((first[:, :3, 3].std() - (1 if g.translations else 0)).abs()) < 0.05
        assert float((torch.linalg.det(first) < 0).float().mean()) == pytest.approx(0.5 if g.reflections else 0, abs=0.05)


@pytest.mark.parametrize("g", GROUPS, ids=by_name)
def test_elements_in_float64_are_exact_and_a_finite_group_stands_for_each(g):
    drawn = g.random(8, torch.Generator().manual_seed(0), torch.float64)
    for h in (drawn, g.sample(), g.nearest(g.random(8).double())):
        linear = h[:, :3, :3] / size_of(h)[:, None, None] ** g.resizes
        assert h.dtype == torch.float64
        assert torch.allclose(linear @ linear.mT, torch.eye(3).double(), rtol=0, atol=1e-14)
        assert torch.allclose(g.nearest(h), h, rtol=0, atol=1e-14)
    assert torch.equal(drawn.float(), g.random(8, torch.Generator().manual_seed(0))), "the same ones, rounded"
    assert torch.equal(g.sample(5), g.sample(5))
    assert len(g.sample(5)) == (g.order or 5)
    assert g.finite.order
    assert g.finite == g or g.order is None
    assert all(belongs(g, element[None]) for element in g.finite.elements)


def test_distances_labels_and_moves_by_hand():
    a, b, c = (SE3().random(50).double() for _ in range(3))
    ab = SE3().distance(a, b)
    assert torch.allclose(ab, SE3().distance(b, a))
    assert bool((ab <= SE3().distance(a, c) + SE3().distance(c, b) + 1e-9).all())
    assert torch.allclose(SE3().distance(c @ a, c @ b), ab), "left-invariant"
    assert torch.allclose(SE3().distance(a, a), torch.zeros(50).double(), atol=1e-7)
    p, q, r = (SO3().random(50).double() for _ in range(3))
    assert torch.allclose(SO3().distance(p, q), rotation_angle(p[:, :3, :3].mT @ q[:, :3, :3]))
    assert torch.allclose(SO3().distance(p @ r, q @ r), SO3().distance(p, q)), "bi-invariant without translations"
    assert not torch.allclose(SE3().distance(a @ c, b @ c), ab), "control: there is no such distance with them"
    assert float(O3().distance(p[0], p[0] @ torch.diag(torch.tensor([-1.0, 1, 1, 1])).double())) == pytest.approx(math.pi)
    k, turned = Similarity().random(50).double(), unscaled(Similarity().random(50).double())
    assert torch.allclose(size_of(turned), torch.ones(50).double())
    assert torch.allclose(Similarity().distance(k @ a, k @ b), ab), "left-invariant"
    double = torch.diag(torch.tensor([2.0, 2, 2, 1])).double()
    assert float(Similarity().distance(torch.eye(4).double(), double)) == pytest.approx(math.log(2))
    assert Similarity().label(double) == "0°"
    quarter, mirrored = AboutZ(4).elements[1], -Octahedral().elements[0]
    mirrored[3, 3] = 1
    assert [O3().label(g) for g in (quarter, mirrored, AboutZ(4).elements[3])] == ["90°", "flip 0°", "90°"]
    near = SO3().near_identity(2000, 10.0, torch.Generator().manual_seed(0))
    angle = torch.rad2deg(SO3().distance(torch.eye(4).double().expand_as(near), near))
    assert belongs(SO3(), near)
    assert float(angle.square().mean().sqrt()) == pytest.approx(10, rel=0.1)
    assert torch.equal(AboutZ(4).elements[1][:3, :3], torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    g = torch.eye(4)[None].repeat(1, 1, 1)
    g[0, :3, 3] = torch.tensor([1.0, 2, 3])
    assert torch.equal(act(g, torch.zeros(1, 1, 3), "points")[0, 0], torch.tensor([1.0, 2, 3]))
    assert torch.equal(act(g, torch.ones(1, 1, 3), "vectors"), torch.ones(1, 1, 3))


# ------------------------------------------------------------------------------------------------------- what moves

SAMPLES = {
    "points": lambda b: torch.randn(b, 5, 3),
    "vectors": lambda b: torch.randn(b, 2, 4, 3),
    "axial_vectors": lambda b: torch.randn(b, 2, 4, 3),
    "pseudoscalars": lambda b: torch.randn(b, 4),
    "matrices": lambda b: torch.randn(b, 5, 3, 3),
    "invariant": lambda b: torch.randn(b, 3),
    "logits": lambda b: torch.randn(b, 5, 3),
    "features": lambda b: torch.randn(b, 5),
    "presence": lambda b: torch.rand(b, 5) > 0.5,
    "batch": lambda b: torch.arange(b),
    "edges": lambda b: torch.randint(b, (2, 5)),
    "edge_features": lambda b: torch.randn(b, 2),
    "edge_vectors": lambda b: torch.randn(b, 3),
    "count": lambda b: torch.arange(b),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def test_the_kinds_of_space_agree():
    assert set(SAMPLES) == {name for name, row in ACTIONS.items() if row.in_space}
    # a difference of points is a vector, its outer product a matrix, a cross product axial, a triple one pseudoscalar.
    g, x = E3().random(16).double(), torch.randn(16, 5, 3, dtype=torch.float64)
    moved, v = act(g, x, "points"), x[:, 1:] - x[:, :-1]
    assert torch.allclose(moved[:, 1:] - moved[:, :-1], act(g, v, "vectors"))
    outer, w = v[..., None] * v[..., None, :], act(g, v, "vectors")
    assert torch.allclose(w[..., None] * w[..., None, :], act(g, outer, "matrices"))
    assert torch.allclose(act(g, v, "vectors").norm(dim=-1), v.norm(dim=-1))
    spin, turned = (torch.linalg.cross(u[:, 0], u[:, 1]) for u in (v, w))
    assert torch.allclose(turned, act(g, spin, "axial_vectors"))
    assert not torch.allclose(turned, act(g, spin, "vectors")), "control: half of the elements mirror"
    assert torch.allclose((turned * w[:, 2]).sum(-1), act(g, (spin * v[:, 2]).sum(-1), "pseudoscalars"))
    assert not torch.allclose(act(g, x, "vectors"), moved), "control: a translation moves points alone"


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("which", [E3(), Similarity()], ids=by_name)
@pytest.mark.parametrize("kind", SAMPLES)
def test_identity_composition_and_inverse(kind, which, dtype):
    x = SAMPLES[kind](32)
    x = x.to(dtype) if x.dtype.is_floating_point else x
    g, h = (which.nearest(which.random(32).to(dtype)) for _ in range(2))  # rotations to the last digit of that dtype

    def close(a: Tensor, b: Tensor) -> bool:
        return torch.allclose(
            a.double(), b.double(), rtol=10 * TOLERANCE[dtype], atol=(100 if which.resizes else 20) * TOLERANCE[dtype]
        )

    assert torch.equal(act(E3().identity(), x, kind), x)
    assert close(act(g, act(h, x, kind), kind), act(g @ h, x, kind))
    assert close(act(inverse(g), act(g, x, kind), kind), x)
    if kind == "pseudoscalars":
        assert not torch.equal(act(g, x, kind), x), "control: signs commute, but they do turn"
    elif ACTIONS[kind].act is not act_invariant:
        assert not close(act(g, act(h, x, kind), kind), act(h @ g, x, kind)), "control: the group does not commute"


def test_numbers_behind_points_and_flat_batches():
    g, x = SE3().random(4), torch.randn(4, 5, 4)
    moved = act(g, x, Points(extra=1))
    assert torch.equal(moved[..., :3], act(g, x[..., :3], "points"))
    assert torch.equal(moved[..., 3:], x[..., 3:])
    with pytest.raises(ValueError, match="points have shape"):  # control: no number may follow where none is announced
        act(g, x, "points")
    refused(ValueError, "points in space are metric", lambda: act(g, x[..., :3], Points(normalized=True)))
    g, batch = SE3().random(3).double(), torch.tensor([0, 0, 1, 2, 2, 2])
    x, dipole = torch.randn(6, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    moved = act(g, {"x": x, "dipole": dipole}, {"x": "points", "dipole": "vectors"}, batch=batch)
    for i, row in enumerate(batch.tolist()):
        assert torch.allclose(moved["x"][i], act(g[row : row + 1], x[None, i], "points")[0])
    assert torch.allclose(moved["dipole"], act(g, dipole, "vectors"))
    assert not torch.allclose(moved["x"], act(g[:1], x, "points"))


@pytest.mark.parametrize("kind", [name for name, row in ACTIONS.items() if not (row.in_space or row.in_volume)])
def test_kinds_of_the_plane_are_refused(kind, unchecked):
    with pytest.raises(ValueError, match=rf"x: '{kind}' does not move in three dimensions; kinds that do: points, vectors"):
        act(SO3().random(2), torch.rand(2, 3, 4, 4), kind)
    with pytest.raises(ValueError, match=rf"x\[0\]: '{kind}' does not move"):
        act(SO3().random(2), [torch.zeros(3, 5, 5)] * 2, Rows(kind))


def test_other_shapes_are_refused(unchecked):
    refused(ValueError, r"points have shape .*; got \(2, 5, 2\)", lambda: act(SO3().random(2), torch.rand(2, 5, 2), "points"))
    refused(ValueError, r"matrices have shape .*; got \(2, 3\)", lambda: act(SO3().random(2), torch.rand(2, 3), "matrices"))


@pytest.mark.parametrize("kind", ["points", "vectors"])
def test_whole_numbers_in_space_are_not_rounded(kind):
    g, x = SO3().random(2), torch.randint(-9, 9, (2, 5, 3))
    moved = act(g, x, kind)
    assert moved.dtype == torch.float32
    assert torch.allclose(moved, act(g, x.float(), kind), atol=1e-5)
    assert not torch.allclose(moved, moved.round(), atol=0.1), "control: they lie between whole numbers"


def test_map_coordinates_are_moved_in_float64_and_rounded_once():
    house, place = torch.randn(1, 50, 3).double(), torch.tensor([456_000.0, 5_572_000.0, 300.0]).double()
    stored, g = (house + place).float(), SO3().random(1, dtype=torch.float64)
    g[:, :3, 3] = -(g[:, :3, :3] @ place)
    seen, true = act(g, stored, "points"), act(g, stored.double(), "points")
    assert seen.dtype == torch.float32
    assert torch.equal(seen, true.float())
    with pytest.warns(UserWarning, match="about the origin.*subtract.*SE3, E3"):
        act(SO3().random(1), stored, "points")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for h, x in [(g, stored), (SO3().identity(), stored), (SO3().random(1), house + 100), (SO3().random(1), stored[:, :1])]:
            act(h, x, "points")
