"""Data in every form they come in, as the models of clouds and of images take them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from asserting import dataset, refused
from equiform import FrameCanonicalizer, OrbitCanonicalizer, Rows, adapt, evaluate, fit
from equiform.canonicalizers import SearchCanonicalizer
from equiform.geometry.kinds import as_kinds
from equiform.learning import fit_opinion
from equiform.learning.data import batches

QUIET = {"enable_progress_bar": False, "epochs": 1}
NAMED = {"x": "points", "charge": "features", "v": "vectors"}  # not in the order of the predictor's parameters
UNNAMED = ("points", "vectors", "features")


def logits(x: Tensor) -> Tensor:
    return x.square().mean(1)[:, :2]


def of_lists(clouds: list[Tensor]) -> Tensor:
    """Says of each cloud how large it is, so that pieces of it would be seen."""
    return torch.stack([torch.tensor([float(len(cloud)), 0.0]) + cloud.mean() for cloud in clouds])


def searched(predictor=logits, **options):
    canonicalizer = SearchCanonicalizer("SO3", side=3, width=4).eval()
    return adapt(predictor, "SO3", outputs="logits", canonicalizer=canonicalizer, **options)


class Moves(nn.Module):
    """Positions from positions, velocities and charges: a constant push, which turns with no cloud of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.push = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor, v: Tensor, charge: Tensor) -> Tensor:
        assert (v.shape, charge.shape) == (x.shape, x.shape[:2])
        return x + v + charge[..., None] * self.push


def moves(kinds):
    return adapt(Moves(), "E3", inputs=kinds, outputs="points", canonicalizer=FrameCanonicalizer("E3", vectors=1, features=1))


def error(output: Tensor, target: Tensor) -> float:
    return float((output - target).detach().square().mean())


@pytest.mark.parametrize("form", ["tensor", "tuple", "data set", "loader", "val"])
def test_one_cloud_is_no_data_set_of_its_points(form):
    cloud = torch.randn(64, 3)
    data = {"tuple": (cloud, cloud), "data set": TensorDataset(cloud), "loader": DataLoader(TensorDataset(cloud), 32)}
    with pytest.raises(ValueError, match=r"points of shape \(n, 3\); got \(3,\): one cloud alone is x\[None\], clouds of many"):
        fit(searched(), cloud[None] if form == "val" else data.get(form, cloud), val=cloud if form == "val" else None, **QUIET)
    refused(ValueError, r"one cloud is x\[None\]", lambda: searched()(cloud))
    assert fit(searched(), cloud[None], **QUIET).history


@pytest.mark.parametrize("sizes", [(9, 9, 9, 9), (5, 9, 7, 3)])
def test_lists_of_clouds_are_cut_by_nothing(sizes):
    """By fit_opinion, evaluate and joint training, whose predictor sees whole clouds."""
    clouds, labels, seen = [torch.randn(n, 3) for n in sizes], torch.tensor([0, 1, 0, 1]), []

    def remembers(clouds: list[Tensor]) -> Tensor:
        seen.extend(len(cloud) for cloud in clouds)
        return of_lists(clouds)

    fit_opinion(searched(remembers, top_k=2), clouds)
    report = evaluate(searched(remembers), (clouds, labels), group="C4z")
    fit(searched(remembers), (clouds, labels), task_loss=F.cross_entropy, batch_size=4, **QUIET)
    assert (set(seen), report.mean) == (set(sizes), 0.5)
    assert evaluate(searched(remembers, inputs=Rows("points")), (clouds, labels.tolist()), group="C4z").mean == 0.5


def test_lists_of_parts_images_and_samples_of_many_sizes():
    """Targets of points are a list too."""
    clouds, parts = [torch.randn(n, 3) for n in (4, 6)], [torch.zeros(n, dtype=torch.long) for n in (4, 6)]
    assert [len(row) for row in next(iter(batches((clouds, parts), as_kinds(Rows("points")), 2)))[1]] == [4, 6]
    # also of one size, where their channels could pass for a batch.
    model = adapt(lambda x: x.mean((2, 3)), "C4", outputs="logits", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    for sizes in ((16, 16), (16, 20)):
        images = [torch.rand(3, size, size) for size in sizes]
        assert len(next(iter(batches(images, model.inputs, 2)))) == 2
        assert fit(model, images, **QUIET).history
    ragged = dataset((torch.randn(5 + i, 3), 0) for i in range(4))
    refused(ValueError, r"a predictor of lists say inputs=Rows\('points'\).*'presence'", lambda: evaluate(searched(), ragged))
    assert evaluate(searched(of_lists, inputs=Rows("points")), ragged, group="C4z").mean == 1
    model = searched(top_k=2)
    fit_opinion(model, torch.randn(4, 5, 3).numpy())
    assert model.opinion is not None
    refused(TypeError, r"what equiform\.adapt returns; got a function", lambda: fit_opinion(logits, torch.randn(4, 5, 3)))


@pytest.mark.parametrize("kinds", [NAMED, UNNAMED], ids=["by name", "in order"])
def test_several_inputs_as_a_tuple_survive_collation(kinds):
    columns, losses = (torch.randn(8, 5, 3), torch.randn(8, 5, 3), torch.randn(8, 5)), []
    data = dataset(zip(zip(*columns, strict=True), columns[0] + columns[1], strict=True))  # collation makes lists of the tuples

    def loss(output: Tensor, target: Tensor) -> Tensor:
        losses.append(error(output, target))
        return F.mse_loss(output, target)

    report = evaluate(moves(kinds), data, metric=error, group="SO3", baselines=("bare",))
    assert max(report["adapted"].values) - min(report["adapted"].values) < 1e-5
    fit(moves(kinds), data, task_loss=loss, group="E3", train_predictor=True, **QUIET)
    assert losses
    for one in (data, columns, TensorDataset(*columns), DataLoader(TensorDataset(*columns), 4)):
        assert fit(moves(kinds), one, val=one, **QUIET).history


@pytest.mark.parametrize("kinds", [{"points": "points", "image": "image"}, ("image", "points")], ids=["by name", "in order"])
def test_several_inputs_of_images_survive_collation(kinds):
    def brightness(image: Tensor, points: Tensor) -> Tensor:
        x, y = points.long().unbind(-1)
        return image.mean(1)[torch.arange(len(image))[:, None], y, x]

    pairs = [((torch.rand(3, 16, 16), torch.tensor([[3.5, 4.5]])), torch.zeros(1)) for _ in range(4)]
    model = adapt(brightness, "C4", inputs=kinds, outputs="invariant", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    values = evaluate(model, DataLoader(pairs, 2), metric=error)["adapted"].values
    assert max(values) - min(values) < 1e-6
    assert fit(model, DataLoader(pairs, 2), **QUIET).history


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ("a/", TypeError, "only fit reads folders, .*: pass a tensor, a list or a Dataset; got 'a/'"),
        (42, TypeError, "or a list of tensors; got a int"),
        ((torch.zeros(3, 4, 3), torch.zeros(2)), ValueError, "equally long; got 3 and 2"),
        ([], ValueError, "there is nothing in the data"),
        (torch.full((4, 5, 3), torch.nan), ValueError, "logits on these data are not all finite"),
    ],
)
def test_what_does_not_fit_is_named(data, kind, message):
    refused(kind, message, lambda: fit_opinion(searched(top_k=2), data))
