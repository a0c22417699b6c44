"""Turning photos upright, as a step of a chain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .canonicalizers.base import Canonicalizer, Prior
from .geometry.groups import inverse
from .images.files import exif_upright, is_picture, open_image, to_tensor
from .images.level import check_colour, moved, snapped, turned, values_of
from .saving import restore


class Found(NamedTuple):
    """The turn of every photo, as it is to be undone, how sure that is, and where it was too little: there it is none.

    `likeliest`: the turn that was found, in doubt too.
    """

    g: Float[Tensor, "b 3 3"]
    confidence: Float[Tensor, " b"]
    doubtful: Bool[Tensor, " b"]
    likeliest: Float[Tensor, "b 3 3"]


class Upright(nn.Module):
    """Photos turned upright, as one step of a `torchvision.transforms` chain or before a `transformers.pipeline`.

    canonicalizer: one that was fitted, or the folder, repository or name of a saved one: "photos-c4" for photos in quarter
    turns, "photos-so2" at any angle, "text-c4" for pages of text. What comes in comes out, in its own type: a PIL image (its
    EXIF orientation honoured, its mode kept), a path (as a PIL image), an array (h, w, 3) or (h, w), a tensor (c, h, w) or
    (b, c, h, w), or a list of those. Below `min_confidence` a photo is left as it is.

    prior: how likely each pose is before looking, as in `equiform.adapt`: the share of photos that are upright, such as 0.95
    in the library of a phone. With one, which way a doubtful photo is turned depends on how it came. By default there is none,
    or what was saved.
    Any angle: quarter turns move pixels, other turns resample them once (bicubic) and keep the largest upright rectangle
    inside; `fill`, a colour such as "white" (its values 0 to 1 where pixels are floats), keeps the whole canvas instead.
    `quarter`: within so many degrees of a quarter turn a photo is turned by that one, without loss.

    The answer is not moved back, which is right for classes and text; for boxes and masks use `equiform.adapt`.
    Raises ValueError where the rows of a tensor would end with different canvases: pass a list.
    """

    def __init__(
        self,
        canonicalizer: Canonicalizer | str | Path = "photos-c4",
        *,
        min_confidence: float = 0.0,
        prior: Prior | None = None,
        quarter: float = 0.0,
        fill: str | None = None,
    ):
        super().__init__()
        if isinstance(canonicalizer, (str, Path)):
            canonicalizer, saved = restore(canonicalizer, _no_predictor, None)
            prior = saved["prior"] if prior is None else prior
        if not isinstance(canonicalizer, Canonicalizer):
            came = type(canonicalizer).__name__
            raise TypeError(f"Upright takes a canonicalizer (model.canonicalizer), or the folder of a saved one; got a {came}")
        group = canonicalizer.group
        if group.dim != 2:
            raise ValueError(f"Upright turns photos; {group.name} moves clouds and volumes: take a canonicalizer of C4 or D4")
        if group.resizes:
            raise ValueError(
                f"Upright turns photos; {group.name} resizes them too: use equiform.adapt, or its factor that turns"
            )
        if not isinstance(min_confidence, int | float) or not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is a share of the posterior, 0 to 1; got {min_confidence!r}")
        if not isinstance(quarter, int | float) or not 0 <= quarter <= 45:
            raise ValueError(f"quarter is a number of degrees, 0 to 45; got {quarter!r}")
        if group.on_grid and (quarter or fill is not None):
            raise ValueError(f"quarter and fill are for turns by any angle; {group.name} is turned without loss as it is")
        if fill is not None:
            check_colour(fill)
        if prior is not None:
            canonicalizer.log_prior(prior)
        self.canonicalizer, self.min_confidence = canonicalizer.eval(), min_confidence
        self.prior, self.quarter, self.fill = prior, quarter, fill
        canonicalizer.warn_untrained()

    @torch.no_grad()
    def find(self, photos: Tensor | Sequence[Tensor], sizes: Sequence[Sequence[int]] | None = None) -> Found:
        """How photos are turned: (b, c, h, w), or a list of (c, h, w). `sizes`: (h, w) of those that came reduced."""
        pose = self.canonicalizer.posterior(photos, self.prior)
        doubtful = pose.confidence < self.min_confidence
        g = torch.where(doubtful[:, None, None], torch.eye(3).to(pose.g), pose.g)
        if not self.canonicalizer.group.on_grid:
            sizes = [photo.shape[-2:] for photo in photos] if sizes is None else sizes
            g = torch.cat([g[:0], *[snapped(g[i : i + 1], self.quarter, size) for i, size in enumerate(sizes)]])
        return Found(g, pose.confidence, doubtful, pose.g)

    @torch.no_grad()
    def forward(self, photo: Any) -> Any:
        """The photo, or each of a list of photos, upright."""
        if isinstance(photo, (list, tuple)):
            return type(photo)(self(one) for one in photo)
        if isinstance(photo, (str, Path)):
            return self(open_image(photo))
        if isinstance(photo, np.ndarray):
            return self._array(photo)
        if isinstance(photo, Tensor):
            upright = self._tensor(photo[None])[0] if photo.ndim == 3 else self._tensor(photo)
            return upright.as_subclass(type(photo))  # torchvision's tv_tensors come out of an operation as plain tensors
        if not is_picture(photo):
            raise TypeError(f"a photo is a path, a PIL image, an array or a tensor; got a {type(photo).__name__}")
        image = exif_upright(photo)
        return moved(image, inverse(self.find(to_tensor(image)[None]).g), self.fill)

    def _tensor(self, photos: Float[Tensor, "b c h w"]) -> Tensor:
        back = inverse(self.find(photos).g)
        fill = None if self.fill is None else values_of(self.fill, photos)
        upright = [turned(photo, back[i : i + 1], fill) for i, photo in enumerate(photos)]
        if len(canvases := {tuple(photo.shape[1:]) for photo in upright}) > 1:
            way_out = "pass a list of photos" + ("" if self.canonicalizer.group.on_grid else ', or fill="black" for squares')
            raise ValueError(f"the photos of a tensor would end with different canvases {sorted(canvases)}: {way_out}")
        return torch.stack(upright) if upright else photos

    def _array(self, photo: np.ndarray) -> np.ndarray:
        channels = (1, 3, self.canonicalizer.channels)
        if photo.ndim not in (2, 3) or (photo.ndim == 3 and photo.shape[2] not in channels):
            tensor = photo.ndim == 3 and photo.shape[0] in channels
            way_out = "channels first are for a tensor, torch.from_numpy(x)" if tensor else "PIL images may have any mode"
            way_out = "of several photos pass a list, list(x)" if photo.ndim == 4 else way_out
            raise ValueError(f"an array has shape (h, w, 3) or (h, w); got {photo.shape}: {way_out}")
        channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.atleast_3d(photo), -1, 0)))
        upright = np.moveaxis(self._tensor(channels_first[None])[0].numpy(), 0, -1)
        return np.ascontiguousarray(upright.reshape(upright.shape[: photo.ndim]))


def _no_predictor(x: Any) -> Any:
    raise TypeError("a training-free canonicalizer needs its predictor: build it with EnergyCanonicalizer(group, predictor)")
