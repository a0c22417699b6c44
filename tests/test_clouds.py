"""What canonicalizers see of a cloud; padded and flat batches, their rows taken and put together again."""

import pytest
import torch
from torch import Tensor

from equiform import Rows
from equiform.geometry import Per
from equiform.geometry.clouds import Cloud, batch_of, checked_batch, cloud_of, flat_parts, padding, standardised
from equiform.geometry.kinds import as_kinds
from equiform.geometry.nested import leaves as leaves_of
from equiform.geometry.owners import gathered, members, owned, owners_of, take

BATCH = torch.tensor([0, 0, 0, 1, 3, 3])  # the third cloud has no points
FLAT = as_kinds(
    {"x": "points", "v": "vectors", "charge": "features", "batch": "batch", "edges": "edges", "y": Per("row", "invariant")}
)


def flat() -> dict[str, Tensor]:
    edges = torch.tensor([[0, 2, 4, 1], [1, 0, 5, 2]])
    return {"x": torch.randn(6, 3), "v": torch.randn(6, 3), "charge": torch.randn(6), "batch": BATCH, "edges": edges} | {
        "y": torch.arange(4.0)
    }


def padded(**parts: Tensor) -> Cloud:
    b, n, _ = parts["points"].shape
    default = {"present": torch.ones(b, n, dtype=torch.bool), "vectors": torch.zeros(b, n, 0, 3)}
    default |= {"features": torch.zeros(b, n, 0)}
    made = {name: part if name == "present" else part.double() for name, part in (default | parts).items()}
    return Cloud(**made)


def test_a_flat_batch_is_padded_in_order():
    data = flat()
    cloud = cloud_of(data, FLAT)
    assert cloud is not None
    assert cloud.present.tolist() == [[True] * 3, [True, False, False], [False] * 3, [True, True, False]]
    assert torch.equal(cloud.points[cloud.present], data["x"].double())
    assert torch.equal(cloud.vectors[cloud.present][:, 0], data["v"].double())
    assert torch.equal(cloud.features[cloud.present][:, 0], data["charge"].double())
    assert batch_of(data, FLAT) is BATCH


def test_a_padded_batch_says_which_points_are_there():
    x, there = torch.randn(2, 4, 3), torch.rand(2, 4) > 0.3
    cloud = cloud_of((x, there), as_kinds(("points", "presence")))
    assert cloud is not None
    assert torch.equal(cloud.present, there)
    assert (cloud.vectors.shape, cloud.features.shape) == ((2, 4, 0, 3), (2, 4, 0))
    assert cloud_of(x, as_kinds("invariant")) is None


def test_a_list_of_clouds():
    x = [torch.randn(n, 3) for n in (3, 0, 5)]
    cloud = cloud_of(x, Rows(as_kinds("points")))
    assert cloud is not None
    assert cloud.present.sum(1).tolist() == [3, 0, 5]
    assert torch.equal(cloud.points[2], x[2].double())
    assert len(cloud_of([], Rows(as_kinds("points"))) or "") == 0


def test_the_mean_looks_at_the_points_that_are_there():
    x = torch.tensor([[[1.0, 0, 0], [3, 0, 0], [float("nan"), 0, 0]]]).double()
    cloud = padded(points=x, present=torch.tensor([[True, True, False]]))
    assert torch.equal(cloud.mean(cloud.points), torch.tensor([[2.0, 0, 0]]).double())
    assert torch.equal(padded(points=x, present=torch.zeros(1, 3, dtype=torch.bool)).mean(x), torch.zeros(1, 3).double())


def test_standardised_clouds_have_neither_place_nor_size():
    cloud = padded(points=torch.randn(4, 9, 3), vectors=torch.randn(4, 9, 2, 3), present=torch.rand(4, 9) > 0.2)
    seen, centroid, radius = standardised(cloud)
    assert torch.allclose(seen.mean(seen.points), torch.zeros(4, 3).double(), atol=1e-12)
    assert torch.allclose(seen.mean(seen.points.square().sum(-1)), torch.ones(4).double())
    moved = padded(points=7 * cloud.points + 3, vectors=5 * cloud.vectors, present=cloud.present)
    again, elsewhere, larger = standardised(moved)
    assert torch.allclose(again.points, seen.points)
    assert torch.allclose(again.vectors, seen.vectors)
    assert torch.allclose(elsewhere, 7 * centroid + 3)
    assert torch.allclose(larger, 7 * radius)


def test_what_is_not_finite_counts_as_no_points():
    x = torch.randn(3, 5, 3)
    x[1, 2, 0] = float("inf")
    alone, _, _ = standardised(padded(points=x[[0, 2]]))
    seen, _, _ = standardised(padded(points=x))
    assert torch.equal(seen.points[[0, 2]], alone.points)
    assert not seen.present[1].any()
    assert torch.equal(seen.points[1], torch.zeros(5, 3).double())


@pytest.mark.parametrize("place", [0.0, 0.1, 1e6])
def test_equal_points_have_no_extent(place):
    seen, centroid, radius = standardised(padded(points=torch.full((1, 7, 3), place)))
    assert torch.equal(seen.points, torch.zeros(1, 7, 3).double())
    assert torch.allclose(centroid, torch.full((1, 3), place).float().double())
    assert float(radius) == 1


