"""The second opinion: Bayes' rule over the poses that were run, kept with the adapter, refused where it makes no sense."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from equiform import Equivariant, Logits, OrbitCanonicalizer, Rows, act, adapt, load
from equiform.batching.chosen import choose, reweighted
from equiform.canonicalizers import UniformCanonicalizer
from equiform.learning import fit_opinion
from equiform.second_opinion import Opinion, linear_scorer


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 5, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(5))

    def forward(self, x):
        return self.body(x)


def test_bayes_rule_by_hand():
    chosen = choose(torch.tensor([[0.75, 0.25], [0.4, 0.6]]).log(), top_k=2)
    weights = reweighted(chosen, torch.tensor([0.0, 3.0, 0.0, 0.0]).exp().log()).weight
    expected = 0.25 * torch.tensor(3.0).exp()
    torch.testing.assert_close(weights[1], expected / (0.75 + expected), atol=1e-3, rtol=1e-3, check_dtype=False)
    torch.testing.assert_close(weights[2:], torch.tensor([0.6, 0.4]), atol=1e-3, rtol=1e-3, check_dtype=False)
    assert chosen.index.tolist() == [0, 1, 1, 0]


def test_rows_with_fewer_poses_and_nan_evidence_stay_theirs():
    chosen = choose(torch.tensor([[5.0, 0.0], [0.1, 0.0]]), coverage=0.9)
    assert chosen.row.tolist() == [0, 1, 1]
    weights = reweighted(chosen, torch.tensor([float("nan"), 0.0, 2.0])).weight
    assert weights[0] == 1
    assert weights[1:].sum() == pytest.approx(1)
    assert weights[2] > weights[1]


def test_the_scorer_finds_the_direction_that_tells():
    features = torch.randn(200, 4, 3)
    features[:, 0, 1] += 3
    weight = linear_scorer(features, 0.05)
    assert weight.abs().argmax() == 1
    assert ((features @ weight).argmax(1) == 0).float().mean() > 0.8


@pytest.mark.parametrize("options", [{"top_k": 3}, {"coverage": 0.8}])
def test_still_exact_and_kept_with_the_adapter(options, tmp_path):
    predictor = Classifier().eval()
    x = torch.rand(12, 3, 16, 16)
    predictor(x)
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16), **options)
    before = model(x)
    fit_opinion(model, x)
    after = model(x)
    assert not torch.allclose(before, after)
    for g in model.group.elements:
        assert torch.equal(model(act(g[None], x)), after)
    model.save(tmp_path)
    again = load(tmp_path, predictor)
    assert isinstance(again.opinion, Opinion)
    assert torch.equal(again(x), after)
    one = Equivariant(predictor, model.canonicalizer, "image", "logits", opinion=model.opinion)
    plain = Equivariant(predictor, model.canonicalizer, "image", "logits")
    assert torch.equal(one(x), plain(x))  # nothing to weigh with one pose


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(("sides", "crops", "passes"), [((16, 16), 1, 2), ((16, 16), 3, 4), ((16, 16), 0, 1), ((16, 20), 1, 1)])
def test_crops_of_square_images_are_judged_too(sides, crops, passes, listed):
    """Of the same shape as the whole image, and other than it, in every pose; images that are not square stay whole."""
    seen = []

    def predictor(x):
        x = torch.stack(x) if listed else x
        seen.append(x)
        return x.mean((2, 3)) * torch.arange(1.0, 4.0)

    inputs = Rows("image") if listed else "image"
    canonicalizer = OrbitCanonicalizer("C4", resolution=16)
    model = adapt(predictor, "C4", inputs=inputs, outputs="logits", canonicalizer=canonicalizer, top_k=2)
    x = torch.rand(6, 3, *sides)
    data = DataLoader(list(x), 6, collate_fn=list if listed else torch.stack)
    fit_opinion(model, data, crops=crops)
    assert len(seen) == 4 * passes
    assert torch.equal(seen[0], x)
    assert all(y.shape == x.shape and not torch.allclose(y, x) for y in seen[4::4])
    first = model.opinion.weight
    fit_opinion(model, data, crops=crops)
    assert torch.equal(model.opinion.weight, first)  # seeded


@pytest.mark.parametrize("kind", ["logits", Logits(sigmoid=True)], ids=str)
@pytest.mark.parametrize("classes", [1, 3])
def test_what_all_classes_have_in_common_tells_of_sigmoids_alone(classes, kind):
    """Upright scenes, bright above, say yes to every label: an opinion of sigmoids sees it, one of a softmax cannot."""

    def labels(x):
        return (x[..., : x.shape[-2] // 2, :].mean((1, 2, 3)) - x.mean((1, 2, 3)))[:, None].repeat(1, classes)

    x = torch.rand(16, 3, 16, 16) + torch.linspace(1, 0, 16)[:, None]
    model = adapt(labels, "C4", outputs=kind, canonicalizer=UniformCanonicalizer("C4"), top_k=4)
    fit_opinion(model, x, crops=0)
    seen = kind != "logits" or classes == 1
    assert (model(x) > 0.15).all() == seen
    assert bool(model.opinion.weight.any()) == seen


def test_refused_where_there_are_no_logits():
    model = adapt(lambda x: x[:, :1], "C4", outputs="mask", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    with pytest.raises(ValueError, match="needs a classifier"):
        fit_opinion(model, torch.rand(4, 3, 16, 16))
    with pytest.raises(ValueError, match=r"\(b, 5\)"):
        Opinion(torch.ones(5))(torch.rand(2, 7))
