"""Models of cyclic shifts: exact to the bit, whatever the answer and the predictor; what each canonicalizer leaves open."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import equiform
from asserting import refused, same
from equiform import OrbitCanonicalizer, act, adapt, group, inverse
from equiform.canonicalizers import PolyphaseCanonicalizer, ProductCanonicalizer, SeamCanonicalizer, UniformCanonicalizer
from equiform.canonicalizers.seam import margins
from equiform.geometry import Image, Product, Rows, Shift
from equiform.geometry.kinds import as_kinds
from equiform.geometry.pixels import _gathered
from equiform.geometry.shifts import shift
from equiform.testing import check_equivariant, equivariance_error
from small_photos import coarse, noise
from small_predictors import KINDS, Attention, Classifier, Convolutions, Only

ALL = KINDS | {"rotated": "rotated_boxes"}


class WithRotated(nn.Module):
    """The answers of another predictor, and rotated boxes from its plain ones."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        answer = self.body(image)
        return answer | {"rotated": torch.cat([answer["boxes"], torch.full_like(answer["boxes"][..., :1], 200.0)], -1)}


def rolled(x: Tensor, by: list[tuple[int, int]]) -> Tensor:
    """Every row shifted by its own (x, y)."""
    return torch.stack([row.roll((down, right), (-2, -1)) for row, (right, down) in zip(x, by, strict=True)])


# ------------------------------------------------------------------------------------------------------------------ laws
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("canvas", [(12, 12), (8, 16), (9, 13)], ids=str)
@pytest.mark.parametrize("predictor", [Attention, Convolutions])
def test_any_model_is_equivariant_to_every_shift_to_the_bit(predictor, canvas, dtype, unchecked):
    """With answers of every kind, on canvases that are no multiples of n too, and beyond the n x n shifts of the group."""
    bare, x = WithRotated(predictor().eval()), coarse(3, *canvas, dtype)
    model = adapt(bare, "Shift4", outputs=ALL)
    check_equivariant(model, x, "Shift4")
    assert float(equivariance_error(bare, x, "Shift4", model.inputs, model.outputs)[1:].min()) > 0, "control"
    far = shift(torch.tensor([[7.0, 5], [11, 3], [-2, 100]]))
    answer, moved = model(x), model(act(far, x, model.inputs))
    assert same(moved, act(far, answer, model.outputs, canvas))
    with pytest.warns(UserWarning, match="leave nothing on a canvas"):
        assert not same(moved, act(far, answer, as_kinds(ALL), canvas)), "control: kinds that do not wrap"


@pytest.mark.parametrize("name", ["Shift2*D4", "D4*Shift2"])
@pytest.mark.parametrize("canvas", [(12, 12), (8, 12)], ids=str)
def test_shifts_and_turns_at_once_are_exact_in_either_order(canvas, name, unchecked, tmp_path):
    turns = OrbitCanonicalizer("D4", resolution=16).eval()
    parts = (None, turns) if name.startswith("Shift") else (turns, None)
    model, x = adapt(Convolutions().eval(), name, outputs=KINDS, canonicalizer=parts), coarse(2, *canvas, torch.float32)
    check_equivariant(model, x, name)
    assert float(equivariance_error(model.predictor, x, name, model.inputs, model.outputs)[1:].max()) > 0, "control"
    assert (model.group.name, group(name), type(model.group)) == (name, model.group, Product)
    model.save(tmp_path)
    again, far = (
        equiform.load(tmp_path, model.predictor),
        shift(torch.tensor([[7.0, 5], [-2, 100]])) @ group("D4").elements[[6]],
    )
    assert again.group == model.group
    assert same(again(x), model(x))
    assert same(again(act(far, x, model.inputs)), act(far, model(x), model.outputs, canvas)), "by more than the group lists"


