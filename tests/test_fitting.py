"""fit: what it learns, what it leaves alone, data of every kind, seeds, resuming, and its errors."""

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import equiform
from asserting import QUIET, dataset, refused
from equiform import GroupConvCanonicalizer, OrbitCanonicalizer, adapt, fit
from equiform.canonicalizers import UniformCanonicalizer
from equiform.learning import Augmentation, Teacher, fit_opinion
from equiform.learning.augmentation import random_crops, training_views
from equiform.learning.data import Columns, fingerprint
from equiform.learning.priors import uniform_prior
from small_photos import skies
from small_predictors import TopIsBright


class Tiny(nn.Module):
    """A scorer that learns in a moment."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 1))

    def forward(self, x):
        return self.body(x)[:, 0]


def model(group: str = "C4", predictor=None, **kwargs):
    torch.manual_seed(0)
    canonicalizer = OrbitCanonicalizer(group, Tiny(), resolution=16)
    return adapt(predictor or _bare, group, outputs="logits", canonicalizer=canonicalizer, **kwargs)


def _bare(x):
    raise AssertionError("the predictor must not run")


def pose_accuracy(m, images) -> float:
    return float((m.canonicalizer(images).index == 0).float().mean())


def test_learns_the_upright_pose_without_running_the_predictor():
    m = model()
    before, result = pose_accuracy(m, skies(40, seed=1)), fit(m, skies(64), epochs=4, **QUIET)
    assert pose_accuracy(m, skies(40, seed=1)) > max(0.95, before)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.skipped == []
    assert not m.canonicalizer.training


def test_priors_move_the_canonical_pose():
    m = model()
    fit(m, skies(64), epochs=4, prior="uniform", **QUIET)
    assert m.canonicalizer(skies(8, seed=1)).confidence.detach().max() < 0.5
    m = model()
    fit(m, skies(64), epochs=4, prior=torch.tensor([0, 0, 1, 0]), **QUIET)
    assert (m.canonicalizer(skies(8, seed=1)).index == 2).all()
    assert uniform_prior(m.group).tolist() == [0.25] * 4


def test_other_groups_and_networks_learn_too():
    torch.manual_seed(0)
    m = adapt(_bare, "C8", outputs="logits", canonicalizer=OrbitCanonicalizer("C8", Tiny(), resolution=16))
    result = fit(m, skies(96), val=skies(64, seed=1), epochs=6, **QUIET)
    assert result.history[-1]["pose_accuracy"] > 0.7  # over random elements: chance is 1/8
    torch.manual_seed(0)
    m = adapt(_bare, "C4", outputs="logits", canonicalizer=GroupConvCanonicalizer("C4", widths=(4, 8), resolution=16))
    fit(m, skies(96), epochs=6, **QUIET)
    assert pose_accuracy(m, skies(40, seed=1)) > 0.9


@pytest.mark.parametrize("kind", ["tensor", "array", "float tensor", "dataset", "mixed sizes", "loader", "folder"])
def test_data_of_every_kind(kind, tmp_path):
    images = skies(20)
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    data = {
        "tensor": images,
        "array": images.numpy(),
        "float tensor": images.float() / 255,
        "dataset": TensorDataset(images, torch.zeros(20)),
        "mixed sizes": dataset(skies(1, 20 + i % 3, seed=i)[0] for i in range(20)),
        "loader": DataLoader(TensorDataset(images), batch_size=8),
        "folder": tmp_path,
    }[kind]
    m = model()
    weights = copy.deepcopy(m.state_dict())
    fit(m, data, epochs=1, **QUIET)
    assert any(not torch.equal(weights[name], value) for name, value in m.state_dict().items())


def test_seeds():
    runs = []
    for seed in (3, 3, 4):
        m = model()
        fit(m, skies(24), epochs=2, seed=seed, **QUIET)
        runs.append(m.canonicalizer.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    m = model()
    torch.manual_seed(7)
    fit(m, skies(8), epochs=1, **QUIET)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("last", ["whole", "cut", "gone"])
@pytest.mark.filterwarnings("ignore:.*last.ckpt is damaged.*going on from .*before.ckpt")
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, last):
    whole = model()
    fit(whole, skies(24), epochs=4, checkpoint=tmp_path / "whole", **QUIET)

    class Killed(Exception):
        pass

    import lightning

    class Kill(lightning.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise Killed

    resumed = model()
    with pytest.raises(Killed):
        fit(resumed, skies(24), epochs=4, checkpoint=tmp_path / "killed", callbacks=[Kill()], **QUIET)
    if last == "cut":
        halve(tmp_path / "killed" / "last.ckpt")
    if last == "gone":  # a kill between two renames
        (tmp_path / "killed" / "last.ckpt").unlink()
    resumed = model()
    result = fit(resumed, skies(24), epochs=4, checkpoint=tmp_path / "killed", **QUIET)
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    mine, theirs = resumed.canonicalizer.state_dict(), whole.canonicalizer.state_dict()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_kill_while_the_checkpoint_is_written_leaves_the_last_one(tmp_path, monkeypatch):
    """The file is cut in the middle of its writing: that is another file, beside the one that is kept."""
    import lightning

    def cut(self, path, *args, original=lightning.Trainer.save_checkpoint, **kwargs):
        original(self, path, *args, **kwargs)
        if self.current_epoch == 1:
            halve(Path(path))
            raise KeyError("killed")

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", cut)
    refused(KeyError, "killed", lambda: fit(model(), skies(16), epochs=3, checkpoint=tmp_path, **QUIET))
    monkeypatch.undo()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
    assert len(fit(model(), skies(16), epochs=3, checkpoint=tmp_path, **QUIET).history) == 3


def test_damaged_checkpoints_are_told_in_one_line(tmp_path):
    fit(model(), skies(16), epochs=2, checkpoint=tmp_path, **QUIET)
    for name in ("last.ckpt", "before.ckpt"):
        halve(tmp_path / name)
    with pytest.raises(ValueError, match=r"last.ckpt is damaged: .* delete .* to start afresh") as caught:
        fit(model(), skies(16), epochs=2, checkpoint=tmp_path, **QUIET)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    fit(model(), skies(16), epochs=1, checkpoint=tmp_path, **QUIET)
    torch.manual_seed(0)
    other = adapt(_bare, "C4", outputs="logits", canonicalizer=GroupConvCanonicalizer("C4", widths=(4, 8), resolution=16))
    refused(ValueError, "of another canonicalizer", lambda: fit(other, skies(16), epochs=1, checkpoint=tmp_path, **QUIET))


def test_the_best_epoch_is_kept_and_patience_stops():
    m = model()
    result = fit(m, skies(32), val=skies(32, seed=1), epochs=30, patience=2, **QUIET)
    assert pose_accuracy(m, skies(32, seed=1)) == pytest.approx(max(row["pose_accuracy"] for row in result.history), abs=0.04)
    assert len(result.history) < 30
    m, last = model(), model()
    m.load_state_dict(last.state_dict())
    history = fit(m, skies(32), val=skies(8, seed=1), epochs=6, **QUIET).history
    fit(last, skies(32), epochs=6, **QUIET)
    assert [row["pose_accuracy"] for row in history[-2:]] == [1.0, 1.0]
    assert all(torch.equal(value, m.state_dict()[name]) for name, value in last.state_dict().items()), "of equals the last"


@pytest.mark.parametrize("train_predictor", [False, True])
def test_joint_training_is_straight_through(train_predictor):
    x = torch.rand(16, 3, 24, 24)
    y = (x[..., :12, :].mean((1, 2, 3)) < x[..., 12:, :].mean((1, 2, 3))).long()
    m = model(predictor=TopIsBright())
    weights, scale = copy.deepcopy(m.canonicalizer.state_dict()), m.predictor.scale.item()
    fit(m, TensorDataset(x, y), task_loss=F.cross_entropy, prior_weight=0.0, train_predictor=train_predictor, epochs=1, **QUIET)
    moved = [name for name, value in m.canonicalizer.state_dict().items() if not torch.equal(weights[name], value)]
    assert any("weight" in name for name in moved)  # the task alone reached the canonicalizer
    assert (m.predictor.scale.item() != scale) == train_predictor
    assert m.predictor.scale.requires_grad


def test_joint_training_stops_at_a_loss_that_is_not_finite():
    x, y = torch.rand(8, 3, 24, 24), torch.zeros(8, dtype=torch.long)

    def loss(output, target, factor):
        return F.cross_entropy(output, target) * factor

    weights = copy.deepcopy((m := model(predictor=TopIsBright())).canonicalizer.state_dict())
    with pytest.raises(ValueError, match=r"task_loss is nan and the prior's \d.* in epoch 1: are all .* finite"):
        fit(m, TensorDataset(x, y), task_loss=lambda *both: loss(*both, torch.nan), epochs=1, **QUIET)
    assert all(torch.equal(value, weights[name]) for name, value in m.canonicalizer.named_parameters())
    assert fit(m, TensorDataset(x, y), task_loss=lambda *both: loss(*both, 1), epochs=1, **QUIET).history, "control"


def test_default_training_leaves_the_predictor_untouched():
    predictor = TopIsBright().train()
    fit(model(predictor=predictor), skies(16), epochs=1, **QUIET)
    assert predictor.training
    assert predictor.scale.requires_grad
    assert predictor.scale.item() == 9.0


def test_a_teacher_is_honest_about_what_it_cannot_tell():
    def brightness(x):  # rows of the picture: enough to tell the pose
        return x.mean((1, 3))

    def nothing(x):
        return x.mean((1, 2, 3), keepdim=True).flatten(1)

    images = skies(32)
    sure = Teacher(brightness, size=16, crops=1).posteriors(images, equiform.group("C4"), seed=0)
    unsure = Teacher(nothing, size=16, crops=1).posteriors(images, equiform.group("C4"), seed=0)
    assert sure[:, 0].mean() > 0.9
    assert unsure[:, 0].mean() < 0.5
    m = model()
    fit(m, images, teacher=Teacher(nothing, size=16, crops=1, weight=1.0), epochs=3, **QUIET)
    assert m.canonicalizer(skies(8, seed=1)).confidence.mean() < 0.7


def test_no_image_is_judged_by_a_scorer_that_saw_it():
    """Noise has no pose. In fold, a scorer of more features than images tells each of them apart all the same."""
    noise = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(lambda x: x.flatten(1), size=12, crops=1)
    assert teacher.posteriors(noise, equiform.group("C4"), seed=0)[:, 0].mean() < 0.4


def test_the_second_opinion_corrects_a_wrong_canonicalizer():
    class Predictor(nn.Module):  # sure of class 0 upright, of class 1 turned
        def forward(self, x):
            light = x.float().mean((1, 3))
            upright = light[:, :4].mean(1) - light[:, -4:].mean(1)
            return torch.stack([upright, -upright, 0 * upright], 1) / 50

    m, images = model(predictor=Predictor(), top_k=4), skies(32)
    before = m(images).softmax(1)[:, 0].mean()
    fit_opinion(m, images, penalty=50.0)
    weak = m.opinion.weight
    fit_opinion(m, images)
    assert weak.norm() < m.opinion.weight.norm() / 5, "the penalty keeps it small"
    assert m(images).softmax(1)[:, 0].mean() > before + 0.05
    assert all(torch.equal(m(equiform.act(g[None], images)), m(images)) for g in m.group.elements)


# --------------------------------------------------------------------------------------------------- views and weights

PLAIN = {"area": (1.0, 1.0), "aspect": 1.0, "degrees": 0.0, "flip": False, "grey": 0.0, "mix": 0.0, "gamma": 1.0, "blend": 0.0}


def views(x, group: str = "C4", seed: int = 0, **options):
    """Training views that vary in nothing but the options."""
    generator = torch.Generator().manual_seed(seed)
    return training_views(x, equiform.group(group), 16, Augmentation(**{**PLAIN, **options}), generator)[0]


def crops(x, size: int = 16, **options):
    """The same before they are coloured and standardised."""
    g = equiform.group("C4")
    return random_crops(x, g, size, Augmentation(**{**PLAIN, **options}), torch.Generator().manual_seed(0), g.identity(len(x)))


def test_views_are_flipped_unless_the_group_tells_them_apart():
    x = torch.rand(1, 3, 16, 16).expand(32, -1, -1, -1)
    flipped = (views(x, flip=True) != views(x)).flatten(1).any(1)
    assert 4 < flipped.sum() < 28
    assert torch.equal(views(x[flipped], "D4", flip=True), views(x[flipped], "D4")), "a label each, not two"


def test_crops_lie_anywhere_in_the_image():
    """A picture holds its own coordinates: the mean of a crop is its centre, which half a side wide lies in 0.25 to 0.75."""
    along = (torch.arange(32) + 0.5) / 32
    x = torch.stack([along.expand(32, 32), along[:, None].expand(32, 32), torch.zeros(32, 32)]).expand(200, -1, -1, -1)
    centres = crops(x, area=(0.25, 0.25))[:, :2].mean((2, 3))
    assert centres.amin(0).tolist() == pytest.approx([0.25, 0.25], abs=0.02)
    assert centres.amax(0).tolist() == pytest.approx([0.75, 0.75], abs=0.02)


def test_turned_views_have_no_black_corners():
    assert crops(torch.full((8, 3, 16, 16), 255, dtype=torch.uint8), degrees=20.0).amin() > 0.999


def test_crops_are_antialiased():
    x = torch.rand(4, 3, 64, 64)
    torch.testing.assert_close(crops(x), F.avg_pool2d(x, 4))


def test_gamma_bends_each_view_in_its_own_way():
    x = torch.linspace(0, 1, 256).view(1, 1, 16, 16).expand(16, 3, -1, -1)
    bent = views(x, gamma=1.6)
    assert (bent - views(x)).abs().amax() > 0.1
    assert (bent.flatten(2).diff(dim=2) >= 0).all(), "in order"


def test_norms_and_biases_do_not_decay():
    from lightning.pytorch.callbacks import Callback

    class Look(Callback):
        def on_train_end(self, trainer, module):
            self.groups = trainer.optimizers[0].param_groups

    look = Look()
    fit(m := model(), skies(8), epochs=1, weight_decay=0.3, callbacks=look, **QUIET)
    decay = {p: group["weight_decay"] for group in look.groups for p in group["params"]}
    assert {name: decay[p] for name, p in m.canonicalizer.named_parameters()} == {
        f"network.body.{name}": 0.3 if name in ("0.weight", "4.weight") else 0.0
        for name in ("0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias")
    }


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (torch.zeros(0, 3, 8, 8), {}, ValueError, "nothing in the data"),
        (torch.zeros(4, 8, 8), {}, ValueError, r"\(b, channels, height, width\)"),
        (torch.zeros(4, 5, 8, 8), {}, ValueError, "channels=5"),
        (42, {}, TypeError, "a tensor, a folder, a Dataset or a DataLoader"),
        (Path("nowhere"), {}, FileNotFoundError, "nowhere"),
        (skies(4), {"epochs": 0}, ValueError, "epochs"),
        (skies(4), {"prior": "normal"}, ValueError, "known: identity, uniform"),
        (skies(4), {"prior": torch.ones(3)}, ValueError, "4 counts"),
        (skies(4), {"patience": 2}, ValueError, "val="),
        (skies(4), {"epoch": 2}, TypeError, "epoch"),
        (skies(4), {"teacher": Teacher(lambda x: x)}, ValueError, "at least 8 images"),
        (skies(4), {"task_loss": F.cross_entropy}, ValueError, "pairs"),
    ],
)
def test_errors_say_what_came_and_the_way_out(data, options, error, message):
    refused(error, message, lambda: fit(model(predictor=TopIsBright()), data, **{"epochs": 1, **QUIET, **options}))


def test_what_cannot_be_fitted():
    m = adapt(_bare, "C4", outputs="logits", canonicalizer=UniformCanonicalizer("C4"))
    refused(ValueError, "nothing to learn", lambda: fit(m, skies(4), epochs=1))
    m = model(predictor=ByName(), inputs={"points": "points", "photo": "image"})
    refused(ValueError, "no image in the data, only 'label', 'points', 'image'", lambda: fit(m, NAMED, epochs=1, **QUIET))


class _Stream(torch.utils.data.IterableDataset):
    """Images without a known length."""

    def __iter__(self):
        return iter(skies(20))


def test_streams_and_half_precision():
    m = model()
    result = fit(m, _Stream(), epochs=3, batch_size=8, **QUIET)
    assert len(result.history) == 3
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    m = model()
    fit(m, skies(16), epochs=1, precision="bf16-true", **QUIET)
    assert {p.dtype for p in m.canonicalizer.parameters()} == {torch.float32}
    m.canonicalizer(skies(2))


@pytest.mark.parametrize("options", [{"epochs": 3}, {"lr": 1.0}, {"seed": 5}, {"batch_size": 4}, {"prior": "uniform"}])
def test_going_on_with_other_options_is_refused(tmp_path, options):
    fit(model(), skies(16), **{"epochs": 2, "checkpoint": tmp_path, **QUIET})
    with pytest.raises(ValueError, match=f"of a run with {next(iter(options))}="):
        fit(model(), skies(16), **{"epochs": 2, "checkpoint": tmp_path, **QUIET, **options})


def test_going_on_with_other_data_is_refused(tmp_path):
    """Or weights of other photos would be given back in silence."""
    options = {"epochs": 1, "checkpoint": tmp_path, **QUIET}
    fit(model(), skies(16), val=skies(8), **options)
    for data, val, named in (
        (skies(16, seed=1), skies(8), "data='16 inputs"),
        (skies(12), skies(8), "now '12 inputs"),
        (TensorDataset(skies(12)), skies(8), "now '12 inputs"),
        (skies(16), skies(8, seed=1), "val='8 inputs"),
        (skies(16), None, "now '0 inputs"),
    ):
        with pytest.raises(ValueError, match=named):
            fit(model(), data, val=val, **options)
    refused(ValueError, "augmentation=", lambda: fit(model(), skies(16), val=skies(8), augmentation=None, **options))
    assert fit(model(), skies(16), val=skies(8), **options).history


def test_validation_data_may_be_a_stream(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(skies(8).float() / 255)

    for checkpoint in (None, tmp_path):
        stream = DataLoader(Stream(), 4)
        assert "pose_accuracy" in fit(model(), skies(16), val=stream, epochs=1, checkpoint=checkpoint, **QUIET).history[0]


def test_clouds_of_many_sizes_are_told_apart_and_streams_are_not():
    clouds = [torch.rand(n, 3) for n in (5, 7)]
    assert fingerprint(Columns(clouds)) != fingerprint(Columns([clouds[1], clouds[0]]))
    assert fingerprint(Columns(clouds, [0, 1])) != fingerprint(Columns(clouds, [1, 0])), "targets too"
    labels = torch.tensor([0, 1])
    assert fingerprint(TensorDataset(labels, labels)) != fingerprint(TensorDataset(labels, 1 - labels))
    assert fingerprint(iter(clouds)) == "a stream"


def test_a_finished_run_is_given_back(tmp_path):
    first, again, options = model(), model(), {"epochs": 6, "val": skies(16, seed=1), "checkpoint": tmp_path, **QUIET}
    history = fit(first, skies(16), **options).history
    assert max(row["pose_accuracy"] for row in history[:-1]) >= history[-1]["pose_accuracy"], "the best epoch is not the last"
    assert fit(again, skies(16), **options).history == history
    for name, value in first.canonicalizer.state_dict().items():
        assert torch.equal(again.canonicalizer.state_dict()[name], value)


def test_joint_training_on_named_inputs():
    class Two(TopIsBright):
        def forward(self, image, points):
            return super().forward(image) + 0 * points.sum()

    pairs = dataset(({"image": torch.rand(3, 24, 24), "points": torch.rand(4, 2)}, i % 2) for i in range(8))
    torch.manual_seed(0)
    canonicalizer = OrbitCanonicalizer("C4", Tiny(), resolution=16)
    m = adapt(Two(), "C4", inputs={"image": "image", "points": "points"}, outputs="logits", canonicalizer=canonicalizer)
    assert fit(m, pairs, task_loss=F.cross_entropy, epochs=1, **QUIET).history[0]["prior_loss"] > 0
    with pytest.raises(ValueError, match="floating-point images"):
        fit(model(predictor=TopIsBright()), TensorDataset(skies(4), torch.zeros(4).long()), task_loss=F.cross_entropy)


def test_images_that_are_not_finite_stop_the_fit_before_a_weight_is_spoilt():
    m, images = model(), skies(8).float()
    images[5] = torch.inf
    for data, message in ((images, "1 of 8, the first at index 5"), (TensorDataset(images), "the loss is nan in epoch 1")):
        refused(ValueError, message, fit, m, data, epochs=1, **QUIET)
    assert all(p.isfinite().all() for p in m.canonicalizer.parameters())


# the image not first and a label that no predictor takes
NAMED = dataset({"label": i % 2, "points": torch.rand(3, 2), "image": skies(16)[i]} for i in range(16))


class ByName(nn.Module):
    """Sure of class 0 where the first argument, the points, goes with an upright image."""

    def forward(self, points, image):
        assert points.shape[1:] == (3, 2)
        light = image.float().mean((1, 3)) / 255
        upright = light[:, :4].mean(1) - light[:, -4:].mean(1)
        return torch.stack([upright, -upright], 1) + 0 * points.sum()


@pytest.mark.parametrize("data", [NAMED, DataLoader(NAMED, 8)])
def test_the_image_is_found_by_its_kind(data):
    m = model(predictor=ByName(), inputs={"points": "points", "image": "image"}, top_k=4)
    fit(m, data, val=data, epochs=6, **QUIET)
    assert pose_accuracy(m, skies(16, seed=3)) > 0.8
    fit_opinion(m, data)
    assert m.opinion.weight[0] > m.opinion.weight[1]
    m = model(predictor=ByName(), inputs=("points", "image"))
    pairs = [(sample["points"], sample["image"]) for sample in (NAMED[i] for i in range(16))]
    fit(m, TensorDataset(*map(torch.stack, zip(*pairs, strict=True))), epochs=1, **QUIET)
    fit(model(predictor=ByName(), inputs={"points": "points", "image": "image"}), skies(16), epochs=1, **QUIET)
