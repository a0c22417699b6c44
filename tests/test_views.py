"""What canonicalizers look at: the same to the bit over the orbit, blind to the numeric range."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asserting import ran, refused
from equiform import Cyclic, Dihedral, GroupConvCanonicalizer, OrbitCanonicalizer, act
from equiform.canonicalizers import TileCanonicalizer
from equiform.images import tiles, views
from equiform.images.tiles import tile_view
from equiform.images.views import VIEW_STEP, disc, orbit_views, square_view, standardise, view_size
from equiform.learning.augmentation import blended
from small_photos import noise

D4 = Dihedral(4).elements
SIZES = [(37, 53), (64, 64), (5, 3), (101, 33), (16, 16), (1, 7)]


def whole_orbit(view, group):
    return torch.stack(orbit_views(view, group))


def imagenet(x: Tensor) -> Tensor:
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x.float() / 255 - mean[:, None, None]) / deviation[:, None, None]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_view_of_a_turned_image_is_the_turned_view_to_the_bit(size, dtype):
    x = noise(2, *size, dtype)
    view = square_view(x, 16)
    assert all(torch.equal(square_view(act(g, x), 16), act(g, view)) for g in D4.split(1))
    if min(size) > 1:
        assert not torch.equal(square_view(act(D4[1:2], x), 16), view), "control: the view does turn"


@pytest.mark.parametrize("size", SIZES[:4], ids=str)
def test_blind_to_the_numeric_range(size):
    x, canonicalizer = noise(4, *size), OrbitCanonicalizer("D4", resolution=16).eval()
    reference, pose = square_view(x, 16), canonicalizer(x)
    for other in (x.float(), x / 255, x.double() / 127.5 - 1, imagenet(x), 1000 + x.float() / 16):
        assert (square_view(other, 16) - reference).abs().max() <= 2 * VIEW_STEP
        assert torch.equal(canonicalizer(other).index, pose.index)
    assert (square_view(255 - x, 16) - reference).abs().max() > 0.1, "control: a negative is another picture"


def test_the_view_looks_like_the_whole_picture_antialiased():
    view = square_view(noise(2, 37, 53), 16)
    assert (view.shape, view.dtype) == ((2, 3, 16, 16), torch.float32)
    assert view.mean((-2, -1)).sub(0.5).abs().max() < 1e-3
    assert view.var((-2, -1), correction=0).sqrt().sub(0.25).abs().max() < 1e-3
    assert torch.equal(view, (view / VIEW_STEP).round() * VIEW_STEP)
    assert view.is_contiguous(memory_format=torch.channels_last)
    # the control: in float32 and unrounded, sums in another order give other bits.
    x = noise(2, 37, 53, torch.float32)
    small = [F.interpolate(y, (16, 16), mode="bilinear", antialias=True) for y in (x, torch.rot90(x, 1, (-2, -1)))]
    assert not torch.equal(torch.rot90(small[0], 1, (-2, -1)), small[1])
    x = torch.zeros(1, 1, 64, 64)
    x[..., 0, 0] = 1  # a single bright pixel in a corner, between the samples of a plain resize
    assert square_view(x, 8)[0, 0, 0, 0] > 0.6
    stripes = torch.arange(64.0).remainder(2).expand(1, 1, 64, 64).clone()
    stripes[..., :32] *= 0.5
    view = square_view(stripes, 8)[0, 0]
    assert view[:, 1:3].std() < 0.01, "no beats of the stripes"
    assert view[:, 5:7].mean() - view[:, 1:3].mean() > 0.3


@pytest.mark.parametrize("value", [0, 0.3, 255.0, -7.5, 1e6])
@pytest.mark.parametrize("size", [(9, 12), (1, 1)], ids=str)
def test_constant_images_are_grey(value, size):
    assert torch.equal(square_view(torch.full((2, 3, *size), value), 16), torch.full((2, 3, 16, 16), 0.5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("view", [lambda x: square_view(x, 16), lambda x: tile_view(x, 16, 6)], ids=["square", "tiles"])
def test_pixels_that_are_not_finite_do_not_count(view, bad):
    """They are as good as the mean of those that are; the view turns with the image to the bit, and other rows stay theirs."""
    x = noise(3, 9, 12, torch.float32)
    spoilt, meant = x.clone(), x.clone()
    there = torch.ones(9, 12, dtype=torch.bool)
    there[4, 3:6] = False
    spoilt[1, :, ~there] = bad
    meant[1, :, ~there] = x[1][:, there].mean(1, keepdim=True)
    seen = view(spoilt)
    assert (seen - view(meant)).abs().max() <= 2 * VIEW_STEP
    assert torch.equal(seen[[0, 2]], view(x)[[0, 2]])
    assert spoilt[1].isfinite().sum() == 3 * there.sum(), "nothing is written"
    for g in D4.split(1):
        turned = view(act(g, spoilt))
        assert torch.equal(turned.sort(1).values, act(g, seen).sort(1).values) or torch.equal(turned, act(g, seen))


@pytest.mark.parametrize("make", [OrbitCanonicalizer, GroupConvCanonicalizer, TileCanonicalizer])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_picture_without_a_finite_pixel_says_nothing(make, bad):
    x = noise(2, 9, 12, torch.float32)
    x[1] = bad
    canonicalizer = make("C4", resolution=16).eval()
    if make is TileCanonicalizer:
        canonicalizer.network.classifier.weight.data *= 100  # else its tiles tell too little for it to be sure of anything
    with torch.no_grad():
        pose = canonicalizer(x)
    assert pose.confidence[1] == pytest.approx(0.25, abs=1e-6)
    assert pose.confidence[0] > 0.25 + 1e-5, "control"


@pytest.mark.parametrize("size", [(61, 47), (40, 90), (33, 33), (1, 97)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("view", [lambda x: square_view(x, 16), lambda x: tile_view(x, 16, 6)], ids=["square", "tiles"])
def test_large_images_are_seen_in_slices(view, dtype, size, monkeypatch):
    """Slice by slice the view is the same, and turns with the image to the bit."""
    x = noise(2, *size, dtype)
    x = x if dtype == torch.uint8 else x.masked_fill(torch.rand(2, 3, *size) < 0.02, math.nan)
    whole = view(x)
    monkeypatch.setattr(views, "LARGE", 0)
    monkeypatch.setattr(tiles, "LARGE", 0)
    monkeypatch.setattr(views, "SLICE", 200)
    sliced = view(x)
    assert (sliced - whole).abs().max() <= VIEW_STEP
    assert all(torch.equal(view(act(g, x)).sort(1).values, act(g, sliced).sort(1).values) for g in D4.split(1))


MEMORY = """
import resource, sys, torch
from equiform.images.views import square_view
x = torch.randint(256, (1, 3, 6000, 6000), dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
square_view(x, 64)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / x.numel())
"""


@pytest.mark.slow
def test_the_view_of_a_large_image_takes_little_memory():
    """Of 36 megapixels in bytes, less than a copy of them; at once in float64 it would be eight."""
    assert float(ran("-c", MEMORY)) < 0.8


def test_faint_images_lists_and_channels():
    x = 100 + 0.01 * torch.rand(1, 3, 16, 16, dtype=torch.float64)
    assert square_view(x, 16).std() > 0.2
    images = [noise(1, 9, 12)[0], noise(1, 20, 7)[0]]
    assert torch.equal(square_view(images, 16), torch.cat([square_view(x[None], 16) for x in images]))
    assert square_view([], 16).shape == (0, 3, 16, 16)
    assert square_view(torch.zeros(0, 3, 9, 9), 16).shape == (0, 3, 16, 16)
    grey = noise(2, 9, 12)[:, :1]
    assert torch.equal(square_view(grey, 16), square_view(grey.expand(-1, 3, -1, -1), 16))
    assert square_view(noise(2, 9, 12).repeat(1, 2, 1, 1), 16, channels=6).shape == (2, 6, 16, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 9, 12), r"images have shape \(b, channels, height, width\); got \(3, 9, 12\).*one image: x"),
        (torch.rand(2, 3, 9, 12, dtype=torch.complex64), "of torch.complex64"),
        (torch.rand(2, 4, 9, 12), r"looks at 3 channels \(or 1\), the images have 4: .*channels=4"),
        (torch.rand(2, 3, 0, 12), r"images are empty: \(2, 3, 0, 12\)"),
        ([torch.rand(9, 12)], "images have shape"),
    ],
)
def test_what_is_no_image_is_named(images, message, unchecked):
    refused(ValueError, message, lambda: square_view(images, 16))


# ------------------------------------------------------------------------------------------------------- orbits of views
def test_orbits_of_views_turn_back():
    """Worked example: entry k is the view turned by -90 k degrees; entry 4 + k undoes the turn, then the flip."""
    view = square_view(noise(2, 9, 12), 16)
    orbit = whole_orbit(view, Dihedral(4))
    assert orbit.shape == (8, 2, 3, 16, 16)
    for k in range(4):
        assert torch.equal(orbit[k], torch.rot90(view, -k, (-2, -1)))
        assert torch.equal(orbit[4 + k], torch.rot90(view, -k, (-2, -1)).flip(-1))
    c8 = Cyclic(8)
    assert (view_size(c8, 16), view_size(Dihedral(4), 16)) == (32, 16)
    view = square_view(F.interpolate(torch.rand(2, 3, 4, 4), (48, 48), mode="bicubic"), 32)
    orbit = whole_orbit(view, c8)
    assert orbit.shape == (8, 2, 3, 16, 16)
    corner = (torch.arange(16) - 7.5).square()
    outside = (corner[:, None] + corner).sqrt() > 8
    assert (orbit[..., outside] == 0.5).all(), "no corner tells how far the view was turned"
    moved = whole_orbit(act(c8.elements[1:2], view), c8)
    error = (moved.roll(-1, 0) - orbit).abs()
    assert error.mean() < 0.01
    assert (moved - orbit).abs().mean() > 5 * error.mean(), "control"
    assert torch.equal(whole_orbit(act(c8.elements[2:3], view), c8)[2], orbit[0]), "quarter turns stay exact in C8"


@pytest.mark.parametrize("group", [Cyclic(4), Dihedral(2), Dihedral(4)], ids=lambda g: g.name)
def test_turning_the_image_permutes_the_orbit(group):
    view = square_view(noise(1, 9, 12), 16)
    orbit = whole_orbit(view, group)
    for g in group.elements.split(1):
        moved = whole_orbit(act(g, view), group)
        assert torch.equal(moved[group.index(g @ group.elements)], orbit), "the orbit of g.x at g h is that of x at h"
    assert not torch.equal(whole_orbit(act(group.elements[1:2], view), group), orbit)


def test_discs_and_standards():
    x = torch.rand(1, 1, 16, 16)
    inside = disc(x)
    assert torch.equal(inside[..., 5:11, 5:11], x[..., 5:11, 5:11])
    assert (inside[..., [0, 0, -1, -1], [0, -1, 0, -1]] == 0.5).all()
    assert all(torch.equal(disc(act(g, x)), act(g, inside)) for g in D4.split(1))
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(standardise(2 * x), standardise(x))
    assert (standardise(3 * x - 7) - standardise(x)).abs().max() <= VIEW_STEP
    assert (standardise(x**2) - standardise(x)).abs().max() > 10 * VIEW_STEP


def test_blended_images_and_targets_blend_alike():
    images, targets = torch.arange(12).reshape(12, 1, 1, 1).expand(-1, 3, 4, 4).float(), torch.eye(12)
    x, t = blended(images, targets, 0.5, torch.Generator().manual_seed(0))
    assert torch.allclose(x[:, 0, 0, 0], t @ torch.arange(12.0))  # the value of an image is the mean of what it is made of
    assert torch.allclose(t.sum(1), torch.ones(12))
    assert bool((t.diagonal() >= 0.5).all())  # its own image is never the fainter one
    assert 2 <= int((t.diagonal() < 1).sum()) <= 10  # control: some are blended, some are not
    same, alike = blended(images, targets, 0.0, torch.Generator())
    assert same is images
    assert alike is targets
    bytes_in, _ = blended(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), torch.eye(2), 1.0, torch.Generator())
    assert torch.equal(bytes_in, torch.ones(2, 3, 4, 4))
