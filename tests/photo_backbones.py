"""Tiny random pairs whose model answers with features, beside those of photo_pairs.py: one for every class of a row."""

import pytest

import photo_pairs as pairs  # its processor by its full name: tests/vision puts another in its place
from photo_pairs import TINY, VISION, of_stages, of_vit

transformers = pytest.importorskip("transformers")
STAGES = {"depths": [1] * 4, "hidden_sizes": [8, 8, 12, 16]}


def of_any_shape(name, config, edge=32, **sizes):
    """A model of photos whose aspect is kept, by its class: the features of a photo are no square either."""

    def make():
        made = getattr(transformers, f"{config}Config")(**sizes)
        images = pairs.processor("bit", "Bit", size={"shortest_edge": edge}, do_center_crop=False)
        return images, getattr(transformers, name)(made)

    return make


def segformer():
    heads = {"sr_ratios": [2, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "mlp_ratios": [2] * 4}
    return of_any_shape("SegformerModel", "Segformer", 64, **STAGES, **heads)()


def swin():
    images = pairs.processor("bit", "Bit", size={"shortest_edge": 32}, do_center_crop=False)
    return images, transformers.SwinBackbone(of_stages("Swin", ["stage1", "stage3"])["backbone_config"])


def metaclip2():
    text = {**TINY, "vocab_size": 30, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    config = transformers.MetaClip2Config(text_config=text, vision_config=VISION, projection_dim=8)
    images = pairs.processor("clip", "CLIP", size=pairs.SQUARE, crop_size=pairs.SQUARE)
    return pairs.WithText(images), transformers.MetaClip2Model(config)


TWO = {"out_features": ["stage1", "stage2"]}
TOKENS = {"reshape_hidden_states": False}
BACKBONES = {
    "zero-shot, MetaCLIP 2": (metaclip2, {"text": ["a cat", "a dog on a mat"]}),
    "ViT": (of_vit("ViTModel", "ViT"), {}),
    "DPT": (of_vit("DPTModel", "DPT"), {}),
    "CLIP": (of_vit("CLIPVisionModel", "CLIPVision"), {}),
    "MetaCLIP 2": (of_vit("MetaClip2VisionModel", "MetaClip2Vision"), {}),
    "MetaCLIP 2, projected": (of_vit("MetaClip2VisionModelWithProjection", "MetaClip2Vision"), {}),
    "DINOv2 with registers": (of_any_shape("Dinov2WithRegistersModel", "Dinov2WithRegisters", **VISION), {}),
    "ConvNeXt": (of_any_shape("ConvNextModel", "ConvNext", 64, **STAGES), {}),
    "ConvNeXt V2": (of_any_shape("ConvNextV2Model", "ConvNextV2", 64, **STAGES), {}),
    "SegFormer": (segformer, {}),
    "stages of DINOv2 with registers": (
        of_any_shape("Dinov2WithRegistersBackbone", "Dinov2WithRegisters", **VISION, **TWO),
        {},
    ),
    "stages of tokens, registers before": (
        of_any_shape("Dinov2WithRegistersBackbone", "Dinov2WithRegisters", **VISION, **TOKENS),
        {},
    ),
    "stages of DINOv3": (of_any_shape("DINOv3ViTBackbone", "DINOv3ViT", **VISION, **TWO, num_register_tokens=3), {}),
    "stages of ConvNeXt": (of_any_shape("ConvNextBackbone", "ConvNext", **STAGES, **TWO), {}),
    "stages of ConvNeXt V2": (of_any_shape("ConvNextV2Backbone", "ConvNextV2", **STAGES, **TWO), {}),
    "stages of Swin": (swin, {}),
}
