"""Known models of transformers need no word about how they move: tiny random ones, checked against moves written by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equiform
from equiform import Dihedral, Invariant, Logits, OrbitCanonicalizer, act, adapt
from equiform.batching.batch import Batch
from equiform.canonicalizers import Canonicalizer
from equiform.canonicalizers.poses import Pose, pose_of
from equiform.geometry.kinds import as_kinds, from_json, to_json
from equiform.geometry.nested import children, is_container, map_kinds
from equiform.predictors import known_kinds
from equiform.predictors.photo_tasks import photo_task
from equiform.predictors.transformers import ADAPTERS

t = pytest.importorskip("transformers")
D4 = Dihedral(4).elements
CODES = {"even": [2, 0, 6, 4], "odd": [1, 5, 3, 7]}  # k quarter turns, after a flip from 4 on; each parity shares a canvas
B = 4


# --------------------------------------------------------------------------------------- moves by hand, one row at a time


def flipped_or_turned(code: int, flip: Callable[[Any], Any], quarter: Callable[[Any], Any], x: Any) -> Any:
    """The element of that code as a flip and quarter turns, one after another."""
    x = flip(x) if code >= 4 else x
    for _ in range(code % 4):
        x = quarter(x)
    return x


def a_map(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    return torch.rot90(x.flip(-1) if code >= 4 else x, code % 4, (-2, -1))


def the_same(x: Any, code: int, canvas: tuple[int, int]) -> Any:
    return x


def shares(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    """Boxes (cx, cy, w, h) in shares of the canvas, on the grid of floats: a quarter turn takes the right edge to the top."""
    x = (x * 2**22).round() / 2**22
    cx, cy, w, h = range(4)
    return flipped_or_turned(
        code,
        lambda v: torch.stack([1 - v[..., cx], v[..., cy], v[..., w], v[..., h]], -1),
        lambda v: torch.stack([v[..., cy], 1 - v[..., cx], v[..., h], v[..., w]], -1),
        x,
    )


def points(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    """(x, y) in pixels of a square canvas."""
    side = canvas[0]
    assert canvas == (side, side)
    return flipped_or_turned(
        code,
        lambda v: torch.stack([side - v[..., 0], v[..., 1]], -1),
        lambda v: torch.stack([v[..., 1], side - v[..., 0]], -1),
        x,
    )


def places(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    """(x, y) in shares of the canvas, on the grid of floats."""
    x = (x * 2**22).round() / 2**22
    return flipped_or_turned(
        code,
        lambda v: torch.stack([1 - v[..., 0], v[..., 1]], -1),
        lambda v: torch.stack([v[..., 1], 1 - v[..., 0]], -1),
        x,
    )


def corners(x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
    a, b = points(x[..., :2], code, canvas), points(x[..., 2:], code, canvas)
    return torch.cat([a.minimum(b), a.maximum(b)], -1)


@dataclass
class Tokens:
    """Patches row after row, with others before and after."""

    patch: int
    before: int
    after: int = 0

    def __call__(self, x: Tensor, code: int, canvas: tuple[int, int]) -> Tensor:
        h, w = (-(-side // self.patch) for side in canvas)
        end = self.before + h * w
        assert len(x) == end + self.after
        grid = x[self.before : end].reshape(h, w, -1).permute(2, 0, 1)
        moved = a_map(grid, code, canvas).permute(1, 2, 0).reshape(h * w, -1)
        return torch.cat([x[: self.before], moved, x[end:]])


@dataclass
class Along:
    """One entry per row along another axis than the first; None: all rows share it."""

    axis: int | None


def by_hand(expected: Any, value: Any, codes: list[int], canvas: tuple[int, int]) -> Any:
    """The value moved leaf by leaf and row by row: every field must be expected, at the place where it is."""
    if is_container(value):
        pairs = children(value)
        names = [key for key, _ in pairs]
        if isinstance(expected, dict):
            assert sorted(names) == sorted(expected), "a field that is not expected, or an expected one that is missing"
        return [by_hand(expected[key] if isinstance(expected, dict) else expected, v, codes, canvas) for key, v in pairs]
    if isinstance(expected, Along) or value.ndim == 0:
        return value
    return torch.stack([expected(row, code, canvas) for row, code in zip(value, codes, strict=True)])


def flat(value: Any) -> list[Tensor]:
    return [leaf for _, child in children(value) for leaf in flat(child)] if is_container(value) else [value]


def shape(value: Any) -> Any:
    """Types and keys all the way down."""
    return (type(value), [(key, shape(child)) for key, child in children(value)]) if is_container(value) else type(value)


# ------------------------------------------------------------------------------------------------------- tiny predictors

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
STAGES = {
    "depths": [1] * 4,
    "sr_ratios": [1] * 4,
    "num_attention_heads": [1, 1, 2, 2],
    "hidden_sizes": [8, 8, 12, 16],
    "decoder_hidden_size": 16,
}
DPT = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "reassemble_factors": [4, 2, 1, 0.5], "is_hybrid": False}


def vit(name: str, **more: Any) -> Any:
    return getattr(t, name)(**(SIZES | {"image_size": 32, "patch_size": 8} | more))


def dino(**more: Any) -> Any:
    return t.Dinov2Config(image_size=28, patch_size=14, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, **more)


def resnet(name: str = "ResNetConfig", **more: Any) -> Any:
    return getattr(t, name)(embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1] * 4, layer_type="basic", **more)


def swin(**more: Any) -> Any:
    return t.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, **more)


def detr(name: str, width: int = 16, **more: Any) -> Any:
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    backbone = {"backbone": None, "use_timm_backbone": False, "use_pretrained_backbone": False}
    backbone |= {"backbone_config": resnet(out_features=more.pop("stages", ["stage4"]))}
    return getattr(t, name)(d_model=width, num_queries=5, num_labels=3, **(heads | layers | backbone | more))


def deformable(**more: Any) -> Any:
    sizes = {"num_feature_levels": 3, "stages": ["stage2", "stage3", "stage4"], "two_stage_num_proposals": 5}
    return detr("DeformableDetrConfig", width=32, **(sizes | more))


def grounding_dino(name: str) -> Any:
    text = t.BertConfig(vocab_size=40, **SIZES)
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2}
    sizes = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_feature_levels": 3, "max_text_len": 16, "num_queries": 5}
    backbone = {"backbone_config": swin(out_features=["stage2", "stage3", "stage4"]), "backbone": None}
    return getattr(t, name)(text_config=text, d_model=32, use_timm_backbone=False, **(heads | sizes | backbone))


def rt_detr(name: str, **more: Any) -> Any:
    stages = {"backbone_config": resnet("RTDetrResNetConfig", out_features=["stage2", "stage3", "stage4"])}
    encoder = {"encoder_hidden_dim": 16, "encoder_in_channels": [8, 12, 16], "encoder_layers": 1, "encoder_ffn_dim": 24}
    decoder = {"d_model": 16, "decoder_in_channels": [16] * 3, "decoder_layers": 2, "decoder_ffn_dim": 24, "num_queries": 6}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_denoising": 0, "num_labels": 3}
    return getattr(t, name)(backbone=None, use_timm_backbone=False, **(stages | encoder | decoder | heads | more))


def d_fine() -> Any:
    stages = {"stage_in_channels": [8, 8, 8, 12], "stage_mid_channels": [8] * 4, "stage_out_channels": [8, 8, 12, 16]}
    stages |= {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "stem_channels": [3, 8, 8], "embedding_size": 8}
    shapes = {"hidden_sizes": [8, 8, 12, 16], "depths": [1] * 4, "out_features": ["stage2", "stage3", "stage4"]}
    return rt_detr("DFineConfig", backbone_config=t.HGNetV2Config(**stages, **shapes))


def mask2former() -> Any:
    widths = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 24}
    decoder = {"decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 24, "num_queries": 5, "num_labels": 3}
    stages = swin(out_features=[f"stage{i}" for i in (1, 2, 3, 4)])
    return t.Mask2FormerConfig(backbone_config=stages, backbone=None, encoder_layers=1, **(widths | decoder))


def mask_former() -> Any:
    stages = swin(out_features=[f"stage{i}" for i in (1, 2, 3, 4)])
    decoder = detr("DetrConfig", width=32)
    widths = {"fpn_feature_size": 32, "mask_feature_size": 32}
    return t.MaskFormerConfig(backbone_config=stages, decoder_config=decoder, num_labels=3, **widths)


def texts_and_images(name: str) -> Any:
    words = {"vocab_size": 40, "max_position_embeddings": 12, "projection_size": 16, "bos_token_id": 0, "eos_token_id": 1}
    projection = {} if name == "SiglipConfig" else {"projection_dim": 16}
    text, vision = SIZES | words | projection, SIZES | {"image_size": 32, "patch_size": 8} | projection
    return getattr(t, name)(text_config=text, vision_config=vision, **projection)


def sam(name: str = "Sam") -> Any:
    images = {"image_size": 64, "patch_size": 16}
    vision = SIZES | images | {"output_channels": 16, "num_pos_feats": 8, "mlp_dim": 24, "window_size": 2}
    prompts = images | {"hidden_size": 16, "mask_input_channels": 16, "num_pos_feats": 8}
    masks = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
    vision |= {"global_attn_indexes": [1]}
    masks |= {"vit_dim": 16} if name == "SamHQ" else {}
    config = getattr(t, f"{name}Config")
    return config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)


def sam2() -> Any:
    per_stage = {"blocks": [1, 1, 2, 1], "embed_dim": [8, 16, 32, 64], "num_attention_heads": [1, 1, 2, 2]}
    per_stage |= {"window_size": [8, 4, 4, 2]}
    stages = {f"{name}_per_stage": values for name, values in per_stage.items()} | {"global_attention_blocks": [3]}
    image = {"hidden_size": 8, "image_size": [64, 64], "window_positional_embedding_background_size": [2, 2]}
    trunk = t.Sam2HieraDetConfig(num_attention_heads=1, mlp_ratio=2.0, **(stages | image))
    grids = {"backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    vision = t.Sam2VisionConfig(backbone_config=trunk, fpn_hidden_size=32, **grids)
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 16}
    masks = {"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    return t.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks)


# ---------------------------------------------------------------------------------------------------------------- cases


@dataclass
class Case:
    """A class of transformers, a tiny configuration, what goes in besides the photos and how each field of the answer moves."""

    name: str
    config: Callable[[], Any]
    outputs: dict[str, Any]
    canvas: tuple[int, int] = (64, 96)
    inputs: dict[str, tuple[Callable[[], Tensor], Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def make(self) -> Any:
        """The same random weights every time; those too that begin at zero, behind which nothing of a prompt would be seen."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(t, self.name)(self.config()).eval()
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            return model

    def upright(self) -> dict[str, Tensor]:
        return {"pixel_values": torch.rand(B, 3, *self.canvas)} | {key: make() for key, (make, _) in self.inputs.items()}

    def moved(self, upright: dict[str, Tensor], codes: list[int]) -> dict[str, Tensor]:
        moves = {"pixel_values": a_map} | {key: move for key, (_, move) in self.inputs.items()}
        return {key: by_hand(moves[key], value, codes, self.canvas) for key, value in upright.items()}


