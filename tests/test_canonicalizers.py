"""The laws of every canonicalizer in the table, and what is particular to each."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import equiform
from asserting import refused
from equiform import (
    EnergyCanonicalizer,
    Equivariant,
    FrameCanonicalizer,
    Logits,
    OrbitCanonicalizer,
    Upright,
    act,
    adapt,
    group,
    load,
    saving,
)
from equiform.canonicalizers import Canonicalizer, Pose, UniformCanonicalizer
from equiform.canonicalizers.clouds import CloudCanonicalizer
from equiform.canonicalizers.energy import CONFIDENCES
from equiform.canonicalizers.images import ImageCanonicalizer
from equiform.canonicalizers.table import CANONICALIZERS
from equiform.evaluation.evaluate import _baselines
from small_canonicalizers import CLOUDS, CONTINUOUS, IMAGES, PRODUCTS, SHIFTS, VOLUMES
from small_photos import noise
from small_predictors import Classifier

photos = partial(noise, dtype=torch.float32)
GRID_GROUPS = ["C1", "C2", "C4", "D1", "D2", "D4"]


SEEING = [name for name in IMAGES if name != "uniform"]
LEARNING = ["orbit", "group-conv", "tiles"]


def test_every_canonicalizer_is_here():
    known = {*IMAGES, *CONTINUOUS, *PRODUCTS, *SHIFTS, *CLOUDS, *VOLUMES}
    assert known == set(CANONICALIZERS), "a canonicalizer in the table needs a row"
    assert all(cls.name == name for name, cls in CANONICALIZERS.items())
    assert [name for name in IMAGES if CANONICALIZERS[name].learns] == LEARNING
    for name, cls in CANONICALIZERS.items():
        worlds = issubclass(cls, ImageCanonicalizer), issubclass(cls, CloudCanonicalizer)
        of_images = name in IMAGES or name in CONTINUOUS or name in SHIFTS
        assert worlds == (of_images and name != "uniform", name in CLOUDS), "one world each; only uniform has both"


def follows(canonicalizer: Canonicalizer, x: Tensor, g: Tensor) -> bool:
    """pose(g.x) == g pose(x), a different g in every row."""
    return torch.equal(canonicalizer(act(g, x)).g, g @ canonicalizer(x).g)


@pytest.mark.parametrize("group_name", GRID_GROUPS)
@pytest.mark.parametrize("name", SEEING)
def test_the_pose_follows_the_input(name, group_name):
    canonicalizer, elements = IMAGES[name](group_name).eval(), group(group_name).elements
    for size in ((12, 12), (9, 15)):
        for odd in (True, False):
            g = elements[(elements[:, 0, 1].abs() > 0.5) == odd]
            if len(g):
                assert follows(canonicalizer, photos(len(g), *size), g)


def test_a_constant_pose_does_not():
    """The control: the pose of the uniform canonicalizer is always the identity."""
    for name in GRID_GROUPS[1:]:
        g = group(name).elements
        assert not follows(UniformCanonicalizer(name), photos(len(g)), g)


@pytest.mark.parametrize("name", SEEING)
def test_scores_are_permuted(name):
    d4, canonicalizer, x = group("D4"), IMAGES[name]("D4").eval(), photos(2)
    if name == "tiles":
        canonicalizer.network.classifier.weight.data *= 100  # else its tiles tell too little for it to be sure of anything
    scores = canonicalizer(x).scores
    for g in d4.elements.split(1):
        assert torch.allclose(canonicalizer(act(g, x)).scores[:, d4.index(g @ d4.elements)], scores, atol=1e-5)
    assert scores.std(1).min() > 1e-4, "control: they are not all alike"


@pytest.mark.parametrize("name", IMAGES)
def test_poses_are_whole_and_those_of_each_image_alone(name):
    canonicalizer = IMAGES[name]("D2").eval()
    for b in (3, 1, 0):
        pose = canonicalizer(photos(b))
        assert isinstance(pose, Pose)
        assert pose.scores.shape == (b, 4)
        assert torch.equal(pose.g, canonicalizer.elements[pose.index])
        assert torch.equal(pose.index, pose.scores.argmax(1))
    canonicalizer, images = IMAGES[name]("D4").eval(), [photos(1, *size)[0] for size in ((12, 12), (9, 15), (20, 8))]
    pose = canonicalizer(images)
    for i, image in enumerate(images):
        alone = canonicalizer(image[None])
        assert torch.allclose(pose.scores[i : i + 1], alone.scores, atol=1e-5)
        assert pose.index[i] == alone.index[0]
    assert canonicalizer([]).g.shape == (0, 3, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", IMAGES)
def test_rows_do_not_see_each_other(name, bad):
    canonicalizer, x = IMAGES[name]("D4").eval(), photos(3)
    spoilt = x.clone()
    spoilt[1, :, 3, 3] = bad
    assert torch.equal(canonicalizer(spoilt).scores[[0, 2]], canonicalizer(x).scores[[0, 2]])
    assert canonicalizer(spoilt).scores.isfinite().all()


@pytest.mark.parametrize("name", IMAGES)
def test_a_forward_leaves_no_trace_and_the_config_builds_it_again(name):
    canonicalizer, x = IMAGES[name]("D4").eval(), photos(3)
    before, state, attributes = x.clone(), copy.deepcopy(canonicalizer.state_dict()), sorted(vars(canonicalizer))
    assert torch.equal(canonicalizer(x).scores, canonicalizer(x).scores)
    assert torch.equal(x, before)
    assert sorted(vars(canonicalizer)) == attributes
    assert all(torch.equal(state[k], v) for k, v in canonicalizer.state_dict().items())
    canonicalizer = IMAGES[name]("D2").eval()
    more = {"predictor": Classifier()} if canonicalizer.needs_predictor else {}
    again = CANONICALIZERS[name](**canonicalizer.config(), **canonicalizer.parts, **more).eval()
    again.load_state_dict(canonicalizer.state_dict())
    assert again.config() == canonicalizer.config()
    if name != "energy":
        x = photos(3)
        assert torch.equal(again(x).scores, canonicalizer(x).scores)


@pytest.mark.parametrize("name", LEARNING)
def test_precisions_and_gradients(name):
    canonicalizer, x = IMAGES[name]("D4").eval(), photos(4)
    plain = canonicalizer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(canonicalizer(x).scores, plain.scores)
    exact = copy.deepcopy(canonicalizer).double()(x)
    assert exact.scores.dtype == torch.float32
    assert torch.allclose(exact.scores, plain.scores, atol=1e-5)
    assert torch.allclose(copy.deepcopy(canonicalizer).bfloat16()(x).scores, plain.scores, atol=0.1)
    canonicalizer = IMAGES[name]("C4").train()
    (canonicalizer(photos(4)).scores.log_softmax(1)[:, 0].sum()).backward()
    missing = [n for n, p in canonicalizer.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


@pytest.mark.parametrize("name", IMAGES)
def test_continuous_groups_and_bad_sizes(name, unchecked):
    refused(ValueError, r"O2 is continuous.*such as D16", lambda: IMAGES[name]("O2"))
    refused(ValueError, r"SO2 is continuous.*such as C16", lambda: IMAGES[name]("SO2"))
    refused(ValueError, "unknown group 'X'", lambda: IMAGES[name]("X"))
    if name in LEARNING:
        cls = CANONICALIZERS[name]
        numbers = {0: ">= 1", -4: ">= 1", "16": "from 1", 16.5: "from 1", 10**6: "from 1 to 2048"}
        for bad, limit in (*numbers.items(), (True, "from 1"), (16.0, "from 1")):
            refused(ValueError, f"resolution must be a whole number {limit}.*; got {bad!r}", cls, "C4", resolution=bad)
        refused(ValueError, "at most 720 elements; D361 has 722", lambda: cls("D361"))
        if "channels" in IMAGES[name]("C4").config():
            refused(ValueError, "channels must be a whole number >= 1; got 0", lambda: cls("C4", channels=0))
        refused(TypeError, "typo", lambda: cls("C4", typo=3))


# ---------------------------------------------------------------------------------------------------------------- orbit
class Brightness(nn.Module):
    """Likes light at the top."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : x.shape[-2] // 2].mean((1, 2, 3))


