"""evaluate: worked examples whose every figure can be told beforehand."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import equiform
from asserting import refused
from equiform import EnergyCanonicalizer, Equivariant, adapt, evaluate
from equiform.canonicalizers import Canonicalizer, PrincipalAxesCanonicalizer, UniformCanonicalizer
from equiform.canonicalizers.images import Images
from equiform.canonicalizers.poses import Pose, pose_of
from equiform.evaluation.evaluate import _Clock
from equiform.evaluation.frames import middle, uncropped
from equiform.geometry.kinds import Kind
from equiform.learning import fit_opinion
from equiform.testing import check_equivariant, equivariance_error
from small_photos import pictures, scenes
from small_predictors import TopIsBright
from test_ring import ring


class Marked(Canonicalizer):
    """Knows the pose from a mark in a corner: the upright picture has it at the top left."""

    name = "marked"

    def __init__(self):
        super().__init__("C4")
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Images) -> Pose:
        x = torch.as_tensor(images)[:, 0].float()
        return pose_of(torch.stack([x[:, 0, 0], x[:, -1, 0], x[:, -1, -1], x[:, 0, -1]], 1), self.elements)


def marked() -> Equivariant:
    return Equivariant(TopIsBright(), Marked(), "image", "logits")


def test_every_figure_of_models_that_are_right_and_wrong():
    report = evaluate(marked(), pictures(), baselines=["bare", "orbit averaging", "training-free"])
    assert (report.num_samples, report.elements) == (12, ["0°", "90°", "180°", "270°"])
    assert (report["adapted"].values, report["adapted"].pose_accuracy) == ([1.0, 1.0, 1.0, 1.0], 1.0)
    assert (report["adapted"].equivariance_error, report["adapted"].parameters) == (0.0, 1.0)
    assert report["adapted"].passes == 1.0
    bare = report["bare"]
    assert bare.values[0] == 1.0
    assert bare.values[2] == 0.0  # upside down, every answer is wrong
    assert bare.equivariance_error > 0.5
    assert (bare.pose_accuracy, bare.confidence) == (None, None)
    assert bare.time == 1.0, "by definition"
    assert (report["orbit averaging"].passes, report["training-free"].passes) == (4, 5)
    assert report["orbit averaging"].equivariance_error < 1e-6
    assert all(method.time > 0 for method in report.methods)

    class Never(Marked):
        def forward(self, images):
            return pose_of(torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(len(images), 4), self.elements)

    report = evaluate(Equivariant(TopIsBright(), Never(), "image", "logits"), pictures())
    assert report.pose_accuracy == 0.25
    assert report.methods[0].confidence.risk(1.0) == 0.75
    assert report.equivariance_error > 0.1


@pytest.mark.parametrize("form", ["tensors", "dataset", "loader"])
def test_data_of_every_kind(form):
    x, y = pictures()
    data = {"tensors": (x, y), "dataset": TensorDataset(x, y), "loader": DataLoader(TensorDataset(x, y), batch_size=5)}[form]
    assert evaluate(marked(), data, batch_size=5).mean == 1.0


def test_metrics_in_every_form():
    from torchmetrics.classification import MulticlassAccuracy

    data = pictures()
    assert evaluate(marked(), data, metric="top5_accuracy").mean == 1.0
    assert evaluate(marked(), data, metric=MulticlassAccuracy(2)).mean == 1.0

    def share_of_zeros(output, target):
        return (output.argmax(1) == 0).float().mean()

    report = evaluate(marked(), data, metric=share_of_zeros)
    assert (report.mean, report.metric) == (0.5, "share_of_zeros")
    x, y = pictures()
    with torch.no_grad():
        report = evaluate(Equivariant(Marking(), Marked(), "image", KINDS), (x, y), targets="invariant")
    assert report["adapted"].values == [1.0] * 4


def test_targets_move_along():
    x, _ = pictures(6, 9)
    x = x[:, :, :, :7].contiguous()
    target = (x[:, 0] > 0.35).long()

    def segment(image):  # right only where the mark is at the top left
        logits, upright = torch.cat([0.35 - image, image - 0.35], 1), (image[:, :, :1, :1] > 4).to(image)
        return logits * (2 * upright - 1)

    model = Equivariant(segment, Marked(), "image", "mask")
    report = evaluate(model, (x, target), metric="miou", baselines=["bare"])
    assert (report["adapted"].values, report["bare"].values[0]) == ([1.0] * 4, 1.0)
    assert max(report["bare"].values[1:]) < 0.1
    assert report["adapted"].equivariance_error == 0.0
    x, y = pictures()
    model = Equivariant(Marking(), Marked(), "image", KINDS)
    refused(ValueError, "pass targets=", lambda: evaluate(model, (x, y)))

    def agreement(output, target):
        return (output["mask"] == target).float().mean()

    report = evaluate(model, (x, (x > 0.35).float()), metric=agreement, targets="mask")
    assert report["adapted"].values == [1.0] * 4


def test_groups_angles_and_modes():
    assert evaluate(marked(), pictures(), group="D4").elements[4:6] == ["flip 0°", "flip 90°"]
    report = evaluate(marked(), pictures(), group=[0, 45, 90.5])
    assert (report.elements, report.angles) == (["0°", "45°", "90.5°"], [0.0, 45.0, 90.5])
    assert evaluate(marked(), pictures(), group="D4").pose_accuracy == 1.0
    assert evaluate(marked(), pictures(), group=[45.0]).pose_accuracy is None
    model = marked()
    model.predictor.train()
    evaluate(model, pictures())
    assert model.predictor.training


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (pictures(), {"metric": "acuracy"}, ValueError, "known: accuracy"),
        (pictures(), {"metric": 3}, TypeError, "a metric is"),
        (pictures(), {"group": "C0"}, ValueError, "unknown group"),
        (pictures(), {"group": []}, ValueError, "list of angles"),
        (pictures(), {"frame": "outside"}, ValueError, "unknown frame 'outside'; known: inside, crop"),
        (pictures(), {"frame": "crop", "targets": "mask"}, ValueError, "targets move as 'mask': take frame='inside'"),
        (pictures(), {"baselines": ["bear"]}, ValueError, "known: bare"),
        ((pictures()[0], pictures()[1][:3]), {}, ValueError, "12 inputs and 3 targets"),
        (pictures()[0], {}, TypeError, "a Tensor"),
        ((pictures()[0][:0], pictures()[1][:0]), {}, ValueError, "nothing in the data"),
        (TensorDataset(pictures()[0]), {}, ValueError, "pairs"),
    ],
)
def test_errors_say_what_came_and_what_is_known(data, options, error, message):
    refused(error, message, lambda: evaluate(marked(), data, **options))


def test_public_checks():
    x, _ = pictures()
    assert equivariance_error(marked(), x, "C4", outputs="logits").tolist() == [0, 0, 0, 0]
    check_equivariant(marked(), x, "C4", outputs="logits")
    assert equivariance_error(TopIsBright(), x, "C4", outputs="logits")[2] > 1
    refused(AssertionError, "element 2 differs", lambda: check_equivariant(TopIsBright(), x, "C4", outputs="logits"))
    assert equivariance_error(lambda v: v.flatten(2), x[:, :, :4], "C4", outputs="image")[1] == float("inf")
    assert equiform.testing.difference([torch.ones(2)], [torch.zeros(2)], [Kind("invariant")]) == 1
    words = [[{"words": ["a", "b"][:n]}] for n in (1, 2)]
    assert equiform.testing.difference(*words, equiform.Rows({"words": "invariant"})) == float("inf"), "not as many words"
    assert equiform.testing.difference(words[1], words[1], equiform.Rows({"words": "invariant"})) == 0

    def segment(image, points):
        return {"mask": image > 0.35, "points": points + 0.5}

    inputs, outputs = {"image": "image", "points": "points"}, {"mask": "mask", "points": "points"}
    model = Equivariant(segment, Marked(), inputs, outputs)
    x, _ = pictures(4)
    check_equivariant(model, {"image": x, "points": torch.ones(4, 2)}, "C4")
    check_equivariant(model, (x, torch.ones(4, 2)), "C4", inputs=("image", "points"))
    with pytest.raises(AssertionError):
        check_equivariant(segment, {"image": x, "points": torch.ones(4, 2)}, "C4", inputs=inputs, outputs=outputs)


class Marking(nn.Module):
    """Answers with more than logits, the logits not first."""

    def forward(self, x):
        return {"features": x.float().mean((2, 3)), "logits": TopIsBright()(x), "mask": (x > 0.35).float()}


KINDS = {"features": "invariant", "logits": "logits", "mask": "mask"}


@pytest.mark.parametrize("angles", [[90.0, 0.0], [90.0, 180.0]])
def test_the_error_does_not_depend_on_the_order_of_the_elements(angles):
    report = evaluate(marked(), pictures(), group=angles, baselines=["bare"])
    assert report["bare"].equivariance_error > 0.5
    assert report["adapted"].equivariance_error == 0.0


def test_any_angle_is_measured_in_steps_and_found_within_ten_degrees():
    model = Equivariant(TopIsBright(), ring(), "image", "logits")
    data = (scenes(4), torch.zeros(4, dtype=torch.long))
    report = evaluate(model, data, baselines=["bare", "orbit averaging"])
    assert (report.group, report.elements[:2], len(report.elements)) == ("SO2", ["0°", "15°"], 24)
    assert report.pose_accuracy == 1.0
    assert report["bare"].mean < 0.6 < report.mean == 1.0
    assert report["orbit averaging"].passes == 16
    assert "a pose is found within 10 degrees" in str(report)
    assert len(evaluate(model, data, group="O2").elements) == 48
    assert "10 degrees" not in str(evaluate(marked(), pictures(), group="SO2"))


@pytest.mark.parametrize("h, w", [(9, 9), (20, 20), (20, 31), (31, 20), (1, 1), (2, 5)])
def test_the_middle_turns_with_the_image(h, w):
    x = torch.rand(2, 1, h, w)
    for g in equiform.group("D4").elements:
        assert torch.equal(middle(equiform.act(g[None], x)), equiform.act(g[None], middle(x)))
    assert math.hypot(*middle(x).shape[2:]) <= max(min(h, w), 3)
    for side in (1, 2, 7, 64, 158, 224):
        assert middle(torch.zeros(1, uncropped(side), uncropped(side))).shape == (1, side, side)


def test_cropped_images_lose_no_corner_and_keep_their_size():
    seen = []

    def predictor(x):
        seen.append((tuple(x.shape[2:]), float(x.min())))
        return x.mean((2, 3))

    data = (0.5 + torch.rand(3, 2, 30, 40), torch.zeros(3, dtype=torch.long))
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"))
    report = evaluate(model, data, group=[15.0 * i for i in range(1, 24)], frame="crop", baselines=["bare"])
    assert {size for size, _ in seen} == {(20, 20)}
    assert min(least for _, least in seen) >= 0.5
    assert "no corners are missing" in str(report)
    assert report.samples[0].image.shape == (20, 20, 3)
    seen.clear()
    evaluate(model, data, group=[45.0], baselines=["bare"])
    assert min(least for _, least in seen) == 0, "control: inside the frame corners are black"


def test_the_upright_pose_counts_for_no_mean_over_drawn_elements():
    def height(x):
        return x[..., 2].abs().mean(1)

    x = torch.randn(4, 20, 3) * torch.tensor([2.0, 1, 0.5])
    model = adapt(height, "SO3", outputs="invariant", canonicalizer=PrincipalAxesCanonicalizer("SO3"))
    metric = lambda output, target: -(output - target).square().mean()  # noqa: E731
    report = evaluate(model, (x, height(x)), metric=metric, baselines=["bare"])
    bare = report["bare"]
    assert len(report.elements) == 16
    assert report.elements == evaluate(model, (x, height(x)), metric=metric).elements, "the seed is fixed"
    assert bare.mean == pytest.approx(sum(bare.values[1:]) / 15)
    assert bare.mean < sum(bare.values) / 16, "control: upright is the easiest"
    assert report.upright_of("bare") == bare.values[0]
    assert "without the upright pose" in str(report)
    finite = evaluate(marked(), pictures(), group="C4", baselines=["bare"])
    assert finite["bare"].mean == pytest.approx(sum(finite["bare"].values) / 4)
    assert "without the upright pose" not in str(finite)


@pytest.mark.parametrize("name", ["SO3", "E3", "O", "C5z"])
def test_clouds_in_float64_are_measured_to_their_last_digits(name):
    weight = torch.randn(3, 3).double()

    def bent(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ weight)

    x = torch.randn(2, 20, 3).double() * torch.tensor([2.0, 1, 0.5])
    model = adapt(
        bent, name, outputs="vectors", canonicalizer=equiform.canonicalizers.SearchCanonicalizer(name, side=4, width=8)
    )
    errors = equivariance_error(model, x, name)
    assert len(errors) == (model.group.order or 16)
    assert float(errors.max()) < 1e-12
    assert torch.equal(errors, equivariance_error(model, x, name)), "the seed is fixed"
    check_equivariant(model, x, name, tolerance=1e-12)
    refused(AssertionError, f"not equivariant to {name}", check_equivariant, bent, x, name, "points", "vectors", tolerance=1e-2)
    if model.group.order is None:
        report = evaluate(model, (x, torch.zeros_like(x)), metric=lambda y, t: -(y - t).square().mean())
        assert report.equivariance_error is not None
        assert report.equivariance_error < 1e-12


def test_inputs_by_name_and_in_any_order():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = TopIsBright()

        def forward(self, image, points):
            return self.inner(image) + 0 * points.sum()

    def one_dict(inputs):
        return TopIsBright()(inputs["image"])

    x, y = pictures()
    data = [({"image": x, "points": torch.rand(len(x), 2) * 8}, y)]
    loader, inputs = DataLoader(data, batch_size=None), {"image": "image", "points": "points"}
    for predictor in (Two(), one_dict):
        with torch.no_grad():
            assert evaluate(Equivariant(predictor, Marked(), inputs, "logits"), loader).mean == 1.0
    with pytest.raises(ValueError, match="one argument"):
        evaluate(Equivariant(Two(), Marked(), inputs, "logits"), loader, baselines=["training-free"])
    # kinds in another order than the arguments: one tensor is the image all the same; entries of a dict go by name.
    model = Equivariant(Hinted(), Marked(), {"points": "points", "image": "image"}, "logits")
    x, labels = pictures()
    assert evaluate(model, (x, labels)).worst == 1.0
    named = [({"points": torch.rand(2, 2), "image": image}, label) for image, label in zip(x, labels, strict=True)]
    assert evaluate(model, DataLoader(named, 6)).worst == 1.0


def test_training_free_gives_the_predictor_what_it_takes():
    import numpy as np

    seen = []

    def predictor(array):
        seen.append(type(array))
        return np.stack([array.mean((1, 2, 3)), array[:, :, 0, 0].mean(1)], 1)

    model = adapt(predictor, "C4", outputs="logits", canonicalizer=EnergyCanonicalizer("C4", predictor))
    assert isinstance(model(pictures()[0].numpy()), np.ndarray)
    assert set(seen) == {np.ndarray}


def test_the_first_round_warms_up_and_is_not_timed():
    clock = _Clock()
    clock.seconds = {"adapted": [90.0, 4.0], None: [1.0, 2.0]}
    assert clock.ratio("adapted") == 2.0


@pytest.mark.parametrize("call", [evaluate, equiform.fit, fit_opinion])
def test_only_what_adapt_returns_is_taken(call):
    refused(TypeError, r"equiform\.adapt returns; got a TopIsBright", lambda: call(TopIsBright(), pictures()[0]))


@pytest.mark.parametrize("outputs", ["logits", equiform.Logits(sigmoid=True)])
def test_one_logit_is_a_probability_too(outputs):
    def top(x):
        return TopIsBright()(x)[:, : 1 if outputs == "logits" else 2]

    with torch.no_grad():
        report = evaluate(Equivariant(top, Marked(), "image", outputs), pictures(), metric=lambda y, t: 0.0, baselines=["bare"])
        upright, turned = (top(torch.rot90(pictures()[0], k, (-2, -1))).sigmoid() for k in (0, 2))
    assert report["bare"].equivariance_error == pytest.approx(float((upright - turned).abs().max()))
    assert report["adapted"].equivariance_error == 0


class Hinted(TopIsBright):
    """Takes points too, if there are any."""

    def forward(self, image, points=None):
        return super().forward(image)


def test_data_and_baselines_in_other_forms(unchecked):
    model = adapt(lambda x: torch.as_tensor(x).mean((2, 3)), "C4", outputs="logits")
    x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    assert evaluate(model, (x.numpy(), y.numpy())).mean == evaluate(model, (x, y)).mean
    refused(TypeError, "got a tuple of a Tensor and a dict", lambda: evaluate(model, (x, {"y": y})))
    refused(TypeError, r"baselines is .*; got 'bare': baselines=\['bare'\]", lambda: evaluate(model, (x, y), baselines="bare"))
