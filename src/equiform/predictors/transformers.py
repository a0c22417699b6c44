"""How the inputs and outputs of transformers' vision models move.

The kinds name the fields that an answer may have and that can be moved. Attentions, losses over a batch as a whole, and hidden
states whose layout is not known here have no kind: asking for them is an error that names them.
"""

from typing import Any

from ..geometry.kinds import Boxes, Invariant, Kind, Likeliest, Logits, Points, Tokens
from .table import Adapter

SHARED = Invariant(axis=None)  # texts, the same for every image
SHARES = Boxes("cxcywh", normalized=True)

IMAGES = {"pixel_values": "image"}
LABELLED = IMAGES | {"labels": Invariant()}
VIDEOS = LABELLED | dict.fromkeys(("pixel_values", "pixel_values_videos"), "clip")  # (b, frames, c, h, w)
MAPPED = IMAGES | {"labels": "mask", "prompt_depth": "image"}
PADDED = IMAGES | {"pixel_mask": "mask"}
TEXTS = IMAGES | dict.fromkeys(("input_ids", "attention_mask", "position_ids"), SHARED)
PHRASED = PADDED | dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), Invariant())  # a text for each photo
PROMPTS = IMAGES | {"input_points": "points", "input_labels": Invariant(), "input_boxes": "boxes", "input_masks": "image"}
# also from the processor of SAM; the model ignores them
PROMPTS |= dict.fromkeys(("original_sizes", "reshaped_input_sizes"), Invariant())

# tokens before the patches, by the model type in the configuration, without registers
PREFIXES = {
    "beit": 1,
    "clip_vision_model": 1,
    "data2vec-vision": 1,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "dinov3_vit": 1,
    "dpt": 1,
    "ijepa": 0,
    "metaclip_2_vision_model": 1,
    "siglip_vision_model": 0,
    "vit": 1,
    "vit_msn": 1,
}
PYRAMIDS = {"convnext", "convnextv2", "glpn", "resnet", "rt_detr_resnet", "segformer"}  # hidden states (b, c, h, w)


def states(config: Any) -> Kind | None:
    """The kind of the hidden states of a vision network; None where it is not known."""
    if config.model_type in PREFIXES:
        return Tokens(config.patch_size, PREFIXES[config.model_type] + getattr(config, "num_register_tokens", 0))
    return Kind("image") if config.model_type in PYRAMIDS else None


def known(**kinds: Any) -> dict[str, Any]:
    """The kinds that are not None; a field without a kind is an error when it comes."""
    return {name: kind for name, kind in kinds.items() if kind is not None}


def hidden(config: Any) -> dict[str, Any]:
    """The hidden states; those of the network inside where the configuration is that of a head."""
    inside = getattr(config, "vision_config", None) or getattr(config, "backbone_config", None) or config
    return known(hidden_states=states(inside))


def scores(config: Any) -> Kind:
    """The kind of a classifier's logits by its configuration: a softmax, independent sigmoids, or the values of a regression.

    One label without a `problem_type` is a regression, as in transformers' own losses.
    """
    problem = getattr(config, "problem_type", None)
    if problem == "regression" or (problem is None and config.num_labels == 1):
        return Invariant()
    return Logits(sigmoid=problem == "multi_label_classification")


def classifier(model: Any) -> dict[str, Any]:
    logits = dict.fromkeys(("logits", "cls_logits", "distillation_logits"), scores(model.config))
    return {"loss": "invariant"} | logits | hidden(model.config)


def segmenter(model: Any) -> dict[str, Any]:
    return {"loss": "invariant", "logits": "image"} | hidden(model.config)


def depth(model: Any) -> dict[str, Any]:
    maps = {"loss": "invariant", "predicted_depth": "image"}
    return maps | {"field_of_view": "invariant", "domain_logits": "logits"} | hidden(model.config)


def features(model: Any) -> dict[str, Any]:
    """Patch tokens or maps, and what is pooled from them."""
    kind = states(getattr(model.config, "vision_config", model.config))
    return known(last_hidden_state=kind, hidden_states=kind, pooler_output="invariant", image_embeds="invariant")


