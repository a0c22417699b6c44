"""Tiny random pairs (processor, model) of transformers, some for every kind of answer, and what they are asked."""

import importlib
from functools import cache, partial
from importlib.util import find_spec

import pytest
import torch

import small_transformers as small
from small_transformers import ALL_STAGES, FOUR, NECK, SIZES, STAGES, VISION

transformers = pytest.importorskip("transformers")
SQUARE, LARGER, ASPECT = {"height": 32, "width": 32}, {"height": 64, "width": 64}, {"shortest_edge": 64, "longest_edge": 128}
TEXT = {**SIZES, "vocab_size": 55, "max_position_embeddings": 16, "bos_token_id": 53, "eos_token_id": 54, "pad_token_id": 54}


def processor(family, name, **options):
    module = importlib.import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    return getattr(module, f"{name}ImageProcessorPil")(**options)


def of(name, config, family, processing, **options):
    """Makes a pair: a processor, and a model of that class by a function that makes its configuration."""
    return lambda: (processor(family, processing, **options), getattr(transformers, name)(config()))


def of_vit(name, config):
    """A vision transformer of squares."""
    return of(name, lambda: small.vit(config, num_labels=5), "vit", "ViT", size=SQUARE)


def of_any_shape(name, config, edge=32):
    """A model of photos whose aspect is kept: the features of a photo are no square either."""
    return of(name, config, "bit", "Bit", size={"shortest_edge": edge}, do_center_crop=False)


def of_detr(name, config, family, processing):
    return of(name, config, family, processing, size=ASPECT)


def of_rt_detr(name, config):
    return of(f"{name}ForObjectDetection", config, "rt_detr", "RTDetr", size=LARGER)


def of_segments(name, config, family, processing, **options):
    return of(f"{name}ForSemanticSegmentation", config, family, processing, **({"size": SQUARE} | options))


def with_text(make):
    """With a tokenizer beside the images."""

    def both():
        images, model = make()
        return WithText(images), model

    return both


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


def letters(length):
    """A tokenizer of letters, which needs no file."""
    known = ["!", *(letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>"))]
    known += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(known)}, merges=[])
    tokenizer.model_max_length = length
    return tokenizer


def siglip2():
    text, vision = SIZES | {"vocab_size": 30, "max_position_embeddings": 8}, SIZES | {"patch_size": 8, "num_patches": 16}
    model = transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))
    return WithText(processor("siglip2", "Siglip2", patch_size=8, max_num_patches=16)), model


def oneformer():
    sizes = {"hidden_dim": 32, "conv_dim": 32, "mask_dim": 32, "encoder_feedforward_dim": 24, "dim_feedforward": 24}
    sizes |= {"num_queries": 6, "num_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2, "num_classes": 3}
    text = {"text_encoder_width": 16, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 55, "is_training": False}
    text |= {"text_encoder_context_length": 16, "task_seq_len": 16}
    stages = {"backbone_config": small.swin(out_features=ALL_STAGES), "backbone": None}
    images = processor("oneformer", "OneFormer", size=LARGER, num_labels=3)
    images.metadata, images.class_info_file = {"thing_ids": [0, 1]}, "none"  # otherwise read from a file
    made = transformers.OneFormerProcessor(images, letters(16), task_seq_length=16)
    return made, transformers.OneFormerForUniversalSegmentation(transformers.OneFormerConfig(**sizes, **text, **stages))


def eomt():
    tokens = {"num_queries": 6, "num_blocks": 1, "num_upscale_blocks": 1, "num_register_tokens": 1}
    return transformers.EomtConfig(**VISION, **tokens, num_labels=3)


def lw_detr():
    windows = {"image_size": 64, "pretrain_image_size": 64, "patch_size": 16, "window_block_indices": [0], "num_windows": 1}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "out_indices": [1, 2]}
    heads = {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2, "decoder_ffn_dim": 24}
    heads |= {"d_model": 32, "decoder_layers": 2, "num_queries": 6, "num_labels": 3, "group_detr": 1}
    backbone = transformers.LwDetrViTConfig(**sizes, **windows)
    return transformers.LwDetrConfig(backbone_config=backbone, projector_scale_factors=[1.0], **heads)