def test_products_of_shifts_and_turns_are_multiplied_modulo_the_stride(unchecked):
    many = ProductCanonicalizer(SeamCanonicalizer("Shift16"), OrbitCanonicalizer("D4", resolution=16)).group
    assert (many.name, many.order) == ("Shift16*D4", 2048), "more than can be scored one by one"
    g, other = group("D4*Shift2"), group("Shift2*D4")
    assert (g.order, g.wraps, g.on_grid, torch.equal(g.index(g.elements), torch.arange(32))) == (32, True, True, True)
    assert torch.equal(other.index(g.elements).sort().values, torch.arange(32)), "the same set"
    products = g.index((g.elements[:, None] @ g.elements).flatten(0, 1)).reshape(32, 32)
    shares = torch.rand(32).expand(32, -1)
    back = g.index(inverse(g.elements))
    assert torch.equal(g.carried(shares, g.elements), shares.gather(1, products[back]))
    phases, turns = PolyphaseCanonicalizer("Shift2"), OrbitCanonicalizer("D4", resolution=16)
    for parts in ((phases, turns), (turns, phases)):
        refused(ValueError, r"whole strides.*SeamCanonicalizer\('Shift2'\)", ProductCanonicalizer, *parts)
    refused(ValueError, r"unknown group 'Shift\(16\)' \(do you mean Shift16", lambda: group("Shift(16)"))
    refused(ValueError, r"quarter turns and flips.*; got C8 \* Shift2", lambda: group("C8*Shift2"))
    refused(ValueError, "prior is over the elements.*; got Shift3", SeamCanonicalizer("Shift3").log_prior, 0.9)


def test_lists_of_photos_of_many_sizes_and_several_poses(unchecked):
    x = [coarse(1, *size)[0] for size in ((8, 14), (9, 9), (14, 8))]
    far = shift(torch.tensor([[7.0, 5], [11, 3], [2, 6]]))
    wrapped = as_kinds(Rows("image"), Shift(4))
    several: list[dict[str, Any]] = [{}, {"top_k": 4}, {"coverage": 0.9}]
    for options in several:
        model = adapt(lambda images: [image.float().cumsum(-1) for image in images], "Shift4", outputs=Rows("image"), **options)
        assert same(model(act(far, x, wrapped)), act(far, model(x), wrapped))
        assert [as_kinds(kind, Shift(4)).averaging for kind in ("image", "points")] == ["mean", "likeliest"]
        model, y = adapt(Classifier().eval(), "Shift4", outputs="logits", **options), coarse(3, 12, 15)
        assert torch.equal(model(act(far, y, model.inputs)), model(y))


@pytest.mark.parametrize("name", ["seam", "polyphase"])
def test_poses_of_arrays_lists_and_clips(name):
    canonicalizer, x = equiform.canonicalizers.CANONICALIZERS[name]("Shift4"), noise(3)
    pose = canonicalizer(x)
    for other in (x.numpy(), list(x), x.float() / 255, (x.float() - 120) / 55):
        assert torch.equal(canonicalizer(other).g, pose.g), "whatever the normalisation"
    assert torch.equal(canonicalizer(x[1:2]).g, pose.g[1:2])
    assert (canonicalizer(x[:0]).g.shape, canonicalizer([]).g.shape) == ((0, 3, 3), (0, 3, 3))
    assert bool(((pose.confidence > 0) & (pose.confidence <= 1)).all())
    spoilt = x.float()
    spoilt[1, :, 3, 3] = math.nan
    assert torch.equal(canonicalizer(spoilt).scores[[0, 2]], canonicalizer(x.float()).scores[[0, 2]])
    assert bool(canonicalizer(spoilt).scores.isfinite().all())
    clip = torch.stack([noise(2) for _ in range(5)], 1)
    by = shift(torch.tensor([[3.0, 2], [1, 0]]))
    assert torch.equal(group("Shift4").index(canonicalizer(act(by, clip, Image(border="wrap"))).g),
                       group("Shift4").index(by @ canonicalizer(clip).g))  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- what is found
