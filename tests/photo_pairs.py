"""Tiny random pairs (processor, model) of transformers, some for every kind of answer, and what they are asked."""

import importlib
from functools import cache
from importlib.util import find_spec

import pytest
import torch

transformers = pytest.importorskip("transformers")


def processor(family, name, **options):
    module = importlib.import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    return getattr(module, f"{name}ImageProcessorPil")(**options)


SQUARE = {"height": 32, "width": 32}
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def classification():
    config = transformers.ViTConfig(**TINY, image_size=32, patch_size=8, num_labels=5)
    return processor("vit", "ViT", size=SQUARE), transformers.ViTForImageClassification(config)


def segmentation():
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        num_labels=4,
    )
    return processor("segformer", "Segformer", size=SQUARE), transformers.SegformerForSemanticSegmentation(config)


def universal():
    swin = transformers.SwinConfig(
        image_size=32,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        num_channels=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=swin,
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        num_queries=6,
        num_labels=3,
    )
    pair = processor("mask2former", "Mask2Former", size={"height": 64, "width": 64}, num_labels=3)
    return pair, transformers.Mask2FormerForUniversalSegmentation(config)


def detection():
    config = transformers.YolosConfig(**TINY, image_size=[32, 32], patch_size=8, num_detection_tokens=6, num_labels=4)
    resize = {"shortest_edge": 32, "longest_edge": 64}  # the aspect is kept
    return processor("yolos", "Yolos", size=resize), transformers.YolosForObjectDetection(config)


def depth():
    config = transformers.DPTConfig(
        **TINY | {"num_hidden_layers": 4},
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_in_index=-1,
    )
    return processor("dpt", "DPT", size=SQUARE, ensure_multiple_of=8), transformers.DPTForDepthEstimation(config)


def features():
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    resize = {"shortest_edge": 28}
    return processor("bit", "Bit", size=resize, do_center_crop=False), transformers.Dinov2Model(config)


def feature_maps():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return processor("convnext", "ConvNext", size={"shortest_edge": 384}), transformers.ResNetModel(config)


class WordPieces:
    """A tokenizer of the few words of the test."""

    def __call__(self, text, padding=None):
        length = max(len(t.split()) for t in text) if padding is True else 8
        rows = [[hash_of(word) for word in t.split()] + [0] * (length - len(t.split())) for t in text]
        return {"input_ids": torch.tensor(rows), "attention_mask": (torch.tensor(rows) > 0).long()}


def hash_of(word):
    return 2 + sum(map(ord, word)) % 20


class WithText:
    """What a CLIP or SigLIP processor is to a caller: images and texts in, tensors out."""

    def __init__(self, image_processor):
        self.image_processor, self.tokenizer = image_processor, WordPieces()

    def __call__(self, images, text, padding, return_tensors):
        return {**self.image_processor(images=images, return_tensors=return_tensors), **self.tokenizer(text, padding)}