def classes(h: int = 0, w: int = 0) -> Callable[[], Tensor]:
    """Labels per image, or per pixel."""
    return lambda: torch.randint(0, 5, (B, h, w) if h else (B,))


def some_padding() -> Tensor:
    """A mask whose last columns are padding in two of the rows."""
    mask = torch.ones(B, 70, 96, dtype=torch.long)
    mask[1, :, 64:] = mask[3, :, 80:] = 0
    return mask


INNER = {"output_hidden_states": True}
WIDE = {"interpolate_pos_encoding": True}
TOKENS = Tokens(8, 1)
QUERIES = dict.fromkeys(("logits", "last_hidden_state", "decoder_hidden_states"), the_same) | {"pred_boxes": shares}
DETR = QUERIES | {"encoder_last_hidden_state": Tokens(32, 0), "encoder_hidden_states": Tokens(32, 0)}
POINTED = DETR | dict.fromkeys(("encoder_last_hidden_state", "encoder_hidden_states", "intermediate_hidden_states"), the_same)
PROPOSED = dict.fromkeys(("enc_outputs_class", "enc_outputs_coord_logits"), the_same)
ENCODED = ("encoder_last_hidden_state_vision", "encoder_vision_hidden_states", "encoder_last_hidden_state_text")
PHRASED = QUERIES | dict.fromkeys((*ENCODED, "encoder_text_hidden_states", "encoder_logits", "input_ids"), the_same)
PHRASED |= {"encoder_pred_boxes": shares, "intermediate_hidden_states": the_same} | PROPOSED
RT_DETR = QUERIES | {"intermediate_reference_points": shares, "enc_topk_bboxes": shares}
RT_DETR |= dict.fromkeys(
    ("intermediate_hidden_states", "intermediate_logits", "enc_topk_logits", "enc_outputs_class"), the_same
)
RT_DETR |= dict.fromkeys(("init_reference_points", "enc_outputs_coord_logits"), the_same)
RT_DETR |= dict.fromkeys(("encoder_last_hidden_state", "encoder_hidden_states"), a_map)
D_FINE = RT_DETR | {"initial_reference_points": shares, "intermediate_predicted_corners": the_same}
D_FINE |= {"intermediate_hidden_states": Along(1)}
MASKS = dict.fromkeys(("masks_queries_logits", "encoder_last_hidden_state", "encoder_hidden_states"), a_map)
MASKS |= dict.fromkeys(("pixel_decoder_last_hidden_state", "pixel_decoder_hidden_states"), a_map)
MASKS |= dict.fromkeys(("class_queries_logits", "transformer_decoder_last_hidden_state"), the_same)
SAM = {"iou_scores": the_same, "pred_masks": a_map}
SAM2 = SAM | {"object_score_logits": the_same, "image_embeddings": a_map}


