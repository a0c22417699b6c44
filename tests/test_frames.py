"""Canonicalizers of clouds: wrapped models are equivariant to rotations, reflections, translations and the order of points."""

import contextlib
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import equiform
from asserting import refused
from equiform import E3, O3, SE3, SO3, FrameCanonicalizer, Rows, act, adapt, inverse
from equiform.canonicalizers import Canonicalizer, PrincipalAxesCanonicalizer, SearchCanonicalizer, UniformCanonicalizer
from equiform.canonicalizers.principal_axes import principal_axes
from equiform.geometry import AboutZ, Group, Icosahedral, Octahedral, Similarity
from equiform.geometry.clouds import Cloud, standardised
from equiform.geometry.groups import SpaceGroup, homogeneous
from equiform.geometry.rotations import rotation_angle
from equiform.learning.priors import frame_loss
from small_canonicalizers import CLOUDS
from small_predictors import CloudHeads

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
CONTINUOUS = [SO3(), O3(), SE3(), E3(), Similarity(), AboutZ()]
FINITE = [AboutZ(4), AboutZ(5), Octahedral(), Icosahedral(True)]


def procrustes(g: Group) -> Canonicalizer:
    origin = "learned" if isinstance(g, SpaceGroup) and g.translations else "centroid"
    return FrameCanonicalizer(g, method="procrustes", origin=origin)


MAKERS: dict[str, Callable[[Group], Canonicalizer]] = {
    **{name: lambda g, make=make: make(g).eval() for name, make in CLOUDS.items()},
    "frame, procrustes, learned origin": lambda g: procrustes(g).eval(),
}
KINDS = {"logits": "logits", "points": "points", "vectors": "vectors", "matrices": "matrices", "parts": "logits"}


