"""diagnose: worked examples, the size of its test where there is no pose, and advice for every kind of data."""

import json
import math

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import equiform
from equiform import EnergyCanonicalizer, Equivariant, OrbitCanonicalizer, Points, adapt, diagnose
from equiform.canonicalizers import Canonicalizer, UniformCanonicalizer
from equiform.canonicalizers.poses import pose_of
from equiform.evaluation import significance
from equiform.evaluation.agreement import same_answers
from equiform.evaluation.diagnose import _drawn
from equiform.evaluation.significance import binomial_tail, pose_test, sign_test, untied
from equiform.geometry.groups import turn
from equiform.geometry.kinds import as_kinds
from test_evaluation import Marked, TopIsBright, pictures

X, Y = pictures(60)
C4 = equiform.group("C4")
TURNED = torch.cat([equiform.act(C4.elements[i // 2 % 4][None], X[i : i + 1]) for i in range(60)])


def model(canonicalizer=None, predictor=None, outputs="logits", fitted=True):
    canonicalizer = canonicalizer or Marked()
    canonicalizer.fitted = fitted
    return Equivariant(predictor or TopIsBright(), canonicalizer, "image", outputs)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 40)
    monkeypatch.setattr(significance, "DRAWS", 199)


def test_every_figure_of_a_worked_example():
    found = diagnose(model(), (X[:24], Y[:24]))
    assert (found.metric, found.num_samples, found.upright, found.group) == ("accuracy", 24, 1.0, "C4")
    turned = {one.element: one for one in found.turned}
    assert list(turned) == ["90°", "180°", "270°", "flip 0°", "flip 90°", "flip 180°", "flip 270°"]
    assert (turned["180°"].value, turned["180°"].changed, turned["180°"].hurts) == (0.0, 1.0, True)
    assert turned["180°"].p_value == pytest.approx(2 * 0.5**24)  # McNemar: 24 right answers became wrong, none right
    flip = turned["flip 0°"]
    assert (flip.value, flip.p_value, flip.changed, flip.hurts, flip.changes) == (1.0, 1.0, 0.0, False, False)
    assert (found.pose.statistic, found.pose.common, found.pose.share) == (72.0, "0°", 1.0)
    assert found.needed == "C4", "a flip is harmless, and so is all that C4 leaves of D4"
    (adapted,) = found.options
    assert (adapted.mean, adapted.gain, adapted.passes) == (1.0, 1 - found.bare, 1.0)
    assert found.bare == pytest.approx((1 + turned["90°"].value + 0 + turned["270°"].value) / 4)
    assert found.recommendation.startswith("Adapt with C4")
    assert all(part in str(found) for part in ("accuracy 0.000 (p < 0.001)", "chi-square 72.0", "(24 inputs)"))
    assert json.loads(found.to_json())["turned"][0]["element"] == "90°"


def test_a_metric_whose_smaller_values_are_better():
    centres = torch.full((24, 1, 2), 2.0)  # a predictor that always says (2, 2), right about pictures as they came
    about = model(predictor=lambda x: centres[: len(x)], outputs="points")
    found = diagnose(about, (X[:24], centres), metric="keypoint_error")
    half_turn = next(one for one in found.turned if one.element == "180°")
    assert (half_turn.value, half_turn.hurts) == (pytest.approx(math.sqrt(32)), True)  # from (2, 2) to (6, 6)
    assert (found.upright, found.advice) == (0, "adapt")
    assert found.options[0].gain == pytest.approx(found.bare)


BOX = torch.tensor([[0.0, 0.0, 2.0, 3.0]])


class Never(Marked):
    def forward(self, images):
        pose = super().forward(images)
        return pose_of(pose.scores.roll(1, 1), self.elements)


class Centroid(Canonicalizer):
    num_poses = 1  # where the mass lies

    def forward(self, images):
        side, x = torch.linspace(-1, 1, images.shape[-1]), images[:, 0]
        angles = torch.atan2(-(x.sum(2) * side).sum(1), (x.sum(1) * side).sum(1))
        return pose_of(torch.zeros(len(x), 1), turn(angles)[:, None])


ADVICE = {
    "photos without labels": (model(), X[:24], "adapt", "C4"),
    "turned without labels": (model(), TURNED[:40], "average", "C4"),
    "turned with labels, of no pose": (model(Never()), (TURNED[:40], Y[:40]), "average", "C4"),
    "boxes have no mean": (model(predictor=lambda x: BOX.repeat(len(x), 1, 1), outputs="boxes"), TURNED[:40], "leave", "D4"),
    "few turned": (model(), TURNED[:20], "more data", "C4"),
    "harmless": (model(predictor=lambda x: x.mean((2, 3)).repeat(1, 2)), X, "leave", "C1"),
    "few harmless": (model(predictor=lambda x: x.mean((2, 3)).repeat(1, 2)), X[:20], "more data", "C1"),
    "not fitted": (model(fitted=False), X[:20], "fit", "C4"),
    "no poses": (model(UniformCanonicalizer("C4")), X[:20], "fit", "C4"),
    "wrong poses": (model(Never()), (X[:20], Y[:20]), "fit", "C4"),
}


@pytest.mark.parametrize("case", ADVICE)
def test_advice(case):
    about, data, advice, needed = ADVICE[case]
    found = diagnose(about, data, batch_size=60)
    assert (found.advice, found.needed) == (advice, needed), str(found)
    assert (found.pose is None) == (case in ("not fitted", "no poses"))
    assert [one.name for one in found.options[1:]] == ["orbit averaging"] * ("turned" in case)
    assert str(found).endswith(found.recommendation)


def test_turned_photos_are_told_from_textures_by_their_labels():
    found = diagnose(model(), (TURNED[:40], Y[:40]), batch_size=40)
    assert not found.pose.found
    assert not any(one.hurts for one in found.turned), "every pose is there already"
    assert all(one.changes for one in found.turned if one.element != "flip 0°")
    assert (found.advice, found.options[0].mean, found.options[1].mean < 0.8) == ("adapt", 1.0, True)


def test_the_group_is_no_larger_than_what_hurts():
    def chiral(x):  # the pixels beside the corners, on one side and on the other: turns leave their sums alone
        one, other = (sum(torch.rot90(x, k, (2, 3))[:, 0, i, j] for k in range(4)) for i, j in ((0, 1), (1, 0)))
        return torch.stack([one, other], 1)

    assert diagnose(model(predictor=chiral), torch.rand(24, 1, 8, 8)).needed == "D1"
    found = diagnose(model(Centroid("SO2")), torch.rand(8, 1, 8, 8))
    assert (found.needed, found.group, found.pose.test) == ("SO2", "SO2", "Rayleigh")


@pytest.mark.parametrize(("name", "n"), [("C4", 12), ("O2", 12), ("C4", 200), ("D4", 200), ("SO2", 200), ("O2", 200)])
def test_the_level_of_the_test(name, n, monkeypatch):
    """Of 200 data sets without a pose about 5 % are taken for one that has a pose; the control has one."""
    monkeypatch.setattr(significance, "RESAMPLES", 200)
    group, generator = equiform.group(name), torch.Generator().manual_seed(0)
    none = pose_test(group, group.random(n, generator)[None], torch.ones(n), generator)
    assert (0.02 <= none.false_positives <= 0.085, none.found) == (True, False)
    near = group.random(n, generator)
    near[: n * 3 // 4] = group.identity()
    assert pose_test(group, near[None], torch.ones(n), generator).found
    opposite = C4.elements[::2].repeat(n // 2, 1, 1)
    assert pose_test(group, opposite[None], torch.ones(n), generator).found == (name != "SO2"), "of turns alone it is not seen"


def test_symmetric_inputs_have_no_pose():
    pose = OrbitCanonicalizer("C4", resolution=16, channels=1).eval()(torch.ones(100, 1, 8, 8))
    assert set(pose.index.tolist()) == {0}, "control: the first of four"
    generator = torch.Generator().manual_seed(0)
    assert not pose_test(C4, untied(pose, generator)[None], pose.confidence, generator).found
    sure = pose_of(torch.tensor([[0.0, 3, 0, 0]]).repeat(8, 1), C4.elements)
    assert torch.equal(untied(sure, generator), sure.g)


def test_a_canonicalizer_that_tells_poses_by_their_blur_is_found_out():
    def sharpness(x):  # surest of pixels that were not resampled, whatever they show
        return 20 * x.diff(dim=3).abs().mean((1, 2, 3))[:, None] * torch.tensor([1.0, -1.0])

    found = diagnose(model(EnergyCanonicalizer("C8", sharpness)), torch.rand(40, 1, 12, 12), batch_size=40)
    assert found.pose.found, "control: it seems to find one in noise"
    assert (found.pose.false_positives > 0.5, found.pose.trusted) == (True, False)
    assert "of data sets without a pose" in found.unasked
    assert "Yes" not in str(found).partition("2. ")[2].partition("3. ")[0]


def test_pictures_have_a_pose_and_gravel_has_none():
    gravel = torch.tensor(pytest.importorskip("skimage.data").gravel()).float()
    crops = gravel[:448, :448].unfold(0, 32, 32).unfold(1, 32, 32).reshape(-1, 1, 32, 32)
    canonicalizer = OrbitCanonicalizer("C4", resolution=16, channels=1).eval()
    for x, there in ((X, True), (crops, False)):
        generator, pose = torch.Generator().manual_seed(0), canonicalizer(x)
        assert pose_test(C4, untied(pose, generator)[None], pose.confidence, generator).found == there


def test_exact_probabilities():
    assert sign_test(0, 6) == pytest.approx(2 / 64)
    assert sign_test(5, 1) == pytest.approx(2 * (6 + 1) / 64)
    assert sign_test(0, 0) == sign_test(3, 3) == 1
    assert binomial_tail(2, 4, 0.1) == pytest.approx(6 * 0.01 * 0.81 + 4 * 0.001 * 0.9 + 0.0001)
    assert binomial_tail(0, 1000, 0.05) == pytest.approx(1)


ONES = torch.ones(1, 4, 4)
AGREEMENT = {
    "class": ("logits", torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 9.0]]), True),
    "another class": ("logits", torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]]), False),
    "one logit": ("logits", torch.tensor([[0.1]]), torch.tensor([[9.0]]), True),
    "another sign": ("logits", torch.tensor([[0.1]]), torch.tensor([[-0.1]]), False),
    "a label in sixteen": ("mask", ONES.long(), ONES.long().index_put((torch.zeros(1).long(),) * 3, torch.tensor(2)), True),
    "other labels": ("mask", ONES.long(), 2 * ONES.long(), False),
    "numbers": ("invariant", 1.05 * ONES, ONES, True),
    "others": ("invariant", 1.2 * ONES, ONES, False),
    "logits decide": ({"a": "logits", "b": "invariant"}, {"a": -ONES[0], "b": ONES}, {"a": -2 * ONES[0], "b": 2 * ONES}, True),
    "other words": ([{"text": "invariant"}], [{"text": "a"}], [{"text": "b"}], False),
    "another number of boxes": ([{"boxes": "boxes"}], [{"boxes": torch.ones(2, 4)}], [{"boxes": torch.ones(1, 4)}], False),
    "none": (Points(), torch.zeros(1, 0, 2), torch.zeros(1, 0, 2), True),
}


