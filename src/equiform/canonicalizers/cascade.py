"""Two canonicalizers: a quick one scores every pose, a thorough one rescores the poses that this leaves in doubt."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..images.views import working_dtype
from .base import Canonicalizer
from .images import ImageCanonicalizer, Images
from .orbit import OrbitCanonicalizer
from .poses import Pose, pose_of


class CascadeCanonicalizer(ImageCanonicalizer):
    """As accurate as a large orbit scorer at a fraction of its cost.

    A pose is in doubt where `quick` gives it at least `doubt` of the posterior, and another pose as well; `thorough` scores
    these alone. Their joint share of the posterior is divided anew, by a softmax of the mean of both log-posteriors (a product
    of experts, Hinton 2002, sec. 2) times `sharpness`, since the mean of two that differ is too flat. Other poses keep theirs.
    Cascades of classifiers: Viola & Jones 2001.

    The two are fitted before, each on its own. Raises TypeError or ValueError where they do not fit together.
    """

    name = "cascade"
    learns = False

    def __init__(self, quick: Canonicalizer, thorough: OrbitCanonicalizer, *, doubt: float = 0.25, sharpness: float = 1.5):
        if not isinstance(quick, Canonicalizer) or not isinstance(thorough, OrbitCanonicalizer):
            came = f"a {type(quick).__name__} and a {type(thorough).__name__}"
            raise TypeError(f"a cascade is of any canonicalizer of images and an OrbitCanonicalizer; got {came}")
        if quick.group != thorough.group:
            raise ValueError(f"both need the same group; got {quick.group.name} and {thorough.group.name}")
        if not 0 < doubt < 1:
            raise ValueError(f"doubt is a share of the posterior, between 0 and 1; got {doubt!r}")
        if not sharpness > 0:
            raise ValueError(f"sharpness is a factor above 0; got {sharpness!r}")
        super().__init__(thorough.group, thorough.resolution, thorough.channels)
        self.quick, self.thorough, self.doubt, self.sharpness = quick, thorough, doubt, sharpness

    def config(self) -> dict[str, Any]:
        return {"doubt": self.doubt, "sharpness": self.sharpness}

    @property
    def parts(self) -> dict[str, Canonicalizer]:
        return {"quick": self.quick, "thorough": self.thorough}

    @property
    def enough(self) -> int | None:
        quick, thorough = self.quick.enough, self.thorough.enough
        return None if quick is None or thorough is None else max(quick, thorough)

    def find(self, inputs: Images) -> Pose:
        # in float64, so that the order of the sums over poses does not show
        first = self.quick(inputs).scores
        first = first.to(working_dtype(first)).log_softmax(1)
        doubtful = self._doubtful(first)
        rows, scores = doubtful.any(1), first.clone()
        if rows.any():
            scores[rows] = self._looked_at_again(_rows(inputs, rows), first[rows], doubtful[rows])
        return pose_of(scores.float(), self.elements)

    def _looked_at_again(
        self, images: Images, first: Float[Tensor, "b n"], doubtful: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        # likeliest first: turned images give the same views in the same places, so that no rounding depends on places
        order = first.argsort(stable=True, dim=1, descending=True)
        row, rank = doubtful.gather(1, order).nonzero(as_tuple=True)
        index = order[row, rank]
        view, second = self.thorough.view(images), torch.zeros_like(first)
        with torch.autocast(view.device.type, enabled=False):
            second[row, index] = self.thorough.scores_of(view, row, index).to(first)
        return self._together(first, second, doubtful)

    def _doubtful(self, first: Float[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        candidates = first.exp() >= self.doubt
        return candidates & (candidates.sum(1, keepdim=True) > 1)

    def _together(
        self, first: Float[Tensor, "b n"], second: Float[Tensor, "b n"], doubtful: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Log-posteriors of rows in doubt. Softmax ignores a constant in the scores of `thorough`."""
        share = first.masked_fill(~doubtful, -torch.inf).logsumexp(1, keepdim=True)
        mean = ((first + second) * self.sharpness / 2).masked_fill(~doubtful, -torch.inf)
        return torch.where(doubtful, mean.log_softmax(1) + share, first)


def _rows(images: Images, which: Bool[Tensor, " b"]) -> Images:
    if isinstance(images, Tensor):
        return images[which.to(images.device)]
    if isinstance(images, np.ndarray):
        return images[which.cpu().numpy()]
    return [image for image, keep in zip(images, which.tolist(), strict=True) if keep]