def backbone(model: Any) -> dict[str, Any]:
    """Maps, unless the configuration asks for the tokens as they are."""
    maps = "image" if getattr(model.config, "reshape_hidden_states", True) else states(model.config)
    return known(feature_maps=maps) | hidden(model.config)


def zero_shot(model: Any) -> dict[str, Any]:
    """Scores (images, texts) and their transpose: logits of a softmax over texts (CLIP) or of independent sigmoids (SigLIP)."""
    sigmoid = model.config.model_type == "siglip"
    texts = {"text_embeds": SHARED, "text_model_output": SHARED}
    images = {"image_embeds": "invariant", "vision_model_output": features(model)}
    return {"logits_per_image": Logits(0, sigmoid), "logits_per_text": Logits(1, sigmoid)} | texts | images


def stride(config: Any) -> int:
    """The stride in pixels of the last feature map of a detector's backbone."""
    inside = getattr(config, "backbone_config", None)
    if inside is None or inside.model_type == "timm_backbone":
        return 16 if getattr(config, "dilation", False) else 32
    if inside.model_type in PREFIXES:
        return inside.patch_size
    first = inside.patch_size if hasattr(inside, "patch_size") else 4  # every later stage halves the resolution
    stages = inside.out_indices[-1] - 1 + bool(getattr(inside, "downsample_in_first_stage", False))
    return first * 2**stages


def detector(model: Any) -> dict[str, Any]:
    """A box and class scores per query, which belong together and so come from the likeliest pose alone."""
    grid = Tokens(stride(model.config), prefix=0)
    queries = dict.fromkeys(("logits", "last_hidden_state", "decoder_hidden_states"), "invariant")
    grids = {"encoder_last_hidden_state": grid, "encoder_hidden_states": grid}
    return Likeliest({"pred_boxes": SHARES, "pred_masks": "image"} | queries | grids)


def yolos(model: Any) -> dict[str, Any]:
    """A detector whose queries are the last tokens of a vision transformer."""
    tokens = Tokens(model.config.patch_size, 1, model.config.num_detection_tokens)
    return Likeliest({"logits": "invariant", "pred_boxes": SHARES, "last_hidden_state": tokens, "hidden_states": tokens})


def deformable(model: Any) -> dict[str, Any]:
    """A detector with reference points, or boxes, of every layer. The encoder's outputs stay in the frame of the canonical
    form, grid after grid; so do Grounding DINO's outputs for words."""
    queries = ("logits", "last_hidden_state", "decoder_hidden_states", "intermediate_hidden_states", "encoder_logits")
    encoder = ("last_hidden_state", "hidden_states", "last_hidden_state_vision", "vision_hidden_states")
    texts = ("encoder_last_hidden_state_text", "encoder_text_hidden_states", "input_ids")
    proposals = ("enc_outputs_class", "enc_outputs_coord_logits")
    first = SHARES if model.config.two_stage else Points(normalized=True)
    later = SHARES if model.config.two_stage or getattr(model.config, "with_box_refine", True) else first
    return Likeliest(
        dict.fromkeys((*queries, *(f"encoder_{name}" for name in encoder), *texts, *proposals), "invariant")
        | {"init_reference_points": first, "intermediate_reference_points": later}
        | dict.fromkeys(("pred_boxes", "encoder_pred_boxes"), SHARES)
    )


def rt_detr(model: Any) -> dict[str, Any]:
    """A detector with the boxes of every layer. The encoder's proposals stay in the frame of the canonical form: they are
    listed grid after grid, and partly before the sigmoid."""
    queries = ("logits", "last_hidden_state", "intermediate_hidden_states", "intermediate_logits", "decoder_hidden_states")
    proposals = ("init_reference_points", "enc_topk_logits", "enc_outputs_class", "enc_outputs_coord_logits")
    return Likeliest(
        dict.fromkeys((*queries, *proposals), "invariant")
        | dict.fromkeys(("pred_boxes", "intermediate_reference_points", "enc_topk_bboxes"), SHARES)
        | dict.fromkeys(("encoder_last_hidden_state", "encoder_hidden_states"), "image")
    )


