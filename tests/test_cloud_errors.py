"""What models of clouds refuse, when, and the way out they name."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import equiform
from asserting import refused
from equiform import FrameCanonicalizer, Points, Rows, act, adapt, evaluate, fit, group
from equiform.canonicalizers import PrincipalAxesCanonicalizer, SearchCanonicalizer, TileCanonicalizer, UniformCanonicalizer
from equiform.learning import CloudAugmentation, fit_opinion

QUIET = {"enable_progress_bar": False, "epochs": 1}


def logits(x: Tensor) -> Tensor:
    return x.square().mean(1)[:, :2]


OF_ENERGY = partial(equiform.EnergyCanonicalizer, predictor=logits)


def small(name: str = "SO3", **options):
    return adapt(logits, name, outputs="logits", canonicalizer=SearchCanonicalizer(name, side=3, width=4).eval(), **options)


@pytest.mark.parametrize(
    ("name", "hint"), [("z", "SO2z"), ("so3", "SO3"), ("SO(3)", "SO3"), ("z/SO3", "a protocol is for fit and evaluate")]
)
def test_a_group_by_nearly_its_name(name, hint):
    refused(ValueError, f"unknown group '.*' .*{hint}.*; known groups: Cn", lambda: adapt(logits, name, outputs="logits"))
    refused(ValueError, r"unknown group 'Q'; known", lambda: group("Q"))


def test_ways_out_are_those_of_clouds(unchecked):
    x = torch.randn(6, 10, 3)
    with pytest.raises(ValueError, match=r"has nothing to learn: the model needs no fit; .* adapt with a SearchCanonicalizer$"):
        fit(adapt(logits, "SO3", outputs="logits", canonicalizer=PrincipalAxesCanonicalizer("SO3")), x)
    refused(TypeError, r"SearchCanonicalizer.*; got a int", lambda: adapt(logits, "SO3", outputs="logits", canonicalizer=3))
    refused(TypeError, r"torch\.stack\(clouds\), or pad them .* 'presence'", lambda: small()([x[0], x[1, :5]]))
    refused(ValueError, "clouds of points: a group of space, such as SO3", lambda: adapt(logits, "C4", outputs="logits")(x))


@pytest.mark.parametrize("kind", ["boxes", "mask", {"a": "logits", "b": Rows({"c": "image"})}, Points(normalized=True)])
def test_kinds_of_the_canvas_are_refused_when_adapted(kind):
    refused(
        ValueError,
        r"outputs: .* (does not move .*; kinds that do: points|lies on a volume)",
        lambda: adapt(logits, "SO3", outputs=kind),
    )
    refused(ValueError, "inputs: 'image' does not move in space", adapt, logits, "SO3", inputs="image", outputs="logits")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *[
            (lambda make=make, name=name: make(name), rf"looks at images, {name} moves .*: use SearchCanonicalizer\('{name}'\)")
            for make in (OF_ENERGY, equiform.OrbitCanonicalizer, equiform.GroupConvCanonicalizer, TileCanonicalizer)
            for name in ("SO3", "O")
        ],
        (lambda: FrameCanonicalizer("C4"), "need a group of space, such as SO3 or E3; got C4"),
        (lambda: FrameCanonicalizer("O"), "is for continuous groups; O is finite"),
        (lambda: PrincipalAxesCanonicalizer("C4z"), "is for continuous groups; C4z is finite"),
        (lambda: PrincipalAxesCanonicalizer("SO3", scores="none"), "unknown scores 'none'; known: skewness, equal"),
        (lambda: FrameCanonicalizer("SO3", method="svd"), "unknown method 'svd'; known: gram-schmidt, procrustes"),
        (lambda: FrameCanonicalizer("SO3", spread=-3), "spread is a deviation in degrees, 0 to 180; got -3"),
        (lambda: FrameCanonicalizer("SO3", origin="zero"), "unknown origin 'zero'; known: centroid, learned"),
        (lambda: UniformCanonicalizer("SO3"), r"over frames, PrincipalAxesCanonicalizer\('SO3', scores='equal'\)"),
        (lambda: FrameCanonicalizer("SO3", vectors=-1), "vectors must be a whole number >= 0; got -1"),
        (lambda: FrameCanonicalizer("SO3", features=1.5), "features must be a whole number"),
        (lambda: FrameCanonicalizer("SO3", width=0), "width must be a whole number >= 1; got 0"),
        (lambda: FrameCanonicalizer("SO3", depth=0), "depth must be"),
        (lambda: FrameCanonicalizer("SO3", origin="learned"), "for groups with translations, SE3 and E3; got SO3"),
        (lambda: SearchCanonicalizer("SO3", side=0), "side must be a whole number >= 2; got 0"),
        (lambda: SearchCanonicalizer("SO3", side=2.5), "side must be"),
        (lambda: PrincipalAxesCanonicalizer("SO3", sharpness=math.nan), "sharpness is a number >= 0; got nan"),
        (lambda: PrincipalAxesCanonicalizer("SO3", sharpness="a"), "sharpness is a number >= 0; got 'a'"),
        (lambda: CloudAugmentation(keep=(2, 3)), r"keep is a range of shares, 0 < low <= high <= 1; got \(2, 3\)"),
        (lambda: CloudAugmentation(jitter=-1), "jitter is a deviation, a number >= 0; got -1"),
        (lambda: CloudAugmentation(turns=0), "turns is a whole number >= 1; got 0"),
        (lambda: evaluate(small("O"), (torch.randn(2, 5, 3), [0, 1]), baselines=("training-free",)), "images and continuous"),
    ],
)
def test_nonsense_is_refused_where_it_is_built(make, message, unchecked):
    refused(ValueError, message, lambda: make())


@pytest.mark.parametrize("options", [{"targets": "points"}, {"train_predictor": True}, {"prior_weight": 50.0}])
def test_options_of_joint_training_alone(options):
    with pytest.raises(ValueError, match="targets, train_predictor and prior_weight are for training with task_loss"):
        fit(small(), torch.randn(4, 10, 3), **options, **QUIET)


def test_what_training_cannot_learn_from():
    x = torch.randn(4, 10, 3)
    for name in ("SO2z", "C4z"):
        with pytest.raises(ValueError, match=f"'upright' takes all of {name} as alike, which leaves nothing to learn"):
            fit(small(name), x, prior="upright", **QUIET)
        with pytest.raises(ValueError, match="leaves nothing to learn: use 'identity'"):
            fit_opinion(small(name, top_k=2), x, prior="upright")
        assert fit(small(name), x, **QUIET).history, "control"
    x = torch.randn(4, 10, 3)
    x[1, 2, 0] = torch.nan
    refused(ValueError, "a cloud of the data is not finite: leave it out", lambda: fit(small(), x, **QUIET))
    padded = adapt(
        lambda x, there: logits(x), "SO3", inputs=("points", "presence"), outputs="logits", canonicalizer=small().canonicalizer
    )
    there = torch.ones(4, 10, dtype=torch.bool)
    there[1, 2] = False
    assert fit(padded, (x, there), **QUIET).history, "control: padding may hold anything"
    data = torch.randn(4, 10, 3), torch.zeros(4, dtype=torch.long)
    for loss, came in ((lambda y, t: 1.0, "a float"), (lambda y, t: F.cross_entropy(y, t, reduction="none"), r"shape \(4,\)")):
        with pytest.raises(TypeError, match=f"returns one number as a tensor, with its gradient; got {came}"):
            fit(small(), data, task_loss=loss, **QUIET)


def test_arguments_that_can_only_be_meant_otherwise_and_presence():
    x, model = torch.randn(3, 10, 3), small()
    refused(TypeError, "points are a tensor or an array; got a str", lambda: model("a"))
    refused(ValueError, r"got \(10, 3\): one cloud is x\[None\]", lambda: model(x[0]))
    flat = adapt(lambda x, batch: x, "SO3", inputs=("points", "batch"), outputs="points")
    refused(ValueError, r"batch is .* whole numbers; got torch\.float32 of shape \(10,\)", lambda: flat(x[0], torch.zeros(10)))
    dicts = adapt(lambda x: [one["p"] for one in x], "SO3", inputs=Rows({"p": "points"}), outputs=Rows("points"))
    refused(ValueError, r"or Rows\('points'\) for a list of clouds, beside lists of what else each has", dicts, [{"p": x[0]}])

    def mean(x: Tensor, there: Tensor) -> Tensor:
        return (x * (there == 1)[..., None]).sum(1)[:, :2]

    x, there = torch.randn(3, 10, 3), torch.arange(10) < torch.tensor([[10], [7], [4]])
    model = adapt(mean, "SO3", inputs=("points", "presence"), outputs="logits")
    refused(ValueError, "presence is a padding mask, .* else 0", lambda: model(x, torch.where(there, 0.0, -torch.inf)))
    assert all(torch.equal(model(x, mask), model(x, there)) for mask in (there.float(), there.long()))


def energy(x: Tensor) -> Tensor:
    return torch.tanh(x @ torch.tensor([[1.0, 2, 3], [0.5, -1, 1], [2, 0, 1]], dtype=x.dtype)).sum((1, 2))


@pytest.mark.parametrize("training", [False, True])
def test_forces_by_autograd(training):
    """Equivariant in both modes; the derivative of the energy itself only where the frame is differentiated too."""
    x = torch.randn(2, 12, 3, dtype=torch.float64) * torch.tensor([1.0, 2, 3])
    model = adapt(energy, "SE3", outputs="invariant", canonicalizer=FrameCanonicalizer("SE3"))
    model.canonicalizer.train(training)

    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(model(x).sum(), x)[0]

    g = group("SE3").nearest(group("SE3").random(2).double())
    assert torch.allclose(gradient(act(g, x, "points")), act(g, gradient(x), "vectors"), atol=1e-9)
    step = torch.zeros_like(x)
    step[0, 0, 0] = 1e-5
    with torch.no_grad():
        difference = float((model(x + step) - model(x - step)).sum()) / 2e-5
    assert math.isclose(float(gradient(x)[0, 0, 0]), difference, rel_tol=1e-5) is training
