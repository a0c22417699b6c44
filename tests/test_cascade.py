"""The cascade: which poses the thorough canonicalizer scores, what becomes of the posterior, and saving both."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import equiform
from equiform import GroupConvCanonicalizer, OrbitCanonicalizer, act, adapt
from equiform.canonicalizers import CascadeCanonicalizer
from equiform.testing import check_equivariant


class Corner(nn.Module):
    """Scores a view by its upper left corner; keeps how many views it saw."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor, self.seen = nn.Parameter(torch.tensor(factor)), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.factor * x[:, 0, :3, :4].mean((1, 2))


def cascade(group: str = "C4", quick: float = 20.0, thorough: float = 5.0, **options) -> CascadeCanonicalizer:
    parts = [OrbitCanonicalizer(group, Corner(factor), resolution=size) for factor, size in ((quick, 8), (thorough, 16))]
    return CascadeCanonicalizer(*parts, **options).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("group", ["C2", "C4", "D4"])
def test_the_pose_follows_the_input(group, x):
    canonicalizer = cascade(group)
    g = canonicalizer.elements[torch.arange(len(x)) % canonicalizer.num_poses]
    assert torch.equal(canonicalizer(act(g, x)).g, g @ canonicalizer(x).g)
    constant = CascadeCanonicalizer(*[OrbitCanonicalizer(group, Corner(f), resolution=8) for f in (0.0, 0.0)])
    assert not torch.equal(constant(act(g, x)).g, g @ constant(x).g)


def test_a_whole_model_is_equivariant_to_the_bit(x):
    model = adapt(lambda images: images[:, 0], "C4", outputs="mask", canonicalizer=cascade())
    check_equivariant(model, x, "C4")


def test_only_doubtful_poses_are_scored_again(x):
    canonicalizer = cascade(doubt=0.1)
    posterior = canonicalizer.quick(x).probabilities
    doubtful = (posterior >= 0.1) & ((posterior >= 0.1).sum(1, keepdim=True) > 1)
    assert 0 < doubtful.sum() < posterior.numel(), "the example has both kinds"
    both = canonicalizer(x).probabilities
    assert canonicalizer.thorough.network.seen == doubtful.sum()
    assert torch.allclose(both[~doubtful], posterior[~doubtful])
    assert torch.allclose(both.sum(1), torch.ones(len(x)))
    p, q = posterior, canonicalizer.thorough(x).probabilities
    rows = doubtful.any(1)
    mixed = torch.where(doubtful, (p * q) ** (canonicalizer.sharpness / 2), torch.zeros(()))[rows]
    expected = mixed / mixed.sum(1, keepdim=True) * (p * doubtful).sum(1, keepdim=True)[rows]
    assert torch.allclose(both[rows][doubtful[rows]], expected[doubtful[rows]], atol=1e-6)


class Places(Corner):
    """Its scores depend a little on where in a batch a view lies, as the rounding of real kernels does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-4 * torch.arange(len(x)).sin()


def test_no_score_depends_on_where_in_a_batch_a_pose_lies(x):
    quick, thorough = OrbitCanonicalizer("C4", Corner(2.0), resolution=8), OrbitCanonicalizer("C4", Places(5.0), resolution=16)
    canonicalizer = CascadeCanonicalizer(quick, thorough).eval()
    scores = canonicalizer(x).scores
    assert thorough.network.seen > len(x), "several poses of a row lie in one batch"
    for g in canonicalizer.elements[1:]:
        assert torch.equal(canonicalizer(act(g[None], x)).scores.sort(1).values, scores.sort(1).values)


def test_the_scores_of_pairs_are_those_of_the_orbit(x):
    canonicalizer = OrbitCanonicalizer("D4", Corner(5.0), resolution=16)
    view = canonicalizer.view(x)
    row, index = torch.tensor([4, 0, 0, 5]), torch.tensor([7, 1, 0, 3])
    assert torch.equal(canonicalizer.scores_of(view, row, index), canonicalizer.scores(view)[row, index])
    assert canonicalizer.scores_of(view, row[:0], index[:0]).shape == (0,)


def test_gradients_reach_both_and_are_finite(x):
    canonicalizer = cascade(doubt=0.1).train()
    pose = canonicalizer(x)
    sure = ~(canonicalizer.quick(x).probabilities >= 0.1).sum(1).gt(1)
    assert sure.any(), "control: a row that the thorough one does not see"
    pose.probabilities[:, 0].sum().backward()
    gradients = [part.network.factor.grad for part in (canonicalizer.quick, canonicalizer.thorough)]
    assert all(bool(gradient.isfinite()) and bool(gradient != 0) for gradient in gradients)


def test_a_sure_quick_one_decides_alone(x):
    canonicalizer = cascade(quick=1e4)
    assert torch.equal(canonicalizer(x).index, canonicalizer.quick(x).index)
    assert canonicalizer.thorough.network.seen == 0


def test_every_form_of_images(x):
    canonicalizer = cascade()
    scores = canonicalizer(x).scores
    assert torch.equal(canonicalizer(list(x)).scores, scores)
    assert torch.equal(canonicalizer(np.asarray(x)).scores, scores)
    assert canonicalizer(x[:0]).scores.shape == (0, 4)


def test_what_does_not_fit_together(unchecked):
    orbit = OrbitCanonicalizer("C4", resolution=8)
    with pytest.raises(TypeError, match=r"of any canonicalizer of images and an OrbitCanonicalizer; got .* and a Group"):
        CascadeCanonicalizer(orbit, GroupConvCanonicalizer("C4", widths=(4,), resolution=8))
    with pytest.raises(ValueError, match="same group; got C4 and D4"):
        CascadeCanonicalizer(orbit, OrbitCanonicalizer("D4", resolution=8))
    with pytest.raises(ValueError, match="doubt is a share of the posterior, between 0 and 1; got 2"):
        CascadeCanonicalizer(orbit, orbit, doubt=2)
    with pytest.raises(ValueError, match="sharpness is a factor above 0; got 0"):
        CascadeCanonicalizer(orbit, orbit, sharpness=0)
    with pytest.raises(ValueError, match="nothing to learn"):
        equiform.fit(adapt(lambda a: a, "C4", outputs="image", canonicalizer=CascadeCanonicalizer(orbit, orbit)), torch.rand(4))


def test_the_networks_of_both_are_asked_for(tmp_path, x):
    def predictor(images):
        return images

    model = adapt(predictor, "C4", outputs="image", canonicalizer=cascade(doubt=0.2))
    model.save(tmp_path)
    again = equiform.load(tmp_path, predictor, network=[Corner(0.0), Corner(0.0)])
    assert torch.equal(again.canonicalizer(x).scores, model.canonicalizer(x).scores)
    with pytest.raises(ValueError, match="has networks of its own, a Corner and a Corner: pass network="):
        equiform.load(tmp_path, predictor, network=Corner(0.0))