def d_fine(model: Any) -> dict[str, Any]:
    """RT-DETR with boxes that every layer refines; its offsets of the sides stay in the frame of the canonical form."""
    more = {"initial_reference_points": SHARES, "intermediate_predicted_corners": "invariant"}
    return rt_detr(model) | Likeliest(more | {"intermediate_hidden_states": Invariant(axis=1)})


def mask_former(model: Any) -> dict[str, Any]:
    """A mask and class scores per query. Mask2Former's decoder keeps its queries on the first axis."""
    maps = ("masks_queries_logits", "encoder_last_hidden_state", "pixel_decoder_last_hidden_state")
    lists_of_maps = ("encoder_hidden_states", "pixel_decoder_hidden_states")
    return Likeliest(
        dict.fromkeys((*maps, *lists_of_maps), "image")
        | dict.fromkeys(("class_queries_logits", "transformer_decoder_last_hidden_state"), "invariant")
        | {"transformer_decoder_hidden_states": Invariant(axis=1 if model.config.model_type == "mask2former" else 0)}
    )


SAM = {"iou_scores": "invariant", "pred_masks": "image", "object_score_logits": "invariant", "image_embeddings": "image"}

FAMILIES = [
    ("CLIPModel MetaClip2Model SiglipModel", TEXTS, zero_shot),
    ("ViTModel DeiTModel IJepaModel Dinov2Model Dinov2WithRegistersModel DINOv3ViTModel DPTModel", IMAGES, features),
    ("CLIPVisionModel CLIPVisionModelWithProjection SiglipVisionModel", IMAGES, features),
    ("MetaClip2VisionModel MetaClip2VisionModelWithProjection", IMAGES, features),
    ("ResNetModel ConvNextModel ConvNextV2Model SegformerModel", IMAGES, features),
    ("Dinov2Backbone Dinov2WithRegistersBackbone DINOv3ViTBackbone", IMAGES, backbone),
    ("ResNetBackbone ConvNextBackbone ConvNextV2Backbone SwinBackbone", IMAGES, backbone),
    ("DetrForObjectDetection DetrForSegmentation TableTransformerForObjectDetection", PADDED, detector),
    ("ConditionalDetrForObjectDetection ConditionalDetrForSegmentation DabDetrForObjectDetection", PADDED, detector),
    ("DeformableDetrForObjectDetection", PADDED, deformable),
    ("GroundingDinoForObjectDetection MMGroundingDinoForObjectDetection", PHRASED, deformable),
    ("RTDetrForObjectDetection RTDetrV2ForObjectDetection", PADDED, rt_detr),
    ("DFineForObjectDetection", PADDED, d_fine),
    ("YolosForObjectDetection", IMAGES, yolos),
    ("Mask2FormerForUniversalSegmentation MaskFormerForInstanceSegmentation", PADDED, mask_former),
    ("SamModel Sam2Model SamHQModel", PROMPTS, SAM),
]

ADAPTERS = [
    Adapter("transformers.models.imagegpt.*", None, None),  # takes colours as words
    Adapter("transformers.models.siglip2.*", None, None),  # takes images cut into patches
    Adapter("transformers.models.shieldgemma2.*", None, None),  # takes a conversation
    Adapter("transformers.models.*ForImageClassification", LABELLED, classifier),
    Adapter("transformers.models.*ForImageClassificationWithTeacher", LABELLED, classifier),
    Adapter("transformers.models.*ForVideoClassification", VIDEOS, classifier),
    Adapter("transformers.models.*ForSemanticSegmentation", MAPPED, segmenter),
    Adapter("transformers.models.*ForDepthEstimation", MAPPED, depth),
    *[Adapter(f"transformers.models.*.{name}", *kinds) for names, *kinds in FAMILIES for name in names.split()],
]
