"""Clouds with edges: numbers of edges go with them, whatever poses are run; in padded batches edges are shared."""

import pytest
import torch
from torch import Tensor

from equiform import Equivariant, PrincipalAxesCanonicalizer, act, adapt, group

KINDS = {"x": "points", "edge_index": "edges", "w": "edge_features", "batch": "batch"}
SIZES = [4, 4, 6, 4, 2, 5]


def messages(x: Tensor, edge_index: Tensor, w: Tensor, batch: Tensor | None = None) -> Tensor:
    """What each point is told along its edges, weighted; no rotation leaves it alone."""
    told = w[:, None] * (x[edge_index[0]] - x[edge_index[1]]) * torch.tensor([1.0, 2, 3]).double()
    return torch.zeros_like(x).index_add(0, edge_index[1], told)


def graphs(sizes: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points, all pairs of each graph in no order, a weight for each, and the batch."""
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    pairs = torch.cartesian_prod(torch.arange(len(batch)), torch.arange(len(batch))).T
    pairs = pairs[:, (batch[pairs[0]] == batch[pairs[1]]) & (pairs[0] != pairs[1])]
    pairs = pairs[:, torch.randperm(pairs.shape[1])]
    x = torch.randn(len(batch), 3).double() * torch.tensor([1.0, 2, 3])
    return x, pairs, torch.randn(pairs.shape[1]).double(), batch


def one_by_one(model: Equivariant, x: Tensor, edges: Tensor, w: Tensor, batch: Tensor) -> Tensor:
    answers = []
    for i in range(int(batch[-1]) + 1):
        own = batch[edges[0]] == i
        first = int((batch < i).sum())
        answers.append(model(x[batch == i], edges[:, own] - first, w[own], batch[batch == i] - i))
    return torch.cat(answers)


@pytest.mark.parametrize("doubt", [{"top_k": 1}, {"top_k": 2}, {"top_k": 4}, {"coverage": 0.9}], ids=str)
@pytest.mark.parametrize("sizes", [[4] * 6, SIZES], ids=["equal", "unequal"])
def test_numbers_of_edges_go_with_their_edges(sizes, doubt):
    canonicalizer = PrincipalAxesCanonicalizer("SE3")
    model = adapt(messages, "SE3", inputs=KINDS, outputs="vectors", canonicalizer=canonicalizer, **doubt)
    x, edges, w, batch = graphs(sizes)
    answer = model(x, edges, w, batch)
    assert torch.allclose(answer, one_by_one(model, x, edges, w, batch), atol=1e-10)
    g = group("SE3").nearest(group("SE3").random(len(sizes)).double())
    moved = model(act(g, x, "points", batch=batch), edges, w, batch)
    assert torch.allclose(moved, act(g, answer, "vectors", batch=batch), atol=1e-10)
    assert not torch.allclose(model(x, edges, w.flip(0), batch), answer, atol=1e-2), "control: the weights count"


@pytest.mark.parametrize("kind", ["invariant", "features", "logits", "points"])
def test_another_kind_as_long_as_the_edges_is_refused(kind):
    model = adapt(messages, "SE3", inputs=KINDS | {"w": kind}, outputs="vectors")
    with pytest.raises(ValueError, match=rf"'w'\]: '{kind}' of shape \(\d+,\) is as long as the edges: .* 'edge_features'"):
        model(*graphs(SIZES))


def test_numbers_of_edges_are_as_many_as_the_edges():
    model = adapt(messages, "SE3", inputs=KINDS, outputs="vectors")
    x, edges, w, batch = graphs([3, 4])
    with pytest.raises(ValueError, match=r"'edge_features' of shape \(17,\): expected an entry for each of the edges, 18"):
        model(x, edges, w[1:], batch)
    without = adapt(
        lambda x, w, batch: x, "SE3", inputs={"x": "points", "w": "edge_features", "batch": "batch"}, outputs="points"
    )
    with pytest.raises(ValueError, match="each of the edges, which are absent"):
        without(x, w, batch)


@pytest.mark.parametrize("kind", ["edge_features", "invariant"])
def test_answers_about_edges_come_from_one_pose(kind):
    def lengths(x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return (x[edge_index[0]] - x[edge_index[1]]).norm(dim=-1)

    kinds = {"x": "points", "edge_index": "edges", "batch": "batch"}
    x, edges, _, batch = graphs(SIZES)
    model = adapt(lengths, "SE3", inputs=kinds, outputs=kind)
    assert torch.allclose(model(x, edges, batch), lengths(x, edges, batch))
    several = adapt(
        lambda *a: {"e": lengths(*a), "x": a[0]},
        "SE3",
        inputs=("points", "edges", "batch"),
        outputs={"e": kind, "x": "points"},
        top_k=2,
    )
    with pytest.raises(
        ValueError, match=r"output\['e'\]: answers about edges come from one pose: leave top_k and coverage out"
    ):
        several(x, edges, batch)


@pytest.mark.parametrize("b", [1, 2, 3])
def test_edges_of_a_padded_batch_are_shared(b):
    edges, x = torch.tensor([[0, 1, 2], [1, 2, 3]])[:, :b], torch.randn(b, 4, 3).double()  # as many edges as clouds
    w = torch.arange(1.0, b + 1).double()

    def told(x: Tensor, edge_index: Tensor, w: Tensor) -> Tensor:
        assert edge_index.tolist() == edges.tolist()
        return torch.stack([messages(points, edge_index, w) for points in x])

    inputs = {"x": "points", "edge_index": "edges", "w": "edge_features"}
    canonicalizer = PrincipalAxesCanonicalizer("SO3")
    model = adapt(told, "SO3", inputs=inputs, outputs="vectors", canonicalizer=canonicalizer, top_k=3)
    assert torch.allclose(model(x, edges, w), torch.cat([model(row[None], edges, w) for row in x]), atol=1e-10)


def test_edges_of_every_cloud_of_a_padded_batch_are_taken():
    edges, x, w = torch.randint(4, (3, 2, 5)), torch.randn(3, 4, 3).double(), torch.randn(3, 5).double()

    def told(x: Tensor, edge_index: Tensor, w: Tensor) -> Tensor:
        return torch.stack([messages(*row) for row in zip(x, edge_index, w, strict=True)])

    inputs = {"x": "points", "edge_index": "edges", "w": "edge_features"}
    canonicalizer = PrincipalAxesCanonicalizer("SO3")
    model = adapt(told, "SO3", inputs=inputs, outputs="vectors", canonicalizer=canonicalizer, top_k=3)
    each = [model(x[i : i + 1], edges[i : i + 1], w[i : i + 1]) for i in range(3)]
    assert torch.allclose(model(x, edges, w), torch.cat(each), atol=1e-10)