def clouds(b: int = 12, n: int = 40, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random clouds, no two alike and none symmetric."""
    x = torch.randn(b, n, 3, dtype=torch.float64) * torch.tensor([1.6, 1.0, 0.6])
    x[:, : n // 3, 0] += 2
    x[:, : n // 5, 1] += 1
    return x.to(dtype)


def moves(group: Group, b: int, dtype: torch.dtype) -> Tensor:
    """A random element for every row, orthogonal to the last digit of that dtype."""
    if isinstance(group, SpaceGroup) and group.order:
        return homogeneous(group.matrices[torch.randint(group.order, (b,))]).to(dtype)
    return group.nearest(group.random(b).to(dtype))


def errors(got: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
    """Of every answer and row, the relative error."""
    return torch.stack([(got[k] - expected[k]).flatten(1).norm(dim=1) / expected[k].flatten(1).norm(dim=1) for k in KINDS])


def test_every_canonicalizer_of_clouds_is_here_and_knows_one_point():
    assert {maker(SO3()).name for maker in MAKERS.values()} == set(CLOUDS)
    model = adapt(CloudHeads().double(), E3(), outputs=KINDS, canonicalizer=MAKERS["search"](E3()))
    x = DEGENERATE["equal points"].double().expand(8, -1, -1)
    with torch.no_grad():
        logits = model(act(moves(E3(), 8, torch.float64), x, "points"))["logits"]
    assert float((logits - logits[:1]).abs().max()) < 1e-6


PAIRS = [(g, name) for g in CONTINUOUS for name in MAKERS] + [(g, "search") for g in FINITE]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("averaged", [False, True], ids=["one pose", "all poses"])
@pytest.mark.parametrize(("group", "name"), PAIRS, ids=lambda v: getattr(v, "name", v))
def test_any_wrapped_model_is_equivariant(group, name, averaged, dtype, unchecked):
    canonicalizer = MAKERS[name](group)
    top_k = canonicalizer.num_poses if averaged else 1
    model = adapt(CloudHeads().to(dtype), group, outputs=KINDS, canonicalizer=canonicalizer, top_k=top_k)
    x = clouds(dtype=dtype)
    g, order = moves(group, len(x), dtype), torch.randperm(x.shape[1])
    with torch.no_grad():
        answer, bare = model(x), model.predictor(x)
        turned, expected = act(g, x, "points")[:, order], act(g, answer, KINDS)
        expected = {k: v[:, order] if v.ndim > 2 else v for k, v in expected.items()}
        assert errors(model(turned), expected).max() < TOLERANCE[dtype]
        # control: the bare model is not
        bare = {k: v[:, order] if v.ndim > 2 else v for k, v in act(g, bare, KINDS).items()}
        assert errors(model.predictor(turned), bare).amax(1).min() > 0.02


@pytest.mark.parametrize("name", MAKERS)
def test_the_pose_follows_the_cloud(name):
    canonicalizer, x = MAKERS[name](E3()), clouds()
    g = moves(E3(), len(x), torch.float64)
    pose, moved = canonicalizer(x), canonicalizer(act(g, x, "points"))
    assert torch.allclose(moved.g, g @ pose.g, atol=1e-11)
    assert torch.allclose(moved.confidence, pose.confidence, atol=1e-11)
    assert not torch.allclose(moved.g, pose.g @ g, atol=1e-2), "control"
    # the canonical form is the same, and about the origin
    back = act(torch.linalg.inv(pose.g), x, "points")
    assert torch.allclose(act(torch.linalg.inv(moved.g), act(g, x, "points"), "points"), back, atol=1e-11)
    assert bool((torch.linalg.det(pose.candidates) * torch.linalg.det(pose.candidates) - 1).abs().max() < 1e-12)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("group", [SO3(), SE3(), AboutZ()], ids=lambda g: g.name)
def test_a_rotation_is_never_a_reflection(name, group):
    pose = MAKERS[name](group)(torch.cat([clouds(), clouds() * torch.tensor([-1.0, 1, 1])]))
    assert torch.allclose(torch.linalg.det(pose.candidates), torch.ones(()).double(), atol=1e-12)
    mirrored = MAKERS[name](O3())(torch.cat([clouds(), clouds() * torch.tensor([-1.0, 1, 1])]))
    assert bool((torch.linalg.det(mirrored.candidates) < 0).any()), "control: O(3) finds reflections"


def test_mirror_images():
    x, mirror = clouds(), torch.diag(torch.tensor([-1.0, 1, 1, 1])).double()[None]
    for group, alike in ((O3(), True), (SO3(), False)):
        model = adapt(CloudHeads().double(), group, outputs=KINDS, canonicalizer=FrameCanonicalizer(group))
        with torch.no_grad():
            difference = (model(act(mirror, x, "points"))["logits"] - model(x)["logits"]).abs().amax(1)
        assert bool((difference < 1e-12).all()) is alike
        assert alike or float(difference.min()) > 1e-4
    # a body with a mirror plane, as most furniture has: two poses are right, and one frame cannot be.
    x = clouds()
    x = torch.cat([x, x * torch.tensor([-1.0, 1, 1])], 1)
    for method in ("gram-schmidt", "procrustes"):
        for group, sure in ((O3(), False), (SO3(), True)):
            certainty = FrameCanonicalizer(group, method=method).eval()(x).certainty
            assert certainty is not None
            assert bool((certainty < 1e-9).all()) is not sure


# ------------------------------------------------------------------------------------------------- degenerate clouds

GOLDEN = (1 + math.sqrt(5)) / 2
ICOSAHEDRON = torch.tensor([[0, s, t * GOLDEN] for s in (-1, 1) for t in (-1, 1)])
CUBE = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
LINE = torch.linspace(-1, 2, 9)[:, None] ** 3 * torch.tensor([[1.0, 2, 3]])
PLANE = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1, 0])
DEGENERATE = {
    "one point": torch.tensor([[1.0, 2, 3]]),
    "equal points": torch.full((9, 3), 0.1),
    "no points": torch.zeros(0, 3),
    "a line": LINE,
    "a cube": CUBE,
    "a cube elsewhere": CUBE + 5,
    "a tetrahedron": CUBE[CUBE.prod(1) > 0],
    "an icosahedron": torch.cat([ICOSAHEDRON.roll(k, 1) for k in range(3)]),
    "not finite": torch.tensor([[1.0, 2, float("nan")], [1.0, 0, 0], [0, 1, 0]]),
}


@pytest.mark.parametrize("shape", DEGENERATE)
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("group", [SO3(), E3()], ids=lambda g: g.name)
def test_degenerate_clouds_have_a_valid_frame_and_no_confidence(group, name, shape, unchecked):
    canonicalizer = MAKERS[name](group)
    with torch.no_grad():
        pose = canonicalizer([DEGENERATE[shape], *clouds(3)])
    linear = pose.candidates[:, :, :3, :3]
    assert torch.allclose(linear.mT @ linear, torch.eye(3).double().expand_as(linear), atol=1e-12)
    assert pose.candidates.isfinite().all()
    assert float(pose.confidence[0]) < 1e-6
    # the others are sure of themselves in comparison
    assert bool((pose.confidence[1:] > 1e-4).all())


@pytest.mark.parametrize("shape", DEGENERATE)
@pytest.mark.parametrize("name", MAKERS)
def test_a_degenerate_row_changes_no_other_row(name, shape, unchecked):
    canonicalizer, x = MAKERS[name](SE3()), [*clouds(3)]
    together, alone = canonicalizer([DEGENERATE[shape], *x]), canonicalizer(x)
    assert torch.allclose(together.g[1:], alone.g, atol=1e-11)
    assert torch.allclose(torch.cat([canonicalizer([row]).g for row in x]), alone.g, atol=1e-11)
    if shape != "not finite":
        model = adapt(CloudHeads().double(), SE3(), outputs=KINDS, canonicalizer=canonicalizer)
        if len(DEGENERATE[shape]):
            answer = model(DEGENERATE[shape].double()[None])
            assert all(part.isfinite().all() for part in answer.values())


LINES = {
    "one point": DEGENERATE["one point"],
    "equal points": DEGENERATE["equal points"],
    "a line": LINE,
    "a line, the same from both ends": torch.linspace(-1, 1, 9)[:, None] * torch.tensor([[1.0, 2, 3]]) + 4,
    "two points": torch.tensor([[1.0, 2, 3], [2, 0, 4]]),
}


@pytest.mark.filterwarnings("ignore:points far from the origin")  # some lie there on purpose
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", LINES)
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "search"])
@pytest.mark.parametrize("group", [SE3(), O3()], ids=lambda g: g.name)
def test_invariant_answers_of_points_on_a_line_agree_all_the_same(group, name, shape, dtype):
    """Whatever completes their frame leaves the canonical form alone: with translations, or about the origin."""
    model = adapt(CloudHeads().to(dtype), group, outputs=KINDS, canonicalizer=MAKERS[name](group))
    x = LINES[shape].to(dtype)
    x, g = (x if group.translations else x - x.mean(0)).expand(20, -1, -1), moves(group, 20, dtype)
    with torch.no_grad():
        logits = model(act(g, x, "points"))["logits"]
        assert float((logits - logits[:1]).abs().max()) < (1e-4 if dtype == torch.float32 else 1e-6)
        bare, far = model.predictor(act(g, x, "points"))["logits"], model(act(g, x + 3, "points"))["logits"]
    if x.abs().max() > 0.2:
        assert float((bare - bare[:1]).abs().max()) > 0.01, "control"
    if not group.translations:  # the limit of it: the centroid has a direction too, and the frame does not know it
        assert float((far - far[:1]).abs().max()) > 0.01


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("group", CONTINUOUS, ids=lambda g: g.name)
def test_a_plane_defines_a_frame_without_certainty(group, name):
    """To rotations the frame is right all the same, and thin things that are not flat keep their certainty."""
    canonicalizer = MAKERS[name](group)
    x = act(moves(SO3(), 1, torch.float64), PLANE.double()[None], "points") + 3
    with torch.no_grad():
        pose = canonicalizer(x)
        assert float(pose.certainty) < 1e-6
        if not group.reflections:
            g = moves(group, 1, torch.float64)
            assert torch.allclose(canonicalizer(act(g, x, "points")).g, g @ pose.g, atol=1e-10)
        if group.reflections and name.startswith("frame"):
            return  # the side of a thin cloud is as uncertain as it is thin
        thin = clouds(20) * torch.tensor([1.0, 1, 0.01])
        assert float(canonicalizer(thin).certainty.median()) > 0.01


@pytest.mark.parametrize("name", ["principal-axes", "search"])
def test_the_two_poses_of_a_plane_under_reflections_averaged(name):
    """One pose answers with one of two mirror images, two with their mean, which is exact."""
    x = clouds() * torch.tensor([1.0, 1, 0])
    g = moves(E3(), len(x), torch.float64)
    for top_k in (1, 2):
        model = adapt(CloudHeads().double(), E3(), outputs=KINDS, canonicalizer=MAKERS[name](E3()), top_k=top_k)
        with torch.no_grad():
            found = errors(model(act(g, x, "points")), act(g, model(x), KINDS))
        assert (float(found.max()) < 1e-9) is (top_k == 2)


# ------------------------------------------------------------------------------------------- batches of other layouts
@pytest.mark.parametrize("top_k", [1, 4])
def test_padded_flat_and_listed_clouds_get_the_same_answers(top_k):
    sizes = [7, 20, 1, 33]
    x, batch = [clouds(1, 40)[0][:n] for n in sizes], torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    edges = torch.stack([torch.arange(60), torch.arange(1, 61)])
    edges, inner = edges[:, batch[edges[0]] == batch[edges[1]]], CloudHeads().double()
    canonicalizer = PrincipalAxesCanonicalizer(E3())

    def on_padded(x: Tensor, there: Tensor) -> dict[str, Tensor]:
        v = inner.vectors(inner.body(x)) * there[..., None]
        return {"v": v, "dipole": v.sum(1)}

    def on_flat(x: Tensor, edge_index: Tensor, batch: Tensor) -> dict[str, Tensor]:
        v = inner.vectors(inner.body(x))
        assert torch.equal(batch[edge_index[0]], batch[edge_index[1]]), "the edges stay within their clouds"
        return {"v": v, "dipole": torch.zeros(int(batch[-1]) + 1, 3).double().index_add(0, batch, v)}

    outputs, padded = {"v": "vectors", "dipole": "vectors"}, torch.full((4, 33, 3), 9.0).double()
    there = torch.arange(33) < torch.tensor(sizes)[:, None]
    padded[there] = torch.cat(x)
    one = adapt(on_padded, E3(), inputs=("points", "presence"), outputs=outputs, canonicalizer=canonicalizer, top_k=top_k)
    two = adapt(on_flat, E3(), inputs=("points", "edges", "batch"), outputs=outputs, canonicalizer=canonicalizer, top_k=top_k)
    with torch.no_grad():
        a, b = one(padded, there), two(torch.cat(x), edges, batch)
        assert torch.allclose(a["v"][there], b["v"], atol=1e-12)
        assert torch.allclose(a["dipole"], b["dipole"], atol=1e-12)
        # and row by row: one after the other, in a list
        rows = adapt(
            lambda x: [{"v": on_padded(p[None], torch.ones(1, len(p)))["v"][0]} for p in x],
            E3(),
            inputs=Rows("points"),
            outputs=Rows({"v": "vectors"}),
            canonicalizer=canonicalizer,
        )
        if top_k == 1:
            assert torch.allclose(torch.cat([row["v"] for row in rows(x)]), b["v"], atol=1e-12)
        # what lies in the padding changes nothing
        other = torch.where(there[..., None], padded, float("nan"))
        again = canonicalizer(Cloud(other, there, torch.zeros(4, 33, 0, 3).double(), torch.zeros(4, 33, 0).double()))
        assert torch.equal(again.g, one.predict(padded, there).pose.g)


@pytest.mark.parametrize("n", [3, 7])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("outputs", ["points", {"p": "points"}, Rows("points")], ids=str)
def test_a_list_of_clouds_gives_a_list(outputs, top_k, n):
    """Three clouds, of three points as well: whose rows could be taken for those of the batch."""

    def stretched(x: list[Tensor]) -> list[Tensor] | dict[str, list[Tensor]]:
        answer = [points * torch.tensor([1.0, 2, 3]) for points in x]
        return {"p": answer} if isinstance(outputs, dict) else answer

    model = adapt(stretched, SE3(), outputs=outputs, canonicalizer=PrincipalAxesCanonicalizer(SE3()), top_k=top_k)
    x, g = list(clouds(3, 12)[:, :n]), moves(SE3(), 3, torch.float64)
    warned = pytest.warns(UserWarning, match="lists and whole numbers are not averaged")
    with warned if top_k == 2 and not isinstance(outputs, Rows) else contextlib.nullcontext():
        answer, turned = model(x), model(act(g, x, Rows("points")))
    answer, turned = ((a["p"] if isinstance(outputs, dict) else a) for a in (answer, turned))
    expected = act(g, answer, Rows("points"))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(turned, expected, strict=True))
    bare = [points * torch.tensor([1.0, 2, 3]) for points in act(g, x, Rows("points"))]
    assert not torch.allclose(bare[0], expected[0], atol=1e-2), "control"


@pytest.mark.parametrize("listed", [False, True])
def test_several_poses_never_make_a_batch_larger_than_the_callers(listed):
    x, seen = clouds(3, 12), []

    def summed(x: Tensor) -> Tensor:
        seen.append(len(x))
        return torch.stack([points.pow(3).sum(0) for points in x])

    model = adapt(
        summed,
        SO3(),
        inputs=Rows("points") if listed else "points",
        outputs="vectors",
        canonicalizer=PrincipalAxesCanonicalizer(SO3()),
        top_k=4,
    )
    pose, answers = model.predict(list(x) if listed else x).pose, model(list(x) if listed else x)
    assert seen == [3] * 8, "four poses of three clouds, twice"
    # and the parts are put together in order
    g = pose.candidates
    each = torch.stack([act(g[:, k], summed(act(equiform.inverse(g[:, k]), x, "points")), "vectors") for k in range(4)], 1)
    expected = (each * pose.probabilities[..., None]).sum(1)
    assert torch.allclose(answers.double(), expected.double(), atol=1e-3)
    assert not torch.allclose(answers.flip(0).double(), expected.double(), atol=1e-3), "control"


@pytest.mark.parametrize("training", [False, True])
def test_nor_does_a_flat_batch_become_larger(training):
    """Four poses of clouds of many sizes, one without points: as many at a time as have no more points than came."""
    sizes, seen = torch.tensor([7, 20, 1, 0, 33]), []
    batch, x = torch.repeat_interleave(torch.arange(5), sizes), clouds(1, 61)[0]
    weight = torch.randn(3, 3).double()

    def on_flat(x: Tensor, batch: Tensor) -> dict[str, Tensor]:
        seen.append(len(x))
        v = torch.tanh(x @ weight)
        return {"v": v, "sum": torch.zeros(int(batch[-1]) + 1, 3).double().index_add(0, batch, v), "loss": v.square().mean()}

    canonicalizer = SearchCanonicalizer("E3", side=4, width=16)
    kinds = {"inputs": ("points", "batch"), "outputs": {"v": "vectors", "sum": "vectors", "loss": "invariant"}}
    model = adapt(on_flat, "E3", **kinds, canonicalizer=canonicalizer, top_k=4)
    canonicalizer.training = training  # the value is the same; gradients are let through
    answer = model(x, batch)
    assert len(seen) > 3
    assert max(seen) <= 61
    each = [model(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split(sizes.tolist()) if len(part)]
    assert torch.allclose(answer["v"], torch.cat([one["v"] for one in each]), atol=1e-10)
    assert torch.allclose(answer["sum"][sizes > 0], torch.cat([one["sum"] for one in each]), atol=1e-10)
    assert torch.equal(answer["sum"][3], torch.zeros(3).double())
    assert answer["loss"].shape == ()


@pytest.mark.parametrize("group", CONTINUOUS, ids=lambda g: g.name)
def test_frames_spread_in_training_alone(group):
    x = clouds(400, 12)
    torch.manual_seed(0)
    canonicalizer = FrameCanonicalizer(group, width=4, spread=20.0).eval()
    with torch.no_grad():
        still, again = canonicalizer(x).g, canonicalizer(x).g
        canonicalizer.train()
        spread = canonicalizer(x).g
    assert torch.equal(still, again)
    assert torch.allclose(still[:, :3, 3], spread[:, :3, 3])
    turn = (inverse(still) @ spread)[:, :3, :3]
    mirrored = torch.linalg.det(turn) < 0
    assert float(mirrored.double().mean()) == pytest.approx(0.5 if group.reflections else 0, abs=0.1)
    turn = torch.where(mirrored[:, None, None], -turn, turn)
    assert torch.allclose(turn.mT @ turn, torch.eye(3).double().expand(400, 3, 3), atol=1e-12)
    assert float(torch.rad2deg(rotation_angle(turn)).square().mean().sqrt()) == pytest.approx(20, rel=0.15)
    assert torch.allclose(turn[:, 2, 2], torch.ones(400).double(), atol=1e-12) is bool(group.axis)


def test_velocities_and_charges_are_seen():
    """A network that is told of them finds poses that turn with the velocities too."""
    canonicalizer = FrameCanonicalizer(SE3(), vectors=1, features=1)

    def step(x: Tensor, v: Tensor, charge: Tensor) -> Tensor:
        return x + v * charge[..., None] + torch.tensor([1.0, 0, 0])

    kinds = {"x": "points", "v": "vectors", "charge": "features"}
    model = adapt(step, SE3(), inputs=kinds, outputs="points", canonicalizer=canonicalizer)
    x, v, charge = clouds(6, 5), torch.randn(6, 5, 3).double(), torch.randn(6, 5).double()
    g = moves(SE3(), 6, torch.float64)
    moved = model(act(g, x, "points"), act(g, v, "vectors"), charge)
    assert torch.allclose(moved, act(g, model(x, v, charge), "points"), atol=1e-11)
    poses = [model.predict(x, w, c).pose.g for w, c in ((v, charge), (-v, charge), (v, -charge))]
    assert not any(torch.allclose(poses[0], other, atol=1e-3) for other in poses[1:])
    refused(ValueError, "looks at 1 vectors and 1 features of each point, the inputs have 0 and 0", lambda: canonicalizer(x))


# ------------------------------------------------------------------------------------------------------------ the rest


def test_principal_axes_by_hand_and_skewness():
    x = torch.tensor([[[0.0, 0, 3], [0, 0, -3], [2, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]]).double()
    cloud = Cloud(x, torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, 6, 0, 3).double(), torch.zeros(1, 6, 0).double())
    frame, gap = principal_axes(cloud)
    assert torch.equal(frame.abs(), torch.tensor([[[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]]).double())
    assert float(gap) == pytest.approx(1 / 3)
    frame, _ = principal_axes(cloud, axis=True)
    assert torch.equal(frame.abs(), torch.eye(3).double()[None])
    assert math.isclose(float(standardised(cloud)[2]), math.sqrt(28 / 6))
    tail = torch.cat([torch.zeros(10, 3), torch.tensor([[5.0, 0, 0]]), torch.tensor([[0, 1.0, 0], [0, 0, 0.3]])])
    pose = PrincipalAxesCanonicalizer(O3())(tail[None])
    assert torch.allclose(pose.g[0, :3, :3].abs(), torch.eye(3).double(), atol=0.2)
    assert float(pose.g[0, 0, 0]) > 0.9
    even = PrincipalAxesCanonicalizer(O3(), scores="equal")(tail[None])
    assert torch.equal(even.probabilities, torch.full((1, 8), 1 / 8).double())


@pytest.mark.parametrize("make", [PrincipalAxesCanonicalizer, CLOUDS["search"]])
@pytest.mark.parametrize(("middle", "certainty"), [(0.98, 0.4), (0.96, 0.8), (0.94, 1.0), (1.0, 0.0)])
def test_axes_that_differ_by_a_twentieth_are_told_apart(make, middle, certainty):
    """Worked example: deviations of 1, `middle` and 0.5."""
    x = torch.cat([torch.diag(torch.tensor([1, middle, 0.5])), -torch.diag(torch.tensor([1, middle, 0.5]))]).double()
    assert float(make("O3").eval()(x[None]).certainty) == pytest.approx(certainty, abs=1e-6)


@pytest.mark.parametrize("name", ["search", "principal-axes", "frame"])
def test_what_is_less_exact_is_less_certain(name):
    """Axes a hair apart blow up the rounding of float32: an error above the bound comes with as much less certainty."""
    x = torch.randn(60, 64, 3) * torch.tensor([1.0, 1, 0.6])
    centred = x - x.mean(1, keepdim=True)
    values, axes = torch.linalg.eigh((centred.mT @ centred / 64).double())
    stretch = torch.logspace(-5, -1, 60).double()  # the two largest deviations differ by these shares
    wanted = torch.stack([values[:, 0], values[:, 2] * (1 - stretch).square(), values[:, 2]], -1)
    x = ((centred.double() @ axes) * (wanted / values).sqrt()[:, None]).float()
    model = adapt(lambda x: {"points": x + 1}, SO3(), outputs={"points": "points"}, canonicalizer=MAKERS[name](SO3()))
    g = moves(SO3(), len(x), torch.float32)
    with torch.no_grad():
        answer = model.predict(x)
        moved, expected = model(act(g, x, "points"))["points"], act(g, answer.output["points"], "points")
    off = (moved - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    certainty = answer.pose.certainty
    assert certainty is not None
    assert float((off * certainty).max()) < TOLERANCE[torch.float32]
    assert float(certainty.max()) > 0.1
    if name != "frame":
        assert float(off.max()) > TOLERANCE[torch.float32], "control"


def test_orbit_averaging_defaults_and_refusals(unchecked):
    model = adapt(CloudHeads().double(), "O", outputs=KINDS, canonicalizer=UniformCanonicalizer("O"), top_k=24)
    x, g = clouds(3), Octahedral().random(3).double()
    with torch.no_grad():
        assert errors(model(act(g, x, "points")), act(g, model(x), KINDS)).max() < 1e-12
    model = adapt(CloudHeads().double(), "SO3", outputs=KINDS)
    assert isinstance(model.canonicalizer, SearchCanonicalizer)
    with torch.no_grad():
        assert model(torch.zeros(0, 5, 3).double())["points"].shape == (0, 5, 3)
    model = adapt(CloudHeads().double(), "SO3", outputs=KINDS)
    refused(ValueError, r"points have shape \(b, n, 3\)", lambda: model(torch.rand(4, 3)))
    with pytest.raises(ValueError, match="no points among the inputs"):
        adapt(CloudHeads(), "SO3", inputs="vectors", outputs=KINDS)(torch.rand(2, 4, 3))


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "principal-axes"])
def test_gradients_reach_the_canonicalizer(name):
    model = adapt(CloudHeads().double(), SE3(), outputs=KINDS, canonicalizer=MAKERS[name](SE3()))
    x = clouds(4)
    with torch.no_grad():
        hard = model(x)["points"]
    model.canonicalizer.train()
    for module in model.canonicalizer.modules():  # the same value in training: no dropout
        module.training = module is model.canonicalizer
    soft = model(x)["points"]
    assert torch.allclose(soft, hard, atol=1e-12), "the value in training is the hard choice"
    soft.square().sum().backward()
    gradients = [p.grad for p in model.canonicalizer.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("group", "name"), [("SE3", name) for name in MAKERS] + [("O", "search")])
def test_poses_stay_exact_in_a_model_of_another_dtype(group, name, dtype):
    model = adapt(CloudHeads().double(), group, outputs=KINDS, canonicalizer=MAKERS[name](equiform.group(group)))
    x = clouds(3).to(dtype)
    with torch.no_grad():
        before = model.predict(x.double()).pose
        for change in (lambda: model.to(dtype), lambda: model.to("cpu", dtype), lambda: model.float().to(dtype)):
            answer, pose = change().predict(x)
            assert torch.equal(pose.candidates, before.candidates)
            assert torch.equal(pose.scores, before.scores)
            assert answer["points"].dtype == dtype, "control: the predictor has changed"


@pytest.mark.parametrize("shape", [shape for shape in DEGENERATE if shape != "no points"])
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "principal-axes"])
@pytest.mark.parametrize("group", [SO3(), E3(), AboutZ()], ids=lambda g: g.name)
def test_gradients_of_degenerate_clouds_are_finite(group, name, shape, unchecked):
    """One such cloud among the data of a training must not make its weights NaN."""
    canonicalizer = MAKERS[name](group).train()
    pose = canonicalizer([DEGENERATE[shape], *clouds(3)])
    loss = frame_loss(pose.scores, pose.candidates[..., :3, :3], torch.eye(3)[None].double(), torch.ones(3))
    (loss + (pose.candidates * torch.randn(4, 4)).sum()).backward()
    gradients = [p.grad for p in canonicalizer.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