def pooled(states: Any, *more: str) -> dict[str, Any]:
    return dict.fromkeys(("pooler_output", *more), the_same) | {"last_hidden_state": states, "hidden_states": states}


def described(states: Any) -> dict[str, Any]:
    """What a model of texts and images says, of as many texts as there are images."""
    texts, images = Along(None), {"image_embeds": the_same, "vision_model_output": pooled(states)}
    scores = {"logits_per_image": the_same, "logits_per_text": Along(1)}
    return scores | images | {"text_embeds": texts, "text_model_output": texts}


def words() -> Tensor:
    return torch.randint(2, 40, (B, 7))


def few(*size: int) -> Callable[[], Tensor]:
    """Places in a photo of 64 x 64 pixels."""
    return lambda: torch.randint(0, 64, (B, *size)) + 0.5


def boxes() -> Tensor:
    corner = torch.randint(0, 32, (B, 3, 2)) + 0.25
    return torch.cat([corner, corner + torch.randint(4, 30, (B, 3, 2))], -1)


TEXT = {"input_ids": (words, Along(None)), "attention_mask": (lambda: torch.ones(B, 7).long(), Along(None))}
POINTS = {"input_points": (few(3, 2, 2), points), "input_labels": (lambda: torch.randint(0, 2, (B, 3, 2)), the_same)}
ALL_PROMPTS = POINTS | {"input_boxes": (boxes, corners), "input_masks": (lambda: torch.randn(B, 1, 16, 16), a_map)}
ONE_POINT = {"input_points": (few(1, 1, 2), points), "input_labels": (lambda: torch.ones(B, 1, 1).int(), the_same)}
BOX = {"input_boxes": (boxes, corners), "original_sizes": (lambda: torch.tensor([[48, 64]] * B), the_same)}

