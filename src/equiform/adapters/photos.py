"""What a processor and its model make of photos: one row a task, looked up by the class of the model.

A processor resizes, pads and normalises; its post-processing brings answers back to the pixels of the photo. Both happen
inside the predictor, so that the model sees padding where it was trained to whatever way up the photo came.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import prompts
from .table import first_match

Images = list[Any]  # PIL images of one size


class PhotoTask(NamedTuple):
    """`answer(processor, model, images, **options)` and how it moves; `prompts`: those options that move with the photo."""

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


def _classes(processor: Any, model: nn.Module, images: Images) -> dict[str, Tensor]:
    return {"logits": model(**encoded(processor, model, images)).logits}


def _zero_shot(processor: Any, model: nn.Module, images: Images, text: Any = None) -> dict[str, Tensor]:
    if not isinstance(text, (list, tuple)) or not text or not all(isinstance(t, str) for t in text):
        raise ValueError(f"zero-shot classification needs the classes in words, text=['a cat', 'a dog']; got {text!r}")
    # SigLIP was trained on texts of one length
    padding = "max_length" if "siglip" in type(model).__name__.lower() else True
    inputs = encoded(processor, model, images, text=list(text), padding=padding)
    return {"logits_per_image": model(**inputs).logits_per_image}


def _semantic(processor: Any, model: nn.Module, images: Images) -> list[dict[str, Any]]:
    output = model(**encoded(processor, model, images))
    maps = post_processing(processor, "post_process_semantic_segmentation")(output, target_sizes=_sizes(images))
    return [{"segmentation": segmentation} for segmentation in maps]


def _universal(
    processor: Any, model: nn.Module, images: Images, task: str = "semantic", threshold: float = 0.5
) -> list[dict[str, Any]]:
    if task not in ("semantic", "instance", "panoptic"):
        raise ValueError(f"unknown task {task!r}; known: semantic, instance, panoptic")
    output = model(**encoded(processor, model, images))
    process = post_processing(processor, f"post_process_{task}_segmentation")
    if task == "semantic":
        return [{"segmentation": m, "segments_info": []} for m in process(output, target_sizes=_sizes(images))]
    return process(output, threshold=threshold, target_sizes=_sizes(images))


def _objects(processor: Any, model: nn.Module, images: Images, threshold: float = 0.5) -> list[dict[str, Any]]:
    output = model(**encoded(processor, model, images))
    process = post_processing(processor, "post_process_object_detection")
    return process(output, threshold=threshold, target_sizes=_sizes(images))


def _depth(processor: Any, model: nn.Module, images: Images) -> list[dict[str, Any]]:
    output = model(**encoded(processor, model, images))
    return post_processing(processor, "post_process_depth_estimation")(output, target_sizes=_sizes(images))


def _features(processor: Any, model: Any, images: Images) -> list[dict[str, Any]]:
    inputs = encoded(processor, model, images)
    output = model(**inputs)
    features = output.last_hidden_state
    if features.ndim == 3:  # tokens: some of the whole image, then one a patch, row by row
        patch = model.config.patch_size
        size = (patch, patch) if isinstance(patch, int) else patch
        h, w = (side // p for side, p in zip(inputs["pixel_values"].shape[-2:], size, strict=True))
        features = features[:, features.shape[1] - h * w :].mT.unflatten(-1, (h, w))
    pooled = output.pooler_output
    rows = [None] * len(images) if pooled is None else pooled.flatten(1)
    return [{"pooler_output": p, "patch_features": f} for p, f in zip(rows, features, strict=True)]


def _prompted(processor: Any, model: nn.Module, images: Images, **given: Any) -> list[dict[str, Any]]:
    multimask = given.pop("multimask_output", True)
    answers = []
    for i, image in enumerate(images):  # each photo has as many prompts as it has
        own = {name: value[i] for name, value in given.items() if value is not None}
        answers.append(prompts.decoded(processor, model, prompts.embedded(processor, model, image), own, multimask))
    return answers


FEATURE_MODELS = (
    *("dinov2.*.Dinov2Model", "dinov2_with_registers.*.Dinov2WithRegistersModel", "vit.*.ViTModel", "clip.*.CLIPVisionModel"),
    *("siglip.*.SiglipVisionModel", "resnet.*.ResNetModel", "convnext.*.ConvNextModel"),
)
SEGMENTATION = [{"segmentation": "mask", "segments_info": "invariant"}]
FEATURES = [{"pooler_output": "invariant", "patch_features": "image"}]
PHOTO_TASKS = [
    PhotoTask("transformers.models.*ForImageClassification", _classes, {"logits": "logits"}),
    PhotoTask("transformers.models.*ForSemanticSegmentation", _semantic, [{"segmentation": "mask"}]),
    PhotoTask("transformers.models.*ForUniversalSegmentation", _universal, SEGMENTATION, ("task", "threshold")),
    PhotoTask("transformers.models.*ForInstanceSegmentation", _universal, SEGMENTATION, ("task", "threshold")),
    PhotoTask(
        "transformers.models.*ForObjectDetection",
        _objects,
        [{"scores": "invariant", "labels": "invariant", "boxes": "boxes"}],
        ("threshold",),
    ),
    PhotoTask("transformers.models.*ForDepthEstimation", _depth, [{"predicted_depth": "image"}]),
    PhotoTask("transformers.models.clip.*.CLIPModel", _zero_shot, {"logits_per_image": "logits"}, ("text",)),
    # SigLIP's scores are one sigmoid a text: no distribution over the texts
    PhotoTask("transformers.models.siglip.*.SiglipModel", _zero_shot, {"logits_per_image": "invariant"}, ("text",)),
    PhotoTask("transformers.models.siglip2.*.Siglip2Model", _zero_shot, {"logits_per_image": "invariant"}, ("text",)),
    *(
        PhotoTask(
            f"transformers.models.{name}",
            _prompted,
            [{"masks": "mask", "iou_scores": "invariant"}],
            ("multimask_output",),
            prompts.KINDS,
        )
        for name in ("sam.*.SamModel", "sam2.*.Sam2Model")
    ),
    *(PhotoTask(f"transformers.models.{name}", _features, FEATURES) for name in FEATURE_MODELS),
]


def photo_task(model: Any) -> PhotoTask:
    """The task of a model that comes with a processor. Raises TypeError for a class that is not known, naming the way out."""
    task = first_match(PHOTO_TASKS, model)
    if task is None:
        raise TypeError(
            f"what a {type(model).__name__} makes of photos is not known: wrap processor and model in a function of a list of "
            "photos (3, h, w) and pass it with inputs=equiform.Rows('image') and outputs="
        )
    return task


def run(task: PhotoTask, processor: Any, model: nn.Module, images: Images, options: Mapping[str, Any]) -> Any:
    """The answer for photos of one size. Gradients are not kept: pictures have none."""
    with torch.no_grad():
        return task.answer(processor, model, images, **options)
