"""Promptable segmenters (SAM, SAM 2): prompts in the pixels of a photo, an embedding of it, and masks in its pixels.

Kirillov et al. 2023, arXiv 2304.02643; Ravi et al. 2024, arXiv 2408.00714.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]
# one entry per photo, each with an object axis first, as in the models
KINDS = {"input_points": "points", "input_labels": "invariant", "input_boxes": "boxes", "input_masks": "mask"}
SHAPES = {"input_points": "(objects, points, 2)", "input_labels": "(objects, points)", "input_boxes": "(objects, 4)"}
LABELS = {1: "on the object", 0: "off it", -1: "background", -10: "padding"}
STEP = 2.0**-8  # pixels
# the logit of a binary mask prompt, about as large as those of the models themselves
SURE = 10.0


class Embedding(NamedTuple):
    """The input of the mask decoder: features by the names of the model's arguments, the size of the photo, and the part of
    the model's canvas that it fills."""

    features: dict[str, Any]
    size: Size
    filled: Size
    canvas: Size
    padded: bool


def checked(name: str, value: Any, size: Size) -> Tensor:
    """One photo's prompt with its object axis. Raises ValueError where it does not fit the photo of that (height, width)."""
    given = x = _tensor(name, value)
    if name == "input_masks":
        x = x[0] if x.ndim == 3 and len(x) == 1 else x
        if x.shape != size:
            raise ValueError(f"input_masks: one mask of the photo's size {size} is expected; got {tuple(x.shape)}")
        return x
    if name == "input_labels" and x.dtype.is_floating_point:
        raise ValueError(f"input_labels are whole numbers: 1 on the object, 0 off it; got {x.dtype}")
    x = x.float() if name != "input_labels" else x.long()
    num_axes = 2 if name != "input_points" else 3
    x = x[None] if x.ndim == num_axes - 1 else x
    last = {"input_points": 2, "input_boxes": 4}.get(name)
    if x.ndim != num_axes or 0 in x.shape or (last and x.shape[-1] != last):
        raise ValueError(
            f"{name} of a photo have shape {SHAPES[name]}, or that without its first axis; got {tuple(given.shape)}"
        )
    if name == "input_labels":
        if unknown := set(x.flatten().tolist()) - set(LABELS):
            known = ", ".join(f"{label} {meaning}" for label, meaning in LABELS.items())
            raise ValueError(f"input_labels: unknown labels {sorted(unknown)}; known: {known}")
        return x
    corners = x.reshape(-1, 2)
    limit = torch.tensor([size[1], size[0]], device=x.device)
    outside = ~((corners >= 0) & (corners <= limit)).all(-1)
    if bool(outside.any()):
        where = [round(v, 1) for v in corners[outside][0].tolist()]
        raise ValueError(f"{name}: {where} lies outside the photo, which is {size[1]} wide and {size[0]} high")
    if name == "input_boxes" and bool((x[:, 2:] <= x[:, :2]).any()):
        wrong = x[(x[:, 2:] <= x[:, :2]).any(-1)][0].tolist()
        raise ValueError(f"input_boxes are x1, y1, x2, y2 with x1 < x2 and y1 < y2; got {wrong}")
    # coordinates that a quarter turn moves without rounding, so that a turned photo gets the very same prompts
    return (x / STEP).round() * STEP


