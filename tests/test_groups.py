"""Group laws over a table of groups, and the conventions of sign and order as worked examples."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from asserting import refused
from equiform import O2, SO2, Cyclic, Dihedral, act, group, inverse
from equiform.geometry import Group, Shift
from equiform.geometry.groups import turn

FINITE = [*(Cyclic(n) for n in (1, 2, 3, 4, 5, 8)), *(Dihedral(n) for n in (1, 2, 3, 4, 6))]
GROUPS = [*FINITE, SO2(), O2()]
angles = st.floats(-10, 10, allow_nan=False)


def by_name(g: Group) -> str:
    return g.name


def every_pair(g: Group) -> tuple[torch.Tensor, torch.Tensor]:
    """All pairs of elements, or many random ones."""
    if g.order is None:
        return g.random(64), g.random(64)
    n = g.order
    return g.elements.repeat_interleave(n, 0), g.elements.repeat(n, 1, 1)


def belongs(g: Group, h: torch.Tensor) -> bool:
    return torch.allclose(g.nearest(h), h, atol=1e-6)


def test_what_is_outside_a_group_and_what_is_nearest():
    """The control of the closure law."""
    odd = turn(torch.tensor([0.3]))
    assert not any(belongs(g, odd) for g in FINITE)
    assert belongs(SO2(), odd)
    assert not belongs(SO2(), Dihedral(1).elements[1:])
    assert not belongs(Cyclic(4), Cyclic(8).elements[1:2])
    assert not belongs(O2(), 2 * odd)
    a, b = every_pair(Dihedral(3))
    assert not torch.allclose(inverse(a @ b), inverse(a) @ inverse(b), atol=1e-3)
    noisy = turn(torch.tensor([0.3, 2.0, -1.2]))
    noisy[:, :2, :2] += 0.1 * torch.randn(3, 2, 2)
    for g in (SO2(), O2()):
        best = (g.nearest(noisy) - noisy)[:, :2, :2].square().sum((-2, -1))
        others = turn(torch.linspace(0, 2 * math.pi, 500))[:, None]
        assert (best <= (others - noisy)[..., :2, :2].square().sum((-2, -1)) + 1e-6).all()
        assert torch.linalg.det(g.nearest(noisy)).sub(1).abs().max() < 1e-6


def test_sign_positive_turns_counter_clockwise_on_the_screen():
    """Worked example: the pixel on the right goes to the top, the arrow to the right points up (y is down)."""
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 2] = 1
    quarter = Cyclic(4).elements[1:2]
    assert torch.equal(act(quarter, x), torch.rot90(x, 1, (-2, -1)))
    assert act(quarter, x)[0, 0, 0, 1] == 1
    assert torch.equal(quarter[0, :2, :2] @ torch.tensor([1.0, 0.0]), torch.tensor([0.0, -1.0]))
    assert torch.allclose(turn(torch.tensor([math.pi / 2])), quarter)
    assert torch.allclose(Cyclic(8).elements[2:3], quarter)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_dihedral_element_n_plus_k_is_a_flip_followed_by_turn_k(n):
    elements, flip = Dihedral(n).elements, torch.diag(torch.tensor([-1.0, 1, 1]))
    assert torch.equal(elements[:n], Cyclic(n).elements)
    assert torch.allclose(elements[n:], elements[:n] @ flip, atol=1e-7)


def test_quarter_turns_are_exact_and_large_groups_searched_in_little_memory():
    values = torch.cat([g.elements for g in (Cyclic(4), Dihedral(4))])
    assert set(values.unique().tolist()) == {-1, 0, 1}
    assert not torch.signbit(values[values == 0]).any(), "-0.0 prints badly"
    assert torch.equal(Dihedral(8).elements[[0, 2, 4, 6, 8, 10, 12, 14]], Dihedral(4).elements)
    # the products of all pairs, with every element at once, would take gigabytes.
    g = Cyclic(256)
    products = (g.elements[:, None] @ g.elements).flatten(0, 1)
    expected = (torch.arange(256)[:, None] + torch.arange(256)).flatten() % 256
    assert torch.equal(g.index(products), expected)


@pytest.mark.parametrize(("g", "expected"), [(g, g.name in {"C1", "C2", "C4", "D1", "D2", "D4"}) for g in GROUPS])
def test_on_grid(g, expected):
    assert g.on_grid is expected


# -------------------------------------------------------------------------------------------------------- distance
def elements_of(angle: float, flipped: bool) -> torch.Tensor:
    return turn(torch.tensor([angle], dtype=torch.float64), torch.tensor([flipped]))


@given(*[st.builds(elements_of, angles, st.booleans())] * 3)
def test_distance_is_a_bi_invariant_metric(g, h, k):
    d = O2.distance
    assert d(g, g) < 1e-6
    assert 0 <= d(g, h) <= math.pi + 1e-9
    assert (d(g, h) - d(h, g)).abs() < 1e-6
    assert d(g, h) <= d(g, k) + d(k, h) + 1e-6
    assert (d(k @ g, k @ h) - d(g, h)).abs() < 1e-6
    assert (d(g @ k, h @ k) - d(g, h)).abs() < 1e-6
    if (g - h).abs().max() > 1e-3:
        assert d(g, h) > 1e-4


# ---------------------------------------------------------------------------------------------------------- random


@pytest.mark.parametrize("g", [SO2(), O2()], ids=by_name)
def test_random_turns_are_uniform(g):
    h = g.random(4000)
    flipped = torch.linalg.det(h[:, :2, :2]) < 0
    assert flipped.float().mean().sub(0.5 if g.reflections else 0.0).abs() < 0.03
    for part in (h[flipped], h[~flipped]):
        if len(part):
            angle = torch.atan2(part[:, 0, 1], part[:, 1, 1]).double()
            for harmonic in (1, 2, 3):  # all means vanish under the uniform law
                assert (angle * harmonic).cos().mean().abs() < 0.08
                assert (angle * harmonic).sin().mean().abs() < 0.08


@pytest.mark.parametrize(("g", "most"), [(Cyclic(4), 12.0), (Dihedral(8), 11.25), (Cyclic(16), 5.625), (SO2(), 12.0)])
def test_near_the_identity_means_nearer_to_it_than_to_any_other_element(g, most):
    near, again = (g.near_identity(500, 12.0, torch.Generator().manual_seed(3)) for _ in range(2))
    angle = torch.rad2deg(g.distance(g.identity(500), near))
    assert torch.equal(near, again)
    assert 0.95 * most < float(angle.max()) <= most + 1e-3
    assert belongs(SO2(), near), "turns alone"
    if g.order:
        assert bool((g.index(near) == 0).all())


# ----------------------------------------------------------------------------------------------------------- names
def test_labels_and_distances_by_hand():
    """Worked examples: counter-clockwise, the flip first."""
    assert [Dihedral(4).label(g) for g in Dihedral(4).elements] == [
        *("0°", "90°", "180°", "270°"),
        *("flip 0°", "flip 90°", "flip 180°", "flip 270°"),
    ]
    assert (Cyclic(16).label(Cyclic(16).elements[3]), SO2().label(turn(torch.tensor([-1e-9]))[0])) == ("67.5°", "0°")
    e, quarter, half = Cyclic(4).elements[[0, 1, 2]]
    flip = Dihedral(1).elements[1]
    assert (O2.distance(e, quarter), O2.distance(quarter, e)) == (pytest.approx(math.pi / 2), pytest.approx(math.pi / 2))
    assert (O2.distance(e, half), O2.distance(e, flip)) == (pytest.approx(math.pi), pytest.approx(math.pi))
    assert O2.distance(flip, quarter @ flip) == pytest.approx(math.pi / 2)


@pytest.mark.parametrize(
    "name", ["c4", "C0", "C-1", "C4 ", "C", "C4.0", "SO4", "so2", "C0z", "D4x", "Z4", "", "C99999", 4, None, 1.5]
)
def test_bad_names_list_the_known_ones(name, unchecked):
    refused(ValueError, r"unknown group .*; known groups: Cn, Dn, Cnz, SO2, O2, SO3, .*C4, D4", lambda: group(name))


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_shifts_are_multiplied_modulo_n(n):
    """Worked examples: y is the slower index; the element of the matrix moves places to the right and down."""
    g, order = Shift(n), torch.arange(n * n)
    assert (g.name, g.order, g.on_grid, group(g.name)) == (f"Shift{n}", n * n, True, g)
    assert torch.equal(g.elements @ torch.tensor([0.0, 0, 1]), torch.stack([order % n, order // n, order**0], -1).float())
    assert g.label(g.elements[-1]) == f"shift {n - 1}, {n - 1}"
    a, b = every_pair(g) if n < 16 else (g.random(500), g.random(500))
    x, y = (a + b)[:, :2, 2].long().unbind(-1)
    assert torch.equal(g.index(a @ b), y % n * n + x % n)
    assert torch.equal(g.index(a @ b), g.index(b @ a))
    assert torch.equal(g.index(inverse(a) @ a @ b), g.index(b))
    assert bool((g.index(inverse(a)) == 0).all()) == (n == 1), "control"
    assert torch.equal(g.nearest(b @ a), g.elements[g.index(a @ b)])
    assert (g.angles(a)[1], len(set(g.random(64)[:, 0, 2].tolist())) > n / 4) == ([False] * len(a), True)
    refused(ValueError, f"n a whole number from 1 to 64; got {n + 64}", lambda: group(f"Shift{n + 64}"))


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "4", None])
@pytest.mark.parametrize("make", [Cyclic, Dihedral, Shift])
def test_bad_orders_say_what_came(make, n, unchecked):
    refused(ValueError, rf"whole number.*; got {n!r}", lambda: make(n))


# -------------------------------------------------------------------------------------------------------- inverse
@given(angles, st.booleans(), st.floats(0.2, 5), st.floats(-9, 9), st.floats(-9, 9))
def test_inverse_of_similarities(angle, flipped, scale, dx, dy):
    g = elements_of(angle, flipped)
    g[:, :2, :2] *= scale
    g[:, :2, 2] = torch.tensor([dx, dy])
    before = g.clone()
    assert torch.allclose(inverse(g) @ g, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.equal(g, before)


def test_inverse_is_exact_on_the_grid_and_keeps_the_axes():
    d4 = Dihedral(4).elements
    assert torch.equal(inverse(d4) @ d4, torch.eye(3).repeat(8, 1, 1))
    assert torch.equal(inverse(d4.reshape(2, 4, 3, 3)).reshape(8, 3, 3), inverse(d4))
    assert torch.equal(inverse(d4[1]), d4[3])
    four = torch.eye(4)
    four[:3, 3] = torch.tensor([1.0, 2, 3])
    assert torch.equal(inverse(four) @ four, torch.eye(4))