CASES = [
    Case(
        "ViTForImageClassification",
        lambda: vit("ViTConfig", num_labels=5),
        {"loss": the_same, "logits": the_same, "hidden_states": Tokens(8, 1)},
        inputs={"labels": (classes(), the_same)},
        options=INNER | WIDE,
    ),
    Case("ResNetForImageClassification", resnet, {"logits": the_same, "hidden_states": a_map}, options=INNER),
    Case(
        "CLIPForImageClassification",
        lambda: texts_and_images("CLIPConfig"),
        {"logits": the_same, "hidden_states": Tokens(8, 1)},
        canvas=(32, 32),
        options=INNER,
    ),
    Case("SwinForImageClassification", swin, {"logits": the_same}),
    Case(
        "DeiTForImageClassificationWithTeacher",
        lambda: vit("DeiTConfig"),
        dict.fromkeys(("logits", "cls_logits", "distillation_logits"), the_same) | {"hidden_states": Tokens(8, 2)},
        options=INNER | WIDE,
    ),
    Case(
        "SegformerForSemanticSegmentation",
        lambda: t.SegformerConfig(num_labels=5, **STAGES),
        {"loss": the_same, "logits": a_map, "hidden_states": a_map},
        inputs={"labels": (classes(64, 96), a_map)},
        options=INNER,
    ),
    Case(
        "DPTForSemanticSegmentation",
        lambda: vit("DPTConfig", num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3], num_labels=5, **DPT),
        {"loss": the_same, "logits": a_map},
        canvas=(32, 32),
        inputs={"labels": (classes(32, 32), a_map)},
    ),
    Case(
        "UperNetForSemanticSegmentation",
        lambda: t.UperNetConfig(
            backbone_config=resnet(out_features=[f"stage{i}" for i in (1, 2, 3, 4)]),
            hidden_size=8,
            auxiliary_in_channels=12,
            auxiliary_channels=8,
        ),
        {"logits": a_map, "hidden_states": a_map},
        options=INNER,
    ),
    Case(
        "BeitForSemanticSegmentation",
        lambda: vit("BeitConfig", num_hidden_layers=4, out_indices=[1, 2, 3, 4], use_auxiliary_head=False),
        {"logits": a_map, "hidden_states": TOKENS},
        canvas=(32, 32),
        options=INNER,
    ),
    Case(
        "DPTForDepthEstimation",
        lambda: t.DPTConfig(backbone_config=dino(out_indices=[1, 2, 3, 4], reshape_hidden_states=False), **DPT),
        {"predicted_depth": a_map, "hidden_states": Tokens(14, 1)},
        canvas=(28, 42),
        options=INNER,
    ),
    Case(
        "DepthAnythingForDepthEstimation",
        lambda: t.DepthAnythingConfig(
            backbone_config=dino(out_indices=[1, 2, 3, 4], reshape_hidden_states=False),
            patch_size=14,
            reassemble_hidden_size=16,
            head_hidden_size=8,
            **{key: DPT[key] for key in DPT if key != "is_hybrid"},
        ),
        {"predicted_depth": a_map, "hidden_states": Tokens(14, 1)},
        canvas=(28, 42),
        options=INNER,
    ),
    Case(
        "GLPNForDepthEstimation",
        lambda: t.GLPNConfig(**STAGES),
        {"predicted_depth": a_map, "hidden_states": a_map},
        options=INNER,
    ),
    Case("CLIPModel", lambda: texts_and_images("CLIPConfig"), described(TOKENS), inputs=TEXT, options=INNER | WIDE),
    Case("MetaClip2Model", lambda: texts_and_images("MetaClip2Config"), described(TOKENS), inputs=TEXT, options=INNER | WIDE),
    Case("SiglipModel", lambda: texts_and_images("SiglipConfig"), described(Tokens(8, 0)), inputs=TEXT, options=INNER | WIDE),
    *[
        Case(f"{name}Model", lambda name=name: vit(f"{name}Config"), pooled(TOKENS), options=INNER | WIDE)
        for name in ("ViT", "CLIPVision", "MetaClip2Vision")
    ],
    Case("Dinov2Model", dino, pooled(Tokens(14, 1)), canvas=(42, 70), options=INNER),
    Case("Dinov2Model", dino, pooled(Tokens(14, 1)), canvas=(56, 56), options=INNER, id="square"),
    Case("Dinov2WithRegistersModel", lambda: vit("Dinov2WithRegistersConfig"), pooled(Tokens(8, 1 + 4)), options=INNER),
    Case("DINOv3ViTModel", lambda: vit("DINOv3ViTConfig", num_register_tokens=3), pooled(Tokens(8, 4)), options=INNER),
    Case("DeiTModel", lambda: vit("DeiTConfig"), pooled(Tokens(8, 2)), options=INNER | WIDE),
    Case(
        "IJepaModel",
        lambda: vit("IJepaConfig"),
        {"last_hidden_state": Tokens(8, 0), "hidden_states": Tokens(8, 0)},
        options=INNER | WIDE,
    ),
    Case("DPTModel", lambda: vit("DPTConfig", is_hybrid=False), pooled(TOKENS), options=INNER),
    *[
        Case(
            f"{name}VisionModelWithProjection",
            lambda name=name: vit(f"{name}VisionConfig", projection_dim=8),
            {"image_embeds": the_same, "last_hidden_state": TOKENS, "hidden_states": TOKENS},
            options=INNER | WIDE,
        )
        for name in ("CLIP", "MetaClip2")
    ],
    Case("SiglipVisionModel", lambda: vit("SiglipVisionConfig"), pooled(Tokens(8, 0)), options=INNER | WIDE),
    Case("ResNetModel", resnet, pooled(a_map), canvas=(70, 96), options=INNER),
    Case("ConvNextModel", lambda: t.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4), pooled(a_map), options=INNER),
    Case("ConvNextV2Model", lambda: t.ConvNextV2Config(hidden_sizes=[8] * 4, depths=[1] * 4), pooled(a_map), options=INNER),
    Case(
        "SegformerModel",
        lambda: t.SegformerConfig(**STAGES),
        {"last_hidden_state": a_map, "hidden_states": a_map},
        options=INNER,
    ),
    Case(
        "Dinov2Backbone",
        lambda: dino(out_indices=[1, 4]),
        {"feature_maps": a_map, "hidden_states": Tokens(14, 1)},
        (28, 42),
        options=INNER,
    ),
    Case(
        "Dinov2Backbone",
        lambda: dino(reshape_hidden_states=False),
        {"feature_maps": Tokens(14, 1)},
        canvas=(28, 42),
        id="tokens",
    ),
    Case("Dinov2WithRegistersBackbone", lambda: vit("Dinov2WithRegistersConfig"), {"feature_maps": a_map}),
    Case("DINOv3ViTBackbone", lambda: vit("DINOv3ViTConfig"), {"feature_maps": a_map}),
    Case("ResNetBackbone", resnet, {"feature_maps": a_map, "hidden_states": a_map}, options=INNER),
    Case("ConvNextBackbone", lambda: t.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4), {"feature_maps": a_map}),
    Case("ConvNextV2Backbone", lambda: t.ConvNextV2Config(hidden_sizes=[8] * 4, depths=[1] * 4), {"feature_maps": a_map}),
    Case("SwinBackbone", swin, {"feature_maps": a_map}),
    Case(
        "DetrForObjectDetection",
        lambda: detr("DetrConfig"),
        DETR,
        canvas=(70, 96),
        inputs={"pixel_mask": (some_padding, a_map)},
        options=INNER,
    ),
    Case(
        "DetrForObjectDetection",
        lambda: detr("DetrConfig", stages=["stage2"]),
        QUERIES | dict.fromkeys(("encoder_last_hidden_state", "encoder_hidden_states"), Tokens(8, 0)),
        options=INNER,
        id="of two stages",
    ),
    Case(
        "DetrForSegmentation",
        lambda: detr("DetrConfig", width=128, stages=[f"stage{i}" for i in (1, 2, 3, 4)], encoder_attention_heads=8),
        DETR | {"pred_masks": a_map},
        options=INNER,
    ),
    Case("ConditionalDetrForObjectDetection", lambda: detr("ConditionalDetrConfig"), DETR, options=INNER),
    Case(
        "ConditionalDetrForSegmentation",
        lambda: detr("ConditionalDetrConfig", width=128, stages=[f"stage{i}" for i in (1, 2, 3, 4)], encoder_attention_heads=8),
        DETR | {"pred_masks": a_map},
        options=INNER,
    ),
    Case("DabDetrForObjectDetection", lambda: detr("DabDetrConfig", hidden_size=16), DETR, options=INNER),
    Case(
        "DeformableDetrForObjectDetection",
        deformable,
        POINTED | dict.fromkeys(("init_reference_points", "intermediate_reference_points"), places),
        canvas=(70, 96),
        options=INNER,
    ),
    Case(
        "DeformableDetrForObjectDetection",
        lambda: deformable(with_box_refine=True),
        POINTED | {"init_reference_points": places, "intermediate_reference_points": shares},
        options=INNER,
        id="refined",
    ),
    Case(
        "DeformableDetrForObjectDetection",
        lambda: deformable(with_box_refine=True, two_stage=True),
        POINTED | dict.fromkeys(("init_reference_points", "intermediate_reference_points"), shares) | PROPOSED,
        options=INNER,
        id="two stages",
    ),
    *[
        Case(
            f"{name}ForObjectDetection",
            lambda name=name: grounding_dino(f"{name}Config"),
            PHRASED | dict.fromkeys(("init_reference_points", "intermediate_reference_points"), shares),
            inputs={"input_ids": (words, the_same)},
            options=INNER,
        )
        for name in ("GroundingDino", "MMGroundingDino")
    ],
    Case("TableTransformerForObjectDetection", lambda: detr("TableTransformerConfig"), DETR, options=INNER),
    Case("RTDetrForObjectDetection", lambda: rt_detr("RTDetrConfig"), RT_DETR, options=INNER),
    Case("RTDetrV2ForObjectDetection", lambda: rt_detr("RTDetrV2Config"), RT_DETR, options=INNER),
    Case("DFineForObjectDetection", d_fine, D_FINE, options=INNER),
    Case(
        "YolosForObjectDetection",
        lambda: vit("YolosConfig", image_size=[32, 32], num_detection_tokens=5),
        {"logits": the_same, "pred_boxes": shares, "last_hidden_state": Tokens(8, 1, 5), "hidden_states": Tokens(8, 1, 5)},
        options=INNER,
    ),
    Case(
        "Mask2FormerForUniversalSegmentation",
        mask2former,
        MASKS | {"transformer_decoder_hidden_states": Along(1)},
        options=INNER,
    ),
    Case("MaskFormerForInstanceSegmentation", mask_former, {k: m for k, m in MASKS.items() if "hidden_states" not in k}),
    Case("SamModel", sam, SAM, (64, 64), ALL_PROMPTS, id="all prompts"),
    Case("SamModel", sam, SAM, (64, 64), BOX, id="boxes"),
    Case("SamHQModel", lambda: sam("SamHQ"), SAM, (64, 64), ALL_PROMPTS),
    Case("Sam2Model", sam2, SAM2, (64, 64), POINTS, id="points"),
    Case("Sam2Model", sam2, SAM2, (64, 64), BOX, id="boxes"),
    Case(
        "Sam2Model",
        sam2,
        SAM2,
        (64, 64),
        ONE_POINT | {"input_masks": (lambda: torch.randn(B, 1, 16, 16), a_map)},
        {"multimask_output": False},
        id="a mask",
    ),
]