def test_the_seam_is_found_and_put_back_to_the_edge():
    """Smooth pictures whose opposite edges differ: upright ones stay as they are, and shifted ones become them."""
    ramp = torch.linspace(0, 1, 24)
    x = (ramp + 2 * ramp[:, None]) * torch.tensor([1.0, 0.5, -1])[:, None, None] + 0.01 * torch.rand(4, 3, 24, 24)
    canonicalizer = SeamCanonicalizer("Shift4")
    by = [(1, 0), (23, 7), (5, 5), (12, 20)]
    upright, moved = canonicalizer(x), canonicalizer(rolled(x, by))
    assert torch.equal(upright.g, torch.eye(3).expand(4, 3, 3))
    assert moved.g[:, :2, 2].tolist() == [list(map(float, shift)) for shift in by]
    assert bool((upright.confidence > 0.99).all())
    plain = canonicalizer(torch.full((1, 3, 24, 24), 7.0))
    assert float(plain.confidence) < 0.02, "a plain picture has no seam"
    assert torch.equal(plain.g, torch.eye(3)[None]), "where lines tie, the first"


def test_objects_on_a_plain_ground_go_to_the_middle():
    """Shifts that bring in plain ground are undone too, whatever was at the edge, until the object is cut."""
    x = torch.zeros(3, 1, 20, 30)
    x[:, :, 4:9, 6:12] = torch.rand(3, 1, 5, 6) + 0.5
    canonicalizer = SeamCanonicalizer("Shift8", plain=True)
    middle = [(30 - 6) // 2 - 6, (20 - 5) // 2 - 4]
    assert canonicalizer(x).g[0, :2, 2].add(torch.tensor(middle)).tolist() == [30, 20 - 1], "of five rows in 20, one above"
    model = adapt(Only(Convolutions(1).eval(), "logits"), "Shift8", outputs="logits", canonicalizer=canonicalizer)
    for right, down in ((5, 11), (-6, -4), (18, 0)):
        moved = act(shift(torch.tensor([[float(right), down]])), x)
        assert torch.equal(moved, x.roll((down, right), (-2, -1))), "nothing is cut"
        assert torch.equal(model(moved), model(x))
        assert not torch.equal(model.predictor(moved), model.predictor(x)), "control"
    cut = act(shift(torch.tensor([[20.0, 0]])), x)
    assert not torch.equal(model(cut), model(x)), "control"
    runs = torch.tensor([[1, 1, 0, 1, 1, 1, 0, 1], [1, 1, 1, 0, 0, 1, 1, 1]], dtype=torch.bool)
    assert margins(runs).tolist() == [[5, 2, 0, 3, 5, 2, 0, 3], [6, 4, 2, 0, 0, 3, 5, 7]], "about the edge"


class Patches(nn.Module):
    """A mean over patches of four pixels; `places`: each has a weight of its own."""

    def __init__(self, places: bool):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.places = torch.rand(3, 4) if places else torch.ones(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        # whole numbers, since a mean in another order would round otherwise
        return (self.embed(x.float()).relu() * 64).round().mul(self.places).sum((-2, -1))


def test_what_polyphase_selection_leaves_open():
    """Shifts by whole strides: a predictor that they do not change becomes invariant to all, any other to none for certain."""
    x = noise(4, 12, 16)
    by = shift(torch.tensor([[1.0, 0], [3, 2], [6, 9], [4, 8]]))
    x, moved = x, act(by, x, Image(border="wrap"))
    for places, invariant in ((False, True), (True, False)):
        bare = Patches(places).eval()
        model = adapt(bare, "Shift4", outputs="invariant", canonicalizer=PolyphaseCanonicalizer("Shift4"))
        assert torch.equal(model(moved), model(x)) is invariant
        assert not torch.equal(bare(moved), bare(x)), "control"
    index = group("Shift4").index
    assert torch.equal(index(model.predict(moved).pose.g), index(by @ model.predict(x).pose.g))
    few = torch.zeros(1, 3, 8, 8)
    few[..., 6, 1] = 5
    pose = PolyphaseCanonicalizer("Shift4")(few)
    assert pose.g[0, :2, 2].tolist() == [1, 2], "worked example: the bright pixel, modulo 4"
    averaged = adapt(bare, "Shift2", outputs="invariant", canonicalizer=UniformCanonicalizer("Shift2"), top_k=4)
    assert torch.allclose(averaged(x), torch.stack([bare(rolled(x, 4 * [(-i, -j)])) for i in (0, 1) for j in (0, 1)]).mean(0))


# ---------------------------------------------------------------------------------------------------- around the models
def test_saved_evaluated_and_as_compiled(tmp_path):
    predictor, x = Classifier().eval(), coarse(6, 12, 12)
    model = adapt(predictor, "Shift4", outputs="logits", coverage=0.8)
    assert isinstance(model.canonicalizer, SeamCanonicalizer), "the default"
    model.save(tmp_path)
    again = equiform.load(tmp_path, predictor)
    assert (again.group, again.inputs) == (Shift(4), Image(border="wrap"))
    assert torch.equal(again(x), model(x))
    report = equiform.evaluate(model, (x, model(x).argmax(1)), group="Shift2", baselines=["bare"])
    adapted, bare = report.methods
    assert (report.elements, adapted.values) == (["shift 0, 0", "shift 1, 0", "shift 0, 1", "shift 1, 1"], [1.0] * 4)
    assert adapted.equivariance_error == 0 < (bare.equivariance_error or 0)
    refused(ValueError, "seam canonicalizer has nothing to learn: the model needs no fit", lambda: equiform.fit(model, x))
    by = torch.tensor([[i % 4, i // 4] for i in range(6)])
    assert torch.equal(_gathered(shift(by.float()), x), rolled(x, by.tolist())), "as compiled graphs move pixels"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adapt(Classifier(), "Shift16", outputs="logits")(noise(1, 12, 40)), "up to 15 pixels, more than a canvas of "
         "12 x 40 has room for: take 'Shift12' at most"),
        (lambda: PolyphaseCanonicalizer("Shift4")(noise(1, 12, 14)), "4 x 4 pixels; got 12 x 14: crop .* SeamCanonicalizer"),
        (lambda: SeamCanonicalizer("Shift4", plain="yes"), "plain is True for objects on .* got 'yes'"),  # pyright: ignore
        (lambda: SeamCanonicalizer("C4"), "finds cyclic shifts, such as Shift.16.; got C4"),
        (lambda: PolyphaseCanonicalizer("D4"), "finds cyclic shifts, such as Shift.16.; got D4"),
        (lambda: OrbitCanonicalizer("Shift4"), "thumbnails, which do not show the shifts of Shift4 .* SeamCanonicalizer"),
        (lambda: SeamCanonicalizer("Shift4")(torch.rand(12, 12)), r"\(b, channels, height, width\); got \(12, 12\)"),
        (lambda: UniformCanonicalizer("Shift32"), "at most 720 elements; Shift32 has 1024"),
    ],
)  # fmt: skip
def test_bad_input_says_the_way_out(call, message, unchecked):
    refused(ValueError, message, call)


def test_real_photos_keep_their_class(shared):
    """Of ten photos of Imagenette shifted anywhere: the answers do not change in any bit."""
    from PIL import Image as Photo

    files = sorted((shared / "data" / "imagenette" / "val").glob("*/*"))[::50]
    photos = [torch.from_numpy(np.array(Photo.open(file).convert("RGB"))).movedim(-1, 0) for file in files]
    model = adapt(lambda images: [image.float().cumsum(-1).mean((0, 1)) for image in images], "Shift16", outputs=["invariant"])
    by = [(1, 0), (15, 15), (40, 3)]
    for right, down in by:
        moved = [photo.roll((down, right), (-2, -1)) for photo in photos]
        assert same(model.canonicalizer(moved).scores, model.canonicalizer(photos).scores)
        gained = model.canonicalizer(moved).g - model.canonicalizer(photos).g
        sizes = torch.tensor([[photo.shape[2], photo.shape[1]] for photo in photos])
        assert torch.equal(gained[:, :2, 2] % sizes, torch.tensor([[right, down]]) % sizes)
