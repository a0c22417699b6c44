"""From scores to elements: which one, how sure, which ones to run, and the gradient of the choice."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from equiform import Dihedral, group
from equiform.batching.chosen import SCORE_STEP, choose
from equiform.canonicalizers import Pose
from equiform.canonicalizers.poses import pose_of, straight_through

D4 = Dihedral(4).elements
score = st.integers(-4000, 4000).map(lambda i: i * SCORE_STEP)
tables = st.integers(1, 8).flatmap(lambda n: st.lists(st.lists(score, min_size=n, max_size=n), min_size=1, max_size=5))


def test_the_likeliest_element():
    """Worked example: argmax, not argmin."""
    pose = pose_of(torch.tensor([[0.0, 2, 1, 0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0, 0, 5]]), D4)
    assert pose.index.tolist() == [1, 7]
    assert torch.equal(pose.g, D4[[1, 7]])
    assert torch.allclose(pose.confidence, pose.scores.exp().amax(1) / pose.scores.exp().sum(1))
    assert torch.allclose(pose.probabilities.sum(1), torch.ones(2))


def test_ties_go_to_the_first_and_show_in_the_confidence():
    pose = pose_of(torch.tensor([[1.0, 3, 0, 3], [2, 2, 2, 2]]), group("C4").elements)
    assert pose.index.tolist() == [1, 0]
    assert pose.confidence[1] == 0.25
    assert pose.confidence[0] < 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_without_finite_scores_gets_equal_ones(bad):
    scores = torch.randn(3, 4)
    clean = pose_of(scores.clone(), group("C4").elements)
    scores[1, 2] = bad
    before = scores.clone()
    pose = pose_of(scores, group("C4").elements)
    assert pose.scores[1].tolist() == [0, 0, 0, 0]
    assert torch.equal(pose.scores[[0, 2]], clean.scores[[0, 2]])
    assert torch.equal(scores.isnan(), before.isnan()), "nothing is written"
    chosen = choose(pose.scores, 4)
    assert chosen.weight.isfinite().all()


def test_poses_are_values_and_carry_gradients():
    scores = torch.randn(2, 4, requires_grad=True)
    pose = pose_of(scores, group("C4").elements)
    assert isinstance(pose, Pose)
    with pytest.raises(AttributeError):
        pose.index = torch.zeros(2)
    assert torch.autograd.grad(pose.confidence.sum(), scores)[0].abs().sum() > 0
    assert not pose.g.requires_grad


def test_no_rows():
    pose = pose_of(torch.zeros(0, 4), group("C4").elements)
    assert (pose.g.shape, pose.index.shape, pose.confidence.shape) == ((0, 3, 3), (0,), (0,))
    for options in ((1, None), (3, None), (1, 0.5)):
        chosen = choose(torch.zeros(0, 4), *options)
        assert [len(v) for v in (chosen.row, chosen.rank, chosen.index, chosen.weight)] == [0, 0, 0, 0]


# -------------------------------------------------------------------------------------------------------------- choose


def by_row(chosen, b: int) -> list[tuple[list[int], Tensor]]:
    return [(chosen.index[chosen.row == i].tolist(), chosen.weight[chosen.row == i]) for i in range(b)]


@given(tables, st.integers(1, 8))
def test_top_k_takes_the_likeliest_and_renormalises(table, k):
    scores = torch.tensor(table)
    k = min(k, scores.shape[1])
    chosen = choose(scores, k)
    assert torch.equal(chosen.row.bincount(), torch.full((len(scores),), k))
    for i, (index, weight) in enumerate(by_row(chosen, len(scores))):
        values = scores[i, index]
        assert torch.equal(values, scores[i].sort(descending=True).values[:k]), "the likeliest first"
        assert len(set(index)) == k
        assert torch.allclose(weight.float(), values.softmax(0), atol=1e-5)
    assert torch.equal(chosen.rank.reshape(len(scores), k), torch.arange(k).expand(len(scores), k))
    assert torch.equal(chosen.index[chosen.rank == 0], pose_of(scores, torch.zeros(scores.shape[1], 3, 3)).index)


@given(tables, st.floats(0.05, 1))
def test_coverage_takes_just_as_many_as_it_needs(table, coverage):
    scores = torch.tensor(table)
    chosen = choose(scores, coverage=coverage)
    for i, (index, weight) in enumerate(by_row(chosen, len(scores))):
        posterior = scores[i].softmax(0)
        assert posterior[index].sum() >= coverage - 1e-4
        assert len(index) == 1 or posterior[index[:-1]].sum() < coverage + 1e-4, "one less would not do"
        assert weight.sum() == pytest.approx(1, abs=1e-5)
        assert torch.allclose(weight.float(), posterior[index] / posterior[index].sum(), atol=1e-5)


def test_coverage_worked_example():
    posterior = torch.tensor([[0.6, 0.25, 0.1, 0.05], [0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]])
    counts = [choose(posterior.log(), coverage=c).row.bincount().tolist() for c in (0.01, 0.5, 0.8, 0.9)]
    assert counts == [[1, 1, 1], [1, 1, 2], [2, 1, 4], [3, 1, 4]]


@given(st.lists(score, min_size=2, max_size=8), st.randoms(use_true_random=False), st.floats(-1e-5, 1e-5))
def test_weights_are_the_same_to_the_bit_over_the_orbit(row, random, noise):
    """The scores of a turned input are a permutation, up to float noise well below the step they are rounded to."""
    order = list(range(len(row)))
    random.shuffle(order)
    plain = torch.tensor([row])
    turned = plain[:, order] + noise
    for options in ((2, None), (len(row), None), (1, 0.7)):
        assert torch.equal(choose(plain, *options).weight, choose(turned, *options).weight)


def test_weights_without_rounding_would_not_be():
    """The control: float noise changes a plain softmax."""
    row = torch.tensor([[0.5, 0.25, 1.5, -1.0]])
    noise = 1e-5 * torch.tensor([[1.0, -1, 2, 0.3]])
    assert not torch.equal(row.softmax(1), (row + noise).softmax(1))
    assert torch.equal(choose(row, 4).weight, choose(row + noise, 4).weight)
    assert not torch.equal(choose(row, 4).weight, choose(row + 100 * noise, 4).weight)


def test_choices_have_no_gradient():
    chosen = choose(torch.randn(2, 4, requires_grad=True), 2)
    assert not chosen.weight.requires_grad


# ---------------------------------------------------------------------------------------------------- straight through


def test_straight_through_is_zero_with_the_gradient_of_the_posterior():
    scores = torch.randn(3, 5, requires_grad=True)
    weight = torch.randn(3, 5)
    zero = straight_through(scores)
    assert torch.equal(zero, torch.zeros(3, 5))
    (gradient,) = torch.autograd.grad((zero * weight).sum(), scores)
    p = scores.detach().softmax(1)
    expected = p * (weight - (p * weight).sum(1, keepdim=True))
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_scores_in_float64_are_not_rounded():
    """Those of clouds move by rounding: a step would be a jump."""
    scores = torch.tensor([[0.0, 1e-4, 0.3]])
    exact = choose(scores.double(), 3)
    assert torch.allclose(exact.weight, scores.double().softmax(1)[0, exact.index], atol=1e-15)
    rounded = choose(scores, 3)
    assert not torch.allclose(rounded.weight, exact.weight, atol=1e-6), "control: those of images are, to 2^-10"