def test_orbit_worked_examples():
    """A picture with its light at the top is upright; turned by g, its pose is g."""
    canonicalizer, x = OrbitCanonicalizer("C4", Brightness(), resolution=16), torch.zeros(1, 3, 12, 12)
    x[:, :, :6] = 1
    assert all(torch.equal(canonicalizer(act(g, x)).g, g) for g in group("C4").elements.split(1))

    class Column(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, None, None]

    x = photos(3)
    plain, column = (OrbitCanonicalizer("C4", network, resolution=16)(x) for network in (Brightness(), Column()))
    assert torch.equal(plain.scores, column.scores)
    canonicalizer, x = OrbitCanonicalizer("C4", resolution=16, channels=5).eval(), torch.rand(4, 5, 12, 12)
    assert follows(canonicalizer, x, group("C4").elements)
    refused(ValueError, "looks at 5 channels", lambda: canonicalizer(photos(2)))
    refused(ValueError, "multiple of 4 .* got 18", lambda: equiform.GroupConvCanonicalizer("C4", widths=(4, 8), resolution=18))


@pytest.mark.parametrize(
    ("network", "came"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), r"shape \(8, 5\)"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1)), r"shape \(8, 3, 1, 1\)"),
    ],
)
def test_networks_that_give_more_than_a_score(network, came):
    refused(ValueError, rf"\(8,\); got {came}: .*scorer", lambda: OrbitCanonicalizer("C4", network, resolution=16)(photos(2)))


