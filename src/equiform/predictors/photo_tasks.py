"""The tasks of (processor, model) pairs on photos: one row per task, looked up by the class of the model.

A processor resizes, pads and normalises; its post-processing brings answers back to the pixels of the photo. Both happen
inside the predictor, so that the model sees padding where it was trained to, however the photo was turned.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..geometry.kinds import Logits
from ..predictors import prompts
from .table import Adapter, first_match
from .transformers import scores

Images = list[Any]  # PIL images of one size
SEGMENTATIONS = ("semantic", "instance", "panoptic")


class PhotoTask(NamedTuple):
    """`answer(processor, model, images, **options)` and how it moves; `prompts`: those options that move with the photo.

    `outputs`: kinds, or a function model -> kinds where its configuration decides.
    """

    classes: str
    answer: Callable[..., Any]
    outputs: Any
    options: tuple[str, ...] = ()
    prompts: Mapping[str, str] = {}


def encoded(processor: Any, model: nn.Module, images: Images, **inputs: Any) -> Any:
    """What the processor makes of the images, on the model's device and in its precision."""
    batch = processor(images=images, return_tensors="pt", **inputs)
    parameter = next(model.parameters())

    def fitting(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.to(parameter.device, parameter.dtype if x.dtype.is_floating_point else x.dtype)

    return {name: fitting(value) for name, value in batch.items()}


def post_processing(processor: Any, name: str) -> Callable[..., Any]:
    """A method of the processor, or of the image processor in it. Raises TypeError where there is none."""
    for owner in (processor, getattr(processor, "image_processor", None)):
        if hasattr(owner, name):
            return getattr(owner, name)
    raise TypeError(f"a {type(processor).__name__} has no {name}: is it the processor of this model?")


def _sizes(images: Images) -> list[tuple[int, int]]:
    return [(image.height, image.width) for image in images]


def _class_kinds(model: Any) -> dict[str, Any]:
    return {"logits": scores(model.config)}


def _classes(processor: Any, model: nn.Module, images: Images) -> dict[str, Tensor]:
    return {"logits": model(**encoded(processor, model, images)).logits}


def _in_words(text: Any) -> list[str]:
    if not isinstance(text, (list, tuple)) or not text or not all(isinstance(t, str) and t for t in text):
        raise ValueError(f"the model needs the classes in words, text=['a cat', 'a dog']; got {text!r}")
    return list(text)


def _zero_shot(processor: Any, model: Any, images: Images, text: Any = None) -> dict[str, Tensor]:
    # SigLIP was trained on texts of one length
    padding = "max_length" if model.config.model_type.startswith("siglip") else True
    inputs = encoded(processor, model, images, text=_in_words(text), padding=padding)
    return {"logits_per_image": model(**inputs).logits_per_image}


def _found(boxes: Tensor, scores: Tensor, text_labels: list[str]) -> dict[str, Any]:
    # without boxes Grounding DINO's processor still gives one empty label
    return {"boxes": boxes, "scores": scores, "text_labels": text_labels[: len(boxes)]}


def _named_objects(
    processor: Any, model: nn.Module, images: Images, text: Any = None, threshold: float = 0.1
) -> list[dict[str, Any]]:
    words = [_in_words(text)] * len(images)
    output = model(**encoded(processor, model, images, text=words))
    process = post_processing(processor, "post_process_grounded_object_detection")
    found = process(output, threshold=threshold, target_sizes=_sizes(images), text_labels=words)
    return [_found(one["boxes"], one["scores"], one["text_labels"]) for one in found]


def _phrased_objects(
    processor: Any, model: nn.Module, images: Images, text: Any = None, threshold: float = 0.25, text_threshold: float = 0.25
) -> list[dict[str, Any]]:
    """Grounding DINO labels each box by the words that it matches, of one class or of several."""
    words = _in_words(text)
    if dotted := [word for word in words if "." in word]:
        raise ValueError(f"a class of Grounding DINO has no full stop, which ends it; got {', '.join(map(repr, dotted))}")
    inputs = encoded(processor, model, images, text=[words] * len(images), padding=True)
    output = model(**inputs)
    process = post_processing(processor, "post_process_grounded_object_detection")
    found = process(output, inputs["input_ids"], threshold, text_threshold, _sizes(images))
    return [_found(one["boxes"], one["scores"], one["text_labels"]) for one in found]


def _semantic(processor: Any, model: nn.Module, images: Images) -> list[dict[str, Any]]:
    output = model(**encoded(processor, model, images))
    maps = post_processing(processor, "post_process_semantic_segmentation")(output, target_sizes=_sizes(images))
    return [{"segmentation": segmentation} for segmentation in maps]


def _universal(
    processor: Any, model: Any, images: Images, task: str | None = None, threshold: float = 0.5
) -> list[dict[str, Any]]:
    """By default the first task that the processor has: RF-DETR's has instances alone."""
    if task is None:
        owners = (processor, getattr(processor, "image_processor", None))
        can = (one for one in SEGMENTATIONS if any(hasattr(o, f"post_process_{one}_segmentation") for o in owners))
        task = next(can, SEGMENTATIONS[0])
    if task not in SEGMENTATIONS:
        raise ValueError(f"unknown task {task!r}; known: {', '.join(SEGMENTATIONS)}")
    asked = {"task_inputs": [task] * len(images)} if model.config.model_type == "oneformer" else {}
    output = model(**encoded(processor, model, images, **asked))
    process = post_processing(processor, f"post_process_{task}_segmentation")
    if task == "semantic":
        return [{"segmentation": m, "segments_info": []} for m in process(output, target_sizes=_sizes(images))]
    return process(output, threshold=threshold, target_sizes=_sizes(images))


def _objects(processor: Any, model: nn.Module, images: Images, threshold: float = 0.5) -> list[dict[str, Any]]:
    output = model(**encoded(processor, model, images))
    process = post_processing(processor, "post_process_object_detection")
    return process(output, threshold=threshold, target_sizes=_sizes(images))


def _depth(processor: Any, model: Any, images: Images) -> list[dict[str, Any]]:
    output = model(**encoded(processor, model, images))
    sizes = _sizes(images)
    padded = {"source_sizes": sizes} if model.config.model_type == "zoedepth" else {}
    return post_processing(processor, "post_process_depth_estimation")(output, target_sizes=sizes, **padded)


def _maps(features: Tensor, model: Any, pixels: Tensor) -> Tensor:
    """Features as maps (b, d, h, w). Of tokens, the last h w are one per patch, row by row."""
    if features.ndim == 4:
        return features
    patch = model.config.patch_size
    size = (patch, patch) if isinstance(patch, int) else patch
    h, w = (side // p for side, p in zip(pixels.shape[-2:], size, strict=True))
    return features[:, features.shape[1] - h * w :].mT.unflatten(-1, (h, w))


def _features(processor: Any, model: Any, images: Images) -> list[dict[str, Any]]:
    inputs = encoded(processor, model, images)
    output = model(**inputs)
    maps = _maps(output.last_hidden_state, model, inputs["pixel_values"])
    pooled = getattr(output, "pooler_output", None)  # some have none
    rows = [None] * len(images) if pooled is None else pooled.flatten(1)
    return [{"pooler_output": p, "patch_features": f} for p, f in zip(rows, maps, strict=True)]


def _projected(processor: Any, model: Any, images: Images) -> list[dict[str, Any]]:
    inputs = encoded(processor, model, images)
    output = model(**inputs)
    maps = _maps(output.last_hidden_state, model, inputs["pixel_values"])
    return [{"image_embeds": e, "patch_features": f} for e, f in zip(output.image_embeds, maps, strict=True)]


def _pyramid(processor: Any, model: Any, images: Images) -> list[dict[str, Any]]:
    inputs = encoded(processor, model, images)
    stages = [_maps(stage, model, inputs["pixel_values"]) for stage in model(**inputs).feature_maps]
    return [{"feature_maps": list(rows)} for rows in zip(*stages, strict=True)]


def _phrased_instances(
    processor: Any, model: nn.Module, images: Images, text: Any = None, threshold: float = 0.3
) -> list[dict[str, Any]]:
    """SAM 3: everything that one phrase names."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"the model needs one phrase, text='a yellow bus'; got {text!r}")
    output = model(**encoded(processor, model, images, text=[text] * len(images)))
    process = post_processing(processor, "post_process_instance_segmentation")
    found = process(output, threshold=threshold, target_sizes=_sizes(images))
    for one, size in zip(found, _sizes(images), strict=True):  # without any, masks would come in the model's own size
        one["masks"] = one["masks"].bool() if len(one["masks"]) else one["masks"].new_zeros(0, *size, dtype=torch.bool)
    return found


def _prompted(processor: Any, model: nn.Module, images: Images, **given: Any) -> list[dict[str, Any]]:
    multimask = given.pop("multimask_output", True)
    answers = []
    for i, image in enumerate(images):  # each photo has as many prompts as it has
        own = {name: value[i] for name, value in given.items() if value is not None and value[i] is not None}
        answers.append(prompts.decoded(processor, model, prompts.embedded(processor, model, image), own, multimask))
    return answers


def _rows(names: str, *columns: Any) -> list[PhotoTask]:
    """One row for every class named, by its package in transformers and its own name."""
    return [PhotoTask(f"transformers.models.{name.replace('.', '.*.')}", *columns) for name in names.split()]


OBJECTS = {"boxes": "boxes", "scores": "invariant", "labels": "invariant"}
NAMED_OBJECTS = {"boxes": "boxes", "scores": "invariant", "text_labels": "invariant"}
SEGMENTATION = {"segmentation": "mask", "segments_info": "invariant"}
INSTANCES = {"scores": "invariant", "boxes": "boxes", "masks": "mask"}
MASKS = {"masks": "mask", "iou_scores": "invariant"}
# classes whose names match a task below that they do not do: conversations, clips, other prompts or answers (page layouts
# also have an order and polygons; PP-OCR's processors take sizes in another form)
OTHERS = [
    Adapter(f"transformers.models.{package}.*", None, None)
    for package in ("shieldgemma2", "videomt", "omdet_turbo", "depth_pro", "pp_doclayout_*", "pp_ocr*")
]
PHOTO_TASKS = [
    PhotoTask("transformers.models.*ForImageClassification", _classes, _class_kinds),
    PhotoTask("transformers.models.*ForImageClassificationWithTeacher", _classes, _class_kinds),
    PhotoTask("transformers.models.*ForSemanticSegmentation", _semantic, [{"segmentation": "mask"}]),
    *(
        PhotoTask(f"transformers.models.*For{what}Segmentation", _universal, [SEGMENTATION], ("task", "threshold"))
        for what in ("Universal", "Instance", "")
    ),
    *_rows(
        "owlvit.OwlViTForObjectDetection owlv2.Owlv2ForObjectDetection", _named_objects, [NAMED_OBJECTS], ("text", "threshold")
    ),
    *_rows(
        "grounding_dino.GroundingDinoForObjectDetection mm_grounding_dino.MMGroundingDinoForObjectDetection",
        _phrased_objects,
        [NAMED_OBJECTS],
        ("text", "threshold", "text_threshold"),
    ),
    PhotoTask("transformers.models.*ForObjectDetection", _objects, [OBJECTS], ("threshold",)),
    PhotoTask("transformers.models.*ForDepthEstimation", _depth, [{"predicted_depth": "image"}]),
    *_rows("clip.CLIPModel metaclip_2.MetaClip2Model", _zero_shot, {"logits_per_image": "logits"}, ("text",)),
    # SigLIP's scores are one sigmoid a text: no distribution over the texts
    *_rows("siglip.SiglipModel siglip2.Siglip2Model", _zero_shot, {"logits_per_image": Logits(sigmoid=True)}, ("text",)),
    *_rows("sam3.Sam3Model", _phrased_instances, [INSTANCES], ("text", "threshold")),
    *_rows(
        "sam.SamModel sam_hq.SamHQModel sam2.Sam2Model sam3_tracker.Sam3TrackerModel",
        _prompted,
        [MASKS],
        ("multimask_output",),
        prompts.KINDS,
    ),
    *_rows(
        "dinov2.Dinov2Model dinov2_with_registers.Dinov2WithRegistersModel dinov3_vit.DINOv3ViTModel vit.ViTModel "
        "deit.DeiTModel ijepa.IJepaModel dpt.DPTModel clip.CLIPVisionModel metaclip_2.MetaClip2VisionModel "
        "siglip.SiglipVisionModel resnet.ResNetModel convnext.ConvNextModel convnextv2.ConvNextV2Model "
        "segformer.SegformerModel",
        _features,
        [{"pooler_output": "invariant", "patch_features": "image"}],
    ),
    *_rows(
        "clip.CLIPVisionModelWithProjection metaclip_2.MetaClip2VisionModelWithProjection",
        _projected,
        [{"image_embeds": "invariant", "patch_features": "image"}],
    ),
    *_rows(
        "dinov2.Dinov2Backbone dinov2_with_registers.Dinov2WithRegistersBackbone dinov3_vit.DINOv3ViTBackbone "
        "resnet.ResNetBackbone convnext.ConvNextBackbone convnextv2.ConvNextV2Backbone swin.SwinBackbone",
        _pyramid,
        [{"feature_maps": "image"}],
    ),
]


def known_task(model: Any) -> PhotoTask | None:
    """The task of a model that comes with a processor; None for a class that is not known."""
    task = first_match([*OTHERS, *PHOTO_TASKS], model)
    return task if isinstance(task, PhotoTask) else None


def photo_task(model: Any) -> PhotoTask:
    """The task of a model with the kinds of its answer. Raises TypeError, with the way out, where it is not known."""
    task = known_task(model)
    if task is None:
        raise TypeError(
            f"what a {type(model).__name__} makes of photos is not known: wrap processor and model in a function of a list of "
            "photos (3, h, w) and pass it with inputs=equiform.Rows('image') and outputs="
        )
    return task._replace(outputs=task.outputs(model)) if callable(task.outputs) else task


def run(task: PhotoTask, processor: Any, model: nn.Module, images: Images, options: Mapping[str, Any]) -> Any:
    """The answer for photos of one size. Gradients are not kept: pictures have none."""
    for name in ("threshold", "text_threshold"):
        if name in options:
            prompts.check_number(name, options[name])
    with torch.no_grad():
        return task.answer(processor, model, images, **options)