def params(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=f"{case.name}-{case.id}".rstrip("-")) for case in cases]


class Known(Canonicalizer):
    """The poses of the rows, told beforehand; the second likeliest is the next element."""

    name = "known"

    def __init__(self, codes: list[int]):
        super().__init__("D4")
        index = torch.tensor(codes)
        self.scores = 9.0 * nn.functional.one_hot(index, 8) + 8.0 * nn.functional.one_hot((index + 4) % 8, 8)

    def forward(self, images: Any) -> Pose:
        return pose_of(self.scores, self.elements)


def adapted(case: Case, canonicalizer: Canonicalizer, **options: Any) -> Any:
    """Without a word about the kinds."""
    return adapt(case.make(), canonicalizer.group, canonicalizer=canonicalizer, **options)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


# ----------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("parity", CODES)
@pytest.mark.parametrize("case", params(CASES))
def test_the_answer_is_the_upright_one_moved_by_hand(case, parity, unchecked):
    """To the bit. A different element in every row."""
    codes = CODES[parity]
    model = adapted(case, Known(codes))
    upright = case.upright()
    bare = model.predictor(**upright, **case.options)
    answer = model(**case.moved(upright, codes), **case.options)
    assert shape(answer) == shape(bare), "the structure and the types of the predictor's own answer"
    expected = flat(by_hand(case.outputs, bare, codes, case.canvas))
    assert len(expected) == len(flat(answer))
    assert all(torch.equal(got, wanted) for got, wanted in zip(flat(answer), expected, strict=True))


