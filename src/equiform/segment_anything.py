"""A photo embedded once and prompted many times: its pose is found with the embedding, and moves the prompts."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ._checks import check_whole
from .canonicalizers.poses import Pose
from .equivariant import Equivariant
from .geometry.groups import inverse
from .geometry.moving import act
from .predictors import prompts
from .predictors.pairs import read_photo, to_image
from .predictors.prompts import Embedding


@dataclass(frozen=True)
class EmbeddedPhoto:
    """A photo's pose and the model's embedding of its canonical form. Call it with prompts in the photo's own pixels."""

    model: Equivariant
    pose: Pose
    size: tuple[int, int]
    embedding: Embedding

    @torch.no_grad()
    def __call__(self, *, multimask_output: bool = True, **given: Any) -> dict[str, Tensor]:
        """The masks and scores that `model(photo, **prompts)` gives, without running the image encoder again."""
        if unknown := [name for name in given if name not in prompts.KINDS]:
            raise TypeError(f"unknown prompts {', '.join(unknown)}; known: {', '.join(prompts.KINDS)}")
        checked = {name: prompts.checked(name, value, self.size) for name, value in given.items() if value is not None}
        prompts.check_together(checked)
        back = inverse(self.pose.g)
        upright = {
            name: act(back, value[None], prompts.KINDS[name], self.size, name=name)[0] for name, value in checked.items()
        }
        masks, scores = prompts.decoded(*self._pair, self.embedding, upright, multimask_output).values()
        return {"masks": self._moved(masks), "iou_scores": scores}

    @torch.no_grad()
    def generate_masks(
        self,
        points_per_side: int = 32,
        *,
        points_per_batch: int = 64,
        min_score: float = 0.88,
        min_stability: float = 0.95,
        max_overlap: float = 0.7,
    ) -> dict[str, Tensor]:
        """Every mask that a grid of points finds: masks (n, h, w), boxes (n, 4) as xyxy and scores (n,), the best first.

        A mask is kept with a predicted score above `min_score` that changes little when its logits are cut at -1 or at 1
        instead of 0 (`min_stability`, the IoU of the two), and unless its box overlaps a better one's by an IoU above
        `max_overlap` (Kirillov et al. 2023, app. B). The grid lies on the canonical photo, so that the masks turn with it.
        """
        check_whole(points_per_side=points_per_side, points_per_batch=points_per_batch)
        for name, value in (("min_score", min_score), ("min_stability", min_stability), ("max_overlap", max_overlap)):
            prompts.check_number(name, value)
        h, w = self.embedding.size
        share = (torch.arange(points_per_side) + 0.5) / points_per_side
        grid = torch.cartesian_prod(share * h, share * w).flip(-1)[:, None]
        found = [self._stable(points, min_score, min_stability) for points in grid.split(points_per_batch)]
        masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        boxes = boxes_of(masks)
        keep = suppressed(boxes, scores, max_overlap)
        moved = act(self.pose.g, boxes[keep][None], "boxes", self.embedding.size)[0]
        return {"masks": self._moved(masks[keep]), "boxes": moved, "scores": scores[keep]}

    def _stable(self, points: Float[Tensor, "n 1 2"], min_score: float, min_stability: float) -> tuple[Tensor, Tensor]:
        processor, model = self._pair
        low, scores = prompts.low_resolution(model, self.embedding, {"input_points": points})
        good = scores > min_score
        kept = [prompts.full_size(processor, self.embedding, logits[None, None])[0, 0] for logits in low[good]]
        logits = torch.stack(kept) if kept else low.new_zeros(0, *self.embedding.size)
        inner, outer = ((logits > level).sum((1, 2)) for level in (1.0, -1.0))
        stable = (inner >= min_stability * outer) & (inner > 0)
        return logits[stable] > 0, scores[good][stable]

    @property
    def _pair(self) -> tuple[Any, Any]:
        predictor: Any = self.model.predictor
        return predictor.processor, predictor.model

    def _moved(self, masks: Bool[Tensor, "*n h w"]) -> Bool[Tensor, "*n h w"]:
        return act(self.pose.g, masks[None], "mask", self.embedding.size)[0]


@torch.no_grad()
def embed(model: Equivariant, photo: Any) -> EmbeddedPhoto:
    """The pose and the embedding of one photo, for a promptable model adapted as a pair (processor, model).

    Raises TypeError for any other model.
    """
    predictor: Any = getattr(model, "predictor", None)
    if not isinstance(model, Equivariant) or not getattr(getattr(predictor, "task", None), "prompts", None):
        inside = getattr(predictor, "model", predictor)
        came = f"one around a {type(inside).__name__}" if isinstance(model, Equivariant) else f"a {type(model).__name__}"
        raise TypeError(f"embed takes a promptable model, adapt((processor, sam), group); got {came}")
    pixels = read_photo(photo)
    pose = model.pose([pixels])
    upright = act(inverse(pose.g), pixels[None])[0]
    embedding = prompts.embedded(predictor.processor, predictor.model, to_image(upright))
    return EmbeddedPhoto(model, pose, (int(pixels.shape[1]), int(pixels.shape[2])), embedding)


def boxes_of(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 4"]:
    """The box around each mask, xyxy in pixels: the outer edges of its outermost pixels."""
    sides = []
    for axis in (1, 2):  # columns, then rows, in which there is anything
        hit = masks.any(axis)
        first = hit.int().argmax(1)
        last = hit.shape[1] - hit.flip(1).int().argmax(1)
        sides.append((first, last))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], 1).float()


def suppressed(boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], max_overlap: float) -> Tensor:
    """Greedy non-maximum suppression: the indices kept, the best score first; equal scores in their order."""
    order = scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in order.tolist():
        if not alive[i]:
            continue
        kept.append(i)
        shared = (torch.minimum(boxes[i, 2:], boxes[:, 2:]) - torch.maximum(boxes[i, :2], boxes[:, :2])).clamp(min=0).prod(1)
        alive &= shared <= max_overlap * (area[i] + area - shared)
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
