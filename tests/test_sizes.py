"""Sizes of images and products of groups: poses between the steps, exact under the first factor, saved and fitted."""

import math

import pytest
import torch
from torch import nn

from asserting import QUIET, refused
from equiform import Cyclic, OrbitCanonicalizer, Rows, Scale, Upright, act, adapt, diagnose, evaluate, fit, group, inverse, load
from equiform.canonicalizers import EnergyCanonicalizer, ProductCanonicalizer, SearchCanonicalizer, UniformCanonicalizer
from equiform.geometry.groups import size_of
from equiform.geometry.scales import resizing
from equiform.learning.augmentation import Augmentation, training_views
from small_canonicalizers import PRODUCTS
from small_photos import noise, scenes
from small_predictors import Classifier

NAME, USUAL = "Scale(0.4,2.5,7)", 0.3


class Width(nn.Module):
    """Knows the size by hand: canonical views show a bright blob, whose deviation is `USUAL` of half the view."""

    def forward(self, x):
        grey = x.mean(1)
        high, low = grey.amax((1, 2), keepdim=True), grey.amin((1, 2), keepdim=True)
        above = torch.sigmoid(20 * ((grey - low) / (high - low).clamp(min=1e-6) - 0.5))  # the disc above half its height
        radius = (above.mean((1, 2)) * 4 / math.pi).sqrt()
        return -40 * (radius / (USUAL * math.sqrt(2 * math.log(2)))).log().square()


def blobs(*sizes: float, side: int = 64) -> torch.Tensor:
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    distance = (axis[:, None].square() + axis.square()).sqrt()
    return torch.stack([torch.exp(-0.5 * (distance / (USUAL * size)) ** 2).expand(3, -1, -1) for size in sizes])


def by_width(name: str = NAME) -> OrbitCanonicalizer:
    return OrbitCanonicalizer(name, Width(), resolution=32).eval()


def test_sizes_are_found_between_the_steps():
    canonicalizer = by_width()
    own = float(size_of(canonicalizer(blobs(1.0)).g))
    for size in (0.55, 0.7, 0.83, 1.15, 1.3):
        pose = canonicalizer(blobs(size))
        assert float(size_of(pose.g)) / own == pytest.approx(size, rel=0.08), size
        assert not torch.allclose(pose.g, canonicalizer.group.nearest(pose.g), atol=1e-3), "between"
        assert torch.equal(canonicalizer.group.index(pose.g), pose.index)
    steps = (canonicalizer(blobs(size)).index for size in (0.5, 1.0, 1.9))
    assert len({int(step) for step in steps}) == 3


def test_the_answer_moves_with_the_size_as_far_as_resampling_lets_it():
    model = adapt(lambda x: x.square(), NAME, outputs="image", canonicalizer=by_width())
    x = blobs(0.9)
    for size in (0.7, 1.3):
        g = resizing(torch.tensor([size]))
        moved, there = model(act(g, x)), act(g, model(x))
        alone = act(g, act(inverse(g), act(g, x))) - act(g, x)
        assert (moved - there).abs().mean() < 0.02
        assert alone.abs().mean() < 0.02, "the error of resampling alone"
    pooled = adapt(lambda x: (x > 0.5).float().mean((1, 2, 3))[:, None], NAME, outputs="invariant", canonicalizer=by_width())
    bare = [float(pooled.predictor(blobs(size))) for size in (0.7, 1.3)]
    adapted = [float(pooled(blobs(size))) for size in (0.7, 1.3)]
    assert bare[1] > 2.5 * bare[0], "control"
    assert adapted[1] == pytest.approx(adapted[0], rel=0.25)


