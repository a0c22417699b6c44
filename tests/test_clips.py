"""Clips: one pose for all frames, so that no answer flickers."""

import pytest
import torch
from torch import Tensor, nn

import equiform
from asserting import refused
from equiform import EnergyCanonicalizer, OrbitCanonicalizer, act, adapt, group
from equiform.canonicalizers import RingCanonicalizer
from equiform.geometry import Rows
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
    return adapt(VideoClassifier().eval(), canonicalizer.group, outputs="logits", canonicalizer=canonicalizer)


@pytest.mark.parametrize("canvas", [(12, 12), (9, 15)], ids=str)
@pytest.mark.parametrize("name", SEEING)
def test_models_of_video_are_equivariant_to_the_bit(name, canvas, unchecked):
    model, x = adapted(IMAGES[name]("C4").eval()), clips(2, 5, *canvas)
    for g in group("C4").elements.split(1):
        assert torch.equal(model(act(g, x)), model(x))
        assert torch.equal(g, g[:0].new_tensor(torch.eye(3)[None].tolist())) or not torch.equal(
            model.predictor(act(g, x)), model.predictor(x)
        ), "control"


@pytest.mark.parametrize("name", SEEING)
def test_the_pose_is_that_of_the_mean_of_the_log_posteriors(name):
    canonicalizer, x = IMAGES[name]("D4").eval(), clips(3, 4)
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
    assert torch.allclose(canonicalizer(act(quarter, x)).g, quarter @ canonicalizer(x).g, atol=1e-6)
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
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=EnergyCanonicalizer("C4", predictor))
    x = clips(6, 3)
    assert all(torch.allclose(model(act(g, x)), model(x)) for g in group("C4").elements.split(1))
    report = equiform.evaluate(model, (x, model(x).argmax(1)), baselines=["bare"])
    assert (report.methods[0].values, report.samples[0].image.shape) == ([1.0] * 4, (12, 12, 3))
    seen = adapt(lambda videos: [video.mean((0, 1)) for video in videos], "C4", outputs=Rows("mask"),
                 canonicalizer=OrbitCanonicalizer("C4", resolution=16))  # fmt: skip
    assert [y.shape for y in seen([clips(1, 2, 8, 10)[0], clips(1, 5)[0]])] == [(8, 10), (12, 12)]


def test_frames_behind_the_channels_are_refused(unchecked):
    model = adapted(OrbitCanonicalizer("C4", resolution=16))
    message = r"clips have shape \(b, frames, channels, .* got \(b, 3, 5, 12, 12\) .*movedim\(1, 2\)"
    refused(ValueError, message, lambda: model(clips(2, 5).movedim(1, 2)))
