"""Clouds with edges: numbers of edges go with them, whatever poses are run; in padded batches edges are shared."""

import pytest
import torch
from torch import Tensor

from equiform import Equivariant, Invariant, act, adapt, group
from equiform.canonicalizers import PrincipalAxesCanonicalizer

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
    with pytest.raises(ValueError, match=rf"'w'\]: '{kind}' of shape \(\d+,\) is as long as the edges: .*'edge_features'"):
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


@pytest.mark.parametrize("doubt", [{"top_k": 1}, {"top_k": 3}], ids=str)
@pytest.mark.parametrize("kind", ["edge_features", "invariant", "edge_vectors"])
def test_answers_about_edges_are_in_their_order(kind, doubt):
    def told(x: Tensor, edge_index: Tensor, w: Tensor, batch: Tensor) -> Tensor:
        lengths = (x[edge_index[0]] - x[edge_index[1]]) * torch.tensor([1.0, 2, 3]).double() * w[:, None]
        return lengths if kind == "edge_vectors" else lengths.norm(dim=-1)

    canonicalizer = PrincipalAxesCanonicalizer("SE3")
    model = adapt(told, "SE3", inputs=KINDS, outputs=kind, canonicalizer=canonicalizer, **doubt)
    x, edges, w, batch = graphs(SIZES)
    order = batch[edges[0]].argsort(stable=True)
    assert torch.allclose(model(x, edges, w, batch)[order], one_by_one(model, x, edges, w, batch), atol=1e-10)


def shifted(pos: Tensor, edge_index: Tensor, shift: Tensor, batch: Tensor) -> Tensor:
    """Invariant by itself, where the shifts turn with the points."""
    apart = pos[edge_index[1]] - pos[edge_index[0]] + shift
    return torch.zeros(int(batch[-1]) + 1).to(pos).index_add(0, batch[edge_index[0]], apart.norm(dim=-1))


@pytest.mark.parametrize("number", [6, 7])
def test_vectors_of_edges_turn_with_them(number):
    """As many edges as points too, in no order of their clouds."""
    edges = torch.tensor([[0, 2, 4, 6, 1, 3, 5], [1, 0, 3, 5, 2, 4, 6]])[:, :number]
    pos, shift = torch.randn(7, 3).double(), torch.randn(number, 3).double()
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    kinds = {"pos": "points", "edge_index": "edges", "shift": "edge_vectors", "batch": "batch"}
    canonicalizer = PrincipalAxesCanonicalizer("SE3")
    model = adapt(shifted, "SE3", inputs=kinds, outputs="invariant", canonicalizer=canonicalizer, top_k=2)
    assert torch.allclose(model(pos, edges, shift, batch), shifted(pos, edges, shift, batch))
    unclear = adapt(shifted, "SE3", inputs=kinds | {"shift": "vectors"}, outputs="invariant", canonicalizer=canonicalizer)
    with pytest.raises(ValueError, match=r"'shift'.*'edge_vectors', which turn with them"):
        unclear(pos, edges, shift, batch)


@pytest.mark.filterwarnings("ignore:several poses were run for nothing")
def test_a_batch_in_the_answer_is_that_of_the_call():
    def kept(x: Tensor, batch: Tensor) -> dict[str, Tensor]:
        odd = torch.arange(len(x)) % 2 == 1
        return {"all": {"x": x, "batch": batch}, "odd": {"x": x[odd], "batch": batch[odd]}}["odd" if pooled else "all"]

    x, _, _, batch = graphs(SIZES)
    for pooled in (False, True):
        canonicalizer = PrincipalAxesCanonicalizer("SE3")
        kinds = {"x": "points", "batch": "batch"}
        answer = adapt(kept, "SE3", inputs=kinds, outputs=kinds, canonicalizer=canonicalizer, top_k=2)(x, batch)
        assert torch.equal(answer["batch"].sort().values, answer["batch"])
        if not pooled:
            assert torch.equal(answer["batch"], batch)
            assert torch.allclose(answer["x"], x)


def test_the_number_of_clouds_follows_those_that_run():
    def dipoles(pos: Tensor, batch: Tensor, n: int) -> Tensor:
        return torch.zeros(n, 3).to(pos).index_add(0, batch, pos)

    pos, batch = torch.randn(7, 3).double(), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    kinds, canonicalizer = {"pos": "points", "batch": "batch", "n": "count"}, PrincipalAxesCanonicalizer("SO3")
    model = adapt(dipoles, "SO3", inputs=kinds, outputs="vectors", canonicalizer=canonicalizer, top_k=2)
    assert torch.allclose(model(pos, batch, 3), dipoles(pos, batch, 3)), "the last cloud has no points"
    untold = adapt(dipoles, "SO3", inputs=kinds | {"n": Invariant(axis=None)}, outputs="vectors", canonicalizer=canonicalizer)
    with pytest.raises(ValueError, match=r"\(3, 3\): expected 2 rows, or 7 points.*kind 'count'"):
        untold(pos, batch, 3)


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
