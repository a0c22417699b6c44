"""Resizings of every kind of the plane: places and numbers to the last digits, pixels as far as resampling lets them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asserting import refused
from equiform import Dihedral, Scale, act, inverse
from equiform.geometry import Field, Image, Tokens
from equiform.geometry.actions import ACTIONS, act_invariant, moved_sizes
from equiform.geometry.groups import Group
from equiform.geometry.kinds import as_kinds
from equiform.geometry.scales import resizing
from test_actions import SAMPLES

SIZES = Scale(0.5, 2, 5)
BOTH = Dihedral(4) * SIZES  # does not commute, which resizings alone do
RESAMPLED = ("image", "clip", "mask", "field", "tokens")
EXACT = [
    pytest.param(*sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if name not in (*RESAMPLED, "regular")
]


def close(kind: object, a: Tensor, b: Tensor) -> bool:
    """To twelve digits; the angles of rotated boxes up to whole turns."""
    if as_kinds(kind).name == "rotated_boxes":
        turns = (a[..., 4] - b[..., 4] + 180) % 360 - 180
        a, b = (torch.cat([x[..., :4], x[..., 5:]], -1) for x in (a, b))
        return torch.allclose(turns, torch.zeros_like(turns), atol=1e-9) and torch.allclose(a, b, rtol=0, atol=1e-11)
    return torch.allclose(a.double(), b.double(), rtol=0, atol=1e-11)


def drawn(g: Group, b: int) -> Tensor:
    """Elements between the steps too, exact in float64."""
    turned = Dihedral(4).elements[torch.randint(8, (b,))] if g == BOTH else torch.eye(3).expand(b, 3, 3)
    return turned.double() @ resizing(0.5 * 4 ** torch.rand(b, dtype=torch.float64))


@pytest.mark.parametrize("canvas", [(6, 6), (5, 8)], ids=str)
@pytest.mark.parametrize("group", [SIZES, BOTH], ids=lambda g: g.name)
@pytest.mark.parametrize(("kind", "make"), EXACT)
def test_identity_composition_and_inverse_where_nothing_is_resampled(kind, make, group, canvas, unchecked):
    x = make(32, *canvas)
    x = x.double() if ACTIONS[as_kinds(kind).name].act is not act_invariant else x  # whole numbers would be rounded
    h, g = drawn(group, 32), drawn(group, 32)
    moved, between = act(h, x, kind, canvas), moved_sizes(h, canvas)
    assert close(kind, act(SIZES.identity().double(), x, kind, canvas), x)
    assert close(kind, act(g, moved, kind, between), act(g @ h, x, kind, canvas))
    assert close(kind, act(inverse(h), moved, kind, between), x)
    name = as_kinds(kind).name
    if ACTIONS[name].act is not act_invariant and name not in ("axial_vectors", "pseudoscalars"):
        assert not close(kind, moved, x), "control: it moves"
        assert not close(kind, act(h, moved, kind, between), x), "control: not back by the same element"
        if group == BOTH and name != "matrices":  # the orders differ by a half turn, which leaves matrices alone
            assert not close(kind, act(g, moved, kind, between), act(h @ g, x, kind, canvas)), "control: nor in another order"


def test_by_how_much_each_is_resized():
    """Worked example, by 2: arrows twice, matrices four times, what has no length not at all."""
    g, one = resizing(torch.tensor([2.0])), torch.ones(1, 1)
    assert act(g, one.expand(1, 2), "vectors").tolist() == [[2, 2]]
    assert act(g, one.expand(1, 2, 2), "matrices").tolist() == [[[4, 4], [4, 4]]]
    assert act(g, torch.tensor([[5.0, 1]]), "points", (6, 8)).tolist() == [[6, -1]], "about the centre, (4, 3)"
    assert [act(g, one, kind).tolist() for kind in ("axial_vectors", "pseudoscalars", "invariant", "logits")] == [[[1]]] * 4
    with_groups = SAMPLES["regular"][0][0]
    refused(ValueError, "move by elements of D4 alone", lambda: act(g, torch.ones(1, 8, 2), with_groups))


def smooth(b: int, channels: int, h: int, w: int) -> Tensor:
    """Waves that are long beside a pixel."""
    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    phase, turns = 6 * torch.rand(b, channels, 1, 1), 3 + 3 * torch.rand(b, channels, 1, 1)
    return (turns * x + phase).sin() + (2 * turns * y - phase).cos()


def middle(x: Tensor) -> Tensor:
    """The half of an image, or of a grid of 24 x 32 tokens, that nothing from beyond the edges reaches."""
    x = x.flatten(1, -3) if x.ndim >= 4 else x.mT.unflatten(2, (24, 32))
    h, w = x.shape[-2:]
    return x[..., h // 4 : -h // 4, w // 4 : -w // 4]


PIXELS = {
    "image": ("image", lambda x: x),
    "bicubic": (Image("bicubic"), lambda x: x),
    "field": (Field(), lambda x: x[:, :2]),
    "tokens": (Tokens(2, prefix=0), lambda x: F.avg_pool2d(x, 2).flatten(2).mT),
    "mask": ("mask", lambda x: (2 * x).round()),
    "clip": ("clip", lambda x: x[:, None]),
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_compose_and_come_back_as_far_as_resampling_lets_them(name):
    """On smooth pictures, beside the same by another size, which is the control."""
    kind, made = PIXELS[name]
    canvas = (48, 64)
    x = made(smooth(6, 3, *canvas))
    for h, g in ((0.6, 0.9), (0.8, 1.2), (1.25, 0.7)):
        h, g = (resizing(torch.full((6,), size)) for size in (h, g))
        moved, off = act(h, x, kind, canvas), resizing(torch.full((6,), 1.3))
        for a, b in ((act(g, moved, kind, canvas), act(g @ h, x, kind, canvas)), (act(inverse(h), moved, kind, canvas), x)):
            error = float(middle(a - b).abs().mean())
            assert error < 0.25 * float(middle(b).abs().mean())
            assert error < 0.6 * float(middle(act(off, a, kind, canvas) - b).abs().mean()), "control"


def test_no_kind_of_the_plane_is_left_out():
    named = {as_kinds(kind).name for kind, _ in PIXELS.values()}
    assert {p.id.rpartition("-")[0] for p in EXACT} | named | {"regular"} == {n for n, row in ACTIONS.items() if row.in_plane}