@pytest.mark.parametrize("name", ["C4", "D4"])
@pytest.mark.parametrize("case", params(CASES))
def test_the_adapted_model_is_equivariant_to_the_bit(case, name, unchecked):
    """With poses that a canonicalizer finds; the bare model breaks the same law."""
    model = adapted(case, OrbitCanonicalizer(name, resolution=16))
    upright = case.upright()
    call = Batch.bind(model.predictor, model.inputs, (), upright)

    def same(function: Callable[..., Any], codes: list[int]) -> bool:
        g = D4[codes]
        left = function(**act(g, upright, call.kinds, case.canvas), **case.options)
        right = act(g, function(**upright, **case.options), model.outputs, case.canvas)
        return shape(left) == shape(right) and all(torch.equal(a, b) for a, b in zip(flat(left), flat(right), strict=True))

    parities = CODES.values() if name == "D4" else [[0, 2, 2, 0], [1, 3, 3, 1]]
    for codes in parities:
        assert same(model, codes)
        assert not same(model.predictor, codes), "control"


@pytest.mark.parametrize("case", params([case for case in CASES if case.inputs]))
def test_what_goes_in_beside_the_photos_is_seen(case, unchecked):
    """The control of the laws on prompts, masks and labels: left where they are, they give another answer."""
    model, upright = case.make(), case.upright()
    moved = case.moved(upright, CODES["even"])
    for key, (_, move) in case.inputs.items():
        if move is not the_same and not isinstance(move, Along):
            answers = [flat(model(**(upright | {key: value[key]}), **case.options)) for value in (upright, moved)]
            assert not all(torch.equal(a, b) for a, b in zip(*answers, strict=True)), key


def test_the_rounding_of_boxes_is_below_a_thousandth_of_a_pixel():
    x = torch.rand(1000, 4)
    assert (shares(x, 0, (1000, 1000)) - x).abs().max() <= 2**-23


# ------------------------------------------------------------------------------------------------ the kinds tell the truth


def symmetrised(model: nn.Module) -> nn.Module:
    """The model without positions, and with every convolution averaged over the eight turns and flips of its kernel."""
    for name, parameter in model.named_parameters():
        if "position" in name:
            parameter.zero_()
        if parameter.ndim == 4:
            parameter.copy_(torch.stack([a_map(parameter, code, (0, 0)) for code in range(8)]).mean(0))
    return model


SYMMETRIC = {
    "ViTModel": (64, 96),
    "CLIPVisionModel": (64, 96),
    "SiglipVisionModel": (64, 96),
    "DeiTModel": (64, 96),
    "IJepaModel": (64, 96),
    "Dinov2Model": (42, 70),
    "Dinov2WithRegistersModel": (64, 96),
    "ResNetModel": (65, 97),  # of odd sides, since a stride of two begins at the first pixel
    "SegformerForSemanticSegmentation": (65, 97),
    "ResNetBackbone": (65, 97),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_network_made_symmetric_moves_as_its_kinds_say(name, unchecked):
    """Without a canonicalizer: were tokens in another order, or another number of them no patches, this would show it."""
    case, canvas = next(case for case in CASES if case.name == name), SYMMETRIC[name]
    bare, model = case.make(), symmetrised(case.make())
    _, outputs = known_kinds(model)
    x = torch.rand(B, 3, *canvas)
    for codes in CODES.values():
        g = D4[codes]

        def error(network: nn.Module, g: Tensor = g) -> float:
            left = flat(network(act(g, x), **case.options))
            right = flat(act(g, network(x, **case.options), outputs, canvas))
            return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))

        assert error(model) < 1e-4
        assert error(bare) > 1e-2, "control"


