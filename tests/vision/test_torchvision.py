"""Every row of the table for torchvision, on tiny networks with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

torchvision = pytest.importorskip("torchvision", reason="torchvision is tested in an environment of its own: make test")

from fnmatch import fnmatch

from laws import check, same
from torchvision.models import detection, optical_flow, segmentation
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.ops import MultiScaleRoIAlign

from asserting import refused
from equiform import OrbitCanonicalizer, Points, Rows, act, adapt
from equiform.predictors import known_kinds
from equiform.predictors.torchvision import ADAPTERS

PHOTOS = [(48, 64), (48, 64), (56, 40), (56, 40)]


def photos() -> list[torch.Tensor]:
    return [torch.rand(3, *size) for size in PHOTOS]


def trunk() -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 32, 3, 2, 1))
    layers.out_channels = 32
    return layers


def region_detector(cls: Callable, **options: Any) -> nn.Module:
    """A detector of the R-CNN family, on photos of their own size."""
    sizes = {"min_size": 40, "max_size": 80, "rpn_pre_nms_top_n_test": 40, "rpn_post_nms_top_n_test": 20}
    anchors = AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),))
    few = {"box_detections_per_img": 6, "box_score_thresh": 0.0, "box_roi_pool": MultiScaleRoIAlign(["0"], 3, 2)}
    return cls(trunk(), num_classes=4, rpn_anchor_generator=anchors, **(sizes | few | options))


def masks(**options: Any) -> nn.Module:
    return region_detector(detection.MaskRCNN, mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 2), **options)


def keypoints() -> nn.Module:
    return region_detector(detection.KeypointRCNN, keypoint_roi_pool=MultiScaleRoIAlign(["0"], 4, 2), num_keypoints=5)


FEW = {"detections_per_img": 6, "topk_candidates": 40, "score_thresh": 0.0}


def retina() -> nn.Module:
    anchors = AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),))
    return detection.RetinaNet(trunk(), 4, min_size=40, max_size=80, anchor_generator=anchors, **FEW)


def fcos() -> nn.Module:
    return detection.FCOS(trunk(), 4, min_size=40, max_size=80, anchor_generator=AnchorGenerator(((8,),), ((1.0,),)), **FEW)


def ssd() -> nn.Module:
    layers = trunk()
    layers.out_channels = [32]
    return SSD(layers, DefaultBoxGenerator([[2]], scales=[0.2, 0.5]), (64, 64), 4, **FEW)


def flow() -> nn.Module:
    block = optical_flow.raft.BottleneckBlock
    encoders = {"feature_encoder_layers": (8, 8, 8, 12, 16), "context_encoder_layers": (8, 8, 8, 12, 24)}
    norms = {"feature_encoder_norm_layer": nn.InstanceNorm2d, "context_encoder_norm_layer": nn.Identity}
    motion = {"motion_encoder_corr_layers": (8,), "motion_encoder_flow_layers": (8, 8), "motion_encoder_out_channels": 10}
    recurrent = {"recurrent_block_kernel_size": (3,), "recurrent_block_padding": (1,), "recurrent_block_hidden_state_size": 16}
    return optical_flow.raft._raft(
        weights=None,
        progress=False,
        feature_encoder_block=block,
        context_encoder_block=block,
        corr_block_num_levels=2,
        corr_block_radius=2,
        flow_head_hidden_size=8,
        use_mask_predictor=False,
        **encoders,
        **norms,
        **motion,
        **recurrent,
    )


def fcn() -> nn.Module:
    """With the auxiliary head: the answer is an ordered dict of two maps."""
    features = torchvision.models._utils.IntermediateLayerGetter(trunk(), {"2": "aux", "4": "out"})
    return FCN(features, FCNHead(32, 4), FCNHead(8, 4))


def headless(model: nn.Module) -> nn.Module:
    model.fc = nn.Identity()
    return model


def pyramid() -> nn.Module:
    return BackboneWithFPN(trunk(), {"2": "0", "4": "1"}, [8, 32], 8)


def two() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(4, 3, 64, 96), torch.rand(4, 3, 64, 96)


def one() -> tuple[torch.Tensor]:
    return (torch.rand(4, 3, 40, 64),)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple], Any]] = {
    "resnet": (lambda: torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1] * 4, 5), one, "logits"),
    "resnet without its last layer": (lambda: headless(torchvision.models.resnet18()), one, "invariant"),
    "mobilenet": (lambda: torchvision.models.MobileNetV2(5, 0.25), one, "logits"),
    "squeezenet": (lambda: torchvision.models.SqueezeNet("1_1", 5), one, "logits"),
    "convnext": (lambda: torchvision.models.ConvNeXt([torchvision.models.convnext.CNBlockConfig(8, None, 2)]), one, "logits"),
    "swin": (lambda: torchvision.models.SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=5), one, "logits"),
    "layers": (lambda: torchvision.models._utils.IntermediateLayerGetter(trunk(), {"2": "a", "4": "b"}), one, "image"),
    "fcn": (fcn, one, "mask"),
    "lraspp": (lambda: segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=4), one, "mask"),
    "pyramid": (pyramid, one, "image"),
    "faster rcnn": (lambda: region_detector(detection.FasterRCNN), lambda: (photos(),), Rows),
    "mask rcnn": (masks, lambda: (photos(),), Rows),
    "keypoint rcnn": (keypoints, lambda: (photos(),), Rows),
    "retinanet": (retina, lambda: (photos(),), Rows),
    "fcos": (fcos, lambda: (photos(),), Rows),
    "ssd": (ssd, lambda: (photos(),), Rows),
    "raft": (flow, two, "field"),
}


@pytest.mark.parametrize("name", CASES)
def test_known_predictors_are_equivariant_to_the_bit(name):
    make, arguments, outputs = CASES[name]
    model = check(make().eval(), *arguments())
    assert isinstance(model.outputs, Rows) if outputs is Rows else model.outputs.name == outputs


def test_every_row_of_the_table_has_a_case():
    """But video, for which the table says that nobody can tell."""
    missed = {adapter.classes for adapter in ADAPTERS if adapter.inputs is not None}
    for make, _, _ in CASES.values():
        model = make()
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        missed.discard(next(adapter.classes for adapter in ADAPTERS if fnmatch(name, adapter.classes)))
    assert not missed


def test_what_a_detector_finds():
    """The control of the law for lists: there is something to move."""
    model, x = adapt(keypoints().eval(), "D4"), photos()
    with torch.no_grad():
        found = model(x)
    assert [len(answer["boxes"]) for answer in found] == [6] * 4
    assert found[0]["keypoints"].shape == (6, 5, 3)
    assert dict(model.outputs.kinds)["keypoints"] == Points(extra=1)
    with torch.no_grad():
        assert adapt(masks().eval(), "D4")(x)[2]["masks"].shape == (6, 1, 56, 40)


def test_photos_without_a_single_detection():
    predictor, x = masks(box_score_thresh=1.0).eval(), photos()
    model = adapt(predictor, "D4", canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    with torch.no_grad():
        for elements in ([0, 2, 1, 5], [3, 7, 4, 6]):
            moved = act(model.group.elements[elements], x, Rows("image"))
            assert same(model(moved), predictor(moved)), "nothing was found, and so nothing moves"
            assert [tuple(answer["boxes"].shape) for answer in model(moved)] == [(0, 4)] * 4
            assert [answer["masks"].shape[-2:] for answer in model(moved)] == [photo.shape[-2:] for photo in moved]


def test_blocks_and_clips_are_not_taken_for_predictors():
    for module in (torchvision.models.resnet.BasicBlock(8, 8), detection.rpn.RPNHead(8, 3), torchvision.models.video.r3d_18()):
        assert known_kinds(module)[1] is None
        refused(ValueError, "pass outputs=", adapt, module, "C4")
