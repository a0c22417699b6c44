"""Tiny configurations of the models of transformers, for all tests; `more` is what is otherwise than in the tiny one."""

from typing import Any

import pytest

t = pytest.importorskip("transformers")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
VISION = SIZES | {"image_size": 32, "patch_size": 8}
FOUR = {"hidden_sizes": [8, 8, 12, 16], "depths": [1] * 4}
STAGES = FOUR | {"sr_ratios": [1] * 4, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16}
ALL_STAGES = [f"stage{i}" for i in (1, 2, 3, 4)]
TWO_HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2}
FEED = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
NECK = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
DPT = NECK | {"reassemble_factors": [4, 2, 1, 0.5], "is_hybrid": False}


def of(name: str, **options: Any) -> Any:
    return getattr(t, f"{name}Config")(**options)


def vit(name: str = "ViT", **more: Any) -> Any:
    return of(name, **(VISION | more))


def video(name: str, **more: Any) -> Any:
    return vit(name, num_frames=4, num_labels=5, **more)


def beit(**more: Any) -> Any:
    return vit("Beit", num_hidden_layers=4, out_indices=[1, 2, 3, 4], use_auxiliary_head=False, **more)


def dino(**more: Any) -> Any:
    return of("Dinov2", image_size=28, patch_size=14, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, **more)


def resnet(name: str = "ResNet", **more: Any) -> Any:
    return of(name, **({"embedding_size": 8, "layer_type": "basic"} | FOUR | more))


def swin(**more: Any) -> Any:
    return of("Swin", image_size=32, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, **more)


def dpt(**more: Any) -> Any:
    return vit("DPT", num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3], **(DPT | more))


def depth_anything() -> Any:
    neck = NECK | {"reassemble_factors": DPT["reassemble_factors"], "reassemble_hidden_size": 16, "head_hidden_size": 8}
    backbone = dino(out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    return of("DepthAnything", backbone_config=backbone, patch_size=14, **neck)


def upernet(**more: Any) -> Any:
    heads = {"hidden_size": 8, "auxiliary_in_channels": 12, "auxiliary_channels": 8}
    return of("UperNet", backbone_config=resnet(out_features=ALL_STAGES), **heads, **more)


def detr(name: str = "Detr", width: int = 16, **more: Any) -> Any:
    backbone = {"backbone": None, "use_timm_backbone": False, "use_pretrained_backbone": False}
    backbone |= {"backbone_config": resnet(out_features=more.pop("stages", ["stage4"]))}
    return of(name, **(TWO_HEADS | FEED | backbone | {"d_model": width, "num_queries": 5, "num_labels": 3} | more))


def detr_masks(name: str) -> Any:
    return detr(name, width=128, stages=ALL_STAGES, encoder_attention_heads=8)


def deformable(**more: Any) -> Any:
    sizes = {"num_feature_levels": 3, "stages": ["stage2", "stage3", "stage4"], "two_stage_num_proposals": 5}
    return detr("DeformableDetr", width=32, **(sizes | more))


def grounding_dino(name: str = "GroundingDino") -> Any:
    text = t.BertConfig(vocab_size=40, **SIZES)
    sizes = {"num_feature_levels": 3, "max_text_len": 16, "num_queries": 5, "use_timm_backbone": False}
    backbone = {"backbone_config": swin(out_features=ALL_STAGES[1:]), "backbone": None}
    return of(name, text_config=text, d_model=32, **(TWO_HEADS | FEED | sizes | backbone))


def rt_detr(name: str = "RTDetr", **more: Any) -> Any:
    stages = {"backbone_config": resnet("RTDetrResNet", out_features=ALL_STAGES[1:])}
    encoder = {"encoder_hidden_dim": 16, "encoder_in_channels": [8, 12, 16], "encoder_layers": 1, "encoder_ffn_dim": 24}
    decoder = {"d_model": 16, "decoder_in_channels": [16] * 3, "decoder_layers": 2, "decoder_ffn_dim": 24, "num_queries": 6}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_denoising": 0, "num_labels": 3}
    return of(name, backbone=None, use_timm_backbone=False, **(stages | encoder | decoder | heads | more))


def d_fine() -> Any:
    stages = {"stage_in_channels": [8, 8, 8, 12], "stage_mid_channels": [8] * 4, "stage_out_channels": [8, 8, 12, 16]}
    stages |= {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "stem_channels": [3, 8, 8], "embedding_size": 8}
    return rt_detr("DFine", backbone_config=t.HGNetV2Config(**stages, **FOUR, out_features=ALL_STAGES[1:]))


def mask2former() -> Any:
    widths = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 24}
    decoder = {"decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 24, "num_queries": 5, "num_labels": 3}
    stages = swin(out_features=ALL_STAGES)
    return of("Mask2Former", backbone_config=stages, backbone=None, encoder_layers=1, **(widths | decoder))


def mask_former(**more: Any) -> Any:
    stages, widths = swin(out_features=ALL_STAGES), {"fpn_feature_size": 32, "mask_feature_size": 32}
    return of("MaskFormer", backbone_config=stages, decoder_config=detr(width=32, **more), num_labels=3, **widths)


def texts_and_images(name: str) -> Any:
    words = {"vocab_size": 40, "max_position_embeddings": 12, "projection_size": 16, "bos_token_id": 0, "eos_token_id": 1}
    projection = {} if name == "Siglip" else {"projection_dim": 16}
    return of(name, text_config=SIZES | words | projection, vision_config=VISION | projection, **projection)


def sam(name: str = "Sam") -> Any:
    images = {"image_size": 64, "patch_size": 16}
    vision = SIZES | images | {"output_channels": 16, "num_pos_feats": 8, "mlp_dim": 24, "window_size": 2}
    prompts = images | {"hidden_size": 16, "mask_input_channels": 16, "num_pos_feats": 8}
    masks = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
    vision |= {"global_attn_indexes": [1]}
    masks |= {"vit_dim": 16} if name == "SamHQ" else {}
    return of(name, vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)


def sam2() -> Any:
    per_stage = {"blocks": [1, 1, 2, 1], "embed_dim": [8, 16, 32, 64], "num_attention_heads": [1, 1, 2, 2]}
    per_stage |= {"window_size": [8, 4, 4, 2]}
    stages = {f"{name}_per_stage": values for name, values in per_stage.items()} | {"global_attention_blocks": [3]}
    image = {"hidden_size": 8, "image_size": [64, 64], "window_positional_embedding_background_size": [2, 2]}
    trunk = of("Sam2HieraDet", num_attention_heads=1, mlp_ratio=2.0, **(stages | image))
    grids = {"backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    vision = of("Sam2Vision", backbone_config=trunk, fpn_hidden_size=32, **grids)
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 16}
    masks = {"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    return of("Sam2", vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)
