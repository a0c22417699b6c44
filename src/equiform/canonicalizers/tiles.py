"""Poses of text: small tiles at full resolution, each scored over the orbit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .._checks import check_whole
from ..geometry.arrays import as_tensor
from ..geometry.groups import Group
from ..images.files import open_finite, to_tensor
from ..images.tiles import dark_ink, tile_squares, tile_view
from ..images.views import orbit_views
from .images import ImageCanonicalizer, Images, check_widths
from .networks import ScoreNetwork


class TileCanonicalizer(ImageCanonicalizer):
    """Small tiles at full resolution, each scored over the orbit, their posteriors multiplied: for text, lost in a thumbnail.

    Costs |G| passes of a small network for each of at most `num_tiles` tiles. The posterior of every tile is mixed
    with chance (`TILE_ERROR`), so that no tile decides alone. Where hardly a tile is sure of the pose that all of them find, as
    in pictures without text, the confidence is near chance.
    """

    name = "tiles"

    def __init__(
        self,
        group: str | Group,
        *,
        num_tiles: int = 32,
        widths: Sequence[int] = (24, 48, 64),
        resolution: int = 64,
    ):
        super().__init__(group, resolution, channels=1)
        if resolution % 4:  # half a tile is even, so that a grid of them is even about the centre
            raise ValueError(f"resolution must be a multiple of 4; got {resolution}")
        check_whole(most=MAX_TILES, num_tiles=num_tiles)
        self.num_tiles, self.widths = num_tiles, check_widths(widths)
        self.network = ScoreNetwork(1, self.widths)
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's stubs forget it)

    def config(self) -> dict[str, Any]:
        own = {"num_tiles": self.num_tiles, "widths": list(self.widths), "resolution": self.resolution}
        return {"group": self.group.name} | own

    @property
    def enough(self) -> int | None:
        return None

    def view(self, images: Images) -> Float[Tensor, "b t s s"]:
        """The tiles of every image, as channels."""
        if isinstance(images, (Tensor, np.ndarray)):
            images = as_tensor(images)
            if images.ndim != 4:
                raise ValueError(f"images have shape (b, channels, height, width); got {tuple(images.shape)}")
        return tile_view(images, self.view_size, self.num_tiles).to(self.device)

    def squares(self, images: Any, side: int) -> Tensor:
        """The tiles of all images, as images of their own; tiles as they are."""
        if isinstance(images, Tensor) and images.shape[1:] == (1, side, side):
            return images
        return tile_squares(images, side, self.num_tiles)

    def read(self, file: Path, side: int) -> Tensor:
        return self.squares(to_tensor(open_finite(file))[None], side)

    def scores(self, view: Float[Tensor, "b t s s"]) -> Float[Tensor, "b n"]:
        orbit = torch.stack(orbit_views(dark_ink(view), self.group)).to(self._dtype())
        if self.training:  # batch statistics see every tile and the whole orbit at once
            scores = self.network(orbit.reshape(-1, 1, *orbit.shape[-2:])).reshape(orbit.shape[:3])
            return _pooled(scores.movedim(0, -1)).float()
        # image by image, so that no rounding depends on other rows; constant tiles are left out
        tells = view.amax((-2, -1)) != view.amin((-2, -1))
        rows = []
        for i, keep in enumerate(tells):
            tiles = orbit[:, i, keep, None]
            rows.append(torch.stack([self.network(part) for part in tiles], 1) if keep.any() else view.new_zeros(1, len(tiles)))
        return torch.cat([(_pooled(row[None]) * _evidence(row)).float() for row in rows])


TILE_ERROR, MAX_TILES = 0.1, 4096
MOST = 3.0  # that one tile counts for as evidence: odds of 20 to 1
ENOUGH = 3.0  # evidence that there is text: pictures of text have less once in a hundred, photos without four times in five
LEAST = 0.03  # of the log-posterior is left where there is no evidence: the likeliest pose stays the likeliest


def _pooled(scores: Float[Tensor, "b t n"]) -> Float[Tensor, "b n"]:
    """The sum over tiles of log-posteriors, each mixed with chance. In float64, so that the order of tiles does not show."""
    n = scores.shape[-1]
    posterior = (1 - TILE_ERROR) * scores.double().softmax(-1) + TILE_ERROR / n
    return posterior.log().sum(1)


def _evidence(scores: Float[Tensor, "t n"]) -> Float[Tensor, ""]:
    """How far the tiles of one picture bear its pose out, from LEAST to 1: the sum of their leads over the next best pose.

    Tiles of text are sure and agree. Those of a photo lean a little to some pose, and there are enough of them to add up.
    """
    if scores.shape[1] == 1 or len(scores) == 0:
        return scores.new_ones(()).double()
    found = _pooled(scores[None])[0].argmax()
    others = scores.double().index_fill(1, found[None], -torch.inf).amax(1)
    leads = (scores[:, found].double() - others).clamp(-MOST, MOST)
    return (leads.sum() / ENOUGH).clamp(LEAST, 1)