def test_rows_are_taken_from_a_flat_batch():
    data, rows = flat(), torch.tensor([3, 0, 2, 0])
    leaves = leaves_of(FLAT, data, "input")
    owners = owners_of(leaves, 4, BATCH)
    index, new = gathered(owners, rows)
    taken = dict(zip(data, [take(leaf, index, owners, new, False) for leaf in owned(leaves, owners, True)], strict=True))
    assert taken["batch"].tolist() == [0, 0, 1, 1, 1, 3, 3, 3]
    source = [4, 5, 0, 1, 2, 0, 1, 2]
    for name in ("x", "v", "charge"):
        assert torch.equal(taken[name], data[name][source])
    assert torch.equal(taken["y"], data["y"][rows])
    # the same pairs of points, copy by copy
    pairs = [(source[i], source[j], int(taken["batch"][i])) for i, j in taken["edges"].T.tolist()]
    assert sorted(pairs) == sorted([(4, 5, 0), *((i, j, copy) for copy in (1, 3) for i, j in ((0, 1), (2, 0), (1, 2)))])


def test_members_and_padding_by_hand():
    points, entry = members(BATCH, torch.tensor([3, 1]), 4)
    assert (points.tolist(), entry.tolist()) == ([4, 5, 3], [0, 0, 1])
    there, index = padding(torch.tensor([0, 0, 2]))
    assert (there.tolist(), index.tolist()) == ([[True, True], [False, False], [True, False]], [[0, 1], [0, 0], [2, 0]])


@pytest.mark.parametrize(
    ("x", "kinds", "way_out"),
    [
        ({"x": torch.rand(2, 3, 3), "cell": torch.rand(2, 3, 3)}, {"x": "points", "cell": "vectors"}, "three per cloud"),
        (
            {"x": torch.rand(3, 3), "v": torch.rand(3, 3), "batch": torch.tensor([0, 0, 2])},
            {"x": "points", "v": "vectors", "batch": "batch"},
            "3 rows and points",
        ),
    ],
)
def test_vectors_that_may_be_of_points_or_of_clouds(x, kinds, way_out):
    name = next(name for name, kind in kinds.items() if kind == "vectors")
    with pytest.raises(ValueError, match=rf"{name}.*{way_out}.*Per\('row', 'vectors'\)"):
        cloud_of(x, as_kinds(kinds))
    for owner, number in (("row", 0), ("point", 1)):
        cloud = cloud_of(x, as_kinds(kinds | {name: Per(owner, "vectors")}))
        assert cloud is not None
        assert cloud.vectors.shape[2] == number


@pytest.mark.parametrize("batch", [torch.tensor([0, 2, 1]), torch.tensor([-1, 0, 0]), torch.tensor([0, 0]), torch.zeros(3)])
def test_bad_batches_are_named(batch):
    with pytest.raises(ValueError, match="batch"):
        checked_batch(batch, 3)


@pytest.mark.parametrize(
    ("value", "kinds", "message"),
    [
        (torch.rand(5, 3), "points", r"points have shape \(b, n, 3\), or \(N, 3\) beside an argument of the kind 'batch'"),
        (torch.rand(2, 5, 2), "points", r"points have shape \(b, n, 3\).*got \(2, 5, 2\)"),
        ((torch.rand(2, 5, 3), torch.zeros(2)), ("points", "batch"), r"points have shape \(N, 3\) beside a batch"),
        ((torch.rand(2, 5, 3), torch.ones(2, 4)), ("points", "presence"), r"presence has shape \(2, 5\); got \(2, 4\)"),
        ([torch.rand(5, 2)], Rows("points"), r"every entry has shape \(n, 3\); got \(5, 2\)"),
    ],
)
def test_bad_shapes_are_named(value, kinds, message):
    with pytest.raises(ValueError, match=message):
        cloud_of(value, as_kinds(kinds))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0, 2], [1, 3]]), "edge 1 joins point 2 of cloud 0 to point 3 of cloud 1: clouds are moved one by one"),
        (torch.tensor([[0, 5], [1, 6]]), "edges are pairs of the points 0 to 5; got 0 to 6"),
        (torch.tensor([[-1], [0]]), "edges are pairs of the points 0 to 5; got -1 to 0"),
        (torch.tensor([[0, 1], [1, 0], [2, 1]]), r"edges have shape \(2, number of edges\), whole numbers; got \(3, 2\)"),
        (torch.rand(2, 4), "whole numbers"),
    ],
)
def test_edges_that_leave_their_cloud_are_named(edges, message):
    with pytest.raises(ValueError, match=rf"input\['edges'\]: .*{message}"):
        cloud_of(flat() | {"edges": edges}, FLAT)
    for fine in (torch.zeros(2, 0, dtype=torch.long), flat()["edges"].int()):
        assert cloud_of(flat() | {"edges": fine}, FLAT) is not None


def test_sub_batches_have_no_more_points_than_the_batch():
    rows = torch.arange(4).repeat_interleave(3)  # three poses of each cloud, of 3, 1, 0 and 2 points
    parts = flat_parts(BATCH, rows, 4)
    assert torch.cat(parts).sort().values.tolist() == list(range(12))
    sizes = [[(3, 1, 0, 2)[row] for row in rows[part].tolist()] for part in parts]
    assert sizes == [[3, 3], [0, 0, 0, 1, 1, 1, 3], [2, 2, 2]]
    assert [part.tolist() for part in flat_parts(BATCH, torch.arange(4), 4)] == [[0, 1, 2, 3]]
    assert [part.tolist() for part in flat_parts(BATCH[:0], rows[:0], 0)] == [[]]
