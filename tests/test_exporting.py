"""An adapted model as one graph: its answers are the model's, for any number of rows, and nothing is written otherwise."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import equiform
from asserting import refused
from equiform import OrbitCanonicalizer, adapt, export
from equiform.canonicalizers.ring import RingCanonicalizer

SIDE = 24
pytestmark = pytest.mark.usefixtures("unchecked")


def scenes(b, seed=0):
    drawn = torch.rand(b, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(drawn, (SIDE, SIDE), mode="bicubic")


class Answers(nn.Module):
    """A map, its mean, or boxes with scores."""

    def __init__(self, outputs):
        super().__init__()
        self.conv, self.outputs = nn.Conv2d(3, 4, 3, padding=1), outputs

    def forward(self, x):
        y = self.conv(x)
        if self.outputs == "boxes":
            corner = y.mean(3).mT.abs() * 5
            return {"boxes": torch.cat([corner[..., :2], corner[..., :2] + corner[..., 2:]], -1), "scores": y.mean((1, 3))}
        return y[:, :, : SIDE // 4].mean((2, 3)) if self.outputs == "logits" else y


def model_of(group, outputs, canonicalizer=None):
    torch.manual_seed(0)
    canonicalizer = canonicalizer or OrbitCanonicalizer(group, resolution=16)
    kinds = {"boxes": "boxes", "scores": "invariant"} if outputs == "boxes" else outputs
    return adapt(Answers(outputs).eval(), group, inputs="image", outputs=kinds, canonicalizer=canonicalizer)


def same(found, expected, tolerance=1e-5):
    if isinstance(expected, dict):
        return all(same(found[key], value, tolerance) for key, value in expected.items())
    return (found - expected).abs().max() <= tolerance * max(1, expected.abs().max())


CASES = [("C4", "image"), ("D4", "boxes"), ("C8", "logits"), ("SO2", "image")]


@torch.no_grad()
@pytest.mark.parametrize(("group", "outputs"), CASES, ids=["-".join(case) for case in CASES])
def test_a_graph_of_torch(tmp_path, group, outputs):
    canonicalizer = RingCanonicalizer("SO2", resolution=32) if group == "SO2" else None
    model = model_of(group, outputs, canonicalizer)
    file = export(model, tmp_path / "model.pt2", scenes(1))
    graph = torch.export.load(file).module()
    for rows in (1, 5):
        x = equiform.act(model.group.random(rows, torch.Generator().manual_seed(1)), scenes(rows, 1))
        assert same(graph(x), model(x), 1e-3 if group == "SO2" else 1e-5)
        if rows == 5 and outputs == "logits":
            assert not same(graph(x), model.predictor(x)), "control"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


SNIPPET = re.search(r"```py\n(.*?)```", (Path(__file__).parents[1] / "docs" / "deploy.md").read_text("utf-8"), re.DOTALL)[1]
ALONE = """
import sys
np.save("masks.npy", masks(np.load("photos.npy")))
assert "torch" not in sys.modules
"""


class Mask(nn.Module):
    """Labels that are 1 where the picture grows darker to the right."""

    def forward(self, images):
        return (F.pad(images, (0, 1))[..., 1:].mean(1) < images.mean(1)).float()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch, where the test exports by itself
@torch.no_grad()
def test_onnx_of_a_whole_model_and_of_its_canonicalizer_alone(tmp_path):
    runtime, numpy = pytest.importorskip("onnxruntime"), pytest.importorskip("numpy")
    model = model_of("D4", "boxes")
    session = runtime.InferenceSession(export(model, tmp_path / "model.onnx", {"x": scenes(2)}))
    for rows in (1, 4):
        x = equiform.act(model.group.random(rows, torch.Generator().manual_seed(2)), scenes(rows, 3))
        found = dict(
            zip(("boxes", "scores"), map(torch.from_numpy, session.run(["boxes", "scores"], {"x": x.numpy()})), strict=True)
        )
        assert same(found, model(x))
    masks = adapt(Mask(), "C4", inputs="image", outputs="mask", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    example, x = scenes(2), equiform.act(masks.group.elements, scenes(4, 4))
    export(masks.canonicalizer, tmp_path / "pose.onnx", example)
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(
        Mask().eval(), (example,), tmp_path / "segmenter.onnx", input_names=["images"], dynamic_shapes=dynamic, dynamo=True
    )
    numpy.save(tmp_path / "photos.npy", x.numpy())
    program = SNIPPET.replace("< 0.5", "< 0") + ALONE  # the scorer is not fitted, and never sure
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = torch.from_numpy(numpy.load(tmp_path / "masks.npy"))
    assert torch.equal(found, masks(x))
    assert not torch.equal(found, masks.predictor(x))


class FixedRows(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) + torch.zeros(len(x), 3)


def test_what_has_no_graph_is_refused_and_nothing_is_written(tmp_path):
    model, x, file = model_of("C4", "logits"), scenes(2), tmp_path / "model.pt2"
    doubtful = adapt(model.predictor, "C4", inputs="image", outputs="logits", canonicalizer=model.canonicalizer, coverage=0.9)
    function = adapt(lambda x: x.mean((2, 3)), "C4", outputs="logits", canonicalizer=model.canonicalizer)
    cloud = adapt(nn.Flatten(), "SO3", outputs="logits")
    resized = adapt(
        model.predictor, "Scale(0.5,2,5)", inputs="image", outputs="logits", canonicalizer=OrbitCanonicalizer("Scale(0.5,2,5)")
    )
    refused(ValueError, r"\.onnx or \.pt2; got .*model\.tflite", lambda: export(model, tmp_path / "model.tflite", x))
    refused(ValueError, r"coverage=0\.9 .*one pose, adapt\(", lambda: export(doubtful, file, x))
    refused(ValueError, r"function and no torch module.*model\.canonicalizer", lambda: export(function, file, x))
    refused(ValueError, r"images are exported; the search canonicalizer", lambda: export(cloud, file, torch.rand(1, 5, 3)))
    refused(ValueError, r"Scale\(0\.5,2,5\) resizes", lambda: export(resized, file, x))
    refused(ValueError, r"square images.*\(2, 3, 24, 20\): resize or pad", lambda: export(model, file, x[..., :20]))
    refused(TypeError, r"'x' is a list", lambda: export(model, file, list(x)))
    refused(TypeError, r"an adapted model, or a canonicalizer; got a Answers", lambda: export(model.predictor, file, x))
    fixed = adapt(FixedRows(), "C4", inputs="image", outputs="logits", canonicalizer=model.canonicalizer)
    refused(ValueError, r"keeps the number of rows", lambda: export(fixed, file, x))
    model.predictor.conv = nn.Sequential(model.predictor.conv, nn.Dropout(0.5).train())
    model.predictor.forward = lambda x: F.dropout(model.predictor.conv(x), 0.5, training=True).mean((2, 3))
    refused(ValueError, r"differs from the model's by .*not written", lambda: export(model, file, x))
    assert not list(tmp_path.iterdir())


def test_a_pipeline_asks_the_model_what_the_predictor_knows():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=4, **sizes)
    network = transformers.ViTForImageClassification(config).eval()
    model = adapt(network, "C4", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    assert (model.config, model.device, model.dtype) == (network.config, network.device, network.dtype)
    with pytest.raises(AttributeError, match="num_labels"):
        _ = model.num_labels
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    ask = transformers.pipeline("image-classification", model=model, image_processor=processor)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    answers = [ask(photo.rotate(angle)) for angle in (0, 90, 180, 270)]
    assert answers[0][0]["label"].startswith("LABEL_")
    assert answers[1:] == answers[:1] * 3
    ask.model = network  # control
    assert ask(photo.rotate(90)) != ask(photo)
    with pytest.raises(AttributeError, match="config"):
        _ = adapt(nn.Flatten(), "C4", outputs="logits").config


@pytest.mark.slow
def test_the_command(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\n\n\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 3))\n"
    )
    command = [sys.executable, "-m", "equiform", "export"]
    done = subprocess.run(
        [*command, "model.pt2", "nets.py:net", "--adapter", "photos-c4-small", "--size", "24"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "exported nets.py:net with photos-c4-small for images of 24 x 24 to model.pt2" in done.stdout, done.stderr
    done = subprocess.run([*command, "model.tflite"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "ends in .onnx or .pt2; got model.tflite" in done.stderr) == (2, True), done