def _tensor(name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(np.array(value) if name == "input_masks" and not isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{name} of a photo are numbers in a list or tensor, as many for each object; got {shortly(value)}"
        ) from None


def shortly(value: Any) -> str:
    """A value in one line of an error."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]} ..."


def check_number(name: str, value: Any) -> None:
    """Raise TypeError where an option is no number."""
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is a number; got {value!r}")


def check_together(prompts: Mapping[str, Tensor]) -> None:
    """Raise ValueError where the prompts of one photo do not fit each other, or where there is none."""
    points, labels, boxes = (prompts.get(name) for name in ("input_points", "input_labels", "input_boxes"))
    if points is None and boxes is None and labels is None and "input_masks" not in prompts:
        raise ValueError("no prompt: pass input_points=, input_boxes= or input_masks= (for every mask: generate_masks)")
    if labels is not None and (points is None or labels.shape != points.shape[:2]):
        came = "no points" if points is None else f"points {tuple(points.shape)}"
        raise ValueError(f"input_labels say what each of the input_points is; got {came} and labels {tuple(labels.shape)}")
    if points is not None and boxes is not None and len(points) != len(boxes):
        raise ValueError(f"as many boxes as objects with points are expected; got {len(boxes)} boxes and {len(points)} objects")


def embedded(processor: Any, model: Any, image: Any) -> Embedding:
    """The features of one PIL image: the costly part, which can be prompted many times."""
    batch = processor(images=image, return_tensors="pt")
    parameter = next(model.parameters())
    pixels = batch["pixel_values"].to(parameter.device, parameter.dtype)
    canvas = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    padded = "reshaped_input_sizes" in batch  # SAM keeps the aspect and pads; SAM 2 squeezes
    filled = tuple(int(n) for n in batch["reshaped_input_sizes"][0]) if padded else canvas
    features = model.get_image_embeddings(pixels)
    # a tuple: SAM-HQ's decoder looks at earlier layers as well
    last, *earlier = features if isinstance(features, tuple) else (features,)
    named = {"image_embeddings": last} | ({"intermediate_embeddings": earlier[0]} if earlier else {})
    return Embedding(named, (image.height, image.width), (filled[0], filled[1]), canvas, padded)


def decoded(
    processor: Any, model: nn.Module, embedding: Embedding, prompts: Mapping[str, Tensor], multimask: bool = True
) -> dict[str, Tensor]:
    """The masks (objects, masks, h, w) in the pixels of the photo, and their scores (objects, masks)."""
    low, scores = low_resolution(model, embedding, prompts, multimask)
    return {"masks": full_size(processor, embedding, low) > 0, "iou_scores": scores}


def low_resolution(
    model: Any, embedding: Embedding, prompts: Mapping[str, Tensor], multimask: bool = True
) -> tuple[Float[Tensor, "objects masks h w"], Float[Tensor, "objects masks"]]:
    """The masks of the decoder, logits on a coarse grid over the model's canvas, and their scores."""
    features = embedding.features["image_embeddings"]
    like = features if isinstance(features, Tensor) else features[-1]
    scale = torch.tensor([f / s for f, s in zip(embedding.filled, embedding.size, strict=True)][::-1]).to(like)
    inputs: dict[str, Any] = {}
    if (points := prompts.get("input_points")) is not None:
        inputs["input_points"] = (points.to(like) * scale)[None]
        labels = prompts.get("input_labels")
        labels = torch.ones(points.shape[:2], dtype=torch.long) if labels is None else labels
        inputs["input_labels"] = labels.to(like.device)[None]
    if (boxes := prompts.get("input_boxes")) is not None:
        inputs["input_boxes"] = (boxes.to(like) * scale.repeat(2))[None]
    if (mask := prompts.get("input_masks")) is not None:
        inputs["input_masks"] = _mask_prompt(mask.to(like.device), embedding, model).to(like)
    output = model(**embedding.features, multimask_output=multimask, **inputs)
    return output.pred_masks[0], output.iou_scores[0]


def full_size(
    processor: Any, embedding: Embedding, low: Float[Tensor, "objects masks low_h low_w"]
) -> Float[Tensor, "objects masks h w"]:
    """Coarse logits over the model's canvas as logits over the photo, by the processor's own rule."""
    sizes = ([embedding.size], [embedding.filled]) if embedding.padded else ([embedding.size],)
    owner = processor if hasattr(processor, "post_process_masks") else processor.image_processor
    return owner.post_process_masks([low], *sizes, binarize=False)[0]


def _mask_prompt(
    mask: Bool[Tensor, "h w"] | Float[Tensor, "h w"], embedding: Embedding, model: Any
) -> Float[Tensor, "1 1 low_h low_w"]:
    logits = mask.float() if mask.dtype.is_floating_point else (mask != 0).float() * 2 * SURE - SURE
    size = tuple(model.prompt_encoder.mask_input_size) if hasattr(model.prompt_encoder, "mask_input_size") else None
    size = size or tuple(4 * side for side in model.prompt_encoder.image_embedding_size)
    part = [max(1, round(f * s / c)) for f, s, c in zip(embedding.filled, size, embedding.canvas, strict=True)]
    small = F.interpolate(logits[None, None], part, mode="bilinear", antialias=True, align_corners=False)
    return F.pad(small, (0, size[1] - part[1], 0, size[0] - part[0]), value=-SURE)
