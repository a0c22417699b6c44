"""A processor and its model as one predictor, from photos to answers in the pixels of the photos."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from ..geometry.kinds import Rows
from ..images.files import exif_upright, is_picture, open_image, to_tensor
from ..predictors import prompts
from .photo_tasks import photo_task, run
from .table import Adapter


def read_photo(photo: Any) -> UInt8[Tensor, "3 h w"]:
    """The pixels of a path, a PIL image, an array (h, w, 3) or (h, w), or a tensor (3, h, w), turned as its EXIF says.

    Raises FileNotFoundError, UnreadableImage, TypeError or ValueError naming what came.
    """
    if isinstance(photo, (str, Path)):
        return to_tensor(open_image(photo))
    if is_picture(photo):
        return to_tensor(exif_upright(photo))
    if photo is None:
        raise TypeError("no photo: pass a path, a PIL image, an array or a tensor, or a list of them")
    if not isinstance(photo, (Tensor, np.ndarray)):
        raise TypeError(f"a photo is a path, a PIL image, an array or a tensor; got a {type(photo).__name__}")
    if photo.dtype not in (torch.uint8, np.uint8):
        raise ValueError(f"a photo's pixels are uint8, 0 to 255; got {photo.dtype}")
    x = photo if isinstance(photo, Tensor) else torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.atleast_3d(photo), -1, 0)))
    if x.ndim != 3 or x.shape[0] not in (1, 3) or 0 in x.shape:
        expected = "(3, h, w)" if isinstance(photo, Tensor) else "(h, w, 3) or (h, w)"
        several = "; several photos are a list" if x.ndim == 4 else ""
        raise ValueError(f"a photo has shape {expected}; got {tuple(photo.shape)}{several}")
    return x.expand(3, -1, -1)


def to_image(photo: UInt8[Tensor, "3 h w"]) -> Any:
    """A PIL image of the pixels."""
    import PIL.Image

    return PIL.Image.fromarray(photo.permute(1, 2, 0).contiguous().cpu().numpy())


class PhotoPredictor(nn.Module):
    """`(processor, model)` as a function of photos: `predictor(photo)`, or a list of them; prompts and answers in their pixels.

    Made by `equiform.adapt((processor, model), group)`. A photo is what `read_photo` takes. One photo has one answer, a list
    of photos, of any sizes, a list of answers (or a dict of batched tensors, for classes and scores).
    Raises TypeError for a model whose class is not known, or for what is no pair of a processor and a model.
    """

    def __init__(self, processor: Any, model: nn.Module):
        super().__init__()
        if not callable(processor) or isinstance(processor, nn.Module) or not isinstance(model, nn.Module):
            came = f"({type(processor).__name__}, {type(model).__name__})"
            raise TypeError(f"a pair is (processor, model), a transformers processor and its model; got {came}")
        self.processor, self.model, self.task = processor, model, photo_task(model)
        self.training = model.training

    @property
    def inputs(self) -> dict[str, Any]:
        """How photos and prompts move."""
        return {"images": Rows("image")} | {name: Rows(kind) for name, kind in self.task.prompts.items()}

    @property
    def outputs(self) -> Any:
        """How answers move."""
        return self.task.outputs

    def inputs_of(self, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any], Callable[[Any], Any]]:
        """The arguments with photos read and prompts checked, one per photo, and a function from answers to the call's."""
        images, *more = args or [kwargs.get("images")]
        if more:
            raise TypeError(f"a photo, or a list of photos, is the one positional argument; got {len(args)}")
        given = {name: value for name, value in kwargs.items() if name != "images"}
        photos, given, single = self.arguments(images, given)
        return (photos,), given, self.first if single else lambda answers: answers

    def forward(
        self,
        images: Any,
        input_points: Any = None,
        input_labels: Any = None,
        input_boxes: Any = None,
        input_masks: Any = None,
        **options: Any,
    ) -> Any:
        """The answer for a photo, or for a list of photos.

        Prompts of promptable models, for one photo, or a list with one entry a photo (None: without): input_points (objects,
        points, 2) in pixels with input_labels (objects, points), input_boxes (objects, 4) as xyxy, input_masks (h, w); the
        object axis may be left out. Options of the other tasks: text, threshold, text_threshold, task, multimask_output.
        """
        names = ("input_points", "input_labels", "input_boxes", "input_masks")
        given = dict(zip(names, (input_points, input_labels, input_boxes, input_masks), strict=True))
        photos, given, single = self.arguments(images, given | options)
        answers = self.answers(photos, given)
        return self.first(answers) if single else answers

    def arguments(self, images: Any, given: Mapping[str, Any]) -> tuple[list[Tensor], dict[str, Any], bool]:
        """Photos as tensors, prompts checked, one per photo, other options as they came; and whether it was a single photo."""
        given = {name: value for name, value in given.items() if value is not None}
        self._check_known(given)
        single = not isinstance(images, (list, tuple))
        photos = [read_photo(photo) for photo in ([images] if single else images)]
        moving = {name: [value] if single else value for name, value in given.items() if name in self.task.prompts}
        for name, value in moving.items():
            if not isinstance(value, (list, tuple, Tensor, np.ndarray)) or len(value) != len(photos):
                came = len(value) if hasattr(value, "__len__") else f"a {type(value).__name__}"
                raise ValueError(f"{name}: one entry for each of the {len(photos)} photos is expected; got {came}")
        sizes = [(int(photo.shape[1]), int(photo.shape[2])) for photo in photos]
        moving = {
            name: [None if v is None else prompts.checked(name, v, size) for v, size in zip(value, sizes, strict=True)]
            for name, value in moving.items()
        }
        if self.task.prompts:
            for i in range(len(photos)):
                prompts.check_together({name: own for name, value in moving.items() if (own := value[i]) is not None})
        return photos, {**given, **moving}, single

    def read_photos(self, batch: Any) -> Any:
        """The photos of a batch of data as tensors: a list of photos, or a dict with `images` and prompts."""
        if isinstance(batch, Mapping) and "images" in batch:
            return {**batch, "images": self.read_photos(batch["images"])}
        return [read_photo(photo) for photo in batch] if isinstance(batch, (list, Tensor, np.ndarray)) else batch

    def _check_known(self, given: Mapping[str, Any]) -> None:
        known = (*self.task.prompts, *self.task.options)
        if unknown := [name for name in given if name not in known]:
            options = f"its options are {', '.join(known)}" if known else "it takes photos alone"
            raise TypeError(f"a {type(self.model).__name__} does not take {', '.join(unknown)}: {options}")

    def answers(self, photos: list[Tensor], given: Mapping[str, Any]) -> Any:
        """The model's answers for photos of any sizes, run in batches of one size."""
        if not photos:  # an empty answer in the form of any other
            grey = [torch.full((3, 64, 64), 128, dtype=torch.uint8)]
            some = {name: value for name, value in given.items() if name not in self.task.prompts}
            return [] if isinstance(self.outputs, list) else {k: v[:0] for k, v in self.answers(grey, some).items()}
        if len({photo.shape for photo in photos}) == 1:
            return run(self.task, self.processor, self.model, [to_image(photo) for photo in photos], given)
        rows = [
            self.answers([photo], {k: [v[i]] if k in self.task.prompts else v for k, v in given.items()})
            for i, photo in enumerate(photos)
        ]
        if isinstance(self.task.outputs, list):
            return [row[0] for row in rows]
        return {name: torch.cat([row[name] for row in rows]) for name in self.task.outputs}

    def first(self, answers: Any) -> Any:
        """The answer of the first photo."""
        return answers[0] if isinstance(answers, list) else {name: value[0] for name, value in answers.items()}


def as_predictor(predictor: Any) -> Any:  # the caller checks that it can be called
    """A pair (processor, model) as one predictor; anything else as it is. Raises TypeError for what is no known pair."""
    if not isinstance(predictor, tuple):
        return predictor
    if len(predictor) != 2:
        raise TypeError(f"a pair is (processor, model), a transformers processor and its model; got {len(predictor)} values")
    return PhotoPredictor(*predictor)


ADAPTERS = [Adapter(f"{PhotoPredictor.__module__}.{PhotoPredictor.__qualname__}", attrgetter("inputs"), attrgetter("outputs"))]