def test_training_views_keep_the_whole_image_and_say_by_how_much_they_were_resized():
    canonicalizer, generator = by_width(), torch.Generator().manual_seed(0)
    still = Augmentation(flip=False, grey=0.0, mix=0.0, gamma=1.0, degrees=0.0, aspect=1.0)
    views, g = training_views(blobs(*[1.0] * 24, side=96), canonicalizer.group, canonicalizer.view_size, still, generator)
    sizes = size_of(g)
    inside = sizes < 1.5
    assert 0.4 <= float(sizes.min()) < 0.6
    found = size_of(canonicalizer(views[inside]).g) / size_of(canonicalizer(blobs(1.0)).g)
    assert torch.allclose(found.log(), sizes[inside].log(), atol=0.25)
    target = canonicalizer.target(torch.eye(7)[0], g)
    logs = canonicalizer.group.elements[:, 0, 0].log()
    assert torch.allclose((target @ logs).exp(), sizes, rtol=1e-4), "the target is built from the size itself"
    # what lies beyond the edges is drawn
    plain, h = training_views(
        torch.full((64, 3, 48, 48), 200, dtype=torch.uint8), group("Scale(0.5,1,2)"), 32, still, generator
    )
    small = h[:, 0, 0] < 0.8
    framed = plain[small].amax((1, 2, 3)) > plain[small].amin((1, 2, 3))
    assert 0.1 < float(framed.float().mean()) < 0.7, "black around some, none around others"


@pytest.mark.parametrize("name", ["Scale(0.5,1,3)", "C4*Scale(0.5,2,3)"])
def test_they_are_fitted_saved_evaluated_and_averaged(name, tmp_path):
    model = adapt(Classifier().eval(), name, outputs="logits", canonicalizer=OrbitCanonicalizer(name, resolution=16))
    before = [p.clone() for p in model.canonicalizer.parameters()]
    assert math.isfinite(fit(model, scenes(16), epochs=1, batch_size=8, **QUIET).history[-1]["loss"])
    assert any(not torch.equal(p, q) for p, q in zip(before, model.canonicalizer.parameters(), strict=True))
    model.save(tmp_path / "own")
    x = scenes(2)
    assert torch.equal(load(tmp_path / "own", model.predictor)(x), model(x))
    report = evaluate(model, (x, torch.tensor([0, 1])), baselines=["bare", "orbit averaging", "training-free"])
    assert report.elements[0] in ("1x", "0° 1x")
    assert len(report.elements) == group(name).order
    report.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1000
    averaged = adapt(model.predictor, name, outputs="logits", canonicalizer=UniformCanonicalizer(name), top_k=group(name).order)
    assert averaged(x).shape == model.predictor(x).shape
    assert EnergyCanonicalizer(name, model.predictor)(x).scores.shape == (2, group(name).order)


# -------------------------------------------------------------------------------------------------------- products


@pytest.mark.parametrize("name", ["C4", "D2", "D4"])
def test_the_pose_of_a_product_follows_the_first_factor_exactly(name):
    canonicalizer, elements = PRODUCTS["product"](name).eval(), group(name).elements
    for size in ((16, 16), (12, 18)):
        for odd in (True, False):
            g = elements[(elements[:, 0, 1].abs() > 0.5) == odd]
            if len(g):
                x = noise(len(g), *size, dtype=torch.float32)
                pose, moved = canonicalizer(x), canonicalizer(act(g, x))
                assert torch.equal(moved.g, g @ pose.g)
                assert torch.equal(canonicalizer(list(x)).g, pose.g), "a list of the same images"
    assert pose.scores.shape == (len(x), 3 * len(elements))
    assert torch.allclose(pose.probabilities.unflatten(1, (-1, 3)).sum(2), canonicalizer.first(x).probabilities, atol=1e-5)
    assert canonicalizer(x[:0]).g.shape == canonicalizer([]).g.shape == (0, 3, 3)


def test_a_row_of_a_product_is_alone_and_finds_both():
    turn_first = OrbitCanonicalizer("C4", nn.Sequential(nn.Flatten(1), nn.Linear(3 * 16 * 16, 1)), resolution=16)
    product = ProductCanonicalizer(turn_first, by_width()).eval()
    x = torch.cat([noise(2, 64, 64, dtype=torch.float32), blobs(0.6, 1.4)])
    pose = product(x)
    assert torch.allclose(size_of(pose.g[2:]) / size_of(product(blobs(1.0)).g), torch.tensor([0.6, 1.4]), rtol=0.1)
    spoilt = x.clone()
    spoilt[1] = math.nan
    assert torch.equal(product(spoilt).g[[0, 2, 3]], pose.g[[0, 2, 3]])