@pytest.mark.parametrize("case", AGREEMENT)
def test_same_answers(case):
    kinds, got, expected, same = AGREEMENT[case]
    assert bool(same_answers(got, expected, as_kinds(kinds), 0.1).all()) == same


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


def share_of_equal_boxes(found, expected):
    return sum(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(found, expected, strict=True)) / len(expected)


def test_data_come_as_they_do():
    for data in (X, X.numpy(), list(X), TensorDataset(X), DataLoader(TensorDataset(X), 5), Stream()):
        drawn = _drawn(model(), data, 20, 10, 0)
        assert (sum(len(batch.x) for batch in drawn), drawn[0].labelled) == (20, False)
    for data in ((X, Y), (X.numpy(), Y.numpy()), [X, Y], TensorDataset(X, Y), DataLoader(TensorDataset(X, Y), 5)):
        drawn = _drawn(model(), data, 20, 10, 0)
        for image, label in ((b.x[i], b.target[i]) for b in drawn for i in range(len(b.x))):
            assert torch.equal(Y[(image == X).flatten(1).all(1)][0], label)
    ragged = [image[:, :, : 8 - i % 2] for i, image in enumerate(X[:4])]
    lists = model(UniformCanonicalizer("C4"), lambda x: [{"boxes": BOX} for _ in x], [{"boxes": "boxes"}])
    found = diagnose(lists, (ragged, [{"boxes": BOX}] * 4), metric=share_of_equal_boxes)
    assert (found.num_samples, found.upright, {one.value for one in found.turned}) == (4, 1.0, {0.0})


