"""Tiny random pairs that find or map things in photos, beside those of photo_pairs.py: more models of the same rows."""

import pytest

import photo_pairs as pairs  # its processor by its full name: tests/vision puts another in its place
from photo_pairs import ASPECT, SQUARE, TINY, VISION, detr, of_stages

transformers = pytest.importorskip("transformers")
ALL_STAGES = [f"stage{i}" for i in (1, 2, 3, 4)]
LARGER = {"height": 64, "width": 64}
FOUR_LAYERS = VISION | {"num_hidden_layers": 4}


def of_detr(name, answer="ObjectDetection", **sizes):
    """A model of the family of DETR; the aspect of its photos is kept."""

    def make():
        family = {"Detr": "detr", "ConditionalDetr": "conditional_detr"}[name]
        model = getattr(transformers, f"{name}For{answer}")(detr(name, **sizes))
        return pairs.processor(family, name, size=ASPECT), model

    return make


def of_rt_detr(name, backbone, **more):
    """A model of the family of RT-DETR, by its class and the configuration of what comes before it."""
    encoder = {"encoder_hidden_dim": 16, "encoder_in_channels": [8, 12, 16], "encoder_layers": 1, "encoder_ffn_dim": 24}
    decoder = {"d_model": 16, "decoder_in_channels": [16] * 3, "decoder_layers": 2, "decoder_ffn_dim": 24, "num_queries": 6}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_denoising": 0, "num_labels": 3}
    before = {"backbone_config": backbone, "backbone": None, "use_timm_backbone": False}
    config = getattr(transformers, f"{name}Config")(**before, **encoder, **decoder, **heads, **more)
    return pairs.processor("rt_detr", "RTDetr", size=LARGER), getattr(transformers, f"{name}ForObjectDetection")(config)


def rt_detr(name="RTDetr"):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1] * 4, "layer_type": "basic"}
    return of_rt_detr(name, transformers.RTDetrResNetConfig(**sizes, out_features=ALL_STAGES[1:]))


def rt_detr_v2():
    return rt_detr("RTDetrV2")


def d_fine():
    stages = {"stage_in_channels": [8, 8, 8, 12], "stage_mid_channels": [8] * 4, "stage_out_channels": [8, 8, 12, 16]}
    blocks = {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "depths": [1] * 4, "stem_channels": [3, 8, 8]}
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "out_features": ALL_STAGES[1:]}
    return of_rt_detr("DFine", transformers.HGNetV2Config(**stages, **blocks, **sizes), decoder_n_points=[3, 6, 3])


def mask_former():
    backbone = of_stages("Swin", ALL_STAGES)["backbone_config"]
    sizes = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 3}
    config = transformers.MaskFormerConfig(backbone_config=backbone, decoder_config=detr("Detr"), **sizes)
    return pairs.processor("maskformer", "MaskFormer", size=ASPECT), transformers.MaskFormerForInstanceSegmentation(config)


def dpt_segments():
    neck = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "num_labels": 5}
    images = pairs.processor("dpt", "DPT", size=SQUARE, ensure_multiple_of=8)
    return images, transformers.DPTForSemanticSegmentation(transformers.DPTConfig(**FOUR_LAYERS, **neck))


def beit_segments():
    config = transformers.BeitConfig(**FOUR_LAYERS, out_indices=[1, 2, 3, 4], use_auxiliary_head=False, num_labels=5)
    images = pairs.processor("beit", "Beit", size=SQUARE, do_center_crop=False)
    return images, transformers.BeitForSemanticSegmentation(config)


def upernet():
    backbone = of_stages("ResNet", ALL_STAGES)["backbone_config"]
    heads = {"hidden_size": 8, "auxiliary_in_channels": 12, "auxiliary_channels": 8, "num_labels": 5}
    images = pairs.processor("segformer", "Segformer", size=LARGER)
    return images, transformers.UperNetForSemanticSegmentation(transformers.UperNetConfig(backbone_config=backbone, **heads))


def depth_anything():
    patches = {"image_size": 28, "patch_size": 14, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}
    backbone = transformers.Dinov2Config(**TINY | {"num_hidden_layers": 4}, **patches)
    neck = {"reassemble_hidden_size": 16, "head_hidden_size": 8, "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    config = transformers.DepthAnythingConfig(backbone_config=backbone, patch_size=14, **neck)
    size = {"height": 28, "width": 28}
    images = pairs.processor("dpt", "DPT", size=size, ensure_multiple_of=14, keep_aspect_ratio=True)
    return images, transformers.DepthAnythingForDepthEstimation(config)


ANY = {"threshold": 0.0}
of_masks = of_detr("ConditionalDetr", "Segmentation", d_model=128, encoder_attention_heads=8, stages=ALL_STAGES)
FINDERS = {
    "boxes of DETR": (of_detr("Detr"), ANY),
    "boxes of Conditional DETR": (of_detr("ConditionalDetr"), ANY),
    "boxes of RT-DETR": (rt_detr, ANY),
    "boxes of RT-DETRv2": (rt_detr_v2, ANY),
    "boxes of D-FINE": (d_fine, ANY),
    "instances of Conditional DETR": (of_masks, ANY | {"task": "instance"}),
    "segments of MaskFormer": (mask_former, {"task": "semantic"}),
    "instances of MaskFormer": (mask_former, ANY | {"task": "instance"}),
    "label maps of DPT": (dpt_segments, {}),
    "label maps of BEiT": (beit_segments, {}),
    "label maps of UPerNet": (upernet, {}),
    "depth of Depth Anything": (depth_anything, {}),
}
