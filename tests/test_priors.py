"""Priors and the loss that ties poses to them, against formulas and worked examples."""

import math

import pytest
import torch

from asserting import refused
from equiform import SO2, Cyclic, Dihedral, OrbitCanonicalizer
from equiform.learning.priors import PRIORS, histogram_prior, identity_prior, prior, prior_loss, uniform_prior

GROUPS = [Cyclic(1), Cyclic(4), Cyclic(5), Dihedral(1), Dihedral(4)]


def moved_prior(p, g, group):
    """What canonicalizers of images make of it."""
    return OrbitCanonicalizer(group, torch.nn.Identity()).target(p, g)


@pytest.mark.parametrize("g", GROUPS, ids=lambda g: g.name)
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_is_a_distribution(name, g):
    p = prior(g, name)
    assert p.shape == (g.order,)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)
    assert torch.equal(p, PRIORS[name](g))


def test_what_the_priors_say_and_cost():
    assert (identity_prior(Dihedral(2)).tolist(), uniform_prior(Cyclic(4)).tolist()) == ([1, 0, 0, 0], [0.25] * 4)
    assert prior(Cyclic(4), torch.tensor([6, 1, 0, 1])).tolist() == [0.75, 0.125, 0, 0.125]
    refused(ValueError, "prior 'upright'; known: identity, uniform, .* of 4 counts", lambda: prior(Cyclic(4), "upright"))
    for make in PRIORS.values():
        with pytest.raises(ValueError, match="SO2 is continuous"):
            make(SO2())
    scores, p = torch.randn(6, 4), torch.rand(4).softmax(0)
    by_hand = -sum(float(p[j]) * math.log(float(scores[i].softmax(0)[j])) for i in range(6) for j in range(4)) / 6
    assert prior_loss(scores, p) == pytest.approx(by_hand, rel=1e-5)
    assert prior_loss(scores, identity_prior(Cyclic(4))) == pytest.approx(float(-scores.log_softmax(1)[:, 0].mean()), rel=1e-5)
    per_row = torch.stack([p, p.flip(0)] * 3)
    expected = (prior_loss(scores[::2], p) + prior_loss(scores[1::2], p.flip(0))) / 2
    assert prior_loss(scores, per_row) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("counts", [[1, 1], [1, -1, 1, 1], [0, 0, 0, 0], [[1, 1, 1, 1]], [math.nan, 1, 1, 1]], ids=str)
def test_bad_histograms(counts):
    with pytest.raises(ValueError, match=r"prior over C4 is 4 counts, none negative, .*; got"):
        histogram_prior(Cyclic(4), torch.tensor(counts))


@pytest.mark.parametrize("g", GROUPS, ids=lambda g: g.name)
def test_moved_priors(g):
    """Upright data moved by g is in pose g: p'(h) = p(g^-1 h), for every element."""
    elements, n = g.elements, g.order
    assert torch.equal(moved_prior(identity_prior(g), elements, g), torch.eye(n))
    assert torch.allclose(moved_prior(uniform_prior(g), elements, g), torch.full((n, n), 1 / n))
    p = histogram_prior(g, torch.rand(n))
    table = moved_prior(p, elements, g)
    for i in range(n):
        assert all(table[i, g.index(elements[i : i + 1] @ elements[j : j + 1])] == p[j] for j in range(n))


# ---------------------------------------------------------------------------------------------------------------- loss
