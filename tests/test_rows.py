"""The rows of nested values: taken, joined, averaged."""

import math

import numpy as np
import pytest
import torch

from equiform import Boxes, Cyclic, Invariant, Likeliest, Logits, OrbitCanonicalizer, Points, Rows, act, adapt, evaluate, group
from equiform.batching.chosen import choose
from equiform.batching.rows import average, join, take
from equiform.geometry.kinds import Kind, as_kinds
from equiform.geometry.moving import find_logits

LISTS = {"inputs": Rows("image"), "outputs": Rows({"boxes": "boxes"})}

QUARTER = Cyclic(4).elements[1:2]


def test_take_and_join_are_each_others_inverse():
    kinds = as_kinds({"x": "image", "rows": Rows("points"), "n": "invariant", "a": "invariant"})
    value = {"x": torch.rand(5, 3, 2, 2), "rows": [torch.rand(i, 2) for i in range(5)], "n": 3, "a": np.arange(5)}
    rows = [torch.tensor([3, 0]), torch.tensor([1, 4, 2])]
    parts = [take(value, kinds, part, 5) for part in rows]
    assert torch.equal(parts[0]["x"], value["x"][[3, 0]])
    assert [len(entry) for entry in parts[1]["rows"]] == [1, 4, 2]
    assert parts[0]["n"] == 3
    back = join(parts, kinds, rows)
    assert torch.equal(back["x"], value["x"])
    assert [len(entry) for entry in back["rows"]] == list(range(5))
    assert np.array_equal(back["a"], value["a"])
    losses = join([torch.tensor(1.0), torch.tensor(2.0)], Kind("invariant"), rows)
    assert losses == pytest.approx((2 * 1.0 + 3 * 2.0) / 5), "a number per sub-batch is averaged over rows"


def test_what_all_rows_share_is_shared_even_where_there_are_as_many():
    """As many texts as images: nothing but the kind tells that a text is no row."""
    kinds = {"texts": Invariant(axis=None), "per row": Kind("invariant"), "transposed": Logits(axis=1)}
    value = {"texts": torch.rand(4, 6), "per row": torch.rand(4, 6), "transposed": torch.rand(7, 4)}
    rows = [torch.tensor([2, 0]), torch.tensor([3, 1])]
    parts = [take(value, kinds, part, 4) for part in rows]
    assert parts[1]["texts"] is value["texts"]
    assert torch.equal(parts[1]["per row"], value["per row"][[3, 1]])
    assert torch.equal(parts[1]["transposed"], value["transposed"][:, [3, 1]])
    back = join(parts, kinds, rows)
    assert all(torch.equal(back[key], value[key]) for key in value)
    two = {"texts": torch.rand(2, 6)}  # as many as rows in each part
    assert torch.equal(join([two, two], kinds["texts"], rows)["texts"], two["texts"])
    arrays = {key: tensor.numpy() for key, tensor in value.items()}
    assert np.array_equal(take(arrays, kinds, rows[0], 4)["transposed"], arrays["transposed"][:, [2, 0]])


def test_average_of_transposed_and_shared_answers():
    chosen = choose(torch.tensor([[2.0, 1.0, -5.0], [0.0, 3.0, 0.5]]), top_k=2)
    x = torch.rand(4, 3)
    for kind, transposed in ((Kind("invariant"), Invariant(axis=1)), (Kind("logits"), Logits(axis=1))):
        assert torch.equal(average(x.T, transposed, chosen), average(x, kind, chosen).T)
    assert average(x, Invariant(axis=None), chosen) is x
    assert find_logits({"t": x.T, "l": x}, {"t": Logits(axis=1), "l": Logits()}) is x


def test_the_likeliest_pose_answers_for_what_is_not_to_be_averaged():
    chosen = choose(torch.tensor([[2.0, 1.0, -5.0], [0.0, 3.0, 0.5]]), top_k=2)
    x = torch.rand(4, 3, 2, 2)
    kinds = Likeliest({"masks": "image", "boxes": [Boxes(), Rows("boxes")]})
    assert repr(kinds["masks"]) == "image(averaged=False)"
    assert kinds["boxes"][1] == Rows(Kind("boxes"))
    assert torch.equal(average(x, kinds["masks"], chosen), x[[0, 2]])
    assert not torch.equal(average(x, Kind("image"), chosen), x[[0, 2]]), "control"
    assert torch.equal(act(QUARTER, x, kinds["masks"]), torch.rot90(x, 1, (-2, -1))), "it moves like the others"


