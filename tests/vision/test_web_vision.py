"""`equiform web` with models of timm and torchvision, random and small: what the page would show of each."""

import numpy as np
import pytest
import torch

pytest.importorskip("timm", reason="timm is tested in an environment of its own: make test")
pytest.importorskip("torchvision", reason="torchvision is tested in an environment of its own: make test")

import timm
import torchvision.models
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from typer.testing import CliRunner

from equiform.cli.main import app
from equiform.web import answers, drawings, photos


@pytest.fixture
def web(monkeypatch):
    """What the command would serve, or its error; with weights that are random and not fetched."""
    served, create = [], timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name, pretrained=False))
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: MODELS[name]())
    monkeypatch.setattr("equiform.cli.web.serve", lambda *arguments: served.append(arguments))

    def run(*arguments):
        result = CliRunner().invoke(app, ["web", *arguments, "--adapter", "photos-c4-small"])
        assert result.exit_code == (0 if served else 2), result.output
        return served.pop()[0] if served else result.stderr

    return run


def detector():
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, box_detections_per_img=3)
    model.roi_heads.box_predictor.cls_score.bias.data[2] = 9.0  # sure of what it sees
    return model


MODELS = {
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "fasterrcnn_mobilenet_v3_large_320_fpn": detector,
    "lraspp_mobilenet_v3_large": lambda: lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
    "raft_small": lambda: torchvision.models.optical_flow.raft_small(weights=None),
}


def shown(setup, degrees=90):
    return answers.compared(setup, torch.rand(3, photos.SHOWN, photos.SHOWN), degrees)


def test_classifiers(web):
    setup = web("timm:resnet10t")
    assert (setup.title, setup.size) == ("timm:resnet10t, photos-c4-small", 224)
    assert shown(setup).adapted.classes.shape == (1000,)
    setup = web("torchvision:resnet18")
    assert setup.names[:2] == ["tench", "goldfish"], "as torchvision says"
    assert shown(setup).adapted.classes.sum() == pytest.approx(1, abs=1e-4)


def test_a_detector(web):
    setup = web("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", "--size", "96")
    assert setup.side == 96
    assert setup.normalisation is None, "it normalises photos itself"
    found = shown(setup)
    assert set(found.bare.labels) == {"bicycle"}, "label 2 in words"
    setup = web("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", "--size", "96", "--normalize", "imagenet")
    assert setup.normalisation is not None, "as was asked for"
    assert (np.asarray(drawings.marked(found.view, found.bare, setup.side)) != np.asarray(drawings.picture(found.view))).any()


def test_a_segmenter(web):
    setup = web("torchvision:lraspp_mobilenet_v3_large", "--size", "64")
    found = shown(setup)
    assert found.bare.mask.shape == (64, 64)
    assert found.bare.labels[15] == "person"


def test_what_wants_more_than_a_photo(web):
    assert "fails on a photo of 64 x 64 pixels (see --size)" in web("torchvision:raft_small", "--size", "64")
