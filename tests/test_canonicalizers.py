"""The laws of every canonicalizer in the table, and what is particular to each."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equiform import (
    Canonicalizer,
    EnergyCanonicalizer,
    GroupConvCanonicalizer,
    OrbitCanonicalizer,
    Pose,
    TileCanonicalizer,
    UniformCanonicalizer,
    act,
    group,
)
from equiform.canonicalizers.energy import CONFIDENCES
from equiform.canonicalizers.table import CANONICALIZERS

GRID_GROUPS = ["C1", "C2", "C4", "D1", "D2", "D4"]


class Classifier(nn.Module):
    """Sees where things are."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(6 * self.body(x.float()).relu().mean((-2, -1)))


MAKE: dict[str, Callable[[str], Canonicalizer]] = {
    "orbit": lambda name: OrbitCanonicalizer(name, resolution=16),
    "group-conv": lambda name: GroupConvCanonicalizer(name, widths=(4, 8), resolution=16),
    "tiles": lambda name: TileCanonicalizer(name, num_tiles=4, widths=(4, 8), resolution=16),
    "energy": lambda name: EnergyCanonicalizer(name, Classifier().eval()),
    "uniform": UniformCanonicalizer,
}
SEEING = [name for name in MAKE if name != "uniform"]
LEARNING = ["orbit", "group-conv", "tiles"]


def test_every_canonicalizer_is_here():
    assert set(MAKE) == set(CANONICALIZERS), "a canonicalizer in the table needs a row here"
    assert all(cls.name == name for name, cls in CANONICALIZERS.items())
    assert [name for name, cls in CANONICALIZERS.items() if cls.learns] == LEARNING


def photos(b: int, h: int = 12, w: int = 12) -> Tensor:
    return torch.rand(b, 3, h, w)


def follows(canonicalizer: Canonicalizer, x: Tensor, g: Tensor) -> bool:
    """pose(g.x) == g pose(x), a different g in every row."""
    return torch.equal(canonicalizer(act(g, x)).g, g @ canonicalizer(x).g)


@pytest.mark.parametrize("group_name", GRID_GROUPS)
@pytest.mark.parametrize("name", SEEING)
def test_the_pose_follows_the_input(name, group_name):
    canonicalizer = MAKE[name](group_name).eval()
    elements = group(group_name).elements
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
    d4 = group("D4")
    canonicalizer = MAKE[name]("D4").eval()
    x = photos(2)
    scores = canonicalizer(x).scores
    for g in d4.elements.split(1):
        assert torch.allclose(canonicalizer(act(g, x)).scores[:, d4.index(g @ d4.elements)], scores, atol=1e-5)
    assert scores.std(1).min() > 1e-4, "control: they are not all alike"


@pytest.mark.parametrize("name", MAKE)
def test_poses_are_whole(name):
    canonicalizer = MAKE[name]("D2").eval()
    for b in (3, 1, 0):
        pose = canonicalizer(photos(b))
        assert isinstance(pose, Pose)
        assert pose.scores.shape == (b, 4)
        assert torch.equal(pose.g, canonicalizer.elements[pose.index])
        assert torch.equal(pose.index, pose.scores.argmax(1))