def test_a_product_is_adapted_fitted_saved_and_loaded(tmp_path):
    name, mine = "C4*Scale(0.5,2,3)", OrbitCanonicalizer("Scale(0.5,2,3)", resolution=16)
    model = adapt(Classifier().eval(), name, outputs="logits", canonicalizer=("photos-c4-small", mine), top_k=2)
    assert (model.group, model.canonicalizer.num_poses) == (Cyclic(4) * Scale(0.5, 2, 3), 12)
    ready = [p.clone() for p in model.canonicalizer.first.parameters()]
    history = fit(model, scenes(8), epochs=1, batch_size=8, **QUIET).history
    assert [epoch["group"] for epoch in history] == ["Scale(0.5,2,3)"], "the ready-made one is fitted"
    assert all(torch.equal(p, q) for p, q in zip(ready, model.canonicalizer.first.parameters(), strict=True))
    assert not model.canonicalizer.untrained
    model.save(tmp_path / "both")
    again, x = load(tmp_path / "both", model.predictor), scenes(3)
    assert again.group == model.group
    assert torch.equal(again(x), model(x))
    turned = act(group("C4").elements[[1, 3, 1]], x)
    assert torch.allclose(model(turned), model(x), atol=1e-4)
    made = adapt(Classifier(), name, outputs="logits").canonicalizer
    assert [type(part) for part in made.parts.values()] == [OrbitCanonicalizer] * 2
    assert [
        epoch["group"] for epoch in fit(adapt(Classifier(), name, outputs="logits"), scenes(4), epochs=1, **QUIET).history
    ] == [
        "C4",
        "Scale(0.5,2,3)",
    ]


def test_photos_that_are_not_square_and_lists_are_brought_back_whole():
    model = adapt(lambda x: x, "C4*Scale(0.5,2,3)", outputs="image", canonicalizer=PRODUCTS["product"]("C4"))
    x = noise(4, 12, 20, dtype=torch.float32)
    assert model(x).shape == x.shape
    listed = adapt(
        lambda x: x, "C4*Scale(0.5,2,3)", inputs=Rows("image"), outputs=Rows("image"), canonicalizer=model.canonicalizer
    )
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(listed(list(x)), model(x), strict=True))


def test_what_is_no_product_says_the_way_out(unchecked):
    name, sizes = "C4*Scale(0.5,2,3)", OrbitCanonicalizer("Scale(0.5,2,3)", resolution=16)
    own = {"outputs": "logits"}
    refused(
        ValueError,
        "for each of its factors, C4 and Scale.*; got 1",
        lambda: adapt(len, name, canonicalizer=("photos-c4",), **own),
    )
    other = OrbitCanonicalizer("Scale(0.5,1,2)", resolution=16)
    refused(
        ValueError,
        r"for Scale\(0.5,1,2\), not for Scale\(0.5,2,3\)",
        lambda: adapt(len, name, canonicalizer=(None, other), **own),
    )
    for parts in ((sizes, OrbitCanonicalizer("C4")), (sizes, None)):
        message = r"in the order of its factors, C4 and Scale.*; got those for Scale"
        refused(ValueError, message, lambda parts=parts: adapt(len, name, canonicalizer=parts, **own))
    refused(ValueError, "for C4, not for C4\\*Scale", lambda: adapt(len, name, canonicalizer="photos-c4", **own))
    refused(TypeError, "one per factor; got one of SO3", lambda: ProductCanonicalizer(sizes, SearchCanonicalizer("SO3")))
    refused(TypeError, "one per factor; got a str", lambda: ProductCanonicalizer(sizes, "photos-c4"))
    refused(ValueError, "Upright turns photos; Scale.* resizes.*equiform.adapt", lambda: Upright(sizes))
    refused(
        ValueError,
        "diagnose turns.*equiform.evaluate",
        lambda: diagnose(adapt(len, sizes.group, canonicalizer=sizes, **own), []),
    )
    refused(ValueError, "different things", lambda: ProductCanonicalizer(sizes, sizes))
