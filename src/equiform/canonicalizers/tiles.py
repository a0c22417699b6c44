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
from .poses import Pose


class TileCanonicalizer(ImageCanonicalizer):
    """Small tiles at full resolution, each scored over the orbit, their posteriors multiplied: for text, lost in a thumbnail.

    Costs |G| passes of a small network for each of at most `num_tiles` tiles. The posterior of every tile is mixed
    with chance (`TILE_ERROR`), so that no tile decides alone. Where few tiles are sure of the pose that all of them find, as in
    pictures without text, the confidence is near chance; where that is so of most pictures of a call, a warning says so once.
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

    def find(self, inputs: Images) -> Pose:
        pose = super().find(inputs)
        if "text" in str((self.card or {}).get("made_for")) and not torch.compiler.is_compiling():
            self._warn_without_text(pose)
        return pose

    def _warn_without_text(self, pose: Pose) -> None:
        """Warn, once, where most pictures of a call seem to hold no text; blank ones do not count."""
        unsure = pose.confidence[pose.scores.amax(1) > pose.scores.amin(1)] < SEEN
        if 2 * int(unsure.sum()) > len(unsure):
            self.advise(
                "this canonicalizer is made for text, and sees none in most of these pictures: their poses are guesses"
                f"{self._for_photos}"
            )

    def scores(self, view: Float[Tensor, "b t s s"]) -> Float[Tensor, "b n"]:
        if self.training:  # batch statistics see every tile and the whole orbit at once
            orbit = self._orbit(view)
            scores = self.network(orbit.reshape(-1, 1, *orbit.shape[-2:])).reshape(orbit.shape[:3])
            return pooled(scores.movedim(0, -1)).float()
        return torch.cat([(pooled(row[None]) * evidence(row)).float() for row in self.tile_scores(view)])

    def tile_scores(self, view: Float[Tensor, "b t s s"]) -> list[Tensor]:
        """The scores (t, n) of the tiles of each image, image by image, so that no rounding depends on other rows; constant
        tiles are left out, and of an image of none but these one stays that scores all alike."""
        orbit = self._orbit(view)
        tells = view.amax((-2, -1)) != view.amin((-2, -1))
        rows = []
        for i, keep in enumerate(tells):
            tiles = orbit[:, i, keep, None]
            rows.append(torch.stack([self.network(part) for part in tiles], 1) if keep.any() else view.new_zeros(1, len(tiles)))
        return rows

    def _orbit(self, view: Float[Tensor, "b t s s"]) -> Float[Tensor, "n b t s s"]:
        return torch.stack(orbit_views(dark_ink(view), self.group)).to(self._dtype())


TILE_ERROR, MAX_TILES = 0.1, 4096
# the mean lead of tiles from which text is suspected (`benchmarks/text_or_photo.py` chooses it); RISE more, and it is sure
SUSPECTED, RISE = 0.25, 0.25
SILENT = 4  # tiles without a lead that are added to those of every picture, so that one or two are no text
LEAST = 0.03  # of the log-posterior is left where there is no evidence: the likeliest pose stays the likeliest
SEEN = 0.5  # the confidence from which on a picture counts for one of text


def pooled(scores: Float[Tensor, "b t n"]) -> Float[Tensor, "b n"]:
    """The sum over tiles of log-posteriors, each mixed with chance. In float64, so that the order of tiles does not show."""
    n = scores.shape[-1]
    posterior = (1 - TILE_ERROR) * scores.double().softmax(-1) + TILE_ERROR / n
    return posterior.log().sum(1)


def evidence(scores: Float[Tensor, "t n"], suspected: float = SUSPECTED) -> Float[Tensor, ""]:
    """How far the tiles of one picture bear its pose out, from LEAST to 1: the mean of their leads over the next best pose.

    Tiles of text are sure and agree. Those of a photo lean a little to some pose, and there are enough of them to add up: a
    mean does not grow with their number.
    """
    if scores.shape[1] == 1 or len(scores) == 0:
        return scores.new_ones(()).double()
    found = pooled(scores[None])[0].argmax()
    others = scores.double().index_fill(1, found[None], -torch.inf).amax(1)
    lead = (scores[:, found].double() - others).sum() / (len(scores) + SILENT)
    return ((lead - suspected) / RISE).clamp(LEAST, 1)
