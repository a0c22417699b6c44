"""Poses of a product of groups, factor by factor: shifts first, then the turn, then the size of what was turned back."""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..geometry.actions import moved_sizes
from ..geometry.arrays import as_tensor
from ..geometry.groups import Group, inverse
from ..geometry.kinds import Rows
from ..geometry.moving import act
from ..images.clips import kind_of
from .base import MAX_ORDER, Canonicalizer
from .images import Images
from .polyphase import PolyphaseCanonicalizer
from .poses import Pose, pose_of


class ProductCanonicalizer(Canonicalizer):
    """One canonicalizer of images per factor, for the product of their groups at the cost of their sum.

    The second looks at the image that the first has brought back by its likeliest pose, and its scores count beside all poses
    of the first: p(g, h | x) = p(g | x) p(h | g*^-1 x). So the pose is exact under the first factor where its own is, and under
    the second where the first moves with it too: `SeamCanonicalizer` does with quarter turns and flips. Cyclic shifts are found
    first whichever factor they are, since turns carry them into each other: r s = (r s r^-1) r, so "D4*Shift16" has the poses
    of "Shift16*D4". `top_k` and `coverage` are by this posterior.
    To score all pairs with one network take `OrbitCanonicalizer` with the product.
    Each is fitted alone, on inputs in the poses that the predictor knows. Raises TypeError or ValueError for other parts.
    """

    name = "product"
    learns = False
    max_order = MAX_ORDER**2  # each factor is scored alone

    def __init__(self, first: Canonicalizer, second: Canonicalizer):
        for part in (first, second):
            if not isinstance(part, Canonicalizer) or part.group.dim != 2:
                came = f"one of {part.group.name}" if isinstance(part, Canonicalizer) else f"a {type(part).__name__}"
                raise TypeError(f"a product is of two canonicalizers of images, one per factor; got {came}")
            if isinstance(part, PolyphaseCanonicalizer):
                name = part.group.name
                raise ValueError(
                    f"polyphase leaves shifts by whole strides, which turns show: take SeamCanonicalizer({name!r})"
                )
        super().__init__(first.group * second.group)
        self.first, self.second = first, second

    def config(self) -> dict[str, Any]:
        return {}

    @property
    def parts(self) -> dict[str, Canonicalizer]:
        return {"first": self.first, "second": self.second}

    @property
    def num_poses(self) -> int:
        return self.first.num_poses * self.second.num_poses

    @property
    def predictor_passes(self) -> int:
        return self.first.predictor_passes + self.second.predictor_passes

    def forward(self, inputs: Images) -> Pose:
        """The pose of every image."""
        former, latter = (self.second, self.first) if self.second.group.wraps else (self.first, self.second)
        one = former(inputs)
        two = latter(brought_back(inputs, one.g, former.group))
        # in float64, so that the order of the sums over poses does not show
        logs = [pose.scores.double().log_softmax(1) for pose in (one, two)]
        candidates = one.candidates[:, :, None] @ two.candidates[:, None].to(one.candidates)
        return pose_of((logs[0][:, :, None] + logs[1][:, None]).flatten(1).float(), candidates.flatten(1, 2), one.certainty)


def brought_back(images: Images, g: Float[Tensor, "b 3 3"], group: Group) -> Images:
    """The images moved by g^-1 of that group, as a list where they end with different canvases."""
    kind = kind_of(images, group)
    if isinstance(images, (Tensor, np.ndarray)):
        images = as_tensor(images)
        back = inverse(g).to(images.device)
        if len(set(moved_sizes(back, (images.shape[-2], images.shape[-1])))) <= 1:
            return act(back, images, kind)
    rows = list(images)
    return act(inverse(g).to(rows[0].device), rows, Rows(kind)) if rows else images


def product_of(parts: list[Canonicalizer]) -> Canonicalizer:
    """One canonicalizer of the product of the groups of all."""
    *before, last = parts
    for part in reversed(before):
        last = ProductCanonicalizer(part, last)
    return last
