"""Group laws over a table of groups, and the conventions of sign and order as worked examples."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import equiform
from asserting import refused
from equiform import O2, SO2, Cyclic, Dihedral, Scale, act, group, inverse
from equiform.geometry import Group, PlaneGroup, Product, Shift
from equiform.geometry.groups import homogeneous, size_of, turn, unscaled
from equiform.geometry.scales import resizing

FINITE = [*(Cyclic(n) for n in (1, 2, 3, 4, 5, 8)), *(Dihedral(n) for n in (1, 2, 3, 4, 6))]
GROUPS = [*FINITE, SO2(), O2()]
SIZES = [Scale(0.5, 2, 5), Scale(0.35, 2, 7), Scale(0.25, 1, 3), Scale(1, 3, 2), Scale(0.9, 4, 3)]
PRODUCTS = [Cyclic(4) * Scale(0.5, 2, 5), Scale(0.25, 1, 3) * Dihedral(3), Dihedral(4) * Scale(1 / 3, 1, 2)]
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


# ---------------------------------------------------------------------------------------------- sizes and products
@pytest.mark.parametrize("g", [*SIZES, *PRODUCTS], ids=by_name)
def test_sizes_and_products_are_known_by_name_and_found_among_their_elements(g):
    assert (group(g.name), hash(group(g.name)), eval(repr(g), {"equiform": equiform})) == (g, hash(g), g)
    assert g.elements.shape == (g.order, 3, 3)
    assert torch.equal(g.elements[:1], g.identity())
    assert torch.equal(g.index(g.elements), torch.arange(g.order))
    near = g.elements @ resizing(torch.tensor(1.04)) @ turn(torch.tensor(0.1))
    assert torch.equal(g.nearest(near), g.elements)
    assert torch.allclose(inverse(g.elements) @ g.elements, g.identity(g.order), atol=1e-6)
    assert torch.equal(g.index(g.random(100)).bincount(minlength=g.order) > 0, torch.ones(g.order).bool()) or g.order > 15
    assert torch.allclose(size_of(g.near_identity(50, 9.0)), torch.ones(50)), "a small change of pose resizes nothing"
    assert len({g.label(h) for h in g.elements}) == g.order
    first, again = (g.anywhere(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.allclose(g.part(first), first, atol=1e-6), "poses lie between the elements"
    assert not torch.allclose(g.nearest(first), first, atol=1e-3), "control"


@pytest.mark.parametrize("g", SIZES, ids=by_name)
def test_sizes_hold_one_and_both_ends_and_are_geometric_on_either_side(g):
    assert (g.sizes[0], g.sizes[-1]) == (g.low, g.high)
    ratios = g.sizes.log().diff()
    for side in (ratios[g.sizes[1:] <= 1], ratios[g.sizes[:-1] >= 1]):
        assert torch.allclose(side, side.mean().expand_as(side))
    assert size_of(g.anywhere(200).double()).aminmax() == pytest.approx((g.low, g.high), rel=0.05)
    ends = resizing(torch.tensor([g.low / 9, g.high * 9]))
    assert torch.equal(size_of(g.nearest(ends)), torch.tensor([g.low, g.high])), "a semigroup: what lies beyond is the end"
    assert not belongs(g, ends)


def test_histograms_of_sizes_end_at_the_edges_and_poses_lie_between_the_steps():
    """Worked examples over 1, 0.5, 2: what is carried, and where equal scores put the pose."""
    g, all_at = Scale(0.5, 2, 3), torch.eye(3)
    assert torch.equal(g.carried(all_at[[0, 1]], g.elements[[1, 2]]), all_at[[1, 0]])
    assert torch.equal(g.carried(all_at[[1, 2]], g.elements[[1, 2]]), all_at[[1, 2]]), "not round to the other end"
    between = g.carried(all_at[[0]], resizing(torch.tensor([2**0.25])))
    assert torch.allclose(between, torch.tensor([[0.75, 0, 0.25]]))
    scores = torch.tensor([[0.0, -9, -9], [0, -9, 0], [0, -2, 0.5], [0, -3, 1.1], [0, -9, 1e-4], [0, 0, 0]])
    best = g.refined(scores)[torch.arange(6), scores.argmax(1)]
    assert torch.allclose(size_of(best), torch.tensor([1, 2**0.5, 2 ** (5 / 6), 2, 2**0.5, 1]), atol=1e-4)
    assert torch.equal(Cyclic(4).refined(scores.new_zeros(2, 4)), Cyclic(4).elements.expand(2, 4, 3, 3))


@pytest.mark.parametrize("g", PRODUCTS, ids=by_name)
def test_a_product_does_what_its_factors_do(g):
    one, two = g.factors
    assert torch.allclose(g.elements, (one.elements[:, None] @ two.elements).flatten(0, 1))
    assert (g.order, g.reflections, g.resizes, g.on_grid) == (
        one.order * two.order,
        one.reflections or two.reflections,
        True,
        False,
    )
    h = g.anywhere(40).double()
    a, b = g.parts(h)
    assert torch.allclose(a @ b, h, atol=1e-6)
    assert torch.equal(g.index(h), one.index(a) * two.order + two.index(b))
    k = g.elements.double()[torch.randint(g.order, (40,))]
    assert torch.allclose(g.distance(h, k), torch.hypot(one.distance(h, k), two.distance(h, k)))
    # carried is a permutation where nothing leaves the sizes, and loses nothing where it does
    shares = torch.rand(g.order, g.order)
    moved = g.carried(shares, g.elements)
    assert torch.allclose(moved.sum(1), shares.sum(1), atol=1e-4)
    assert torch.allclose(g.carried(torch.eye(g.order)[:1].expand(g.order, -1), g.elements), torch.eye(g.order), atol=1e-5)
    sure = torch.eye(g.order) * 99
    assert torch.allclose(g.refined(sure)[range(g.order), range(g.order)], g.elements, atol=1e-5)


class Right(PlaneGroup):
    """Not at all, or a pixel to the right: a toy of another sort, whose elements a turn turns."""

    sort = "shifts"

    def __init__(self) -> None:
        super().__init__("Right", 2)

    def _listed(self) -> torch.Tensor:
        return homogeneous(torch.eye(2).double().expand(2, 2, 2), torch.tensor([[0.0, 0], [1, 0]]).double())

    def index(self, g: torch.Tensor) -> torch.Tensor:
        return (g[:, 0, 2] > 0.5).long()


def test_the_second_factor_is_found_in_what_the_first_has_left():
    g = Cyclic(4) * Right()
    assert torch.equal(g.index(g.elements), torch.arange(8))
    assert not torch.equal(Right().index(g.elements), torch.arange(8) % 2), "control: turned, a shift is another"


def test_products_join_and_may_be_continuous():
    assert Cyclic(4) * Scale(0.5, 2, 3) == Product(Cyclic(4), Scale(0.5, 2, 3)) == group("C4 * Scale(0.5, 2.0, 3)")
    assert Cyclic(4) * Scale(0.5, 2, 3) != Scale(0.5, 2, 3) * Cyclic(4)
    g = SO2() * Scale(0.5, 2, 3)
    assert (g.order, g.finite.name) == (None, "C16*Scale(0.5,2,3)")
    h = g.random(30)
    assert torch.allclose(g.nearest(h), h, atol=1e-6)
    assert torch.allclose(SO2().nearest(h), unscaled(h), atol=1e-6)
    assert g.angles(turn(torch.tensor([1.0])) @ resizing(torch.tensor([0.5]))) == ([57.296], [False])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(2, 0.5, 5), r"from low up to high; got 2 and 0.5: Scale\(0.5, 2, steps\)"),
        (lambda: Scale(1, 1, 5), r"from low up to high; got 1 and 1$"),
        (lambda: Scale(1.5, 3, 5), r"from 1.5 to 3 do not hold 1, .*: Scale\(1, 3, steps\)"),
        (lambda: Scale(0.2, 0.5, 5), r"from 0.2 to 0.5 do not hold 1, .*: Scale\(0.2, 1, steps\)"),
        (lambda: Scale(0, 2, 5), r"low is a factor above 0, such as 0.5; got 0"),
        (lambda: Scale(0.5, math.nan, 5), r"high is a factor above 0.*got nan"),
        (lambda: Scale(0.5, 2, 2), r"steps must be a whole number >= 3; got 2"),
        (lambda: Scale(0.5, 2, 5.0), r"steps must be a whole number .*; got 5.0"),
        (lambda: Scale(0.5, 2), r"how many sizes there are too; got 0.5 and 2: Scale\(0.5, 2, 5\)"),
        (lambda: group("SE2"), r"do you mean Shift16\*C4\?"),
        (lambda: group("scale"), r"do you mean Scale\(0.5,2,5\)\?"),
        (lambda: group("translation"), r"do you mean Shift16\?"),
        (lambda: group("shift8"), r"do you mean Shift8\?"),
        (lambda: group("Shift0"), r"'Shift0' \(n is from 1 to 9999, such as Shift4\)"),
        (lambda: group("C99999"), r"'C99999' \(n is from 1 to 9999, such as C4\)"),
        (lambda: group("C0z"), r"'C0z' \(n is from 1 to 9999, such as C4z\)"),
        (
            lambda: group("Scale(0.5,2)"),
            r"unknown group 'Scale\(0.5,2\)' \(do you mean Scale\(0.5,2,5\)\?\).*known groups: .*Scale\(low,high,steps\)",
        ),
        (lambda: group("Scale(a,2,5)"), r"unknown group"),
        (lambda: group("C4*"), r"unknown group 'C4\*' \(do you mean C4\?\)"),
        (lambda: Cyclic(4) * group("SO3"), r"one dimension; got C4 \* SO3: C4 moves 2 dimensions, SO3 3"),
        (lambda: Cyclic(4) * Dihedral(3), r"different things.*got C4 \* D3, of which two are turns: take one larger group"),
    ],
)
def test_bad_ranges_of_sizes_and_products_say_the_way_out(make, message, unchecked):
    refused(ValueError, message, make)


def test_a_name_is_no_factor(unchecked):
    message = r"got C4 \* 'Scale\(0.5,2,5\)': write group\('Scale.*group\('C4\*Scale"
    refused(TypeError, message, lambda: Cyclic(4) * "Scale(0.5,2,5)")  # pyright: ignore[reportOperatorIssue]
    refused(TypeError, r"got 'C4' \* Shift2: write group\('C4'\)", lambda: "C4" * Shift(2))  # pyright: ignore
    refused(TypeError, "unsupported operand", lambda: Cyclic(4) * 3)  # pyright: ignore[reportOperatorIssue]


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