# --------------------------------------------------------------------------------------------------------------- energy


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_every_confidence_of_logits_and_of_sigmoids(confidence):
    predictor, x = Classifier().eval(), photos(3)
    pose = EnergyCanonicalizer("C4", predictor, confidence=confidence)(x)
    for k in range(4):
        expected = CONFIDENCES[confidence](predictor(torch.rot90(x, -k, (-2, -1))))
        assert torch.allclose(pose.scores[:, k], expected, atol=1e-5)
    canonicalizer, x = EnergyCanonicalizer("C4", Classifier().eval(), confidence=confidence), photos(3)
    spoilt = x.clone()
    spoilt[1, 0, 3, 3] = math.nan
    pose = canonicalizer(spoilt)
    assert torch.equal(pose.scores[[0, 2]], canonicalizer(x).scores[[0, 2]])
    assert pose.confidence[1] == 0.25
    # worked example of each confidence: of p and 1 - p, averaged over the questions; one logit always is a question.
    logits = torch.tensor([[3.0, -2.0, 0.1]])
    p = torch.stack([logits.sigmoid(), 1 - logits.sigmoid()])
    expected = {
        "max_probability": p.amax(0).log(),
        "negative_entropy": (p * p.log()).sum(0),
        "energy": (logits / 2).cosh().mul(2).log(),
    }[confidence].mean(1)
    for n, sigmoid in ((3, True), (1, True), (1, False)):
        canonicalizer = EnergyCanonicalizer("C1", lambda x, n=n: logits[:, :n], confidence=confidence, sigmoid=sigmoid)
        right = expected if n == 3 else {"max_probability": p[:, :, 0].amax(0).log()}.get(confidence)
        if right is not None:
            assert torch.allclose(canonicalizer(photos(1)).scores[:, 0], right)
    softmax = EnergyCanonicalizer("C1", lambda x: logits, confidence=confidence)(photos(1)).scores[:, 0]
    assert not torch.allclose(softmax, expected), "control"
    # sure of a no, as of a yes: light at the top says yes or no, light elsewhere little.
    x = torch.zeros(2, 3, 12, 12)
    x[0, :, :6], x[1, :, :6] = 1, -1

    def predictor(image: Tensor) -> Tensor:
        return (image[:, 0, :6].mean((1, 2)) - image[:, 0, 6:].mean((1, 2)))[:, None] + 0.0 * image.mean()

    canonicalizer = EnergyCanonicalizer("C4", predictor, confidence=confidence)
    scores = canonicalizer(x).scores
    assert torch.allclose(scores[0], scores[1]), "yes and no alike"
    assert bool((scores[:, [0, 2]] > scores[:, [1, 3]] + 0.05).all())


def test_energy_of_any_answer_without_the_predictor():
    body, x = Classifier().eval(), photos(3)
    maps, reference, frozen = nn.Conv2d(3, 4, 3, padding=1), EnergyCanonicalizer("C4", body)(x).scores, []

    def as_array(image: Tensor) -> np.ndarray:
        frozen.append(body(image).detach().numpy())
        frozen[-1].flags.writeable = False
        return frozen[-1]

    for predictor in (lambda x: {"loss": torch.zeros(()), "logits": body(x)}, lambda x: (torch.zeros(3), [body(x)]), as_array):
        assert torch.equal(EnergyCanonicalizer("C4", predictor)(x).scores, reference)
    scores = EnergyCanonicalizer("C4", maps)(x).scores
    assert torch.allclose(scores[:, 1], maps(torch.rot90(x, -1, (-2, -1))).log_softmax(1).amax(1).mean((-2, -1)), atol=1e-5)
    predictor = Classifier()
    canonicalizer = EnergyCanonicalizer("C4", predictor)
    assert not canonicalizer.state_dict()
    assert not list(canonicalizer.parameters())
    canonicalizer.eval()
    assert predictor.training
    logits = 3 * torch.randn(5, 7)
    p = logits.softmax(1)
    assert torch.allclose(CONFIDENCES["max_probability"](logits), p.amax(1).log(), atol=1e-5)
    assert torch.allclose(CONFIDENCES["negative_entropy"](logits), (p * p.log()).sum(1), atol=1e-5)
    assert torch.allclose(CONFIDENCES["energy"](logits), logits.exp().sum(1).log(), atol=1e-5)