def clip():
    text = {**TINY, "vocab_size": 30, "max_position_embeddings": 8, "eos_token_id": 1}
    vision = {**TINY, "image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    return WithText(processor("clip", "CLIP", size=SQUARE, crop_size=SQUARE)), transformers.CLIPModel(config)


def siglip():
    text = {**TINY, "vocab_size": 30, "max_position_embeddings": 8}
    vision = {**TINY, "image_size": 32, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    return WithText(processor("siglip", "Siglip", size=SQUARE)), transformers.SiglipModel(config)


def siglip2():
    text = {**TINY, "vocab_size": 30, "max_position_embeddings": 8}
    vision = {**TINY, "patch_size": 8, "num_patches": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    return WithText(processor("siglip2", "Siglip2", patch_size=8, max_num_patches=16)), transformers.Siglip2Model(config)


def siglip_features():
    config = transformers.SiglipVisionConfig(**TINY, image_size=32, patch_size=8)
    return processor("siglip", "Siglip", size=SQUARE), transformers.SiglipVisionModel(config)


def letters(length):
    """A tokenizer of letters, which needs no file."""
    known = ["!", *(letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>"))]
    known += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(known)}, merges=[])
    tokenizer.model_max_length = length
    return tokenizer


TEXT = {**TINY, "vocab_size": 55, "max_position_embeddings": 16, "bos_token_id": 53, "eos_token_id": 54, "pad_token_id": 54}
VISION = {**TINY, "image_size": 32, "patch_size": 8}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2}
HEADS |= {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_queries": 6}
ASPECT = {"shortest_edge": 64, "longest_edge": 128}


def of_stages(name, stages):
    """The backbone of a detector or segmenter."""
    swin = {"image_size": 32, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 2}
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1] * 4, "layer_type": "basic"}
    config = getattr(transformers, f"{name}Config")
    return {"backbone_config": config(out_features=stages, **(swin if name == "Swin" else resnet)), "backbone": None}


def detr(name, **more):
    backbone = of_stages("ResNet", more.pop("stages", ["stage4"])) | {"use_timm_backbone": False}
    return getattr(transformers, f"{name}Config")(**{"d_model": 32, "num_labels": 3} | HEADS | backbone | more)


def detr_segments():
    config = detr("Detr", d_model=128, encoder_attention_heads=8, stages=[f"stage{i}" for i in (1, 2, 3, 4)])
    return processor("detr", "Detr", size=ASPECT), transformers.DetrForSegmentation(config)


def deformable():
    config = detr("DeformableDetr", num_feature_levels=2, stages=["stage3", "stage4"])
    pair = processor("deformable_detr", "DeformableDetr", size=ASPECT)
    return pair, transformers.DeformableDetrForObjectDetection(config)


def oneformer():
    sizes = {"hidden_dim": 32, "conv_dim": 32, "mask_dim": 32, "encoder_feedforward_dim": 24, "dim_feedforward": 24}
    sizes |= {"num_queries": 6, "num_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2, "num_classes": 3}
    text = {"text_encoder_width": 16, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 55, "is_training": False}
    text |= {"text_encoder_context_length": 16, "task_seq_len": 16}
    stages = of_stages("Swin", [f"stage{i}" for i in (1, 2, 3, 4)])
    config = transformers.OneFormerConfig(**sizes, **text, **stages)
    images = processor("oneformer", "OneFormer", size={"height": 64, "width": 64}, num_labels=3)
    images.metadata = {"thing_ids": [0, 1]}  # otherwise read from a file
    images.class_info_file = "none"
    made = transformers.OneFormerProcessor(images, letters(16), task_seq_length=16)
    return made, transformers.OneFormerForUniversalSegmentation(config)


def eomt():
    tokens = {"num_queries": 6, "num_blocks": 1, "num_upscale_blocks": 1, "num_register_tokens": 1}
    config = transformers.EomtConfig(**VISION, **tokens, num_labels=3)
    resize = {"shortest_edge": 32, "longest_edge": 32}
    return processor("eomt", "Eomt", size=resize, do_pad=True), transformers.EomtForUniversalSegmentation(config)


def lw_detr():
    windows = {"image_size": 64, "pretrain_image_size": 64, "patch_size": 16, "window_block_indices": [0], "num_windows": 1}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "out_indices": [1, 2]}
    backbone = transformers.LwDetrViTConfig(**sizes, **windows)
    heads = {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2, "decoder_ffn_dim": 24}
    heads |= {"d_model": 32, "decoder_layers": 2, "num_queries": 6, "num_labels": 3, "group_detr": 1}
    config = transformers.LwDetrConfig(backbone_config=backbone, projector_scale_factors=[1.0], **heads)
    resize = {"height": 64, "width": 64}
    return processor("deformable_detr", "DeformableDetr", size=resize), transformers.LwDetrForObjectDetection(config)


def owl(family="owlvit", name="OwlViT"):
    config = getattr(transformers, f"{name}Config")(text_config=TEXT, vision_config=VISION, projection_dim=16)
    images = processor(family, name, size=SQUARE)
    made = getattr(transformers, f"{name}Processor")(images, letters(16))
    return made, getattr(transformers, f"{name}ForObjectDetection")(config)


def owl2():
    return owl("owlv2", "Owlv2")


def grounding_dino(name="GroundingDino"):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "cat", "dog", "on", "mat"]
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    text = transformers.BertConfig(**TINY, vocab_size=len(words))
    stages = of_stages("Swin", [f"stage{i}" for i in (2, 3, 4)]) | {"use_timm_backbone": False}
    sizes = HEADS | {"d_model": 32, "max_text_len": 16, "num_feature_levels": 3}
    config = getattr(transformers, f"{name}Config")(text_config=text, **sizes, **stages)
    images = processor("grounding_dino", "GroundingDino", size=ASPECT)
    model = getattr(transformers, f"{name}ForObjectDetection")(config)
    return transformers.GroundingDinoProcessor(images, tokenizer), model


def mm_grounding_dino():
    return grounding_dino("MMGroundingDino")


