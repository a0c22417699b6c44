"""Fitting and evaluating models of clouds, on the tasks there are: classes, parts, vectors of particles."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import equiform
from asserting import QUIET, dataset, refused
from equiform import Rows, act, adapt, evaluate, fit, group, inverse, load
from equiform.canonicalizers import PrincipalAxesCanonicalizer, SearchCanonicalizer
from equiform.learning import Augmentation, CloudAugmentation, fit_opinion
from equiform.learning.priors import frame_distance, frame_prior

LITTLE = CloudAugmentation(stretch=0.05, degrees=2)


def upright(n: int = 96, points: int = 48) -> tuple[Tensor, Tensor]:
    """Two kinds of trees, crown up: a round crown, or a pointed one; the stem below."""
    label, height = torch.arange(n) % 2, torch.rand(n, points)
    crown = torch.where(label[:, None] == 0, (1 - (2 * height - 1) ** 2).clamp(min=0).sqrt(), 1 - height)
    angle = 2 * math.pi * torch.rand(n, points)
    x = torch.stack([1.3 * crown * angle.cos(), 0.7 * crown * angle.sin(), height + 0.5], -1)
    stem = torch.arange(points) < points // 4
    x[:, stem] = torch.stack([torch.zeros(n, points), torch.zeros(n, points), 1.5 * height - 1], -1)[:, stem]
    return x + 0.02 * torch.randn_like(x), label


def by_height(x: Tensor) -> Tensor:
    """Logits of clouds that stand: how wide the upper third of the cloud is, which no other pose shows."""
    top = (x[..., 2] > x[..., 2].quantile(0.85, dim=1, keepdim=True)).float()
    width, below = (x[..., :2].norm(dim=-1) * top).sum(1) / top.sum(1), x[..., 2].mean(1) - x[..., 2].median(1).values
    return torch.stack([20 * (width - 0.33), 0 * below], -1)


def upness(canonicalizer: nn.Module, x: Tensor) -> float:
    """The mean squared distance of the found z axis to the right one, 0 to 4; 2 by chance."""
    g = group("SO3").random(len(x), torch.Generator().manual_seed(0))
    with torch.no_grad():
        pose = canonicalizer(act(g, x, "points"))
    return float(frame_distance(pose.g[:, :3, :3], g[:, :3, :3].double(), frame_prior("upright")).mean())


def test_the_prior_alone_teaches_which_way_is_up():
    (x, _), (held_out, labels) = upright(), upright(32)
    model = adapt(by_height, "SO3", outputs="logits", canonicalizer=SearchCanonicalizer("SO3", side=6, width=48).eval())
    before = upness(model.canonicalizer, held_out)
    result = fit(model, x, val=held_out, prior="upright", epochs=12, lr=4e-3, batch_size=16, augmentation=LITTLE, **QUIET)
    after = upness(model.canonicalizer, held_out)
    assert before > 0.8
    assert after < 0.2
    assert result.history[-1]["loss"] < 0.8 * result.history[0]["loss"]
    assert result.history[-1]["pose_accuracy"] > 0.8
    assert not model.canonicalizer.training
    # and turned clouds are told apart as well as upright ones, unlike by the bare function
    report = evaluate(model, (held_out, labels), group="z/SO3", baselines=("bare", "orbit averaging", "training-free"))
    values = {method.name: method.values for method in report.methods}
    assert values["bare"][0] > 0.95
    assert min(values["adapted"]) > 0.85
    assert sum(values["bare"]) / 16 < 0.75
    assert sum(values["adapted"]) / 16 > max(sum(values[name]) / 16 for name in ("bare", "orbit averaging", "training-free"))
    errors = {method.name: method.equivariance_error for method in report.methods}
    assert errors["adapted"] < 1e-3 < 0.1 < errors["bare"]
    assert (report.group, len(report.elements)) == ("SO3", 16)


def test_a_vector_network_learns_the_identity_prior():
    x, _ = upright()
    x = x + 0.5 * x[..., 2:].clamp(min=0) * torch.tensor([1.0, 0, 0])  # bent towards x, or no axis but z would be known
    canonicalizer = equiform.FrameCanonicalizer("SO3").eval()
    model = adapt(by_height, "SO3", outputs="logits", canonicalizer=canonicalizer)
    before, plain = upness(canonicalizer, x), CloudAugmentation(stretch=0.05, degrees=2, mirror=False)
    result = fit(model, x, epochs=15, lr=1e-2, augmentation=plain, **QUIET)
    assert result.history[-1]["loss"] < 0.3 * result.history[0]["loss"]
    assert upness(canonicalizer, x) < min(0.3, before)


def test_a_list_of_clouds_of_many_sizes_is_taken():
    """As a list, or as batches of lists; and the padding changes nothing."""
    x, _ = upright(24)
    found = []
    for data in (x, list(x), DataLoader(list(x), 8, collate_fn=list)):
        torch.manual_seed(0)
        kind = "points" if data is x else Rows("points")
        model = adapt(by_height, "SO3", inputs=kind, outputs="logits", canonicalizer=SearchCanonicalizer("SO3", side=4))
        found.append(fit(model, data, val=data, prior="upright", epochs=2, batch_size=8, **QUIET).history)
    assert (found[0], found[2][0].keys()) == (found[1], found[0][0].keys())
    ragged = [cloud[: 20 + i] for i, cloud in enumerate(x)]
    assert fit(model, ragged, prior="upright", epochs=1, **QUIET).history[0]["loss"] > 0
    refused(TypeError, "only fit reads folders, of images and without task_loss", lambda: fit(model, "clouds/", epochs=1))


def test_one_seed_and_priors_that_turn_with_the_clouds():
    x, _ = upright(32)
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(7)
        model = adapt(by_height, "SO3", outputs="logits", canonicalizer=SearchCanonicalizer("SO3", side=4, width=16))
        fit(model, DataLoader(TensorDataset(x), 16), prior="upright", epochs=2, seed=seed, **QUIET)
        weights.append(torch.cat([p.flatten() for p in model.canonicalizer.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    # aligned clouds that are turned have the pose they were turned by, which the prior asks for.
    x, _ = upright(32)
    losses = {}
    for protocol in ("SO3/SO3", None):
        torch.manual_seed(0)
        model = adapt(by_height, "SO3", outputs="logits", canonicalizer=SearchCanonicalizer("SO3", side=4, width=16))
        data = (x, torch.zeros(32, dtype=torch.long))
        result = fit(model, data, task_loss=lambda y, t: 0 * y.sum(), group=protocol, epochs=1, lr=1e-9, **QUIET)
        losses[protocol] = result.history[0]["prior_loss"]
    # nothing is learnt, and the frames turn with the clouds: so does what they are compared to
    assert losses["SO3/SO3"] == pytest.approx(losses[None], rel=0.15)


class Drift(nn.Module):
    """Positions from positions, velocities and charges, by a network of each particle and the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 32), nn.SiLU(), nn.Linear(32, 3))

    def forward(self, x: Tensor, v: Tensor, charge: Tensor) -> Tensor:
        every = torch.cat([x, v], -1)
        return x + v + self.body(torch.cat([every, every.mean(1, keepdim=True).expand_as(every), charge[..., None]], -1))