# ------------------------------------------------------------------------------------------------------------- the table


def first_row(cls: type) -> Any:
    name = f"{cls.__module__}.{cls.__qualname__}"
    return next((row for row in ADAPTERS if fnmatchcase(name, row.classes)), None)


def test_every_row_of_the_table_has_a_case():
    rows = [first_row(getattr(t, case.name)) for case in CASES]
    missed = [row.classes for row in ADAPTERS if row.outputs is not None and not any(row is hit for hit in rows)]
    assert not missed, f"no case for {', '.join(missed)}"


@pytest.mark.parametrize("name", ["ImageGPTForImageClassification", "Siglip2Model", "ShieldGemma2ForImageClassification"])
def test_what_does_not_take_photos_must_be_told(name):
    cls = getattr(t, name)
    assert first_row(cls).outputs is None
    with pytest.raises(ValueError, match=f"how the outputs of {name} move is not known: pass outputs="):
        adapt(cls.__new__(cls), "C4")


def test_a_class_of_ones_own_is_known_by_its_base():
    class Mine(t.ViTModel):
        pass

    model = Mine(vit("ViTConfig"))
    assert known_kinds(model) == known_kinds(t.ViTModel(vit("ViTConfig")))
    assert known_kinds(nn.Linear(2, 2)) == (None, None)
    model.config.model_type = "of another kind"
    with pytest.raises(ValueError, match=r"output\['last_hidden_state'\]: has no kind"):
        adapt(model, "C4")(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("case", params(CASES))
def test_the_kinds_survive_being_saved(case):
    model = adapted(case, OrbitCanonicalizer("C4", resolution=16))
    for kind in (model.inputs, model.outputs):
        assert from_json(json.loads(json.dumps(to_json(kind)))) == kind


# ------------------------------------------------------------------------------------------- what cannot be moved is named


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


REFUSED = [
    (
        "ViTModel",
        {"output_attentions": True, "interpolate_pos_encoding": True},
        r"output\['attentions'\]: has no kind; known.*'last_",
    ),
    ("DetrForObjectDetection", {"output_attentions": True}, r"output\['decoder_attentions'\]: has no kind.*leave it out"),
    ("SamModel", {"output_hidden_states": True}, r"output\['vision_hidden_states'\]: has no kind"),
    ("SwinForImageClassification", {"output_hidden_states": True}, r"output\['hidden_states'\]: has no kind"),
    ("CLIPModel", {"return_loss": True, "interpolate_pos_encoding": True}, r"output\['loss'\]: has no kind"),
    (
        "ViTModel",
        {"bool_masked_pos": torch.zeros(B, 96).bool()},
        "'bool_masked_pos' holds a tensor but has no kind: pass inputs=",
    ),
    ("DetrForObjectDetection", {"labels": [{"boxes": torch.rand(1, 4)}] * B}, "'labels' holds a tensor but has no kind"),
    ("SamModel", {"image_embeddings": torch.rand(B, 16, 4, 4)}, "'image_embeddings' holds a tensor but has no kind"),
    (
        "ResNetModel",
        {"return_dict": False},
        r"output\['last_hidden_state'\]: expected by the kinds, but the value has only '0', '1'",
    ),
]


@pytest.mark.parametrize(
    ("name", "options", "message"), REFUSED, ids=lambda v: v if isinstance(v, str) and "[" not in v else ""
)
def test_what_cannot_be_moved_is_an_error_that_names_it(name, options, message):
    case = named(name)
    model = adapted(case, Known([0] * B))
    model.predictor.set_attn_implementation("eager")  # others give no attentions
    with pytest.raises(ValueError, match=message):
        model(**case.upright(), **options)


def test_the_way_out_of_an_error_is_one_dict():
    case = named("SwinForImageClassification")
    bare = case.make()
    _, outputs = known_kinds(bare)
    patches = (4, 8, 16, 32, 32)
    outputs |= {
        "hidden_states": tuple(equiform.geometry.Tokens(patch, 0) for patch in patches),
        "reshaped_hidden_states": "image",
    }
    codes = CODES["odd"]
    model = adapt(bare, "D4", outputs=outputs, canonicalizer=Known(codes))
    upright = case.upright()
    answer = model(**case.moved(upright, codes), output_hidden_states=True).hidden_states
    expected = bare(**upright, output_hidden_states=True).hidden_states
    for patch, got, wanted in zip(patches, answer, expected, strict=True):
        assert torch.equal(got, by_hand(Tokens(patch, 0), wanted, codes, case.canvas))


def test_tokens_that_are_no_grid_say_so():
    model = adapted(named("ViTModel"), Known([0] * B))
    model.outputs = as_kinds({"last_hidden_state": equiform.geometry.Tokens(16), "pooler_output": "invariant"})
    with pytest.raises(
        ValueError, match=r"output\['last_hidden_state'\]: 97 tokens, 1 before.*96 are no grid .* which has 4 x 6"
    ):
        model(torch.rand(B, 3, 64, 96), interpolate_pos_encoding=True)


# ------------------------------------------------------------------------------------------------------------ several poses


def test_boxes_masks_and_scores_of_a_query_come_from_one_pose(unchecked):
    """Averaged, the scores of one box would be those of the mean over several."""
    for name in (
        "DetrForSegmentation",
        "YolosForObjectDetection",
        "RTDetrForObjectDetection",
        "MaskFormerForInstanceSegmentation",
    ):
        case, codes = named(name), CODES["odd"]
        x = case.upright()
        likeliest = adapted(case, Known(codes))(**x)
        several = adapted(case, Known(codes), top_k=2)
        assert all(torch.equal(a, b) for a, b in zip(flat(several(**x)), flat(likeliest), strict=True)), name
        averaged = map_kinds(lambda kind: replace(kind, averaged=True), several.outputs)
        several.outputs = averaged
        assert not all(torch.equal(a, b) for a, b in zip(flat(several(**x)), flat(likeliest), strict=True)), "control"


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"coverage": 0.99}], ids=str)
@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel"])
@pytest.mark.parametrize("num_texts", [1, 2, 4, 8])
def test_texts_are_shared_however_many_there_are(name, num_texts, options, unchecked):
    """As many as photos, as a sub-batch of one canvas has, or as there are (photo, pose) pairs."""
    case = named(name)
    model = adapted(case, Known([0, 1, 3, 2]), **options)
    texts = torch.randint(2, 40, (num_texts, 7))
    x = torch.rand(B, 3, 64, 96)
    answer = model(input_ids=texts, pixel_values=x, **WIDE)
    bare = model.predictor(input_ids=texts, pixel_values=x, **WIDE)
    assert torch.equal(answer.text_embeds, bare.text_embeds)
    assert torch.equal(answer.text_model_output.last_hidden_state, bare.text_model_output.last_hidden_state)
    assert answer.logits_per_image.shape == (B, num_texts)
    assert torch.allclose(answer.logits_per_text, answer.logits_per_image.T, atol=1e-6)
    one = [adapted(case, Known([code]), **options)(texts, x[i : i + 1], **WIDE) for i, code in enumerate([0, 1, 3, 2])]
    assert torch.allclose(answer.logits_per_image, torch.cat([each.logits_per_image for each in one]), atol=1e-5)
    tokens = torch.cat([each.vision_model_output.last_hidden_state for each in one])
    assert torch.allclose(answer.vision_model_output.last_hidden_state, tokens, atol=1e-5)