def owl(family="owlvit", name="OwlViT"):
    config = small.of(name, text_config=TEXT, vision_config=VISION, projection_dim=16)
    made = getattr(transformers, f"{name}Processor")(processor(family, name, size=SQUARE), letters(16))
    return made, getattr(transformers, f"{name}ForObjectDetection")(config)


def owl2():
    return owl("owlv2", "Owlv2")


def grounding_dino(name="GroundingDino"):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "cat", "dog", "on", "mat"]
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    images = processor("grounding_dino", "GroundingDino", size=ASPECT)
    model = getattr(transformers, f"{name}ForObjectDetection")(small.grounding_dino(name))
    return transformers.GroundingDinoProcessor(images, tokenizer), model


def mm_grounding_dino():
    return grounding_dino("MMGroundingDino")


def sam3_vision():
    sizes = {"image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1], "pretrain_image_size": 56}
    backbone, grids = transformers.Sam3ViTConfig(**SIZES, **sizes), [[16, 16], [8, 8], [4, 4]]
    return transformers.Sam3VisionConfig(backbone_config=backbone, fpn_hidden_size=32, backbone_feature_sizes=grids)


def sam3_images():
    return transformers.Sam3ImageProcessor(size={"height": 56, "width": 56}, mask_size={"height": 16, "width": 16})


def sam3():
    layers = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    parts = {"geometry_encoder": layers, "detr_encoder": layers, "detr_decoder": layers | {"num_queries": 6}}
    parts |= {"text": TEXT | {"max_position_embeddings": 32, "projection_dim": 16}, "vision": sam3_vision()}
    parts |= {"mask_decoder": {"hidden_size": 32, "num_attention_heads": 2, "num_upsampling_stages": 2}}
    config = transformers.Sam3Config(**{f"{name}_config": value for name, value in parts.items()})
    return transformers.Sam3Processor(sam3_images(), letters(32), target_size=56), transformers.Sam3Model(config)


def zoe_depth():
    more = {"num_hidden_layers": 4, "reshape_hidden_states": False, "use_relative_position_bias": True}
    heads = {"bottleneck_features": 8, "num_relative_features": 8, "head_in_index": -1, "bin_embedding_dim": 8}
    heads |= {"bin_configurations": [{"n_bins": 8, "min_depth": 0.1, "max_depth": 10.0, "name": "nyu"}]}
    backbone = {"backbone_config": small.vit("Beit", out_features=ALL_STAGES, **more), "backbone": None}
    return transformers.ZoeDepthConfig(**backbone, **NECK, **heads, num_attractors=[4, 2, 2, 1])


MASK2FORMER, DEFORMABLE = ("mask2former", "Mask2Former"), ("deformable_detr", "DeformableDetr")
SEGFORMER, TWO_STAGES = ("segformer", "Segformer"), ALL_STAGES[:2]
PADDED, OF_8 = {"size": {"shortest_edge": 32, "longest_edge": 32}, "do_pad": True}, {"size": SQUARE, "ensure_multiple_of": 8}
ANY, TEXTS = {"threshold": 0.0}, {"text": ["a cat", "a dog on a mat"]}
NAMES, INSTANCES, PANOPTIC = TEXTS | ANY, ANY | {"task": "instance"}, ANY | {"task": "panoptic"}
BEFORE = {"shortest_edge": 384}
classification = of_vit("ViTForImageClassification", "ViT")
segformer = partial(small.of, "Segformer", num_labels=4, **STAGES)
segmentation = of("SegformerForSemanticSegmentation", segformer, "segformer", "Segformer", size=LARGER)
universal = of("Mask2FormerForUniversalSegmentation", small.mask2former, *MASK2FORMER, size=LARGER, num_labels=3)
yolos = partial(small.vit, "Yolos", image_size=[32, 32], num_detection_tokens=6, num_labels=4)
detection = of("YolosForObjectDetection", yolos, "yolos", "Yolos", size={"shortest_edge": 32, "longest_edge": 64})
two_stages = partial(small.resnet, hidden_sizes=[8, 16], depths=[1, 1])
sigmoids = partial(small.texts_and_images, "Siglip")
clip = with_text(of("CLIPModel", partial(small.texts_and_images, "CLIP"), "clip", "CLIP", size=SQUARE, crop_size=SQUARE))
PAIRS = {
    "classes": (classification, {}),
    "label maps": (segmentation, {}),
    "segments": (universal, {"task": "semantic"}),
    "instances": (universal, INSTANCES),
    "panoptic": (universal, PANOPTIC),
    "boxes": (detection, ANY),
    "depth": (of("DPTForDepthEstimation", small.dpt, "dpt", "DPT", size=SQUARE, ensure_multiple_of=8), {}),
    "tokens": (of_any_shape("Dinov2Model", small.dino, 28), {}),
    "maps": (of("ResNetModel", two_stages, "convnext", "ConvNext", size=BEFORE), {}),
    "tokens without a prefix": (of_vit("SiglipVisionModel", "SiglipVision"), {}),
    "zero-shot": (clip, TEXTS),
    "classes, with a teacher": (of_vit("DeiTForImageClassificationWithTeacher", "DeiT"), {}),
    "segments of boxes": (of_detr("DetrForSegmentation", partial(small.detr_masks, "Detr"), "detr", "Detr"), PANOPTIC),
    "segments by a word": (oneformer, INSTANCES),
    "boxes on several grids": (of_detr("DeformableDetrForObjectDetection", small.deformable, *DEFORMABLE), ANY),
    "segments of a transformer alone": (of("EomtForUniversalSegmentation", eomt, "eomt", "Eomt", **PADDED), PANOPTIC),
    "boxes of windows": (of("LwDetrForObjectDetection", lw_detr, "deformable_detr", "DeformableDetr", size=LARGER), ANY),
    "named boxes": (owl, NAMES),
    "named boxes, padded": (owl2, NAMES),
    "phrased boxes": (grounding_dino, NAMES | {"text_threshold": 0.0}),
    "instances of a phrase": (sam3, {"text": "a cat", "threshold": 0.0}),
    "phrased boxes, another": (mm_grounding_dino, NAMES | {"text_threshold": 0.0}),
    "metric depth": (of("ZoeDepthForDepthEstimation", zoe_depth, "zoedepth", "ZoeDepth", **OF_8), {}),
    "depth of a size": (of("GLPNForDepthEstimation", partial(small.of, "GLPN", **STAGES), "glpn", "GLPN", size_divisor=32), {}),
    "two tokens before": (of_vit("DeiTModel", "DeiT"), {}),
    "registers before": (of_vit("DINOv3ViTModel", "DINOv3ViT"), {}),
    "nothing pooled": (of_vit("IJepaModel", "IJepa"), {}),
    "projected": (of_vit("CLIPVisionModelWithProjection", "CLIPVision"), {}),
    "stages": (of("ResNetBackbone", partial(two_stages, out_features=TWO_STAGES), "convnext", "ConvNext", size=BEFORE), {}),
    "stages of tokens": (of_any_shape("Dinov2Backbone", partial(small.dino, reshape_hidden_states=False), 28), {}),
    "zero-shot, patches": (siglip2, {"text": ["a cat", "a dog"]}),
    "zero-shot, sigmoid": (
        with_text(of("SiglipModel", sigmoids, "siglip", "Siglip", size=SQUARE)),
        {"text": ["a cat", "a dog"]},
    ),
}

of_six = partial(small.mask_former, num_queries=6)
mask_former = of_detr("MaskFormerForInstanceSegmentation", of_six, "maskformer", "MaskFormer")
conditional = ("conditional_detr", "ConditionalDetr")
of_masks = of_detr("ConditionalDetrForSegmentation", partial(small.detr_masks, "ConditionalDetr"), *conditional)
of_boxes = of_detr("ConditionalDetrForObjectDetection", partial(small.detr, "ConditionalDetr"), *conditional)
of_28 = {"size": {"height": 28, "width": 28}, "ensure_multiple_of": 14, "keep_aspect_ratio": True}


FINDERS = {
    "boxes of DETR": (of_detr("DetrForObjectDetection", small.detr, "detr", "Detr"), ANY),
    "boxes of Conditional DETR": (of_boxes, ANY),
    "boxes of RT-DETR": (of_rt_detr("RTDetr", small.rt_detr), ANY),
    "boxes of RT-DETRv2": (of_rt_detr("RTDetrV2", partial(small.rt_detr, "RTDetrV2")), ANY),
    "boxes of D-FINE": (of_rt_detr("DFine", small.d_fine), ANY),
    "instances of Conditional DETR": (of_masks, INSTANCES),
    "segments of MaskFormer": (mask_former, {"task": "semantic"}),
    "instances of MaskFormer": (mask_former, INSTANCES),
    "label maps of DPT": (of_segments("DPT", partial(small.dpt, num_labels=5), "dpt", "DPT", ensure_multiple_of=8), {}),
    "label maps of BEiT": (of_segments("Beit", partial(small.beit, num_labels=5), "beit", "Beit", do_center_crop=False), {}),
    "maps of UPerNet": (of_segments("UperNet", partial(small.upernet, num_labels=5), *SEGFORMER, size=LARGER), {}),
    "depth of Depth Anything": (of("DepthAnythingForDepthEstimation", small.depth_anything, "dpt", "DPT", **of_28), {}),
}

TWO = {"out_features": ALL_STAGES[:2]}
registers = partial(small.vit, "Dinov2WithRegisters")
next1, next2 = (partial(small.of, name, **FOUR) for name in ("ConvNext", "ConvNextV2"))
metaclip2 = of("MetaClip2Model", partial(small.texts_and_images, "MetaClip2"), "clip", "CLIP", size=SQUARE, crop_size=SQUARE)
v3 = partial(small.vit, "DINOv3ViT", **TWO, num_register_tokens=3)
BACKBONES = {
    "zero-shot, MetaCLIP 2": (with_text(metaclip2), TEXTS),
    **{f"of {c}": (of_vit(f"{c}Model", c), {}) for c in ("ViT", "DPT", "CLIPVision", "MetaClip2Vision")},
    "MetaCLIP 2, projected": (of_vit("MetaClip2VisionModelWithProjection", "MetaClip2Vision"), {}),
    "DINOv2 with registers": (of_any_shape("Dinov2WithRegistersModel", registers), {}),
    "ConvNeXt": (of_any_shape("ConvNextModel", next1, 64), {}),
    "ConvNeXt V2": (of_any_shape("ConvNextV2Model", next2, 64), {}),
    "SegFormer": (of_any_shape("SegformerModel", segformer, 64), {}),
    "stages of DINOv2 with registers": (of_any_shape("Dinov2WithRegistersBackbone", partial(registers, **TWO)), {}),
    "stages, registers": (of_any_shape("Dinov2WithRegistersBackbone", partial(registers, reshape_hidden_states=False)), {}),
    "stages of DINOv3": (of_any_shape("DINOv3ViTBackbone", v3), {}),
    "stages of ConvNeXt": (of_any_shape("ConvNextBackbone", partial(next1, **TWO)), {}),
    "stages of ConvNeXt V2": (of_any_shape("ConvNextV2Backbone", partial(next2, **TWO)), {}),
    "stages of Swin": (of_any_shape("SwinBackbone", partial(small.swin, out_features=["stage1", "stage3"])), {}),
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