def test_average_by_kind():
    scores = torch.tensor([[2.0, 1.0, -5.0], [0.0, 3.0, 0.5]])
    chosen = choose(scores, top_k=2)
    w = torch.stack([s.topk(2).values.softmax(0) for s in scores])
    x = torch.rand(4, 3)
    pairs = x.reshape(2, 2, 3)
    mean = (pairs * w[..., None]).sum(1)
    assert torch.allclose(average(x, Kind("invariant"), chosen), mean, atol=1e-3)
    assert np.allclose(average(x.numpy(), Kind("invariant"), chosen), mean, atol=1e-3)
    assert torch.allclose(average(torch.complex(x, -x), Kind("invariant"), chosen), torch.complex(mean, -mean), atol=1e-3)
    expected = (pairs.softmax(-1) * w[..., None]).sum(1)
    assert torch.allclose(average(x, Kind("logits"), chosen).softmax(-1), expected, atol=1e-3)
    assert torch.allclose(average(x[[0, 0, 2, 2]], Kind("logits"), chosen), x[[0, 2]], atol=1e-5), "not made log-probabilities"
    wide = 20 * x - 10
    expected = (wide.reshape(2, 2, 3).sigmoid() * w[..., None]).sum(1)
    assert torch.allclose(average(wide, Logits(sigmoid=True), chosen).sigmoid(), expected, atol=1e-3)
    for one in (wide[:, :1], wide[:, 0]):
        assert torch.allclose(
            average(one, Kind("logits"), chosen).sigmoid(), expected[:, :1].view(-1, *one.shape[1:]), atol=1e-3
        )
    assert torch.equal(average(x, Points(absent=0), chosen), x[[0, 2]]), "a mark and a place have no mean"
    for kind, value in [("boxes", torch.rand(4, 3, 4)), ("invariant", torch.arange(4)), ("mask", torch.rand(4, 1, 2, 2) > 0.5)]:
        assert torch.equal(average(value, Kind(kind), chosen), value[[0, 2]]), "the likeliest pose answers"
    assert average([1, 2, 3, 4], Rows(Kind("invariant")), chosen) == [1, 3]
    assert (
        average({"tag": "a", "n": torch.tensor(2.0)}, {"tag": Kind("invariant"), "n": Kind("invariant")}, chosen)["tag"] == "a"
    )
    assert not math.isclose(mean[0, 0], pairs[0, 0, 0]), "control: the mean is not the likeliest"


def test_a_tensor_is_the_list_of_its_rows(unchecked):
    model = adapt(lambda images: [{"boxes": torch.tensor([[1.0, 1, 4, 4]])} for _ in images], "C4", **LISTS)
    x = torch.rand(2, 3, 16, 24)
    for answer, expected in zip(model(x), model(list(x)), strict=True):
        assert torch.equal(answer["boxes"], expected["boxes"])
    with pytest.raises(TypeError, match=r"x: a list with an entry per row is expected; got a Tensor.*collate_fn"):
        act(group("C4").elements[1:2], x, Rows("image"))
    truth = [{"boxes": torch.tensor([[1.0, 1, 4, 4]])}] * 2
    loader = torch.utils.data.DataLoader([*zip(x, truth, strict=True)], batch_size=2)
    with pytest.raises(TypeError, match=r"target: a list with an entry per row is expected; got a dict.*collate_fn"):
        evaluate(model, loader, metric="box_map")
    with pytest.raises(ValueError, match=r"targets of this metric are labels, one tensor; got a list of dict: .* box_map"):
        evaluate(model, (list(x), truth))


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_logits_have_one_entry_per_row(rows, unchecked):
    with pytest.raises(ValueError, match=rf"output: logits have one entry per row, 4 in all; got shape \({rows}, 5\)"):
        adapt(lambda x: torch.rand(rows, 5), "C4", outputs="logits")(torch.rand(4, 3, 8, 8))


def test_shared_answers_are_of_one_shape(unchecked):
    model = adapt(lambda x: torch.rand(2 * len(x), 5), "C4", outputs="invariant", canonicalizer=OrbitCanonicalizer("C4"))
    with pytest.raises(ValueError, match=r"has one entry per row, or is shared by all and of one shape; got \(\d+, 5\)"):
        model(torch.rand(15, 3, 16, 24))