def test_the_training_free_baseline_knows_sigmoids():
    for kind, sigmoid in ((Logits(sigmoid=True), True), ("logits", False)):
        model = adapt(Classifier(), "C4", outputs=kind, canonicalizer=IMAGES["uniform"]("C4"))
        baseline = _baselines(model, ["training-free"])["training-free"]
        assert isinstance(baseline, Equivariant)
        assert baseline.canonicalizer.config()["sigmoid"] is sigmoid


def test_energy_errors(unchecked):
    with pytest.raises(ValueError, match="unknown confidence 'sure'; known: max_probability, negative_entropy, energy"):
        EnergyCanonicalizer("C4", Classifier(), confidence="sure")
    refused(ValueError, "sigmoid is True or False; got 'yes'", lambda: EnergyCanonicalizer("C4", Classifier(), sigmoid="yes"))
    refused(TypeError, "a predictor is a callable; got a int", lambda: EnergyCanonicalizer("C4", 3))
    for answer, came in ((torch.zeros(2), "Tensor"), ("text", "str"), ({"a": torch.zeros(2, 3).long()}, "dict")):
        with pytest.raises(ValueError, match=rf"no logits \(b, k\) or \(b, k, h, w\) in the predictor's answer, a {came}"):
            EnergyCanonicalizer("C4", lambda image, answer=answer: answer)(photos(2))
    with pytest.raises(ValueError, match=r"images have shape .* got \(3, 12, 12\)"):
        EnergyCanonicalizer("C4", Classifier())(photos(1)[0])


# --------------------------------------------------------------------------------------------------------------- prior


def faint(b=2):
    """Bright above, and hardly so: a pose in doubt."""
    return torch.linspace(0.52, 0.48, 16)[:, None].expand(b, 3, 16, 16)


class Above(nn.Module):
    """How much brighter a view is above than below."""

    def forward(self, x):
        return 2 * (x[:, :, : x.shape[2] // 2] - x[:, :, x.shape[2] // 2 :]).mean((1, 2, 3))


@pytest.mark.parametrize("prior", [0.9, [0.9, 0.02, 0.03, 0.05], [9, 1, 1, 1]])
def test_a_prior_is_bayes_rule(prior, tmp_path):
    canonicalizer = OrbitCanonicalizer("C4", Above(), resolution=16).eval()
    side = act(group("C4").elements[1:2], faint())
    shares = torch.tensor([prior, *[(1 - prior) / 3] * 3] if isinstance(prior, float) else prior, dtype=torch.float32)
    plain = canonicalizer(side)
    expected = plain.probabilities * shares
    model = adapt(lambda x: x.mean((2, 3)), "C4", outputs="logits", canonicalizer=canonicalizer, prior=prior)
    pose = model.predict(side).pose
    assert torch.allclose(pose.probabilities, expected / expected.sum(1, keepdim=True), atol=1e-6)
    assert plain.index.tolist() == [1, 1]
    assert pose.index.tolist() == [0, 0], "so that a model with a prior is not equivariant"
    assert torch.equal(Upright(canonicalizer, prior=prior)(side), side)
    saving.save(tmp_path, OrbitCanonicalizer("C4", resolution=16), model._settings())
    assert load(tmp_path, model.predictor).prior == Upright(tmp_path).prior == prior


def test_a_uniform_prior_changes_nothing_and_others_are_refused(unchecked):
    canonicalizer = OrbitCanonicalizer("C4", Above(), resolution=16).eval()
    for uniform in (0.25, [3, 3, 3, 3]):
        assert torch.equal(canonicalizer.posterior(faint(), uniform).scores, canonicalizer(faint()).scores)
    for wrong in (0, 1.5, True, [0.5, 0.5], [1, 1, 1, 0], [1, 1, 1, math.nan]):
        with pytest.raises(ValueError, match=r"prior is the share that is upright.*got"):
            adapt(lambda x: x, "C4", outputs="logits", canonicalizer=canonicalizer, prior=wrong)
    with pytest.raises(ValueError, match=r"a prior is over the elements of a finite group.*SO3"):
        FrameCanonicalizer("SO3").log_prior(0.9)