def test_the_scores_of_texts_are_averaged_as_probabilities():
    case = named("CLIPModel")
    x, texts = torch.rand(B, 3, 64, 96), words()[:3]
    model = adapted(case, Known([0] * B), top_k=2)
    weights = torch.tensor([9.0, 8.0]).softmax(0)
    each = [model.predictor(texts, act(D4[[code] * B], x), **WIDE).logits_per_image.softmax(-1) for code in (0, 4)]
    expected = (weights[0] * each[0] + weights[1] * each[1]).log()
    assert torch.allclose(model(texts, x, **WIDE).logits_per_image.log_softmax(-1), expected, atol=1e-3)
    assert not torch.allclose(each[0].log(), expected, atol=1e-3), "control"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"num_labels": 5}, Logits()),
        ({"num_labels": 1}, Invariant()),
        ({"num_labels": 2, "problem_type": "regression"}, Invariant()),
        ({"num_labels": 1, "problem_type": "multi_label_classification"}, Logits(sigmoid=True)),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, Logits(sigmoid=True)),
    ],
    ids=str,
)
def test_the_configuration_says_what_the_logits_of_a_classifier_are(options, kind):
    model = t.ViTForImageClassification(vit("ViTConfig", **options))
    assert known_kinds(model)[1]["logits"] == kind
    assert photo_task(model).outputs == {"logits": kind}


def test_the_scores_of_siglip_are_sigmoids():
    kinds = known_kinds(named("SiglipModel").make())[1]
    assert (kinds["logits_per_image"], kinds["logits_per_text"]) == (Logits(sigmoid=True), Logits(1, sigmoid=True))
    assert photo_task(named("SiglipModel").make()).outputs == {"logits_per_image": Logits(sigmoid=True)}


# ----------------------------------------------------------------------------------------------------------- measuring


def test_the_targets_of_evaluate_move_as_the_labels_do(unchecked):
    case = named("SegformerForSemanticSegmentation")
    model = adapted(case, OrbitCanonicalizer("D4", resolution=16))
    x, labels = case.upright()["pixel_values"], classes(64, 96)()

    def right(output: Any, target: Tensor) -> float:
        large = nn.functional.interpolate(output.logits, target.shape[-2:])
        return float((large.argmax(1) == target).double().mean())

    values = equiform.evaluate(model, (x, labels), metric=right).methods[0].values
    assert len(set(values)) == 1
    still = equiform.evaluate(model, (x, labels[:, :64, :64]), metric=lambda o, y: right(o, y), targets="invariant")
    assert len(set(still.methods[0].values)) > 1, "control"
    classifier = adapted(named("ResNetForImageClassification"), OrbitCanonicalizer("C4", resolution=16))
    assert equiform.evaluate(classifier, (x, torch.zeros(B).long())).methods[0].equivariance_error == 0
