"""Clips: one pose for all frames, so that no answer flickers."""

import pytest
import torch
from torch import Tensor, nn

import equiform
from asserting import QUIET, refused
from equiform import EnergyCanonicalizer, OrbitCanonicalizer, act, adapt, group, inverse
from equiform.canonicalizers import RingCanonicalizer, UniformCanonicalizer
from equiform.geometry import Rows
from equiform.geometry.kinds import as_kinds
from equiform.images.clips import MAX_FRAMES, as_frames
from small_canonicalizers import IMAGES
from small_photos import coarse
from small_predictors import Classifier

SEEING = [name for name in IMAGES if name not in ("uniform", "energy")]


def clips(b: int, t: int, h: int = 12, w: int = 12) -> Tensor:
    return coarse(b * t, h, w).unflatten(0, (b, t))


class VideoClassifier(nn.Module):
    """Looks at every frame, the later ones counting more."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Classifier()

    def forward(self, video: Tensor) -> Tensor:
        weight = torch.arange(video.shape[1]) + 1.0
        return (self.frames(video.flatten(0, 1)).unflatten(0, video.shape[:2]) * weight[:, None]).sum(1)


def adapted(canonicalizer: equiform.canonicalizers.Canonicalizer) -> equiform.Equivariant:
    model = VideoClassifier().eval()
    return adapt(model, canonicalizer.group, inputs="clip", outputs="logits", canonicalizer=canonicalizer)


@pytest.mark.parametrize("canvas", [(12, 12), (9, 15)], ids=str)
@pytest.mark.parametrize("name", SEEING)
def test_models_of_video_are_equivariant_to_the_bit(name, canvas, unchecked):
    model, x = adapted(IMAGES[name]("C4").eval()), clips(2, 5, *canvas)
    for g in group("C4").elements.split(1):
        assert torch.equal(model(act(g, x)), model(x))
        moved = not torch.equal(g, torch.eye(3)[None])
        assert torch.equal(model.predictor(act(g, x)), model.predictor(x)) != moved, "control: the bare one is not"


@pytest.mark.parametrize("name", SEEING)
def test_the_pose_is_that_of_the_mean_of_the_log_posteriors(name):
    canonicalizer, x = IMAGES[name]("D4").eval(), clips(3, 4)
    if name == "tiles":
        canonicalizer.network.classifier.weight.data *= 100  # else its tiles tell too little for it to be sure of anything
    pose = canonicalizer(x)
    frames = [canonicalizer(x[:, i]).scores.log_softmax(1) for i in range(4)]
    assert torch.allclose(pose.scores.log_softmax(1), torch.stack(frames).mean(0).log_softmax(1), atol=1e-4)
    assert not torch.allclose(pose.scores.log_softmax(1), frames[0], atol=1e-3), "control: no frame decides alone"
    assert torch.equal(pose.g, canonicalizer.elements[pose.index])
    assert torch.equal(canonicalizer(list(x)).g, pose.g), "a list of clips"
    assert torch.equal(canonicalizer(x[:, :1]).g, canonicalizer(x[:, 0]).g)
    still = x[:, :1].expand(-1, 4, -1, -1, -1)
    assert torch.allclose(canonicalizer(still).scores, canonicalizer(x[:, 0]).scores, atol=1e-5)


def test_continuous_poses_of_clips():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 24))
    canonicalizer, x = RingCanonicalizer(network=network, num_bins=24, resolution=32).eval(), clips(2, 5, 32, 32)
    quarter = group("C4").elements[1:2]
    assert torch.allclose(canonicalizer(act(quarter, x, "clip")).g, quarter @ canonicalizer(x).g, atol=1e-6)
    assert torch.equal(canonicalizer(x[:, :1]).g, canonicalizer(x[:, 0]).g)
    one, pose = canonicalizer(x[:, 0]), canonicalizer(x)
    assert pose.g.shape == (2, 3, 3)
    assert not torch.equal(one.g, pose.g), "control: no frame decides alone"


def test_no_more_frames_are_looked_at_than_it_takes():
    long = torch.arange(40.0).reshape(1, 40, 1, 1, 1).expand(2, -1, 3, 4, 4)
    frames, num = as_frames(long, 3)
    assert (num, len(frames), frames[:MAX_FRAMES, 0, 0, 0].tolist()) == (
        MAX_FRAMES,
        2 * MAX_FRAMES,
        [2, 7, 12, 17, 22, 27, 32, 37],
    )
    assert as_frames(long[:, :3], 3)[0].equal(long[:, :3].flatten(0, 1)), "all of a few"
    listed, num = as_frames([long[0], long[0, :4]], 3)
    assert (num, [float(frame[0, 0, 0]) for frame in listed]) == (4, [5, 15, 25, 35, 0, 1, 2, 3])
    x = torch.rand(2, 3, 8, 8)
    assert as_frames(x, 3) == (x, 1)


def test_energy_shows_the_predictor_whole_clips_and_evaluate_draws_them(unchecked):
    predictor = VideoClassifier().eval()
    model = adapt(predictor, "C4", inputs="clip", outputs="logits", canonicalizer=EnergyCanonicalizer("C4", predictor))
    x = clips(6, 3)
    assert all(torch.allclose(model(act(g, x, "clip")), model(x)) for g in group("C4").elements.split(1))
    report = equiform.evaluate(model, (x, model(x).argmax(1)), baselines=["bare"])
    assert (report.methods[0].values, report.samples[0].image.shape) == ([1.0] * 4, (12, 12, 3))
    seen = adapt(lambda videos: [video.mean((0, 1)) for video in videos], "C4", inputs="clip", outputs=Rows("mask"),
                 canonicalizer=OrbitCanonicalizer("C4", resolution=16))  # fmt: skip
    assert [y.shape for y in seen([clips(1, 2, 8, 10)[0], clips(1, 5)[0]])] == [(8, 10), (12, 12)]


def test_answers_by_frame_move_with_the_one_pose_and_do_not_flicker(unchecked):
    """Masks, boxes and points of every frame; frames that would be turned in their own way are not."""

    def by_frame(clip: Tensor) -> dict[str, Tensor]:
        h, w = clip.shape[-2:]
        maps = clip.mean(2) * (
            torch.linspace(0, 1, w) + torch.linspace(0, 3, h)[:, None]
        )  # (b, t, h, w), lighter at one corner
        weight = maps.flatten(2).softmax(-1).unflatten(-1, maps.shape[2:])
        places = [(weight.sum(axis) * (torch.arange(n) + 0.5)).sum(-1) for axis, n in ((2, w), (3, h))]
        points = torch.stack(places, -1)[:, :, None]  # one in every frame
        return {
            "mask": (maps > 0.6).long(),
            "points": points,
            "boxes": torch.cat([points - 1, points + 2], -1),
            "clip": 2 * clip,
        }

    kinds = {"mask": "mask", "points": "points", "boxes": "boxes", "clip": "clip"}
    canonicalizer = IMAGES["orbit"]("D4").eval()
    model = adapt(by_frame, "D4", inputs="clip", outputs=kinds, canonicalizer=canonicalizer)
    x = clips(3, 6, 9, 15)
    frames = torch.stack([canonicalizer(x[:, i]).index for i in range(6)], 1)
    assert all(len(row.unique()) > 1 for row in frames), "control: frames that are taken alone disagree, and would flicker"
    pose = model.predict(x).pose
    assert len(pose.index) == len(x)
    brought = [act(inverse(pose.g[i : i + 1]), x[i : i + 1], "clip") for i in range(3)]
    for i, row in enumerate(brought):
        expected = act(pose.g[i : i + 1], by_frame(row), kinds, (row.shape[-2], row.shape[-1]))
        answer = model(x[i : i + 1])
        assert torch.equal(answer["mask"], expected["mask"])
        assert torch.allclose(answer["boxes"], expected["boxes"], atol=1e-4)
    answer, bare = model(x), by_frame(x)
    for g in group("D4").elements[1:].split(1):
        turned, moved, wrong = model(act(g, x, "clip")), act(g, answer, kinds, (9, 15)), act(g, bare, kinds, (9, 15))
        of_bare = by_frame(act(g, x, "clip"))
        for key in kinds:
            assert torch.equal(turned[key], moved[key]), key
            assert key == "clip" or not torch.allclose(of_bare[key].float(), wrong[key].float()), "control: the bare one"


def test_clips_have_poses_between_the_elements_as_images_do():
    canonicalizer, x = OrbitCanonicalizer("Scale(0.5,2,5)", resolution=16).eval(), clips(3, 1, 16, 16)
    still = x.expand(-1, 4, -1, -1, -1)
    assert torch.allclose(canonicalizer(still).candidates, canonicalizer(x[:, 0]).candidates, atol=1e-3)
    between = canonicalizer(x[:, 0]).candidates - canonicalizer.elements
    assert bool((between.abs().amax((1, 2, 3)) > 0.02).all()), "control: they are not the elements"


X = torch.rand(2, 1, 3, 12, 12)
PLANE = ["C4", "D4", "SO2", "Shift4", "Scale(0.5,2,5)", "uniform"]


def of_images(name: str, kind: str | None = None) -> equiform.Equivariant:
    canonicalizer = UniformCanonicalizer("C4") if name == "uniform" else None
    return adapt(lambda x: x.mean((1, 2, 3, 4)), "C4" if canonicalizer else name, inputs=kind, outputs="invariant",
                 canonicalizer=canonicalizer)  # fmt: skip


@pytest.mark.filterwarnings("ignore:this .* canonicalizer is not fitted")
@pytest.mark.parametrize("name", PLANE)
def test_five_axes_that_may_be_a_volume_say_which(name, unchecked):
    model = of_images(name)
    for shape in ((2, 1, 3, 12, 12), (2, 3, 1, 12, 12), (2, 1, 24, 12, 12), (2, 4, 4, 12, 12), (2, 8, 2, 12, 12)):
        x = torch.rand(shape)
        message = r"may be a clip or a volume; got \(2, .*'clip' of \(b, frames, .*'volume' of \(b, channels, depth.*such as O"
        refused(ValueError, message, model, x)
        listed = message.replace(r"\(2", r"\(1")
        refused(ValueError, listed, model, list(x))
        element = model.group.sample(2)[1:2].to(x.dtype)
        refused(ValueError, message, act, element, x)
        assert act(element, x, "mask").shape == x.shape, "labels in many channels are nothing else"
        assert act(element, x, "clip").shape == x.shape, "whoever says clip is not asked"
    assert of_images(name, "clip")(X).shape == (2,), "a clip that is called one"
    assert model(torch.rand(2, 5, 3, 12, 12)).shape == (2,), "control: so many frames of so few channels are a clip"


@pytest.mark.filterwarnings("ignore:this .* canonicalizer is not fitted")
def test_what_is_wrong_with_a_clip_in_one_line(unchecked):
    canonicalizer = OrbitCanonicalizer("C4", resolution=16)
    model = adapted(canonicalizer)
    shape = r"clips have shape \(b, frames, channels, .* got "
    refused(ValueError, shape + r"\(b, 3, 5, 12, 12\) .*movedim\(1, 2\)", lambda: model(clips(2, 5).movedim(1, 2)))
    last = clips(2, 5).movedim(2, -1)
    refused(ValueError, shape + r"\(b, 5, 12, 12, 3\) .*before height and width, x.movedim\(-1, 2\)", model, last)
    refused(ValueError, shape + r"\(b, 5, 6, 12, 12\) .*OrbitCanonicalizer\(group, channels=6\)", model,
            torch.rand(2, 5, 6, 12, 12))  # fmt: skip
    refused(ValueError, shape + r"\(5, 3, 12, 12\) \(one clip: x\[None\]\)", model, clips(1, 5)[0])
    refused(ValueError, r"a clip has shape .*one clip: x\[None\]", act, group("C4").elements[1:2], clips(1, 5)[0], "clip")
    refused(ValueError, "x.movedim.-1, 2. of a clip, x.movedim.-1, 1. of a volume", of_images("C4"), last)
    message = r"training images .* got shape \(4, 5, 3, 12, 12\); of clips every frame is one, x.flatten\(0, 1\)"
    for x in (clips(4, 5), clips(4, 5).numpy()):
        refused(ValueError, message, equiform.fit, model, x)
    for kind in ("image", "clip"):
        told = adapt(VideoClassifier().eval(), "C4", inputs=kind, outputs="logits", canonicalizer=canonicalizer)
        refused(ValueError, r"list of 4 tensors such as \(5, 3, 12, 12\) .*torch.cat\(clips\)", equiform.fit, told,
                list(clips(4, 5)))  # fmt: skip
    refused(ValueError, "'clip' does not move in space, as O does", adapt, abs, "O", inputs="clip", outputs="logits")


def test_fit_on_frames_save_and_load(tmp_path):
    model = adapted(OrbitCanonicalizer("C4", resolution=16))
    equiform.fit(model, clips(4, 3).flatten(0, 1), epochs=1, **QUIET)
    model.save(tmp_path)
    again, x = equiform.load(tmp_path, model.predictor), clips(2, 3)
    assert again.inputs == model.inputs == as_kinds("clip")
    assert torch.equal(again(x), model(x))
    assert model(x[:0]).shape == (0, model(x).shape[1])