@pytest.mark.parametrize("name", MAKE)
def test_lists_of_images_of_mixed_sizes(name):
    canonicalizer = MAKE[name]("D4").eval()
    images = [photos(1, *size)[0] for size in ((12, 12), (9, 15), (20, 8))]
    pose = canonicalizer(images)
    for i, image in enumerate(images):
        alone = canonicalizer(image[None])
        assert torch.allclose(pose.scores[i : i + 1], alone.scores, atol=1e-5)
        assert pose.index[i] == alone.index[0]
    assert canonicalizer([]).g.shape == (0, 3, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", MAKE)
def test_rows_do_not_see_each_other(name, bad):
    canonicalizer = MAKE[name]("D4").eval()
    x = photos(3)
    spoilt = x.clone()
    spoilt[1, :, 3, 3] = bad
    assert torch.equal(canonicalizer(spoilt).scores[[0, 2]], canonicalizer(x).scores[[0, 2]])
    assert canonicalizer(spoilt).scores.isfinite().all()


@pytest.mark.parametrize("name", MAKE)
def test_the_config_builds_it_again(name):
    canonicalizer = MAKE[name]("D2").eval()
    more = {"predictor": Classifier()} if name == "energy" else {}
    again = CANONICALIZERS[name](**canonicalizer.config(), **more).eval()
    again.load_state_dict(canonicalizer.state_dict())
    assert again.config() == canonicalizer.config()
    if name != "energy":
        x = photos(3)
        assert torch.equal(again(x).scores, canonicalizer(x).scores)


@pytest.mark.parametrize("name", MAKE)
def test_a_forward_leaves_no_trace(name):
    canonicalizer = MAKE[name]("D4").eval()
    x = photos(3)
    before, state, attributes = x.clone(), copy.deepcopy(canonicalizer.state_dict()), sorted(vars(canonicalizer))
    first = canonicalizer(x)
    assert torch.equal(canonicalizer(x).scores, first.scores)
    assert torch.equal(x, before)
    assert sorted(vars(canonicalizer)) == attributes
    assert all(torch.equal(state[k], v) for k, v in canonicalizer.state_dict().items())


@pytest.mark.parametrize("name", LEARNING)
def test_half_precision_around_and_inside(name):
    canonicalizer, x = MAKE[name]("D4").eval(), photos(4)
    plain = canonicalizer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(canonicalizer(x).scores, plain.scores)
    exact = copy.deepcopy(canonicalizer).double()(x)
    assert exact.scores.dtype == torch.float32
    assert torch.allclose(exact.scores, plain.scores, atol=1e-5)
    rough = copy.deepcopy(canonicalizer).bfloat16()(x)
    assert torch.allclose(rough.scores, plain.scores, atol=0.1)


@pytest.mark.parametrize("name", LEARNING)
def test_gradients_reach_every_weight(name):
    canonicalizer = MAKE[name]("C4").train()
    (canonicalizer(photos(4)).scores.log_softmax(1)[:, 0].sum()).backward()
    missing = [n for n, p in canonicalizer.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


@pytest.mark.parametrize("name", MAKE)
def test_continuous_groups_and_bad_sizes(name, unchecked):
    with pytest.raises(ValueError, match=r"O2 is continuous.*such as D16"):
        MAKE[name]("O2")
    with pytest.raises(ValueError, match=r"SO2 is continuous.*such as C16"):
        MAKE[name]("SO2")
    with pytest.raises(ValueError, match="unknown group 'X'"):
        MAKE[name]("X")
    if name in LEARNING:
        cls = CANONICALIZERS[name]
        for bad in (0, -4, 16.0, "16"):
            with pytest.raises(ValueError, match=f"resolution must be a whole number >= 1; got {bad!r}"):
                cls("C4", resolution=bad)
        if "channels" in MAKE[name]("C4").config():
            with pytest.raises(ValueError, match="channels must be a whole number >= 1; got 0"):
                cls("C4", channels=0)
        with pytest.raises(TypeError, match="typo"):
            cls("C4", typo=3)


# ---------------------------------------------------------------------------------------------------------------- orbit


class Brightness(nn.Module):
    """Likes light at the top."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : x.shape[-2] // 2].mean((1, 2, 3))


def test_orbit_worked_example():
    """A picture with its light at the top is upright; turned by g, its pose is g."""
    canonicalizer = OrbitCanonicalizer("C4", Brightness(), resolution=16)
    x = torch.zeros(1, 3, 12, 12)
    x[:, :, :6] = 1
    for g in group("C4").elements.split(1):
        assert torch.equal(canonicalizer(act(g, x)).g, g)


@pytest.mark.parametrize(
    ("network", "came"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), r"shape \(8, 5\)"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1)), r"shape \(8, 3, 1, 1\)"),
    ],
)
def test_networks_that_give_more_than_a_score(network, came):
    with pytest.raises(ValueError, match=rf"one score per row, \(8,\); got {came}: see equiform.scorer"):
        OrbitCanonicalizer("C4", network, resolution=16)(photos(2))


def test_scores_of_any_shape_with_one_per_row():
    class Column(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, None, None]

    x = photos(3)
    plain, column = (OrbitCanonicalizer("C4", network, resolution=16)(x) for network in (Brightness(), Column()))
    assert torch.equal(plain.scores, column.scores)


def test_channels_of_ones_own():
    canonicalizer = OrbitCanonicalizer("C4", resolution=16, channels=5).eval()
    x = torch.rand(4, 5, 12, 12)
    assert follows(canonicalizer, x, group("C4").elements)
    with pytest.raises(ValueError, match="looks at 5 channels"):
        canonicalizer(photos(2))


def test_group_conv_resolution():
    with pytest.raises(ValueError, match="multiple of 4 for 2 widths; got 18"):
        GroupConvCanonicalizer("C4", widths=(4, 8), resolution=18)


# --------------------------------------------------------------------------------------------------------------- energy


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_a_nan_row_is_no_error_for_any_confidence(confidence):
    canonicalizer, x = EnergyCanonicalizer("C4", Classifier().eval(), confidence=confidence), photos(3)
    spoilt = x.clone()
    spoilt[1, 0, 3, 3] = math.nan
    pose = canonicalizer(spoilt)
    assert torch.equal(pose.scores[[0, 2]], canonicalizer(x).scores[[0, 2]])
    assert pose.confidence[1] == 0.25


def test_confidences_are_their_formulas():
    logits = 3 * torch.randn(5, 7)
    p = logits.softmax(1)
    assert torch.allclose(CONFIDENCES["max_probability"](logits), p.amax(1).log(), atol=1e-5)
    assert torch.allclose(CONFIDENCES["negative_entropy"](logits), (p * p.log()).sum(1), atol=1e-5)
    assert torch.allclose(CONFIDENCES["energy"](logits), logits.exp().sum(1).log(), atol=1e-5)


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_energy_scores_are_the_predictors_confidence_over_the_orbit(confidence):
    predictor, x = Classifier().eval(), photos(3)
    pose = EnergyCanonicalizer("C4", predictor, confidence=confidence)(x)
    for k in range(4):
        expected = CONFIDENCES[confidence](predictor(torch.rot90(x, -k, (-2, -1))))
        assert torch.allclose(pose.scores[:, k], expected, atol=1e-5)


def test_energy_reads_the_first_logits_of_any_answer():
    body, x = Classifier().eval(), photos(3)
    maps = nn.Conv2d(3, 4, 3, padding=1)
    reference = EnergyCanonicalizer("C4", body)(x).scores
    frozen = []

    def as_array(image: Tensor) -> np.ndarray:
        frozen.append(body(image).detach().numpy())
        frozen[-1].flags.writeable = False
        return frozen[-1]

    for predictor in (
        lambda image: {"loss": torch.tensor(0.0), "logits": body(image)},
        lambda image: (torch.zeros(3), [body(image), torch.zeros(3, 9)]),
        as_array,
    ):
        assert torch.equal(EnergyCanonicalizer("C4", predictor)(x).scores, reference)
    scores = EnergyCanonicalizer("C4", maps)(x).scores
    expected = maps(torch.rot90(x, -1, (-2, -1))).log_softmax(1).amax(1).mean((-2, -1))
    assert torch.allclose(scores[:, 1], expected, atol=1e-5)


def test_energy_leaves_the_predictor_out():
    predictor = Classifier()
    canonicalizer = EnergyCanonicalizer("C4", predictor)
    assert not canonicalizer.state_dict()
    assert not list(canonicalizer.parameters())
    canonicalizer.eval()
    assert predictor.training


def test_energy_errors(unchecked):
    with pytest.raises(ValueError, match="unknown confidence 'sure'; known: max_probability, negative_entropy, energy"):
        EnergyCanonicalizer("C4", Classifier(), confidence="sure")
    with pytest.raises(TypeError, match="a predictor is a callable; got a int"):
        EnergyCanonicalizer("C4", 3)
    for answer, came in ((torch.zeros(2), "Tensor"), ("text", "str"), ({"a": torch.zeros(2, 3).long()}, "dict")):
        with pytest.raises(ValueError, match=rf"no logits \(b, k\) or \(b, k, h, w\) in the predictor's answer, a {came}"):
            EnergyCanonicalizer("C4", lambda image, answer=answer: answer)(photos(2))
    with pytest.raises(ValueError, match=r"images have shape \(b, channels, height, width\); got \(3, 12, 12\)"):
        EnergyCanonicalizer("C4", Classifier())(photos(1)[0])