def sam3_vision():
    sizes = {"image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1], "pretrain_image_size": 56}
    backbone = transformers.Sam3ViTConfig(**TINY, **sizes)
    grids = [[16, 16], [8, 8], [4, 4]]
    return transformers.Sam3VisionConfig(backbone_config=backbone, fpn_hidden_size=32, backbone_feature_sizes=grids)


def sam3_images():
    sizes = {"size": {"height": 56, "width": 56}, "mask_size": {"height": 16, "width": 16}}
    return transformers.Sam3ImageProcessor(**sizes)


def sam3():
    layers = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.Sam3Config(
        vision_config=sam3_vision(),
        text_config=TEXT | {"max_position_embeddings": 32, "projection_dim": 16},
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config=layers | {"num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2, "num_upsampling_stages": 2},
    )
    return transformers.Sam3Processor(sam3_images(), letters(32), target_size=56), transformers.Sam3Model(config)


def of_vit(name, config, family="vit", pair="ViT"):
    """A vision transformer of squares, or of the size of the photo, by its class."""

    def make():
        made = getattr(transformers, f"{config}Config")(**VISION, num_labels=5)
        return processor(family, pair, size=SQUARE), getattr(transformers, name)(made)

    return cache(make)


def zoe_depth():
    beit = transformers.BeitConfig(
        **VISION | {"num_hidden_layers": 4},
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=beit,
        backbone=None,
        neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        head_in_index=-1,
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.1, "max_depth": 10.0, "name": "nyu"}],
        num_attractors=[4, 2, 2, 1],
    )
    pair = processor("zoedepth", "ZoeDepth", size=SQUARE, ensure_multiple_of=8)
    return pair, transformers.ZoeDepthForDepthEstimation(config)


def glpn():
    stages = {"depths": [1] * 4, "sr_ratios": [1] * 4, "num_attention_heads": [1, 1, 2, 2], "hidden_sizes": [8, 8, 12, 16]}
    config = transformers.GLPNConfig(**stages, decoder_hidden_size=16)
    return processor("glpn", "GLPN", size_divisor=32), transformers.GLPNForDepthEstimation(config)


def backbone_maps():
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage1", "stage2"])
    return processor("convnext", "ConvNext", size={"shortest_edge": 384}), transformers.ResNetBackbone(config)


def backbone_tokens():
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, reshape_hidden_states=False
    )
    return processor("bit", "Bit", size={"shortest_edge": 28}, do_center_crop=False), transformers.Dinov2Backbone(config)


NAMES = {"text": ["a cat", "a dog on a mat"], "threshold": 0.0}
PAIRS = {
    "classes": (classification, {}),
    "label maps": (segmentation, {}),
    "segments": (universal, {"task": "semantic"}),
    "instances": (universal, {"task": "instance", "threshold": 0.0}),
    "panoptic": (universal, {"task": "panoptic", "threshold": 0.0}),
    "boxes": (detection, {"threshold": 0.0}),
    "depth": (depth, {}),
    "tokens": (features, {}),
    "maps": (feature_maps, {}),
    "tokens without a prefix": (siglip_features, {}),
    "zero-shot": (clip, {"text": ["a cat", "a dog on a mat"]}),
    "classes, with a teacher": (of_vit("DeiTForImageClassificationWithTeacher", "DeiT"), {}),
    "segments of boxes": (detr_segments, {"task": "panoptic", "threshold": 0.0}),
    "segments by a word": (oneformer, {"task": "instance", "threshold": 0.0}),
    "boxes on several grids": (deformable, {"threshold": 0.0}),
    "segments of a transformer alone": (eomt, {"task": "panoptic", "threshold": 0.0}),
    "boxes of windows": (lw_detr, {"threshold": 0.0}),
    "named boxes": (owl, NAMES),
    "named boxes, padded": (owl2, NAMES),
    "phrased boxes": (grounding_dino, NAMES | {"text_threshold": 0.0}),
    "instances of a phrase": (sam3, {"text": "a cat", "threshold": 0.0}),
    "phrased boxes, another": (mm_grounding_dino, NAMES | {"text_threshold": 0.0}),
    "metric depth": (zoe_depth, {}),
    "depth at the photo's size": (glpn, {}),
    "two tokens before": (of_vit("DeiTModel", "DeiT"), {}),
    "registers before": (of_vit("DINOv3ViTModel", "DINOv3ViT"), {}),
    "nothing pooled": (of_vit("IJepaModel", "IJepa"), {}),
    "projected": (of_vit("CLIPVisionModelWithProjection", "CLIPVision"), {}),
    "stages": (backbone_maps, {}),
    "stages of tokens": (backbone_tokens, {}),
    "zero-shot, patches": (siglip2, {"text": ["a cat", "a dog"]}),
    "zero-shot, sigmoid": (siglip, {"text": ["a cat", "a dog"]}),
}


def lacking(name):
    """Whether a case asks for what is not here: the processors of these use torchvision, even those by PIL."""
    return name in ("segments by a word", "instances of a phrase", "metric depth") and not find_spec("torchvision")


@cache
def pair(make):
    made, model = make()
    torch.manual_seed(2)
    with torch.no_grad():  # fresh heads and queries start near zero, and would answer alike for every photo
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    return made, model.eval()