def test_passes_are_bounded_and_nothing_is_left_behind():
    seen = []

    class Counting(TopIsBright):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    about = model(predictor=Counting().train())
    first = diagnose(about, X, num=20, seed=1)
    assert sum(seen) <= 20 * (1 + 8 + 3 * 4) + 20 * 5 * 2  # the last: timings
    assert about.predictor.training
    assert diagnose(about, X, num=20, seed=1).turned == first.turned


CLOUDS = adapt(lambda p: p.mean((1, 2)), "SO3", outputs="invariant")
ERRORS = {
    "predictor": (TopIsBright(), X, {}, TypeError, "equiform.adapt returns; got a TopIsBright"),
    "folder": (model(), "photos", {}, TypeError, "'photos'"),
    "none": (model(), X[:0], {}, ValueError, "nothing in the data"),
    "lengths": (model(), (X, Y[:3]), {}, ValueError, "60 and 3"),
    "num": (model(), X, {"num": 0}, ValueError, "num must be a whole number >= 1; got 0"),
    "tolerance": (model(), X, {"tolerance": -1}, ValueError, "tolerance must be a finite number above 0; got -1"),
    "metric": (model(), (X, Y), {"metric": "f1"}, ValueError, "unknown metric 'f1'; known: accuracy"),
    "no targets": (model(), X, {"metric": "miou"}, ValueError, "miou needs targets.*leave it out"),
    "clouds": (CLOUDS, torch.rand(4, 5, 3), {}, ValueError, "SO3 moves clouds and volumes.*equiform.evaluate"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    about, data, options, error, says = ERRORS[case]
    with pytest.raises(error, match=says):
        diagnose(about, data, **options)