def particles(n: int) -> tuple[dict[str, Tensor], Tensor]:
    x, v, charge = torch.randn(n, 5, 3), torch.randn(n, 5, 3), torch.randint(2, (n, 5)) * 2.0 - 1
    pull = charge[..., None] * torch.linalg.cross(v, x - x.mean(1, keepdim=True))
    return {"x": x, "v": v, "charge": charge}, x + v + 0.5 * pull


def systems(n: int):
    inputs, target = particles(n)
    return dataset(({name: part[i] for name, part in inputs.items()}, target[i]) for i in range(n))


def test_joint_training_on_particles():
    """The whole model learns on vectors; the answer is equivariant before and after."""
    kinds = {"x": "points", "v": "vectors", "charge": "features"}
    canonicalizer = equiform.FrameCanonicalizer("SE3", vectors=1, features=1)
    model = adapt(Drift(), "SE3", inputs=kinds, outputs="points", canonicalizer=canonicalizer)
    data, frozen = systems(256), [p.clone() for p in model.predictor.parameters()]
    start = [p.clone() for p in canonicalizer.parameters()]
    result = fit(model, data, task_loss=F.mse_loss, prior_weight=0.0, epochs=3, train_predictor=True, **QUIET)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert not all(torch.equal(a, b) for a, b in zip(frozen, model.predictor.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(start, canonicalizer.parameters(), strict=True))
    report = evaluate(model, systems(64), metric=lambda y, t: -F.mse_loss(y, t), group="SE3", baselines=("bare",))
    adapted, bare = report["adapted"], report["bare"]
    assert max(adapted.values) - min(adapted.values) < 1e-5
    assert max(bare.values) - min(bare.values) > 1e-3
    assert adapted.equivariance_error < 1e-3 < bare.equivariance_error


class Recorder(nn.Module):
    """What comes to the predictor, which leaves it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.weight * x


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("protocol", [None, "z/z", "z/SO3", "SO3/SO3", "E3"])
def test_protocols_say_how_training_clouds_are_turned(protocol, flat):
    """By the first part, another element for every cloud, and the targets move along."""
    x = torch.randn(12, 6, 3) * torch.tensor([3.0, 2, 1])
    x, pairs = x - x.mean(1, keepdim=True), []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        pairs.append((output.detach(), target))
        return F.mse_loss(output, target)

    inputs = {"x": "points", "batch": "batch"} if flat else "points"
    # always the identity, so that the predictor sees what the training clouds are turned to
    canonicalizer = SearchCanonicalizer("C1z", side=4, width=8)
    model = adapt(Recorder(), "C1z", inputs=inputs, outputs="points", canonicalizer=canonicalizer)
    row = torch.arange(12).repeat_interleave(6)
    data = DataLoader(
        [({"x": x.flatten(0, 1), "batch": row}, x.flatten(0, 1))] if flat else [(x, x)],
        batch_size=None,
    )
    fit(model, data, task_loss=loss, train_predictor=True, group=protocol, epochs=1, **QUIET)
    seen, target = model.predictor.seen[-1].reshape(12, 6, 3), pairs[-1][1].reshape(12, 6, 3)
    assert torch.allclose(seen, target, atol=1e-5), "the targets move with the clouds"
    assert torch.allclose(seen, x, atol=1e-5) is (protocol is None)
    assert torch.allclose(seen[..., 2], x[..., 2], atol=1e-5) is (protocol in (None, "z/z", "z/SO3"))
    assert torch.allclose(seen.norm(dim=-1), x.norm(dim=-1), atol=1e-4) is (protocol != "E3")
    if protocol is not None:
        turn = torch.linalg.lstsq(x, seen).solution
        assert len({tuple(one.flatten().round(decimals=3).tolist()) for one in turn}) == 12, "each by another element"


def test_a_force_field_per_particle():
    """Vectors of every particle, from frames that the points give; frames are averaged."""

    def field(x: Tensor) -> Tensor:
        return torch.tanh(x) * torch.tensor([1.0, 2, 3])

    model = adapt(field, "E3", outputs="vectors", canonicalizer=PrincipalAxesCanonicalizer("E3"), top_k=8)
    x = torch.randn(10, 6, 3).double() * torch.tensor([2.0, 1, 0.5])
    g = group("E3").nearest(group("E3").random(10).double())
    assert torch.allclose(model(act(g, x, "points")), act(g, model(x), "vectors"), atol=1e-11)
    assert not torch.allclose(field(act(g, x, "points")), act(g, field(x), "vectors"), atol=0.1), "control"


def test_parts_are_measured_point_by_point_and_by_hand():
    x, _ = upright(16)
    parts = (torch.arange(48) < 12).long().expand(16, 48).clone()

    def segment(x: Tensor) -> Tensor:  # the stem is thin, and low
        stem = 8 * (0.08 - x[..., :2].norm(dim=-1)) - (x[..., 2] > x[..., 2].mean(1, keepdim=True)).float()
        return torch.stack([torch.zeros_like(stem), stem], -1)

    model = adapt(segment, "SO3", outputs="logits", canonicalizer=PrincipalAxesCanonicalizer("SO3"))
    for metric in ("point_accuracy", "part_iou"):
        report = evaluate(model, (x, parts), metric=metric, group="SO2z", baselines=("bare",))
        assert max(report["adapted"].values) - min(report["adapted"].values) < 1e-3
        assert len(report.elements) == 16
        assert report["bare"].values[0] > 0.6
    parts[:, 3] = -1  # no point
    report = evaluate(model, (x, parts), metric="part_iou", group="C4z", baselines=("bare",))
    assert report["bare"].values[0] > 0.5
    from equiform.evaluation.metrics import part_iou, point_hits

    target = torch.tensor([[0, 0, 1, 1], [2, 2, 2, -1]])
    said = F.one_hot(torch.tensor([[0, 1, 1, 1], [2, 2, 2, 0]]), 3).float()
    assert point_hits(said, target).tolist() == [[3, 4], [3, 3]]
    assert part_iou(said, target).tolist() == [[pytest.approx((1 / 2 + 2 / 3) / 2), 1], [1, 1]]


@pytest.mark.parametrize("points", [48, 2])
def test_labels_of_points_name_their_metrics(points):
    """Also where there are as many parts as points, and nothing but the shapes tells that the answer is wrong."""
    x = torch.randn(4, points, 3)
    model = adapt(lambda x: x[..., :2], "SO3", outputs="logits", canonicalizer=PrincipalAxesCanonicalizer("SO3"))
    parts = torch.zeros(4, points, dtype=torch.long)
    refused(ValueError, "label every point: the metrics of points are point_accuracy and part_iou", evaluate, model, (x, parts))
    with pytest.raises(ValueError, match=r"need one label a row, \(b,\); got \(4, 2\) and targets of shape \(4, 3\)"):
        evaluate(adapt(lambda x: x.sum(1)[:, :2], "SO3", outputs="logits"), (x, parts[:, :1].expand(4, 3)))
    for metric in ("point_accuracy", "part_iou"):
        assert 0 < evaluate(model, (x, parts), metric=metric).mean < 1
        refused(ValueError, r"need one label a point, \(b, n\); got", evaluate, model, (x, parts[:, 0]), metric=metric)


def test_a_second_opinion_on_clouds_and_on_lists():
    x, labels = upright(64)
    canonicalizer = SearchCanonicalizer("SO3", side=4, width=16).eval()
    model = adapt(by_height, "SO3", outputs="logits", canonicalizer=canonicalizer, top_k=24)
    with torch.no_grad():
        fit_opinion(model, x, prior="upright")
        assert model.opinion is not None
        assert model.opinion.weight.shape == (2,)
        turned = act(group("SO3").random(64), x, "points")
        assert torch.allclose(model(turned), model(x), atol=1e-3)
        assert not torch.allclose(by_height(turned), by_height(x), atol=0.1), "control"
    assert labels.shape == (64,)
    x, _ = upright(32)

    def by_height_of_each(clouds: list[Tensor]) -> Tensor:
        return torch.cat([by_height(cloud[None]) for cloud in clouds])

    def batches(clouds: list[Tensor]) -> list[Tensor]:
        return clouds

    weights = []
    for predictor, inputs, collate in ((by_height, "points", None), (by_height_of_each, Rows("points"), batches)):
        canonicalizer = SearchCanonicalizer("SO3", side=4, width=16).eval()
        model = adapt(predictor, "SO3", inputs=inputs, outputs="logits", canonicalizer=canonicalizer, top_k=24)
        fit_opinion(model, DataLoader(list(x), 16, collate_fn=collate), prior="upright")
        weights.append(model.opinion.weight)
    assert torch.allclose(*weights, atol=1e-3)
    assert weights[0].abs().max() > 0.01, "control"


def test_what_does_not_fit_is_named():
    x, labels = upright(8)
    model = adapt(by_height, "SO3", outputs="logits")
    with pytest.raises(TypeError, match="needs a CloudAugmentation; got a Augmentation"):
        fit(model, x, augmentation=Augmentation(grey=0.0), epochs=1)
    refused(ValueError, "unknown prior 'uniform' of frames; known: identity, upright", fit, model, x, prior="uniform", epochs=1)
    with pytest.raises(ValueError, match="has nothing to learn"):
        fit(adapt(by_height, "SO3", outputs="logits", canonicalizer=PrincipalAxesCanonicalizer("SO3")), x)
    refused(ValueError, "group is for training with task_loss", lambda: fit(model, x, group="z/SO3", epochs=1))
    for which, message in (("z/so3", "'z/so3'; known: z/z"), ("C4", "by a group of space; the model's is SO3, got C4")):
        refused(ValueError, message, fit, model, (x, labels), task_loss=F.cross_entropy, group=which, epochs=1)
    refused(ValueError, "unknown protocol 'SO3/z'", lambda: evaluate(model, (x, labels), group="SO3/z"))
    refused(ValueError, r"equivariant to SO3, in 3 dimensions; got C4", lambda: evaluate(model, (x, labels), group="C4"))
    refused(ValueError, r"a group of space or a protocol \(z/z, z/SO3", lambda: evaluate(model, (x, labels), group=[0.0, 90.0]))


def test_the_size_that_the_predictor_knows_is_learnt_and_saved(tmp_path):
    x = upright(16)[0] * torch.linspace(1, 3, 16)[:, None, None]
    model = adapt(
        lambda p: p, "Similarity", outputs="points", canonicalizer=SearchCanonicalizer("Similarity", side=4, width=16)
    )
    assert model.canonicalizer.radius == 1
    fit(model, x, epochs=2, batch_size=8, **QUIET)
    radius = (x - x.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()
    assert float(model.canonicalizer.radius) == pytest.approx(float(radius.log().mean().exp()), rel=1e-4)
    model.save(tmp_path)
    assert load(tmp_path, model.predictor).canonicalizer.radius == model.canonicalizer.radius
    canonical = act(inverse(model.canonicalizer(7 * x).g), 7 * x, "points")
    assert torch.allclose(canonical.square().sum(-1).mean(1).sqrt(), model.canonicalizer.radius.float(), rtol=1e-4)
    right = fit(model, x, val=x, epochs=1, batch_size=8, **QUIET).history[-1]
    assert 0 <= right["pose_accuracy"] <= 1
    assert "radius" not in SearchCanonicalizer("E3", side=4, width=16).state_dict(), "nothing new where sizes stay"


def test_joint_training_learns_the_size_too():
    """From the clouds as they come, before they are turned and resized at random."""
    x = upright(16)[0] * torch.linspace(1, 3, 16)[:, None, None]
    radius = float((x - x.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt().log().mean().exp())
    for name, turned in (("Similarity", None), ("Similarity", "Similarity"), ("E3", None)):
        search = SearchCanonicalizer(name, side=4, width=16)
        model = adapt(lambda p: p, name, outputs="points", canonicalizer=search)
        data = DataLoader(dataset(zip(x, x, strict=True)), 8)
        history = fit(model, data, task_loss=F.mse_loss, group=turned, epochs=2, **QUIET).history
        assert math.isfinite(history[-1]["loss"])
        assert getattr(search, "radius", None) == (pytest.approx(radius, rel=1e-4) if name == "Similarity" else None)
