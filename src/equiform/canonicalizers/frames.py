"""Frames of clouds from an equivariant network: they turn with the points whatever the weights are.

Everything is computed in float64 from a standardised cloud, and independent of the order of the points. Where a cloud does not
define a frame (one point, points on a line, a symmetric body) the frame is still a valid one, and `Pose.certainty` is near 0.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .._checks import check_whole
from ..geometry import rotations
from ..geometry.clouds import Cloud
from ..geometry.groups import Group
from .clouds import CloudCanonicalizer
from .networks import VectorNetwork
from .principal_axes import principal_axes

CLEAR_SHARE = 0.2  # vectors on which this share of the points' lengths agrees count as fully certain
MAX_WIDTH, MAX_DEPTH = 1024, 64
CANCELLED = 1e-4  # below this share the points, such as two alone, cancel, and what is left of the vectors is rounding


class FrameCanonicalizer(CloudCanonicalizer):
    """One frame from the vectors of a vector-neuron network; Kaba et al. 2023, arXiv 2211.06489, sec. 5.

    `vectors`, `features`: how many further vectors (velocities) and numbers (charges) each point has among the inputs.
    `method`: "gram-schmidt" or "procrustes" (the nearest rotation). `origin`: "centroid" or "learned", for SE(3) and E(3).
    `spread`: jitter of the frames in training: random turns whose angles have that deviation in degrees, and where the group
    has reflections random mirrors. A predictor that is trained with it does not memorise the data in one frame each. Off in
    eval mode, like dropout.
    """

    name = "frame"

    def __init__(
        self,
        group: str | Group,
        *,
        vectors: int = 0,
        features: int = 0,
        width: int = 16,
        depth: int = 2,
        method: str = "gram-schmidt",
        origin: str = "centroid",
        spread: float = 0.0,
    ):
        super().__init__(group)
        self._continuous()
        check_whole(0, MAX_WIDTH, vectors=vectors, features=features)
        check_whole(most=MAX_WIDTH, width=width)
        check_whole(most=MAX_DEPTH, depth=depth)
        if not isinstance(spread, float | int) or not 0 <= spread <= 180:
            raise ValueError(f"spread is a deviation in degrees, 0 to 180; got {spread!r}")
        for what, value, known in (("method", method, METHODS), ("origin", origin, ORIGINS)):
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        if origin == "learned" and not self.space.translations:
            raise ValueError(f"a learned origin is for groups with translations, SE3 and E3; got {self.group.name}")
        self.arguments = {"vectors": vectors, "features": features, "width": width, "depth": depth}
        self.method, self.origin, self.spread = method, origin, spread
        self.network = VectorNetwork(4, **self.arguments)

    def config(self) -> dict[str, Any]:
        return super().config() | self.arguments | {"method": self.method, "origin": self.origin, "spread": self.spread}

    @property
    def num_poses(self) -> int:
        return 1

    def frames(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        expected = (self.arguments["vectors"], self.arguments["features"])
        if (cloud.vectors.shape[2], cloud.features.shape[2]) != expected:
            raise ValueError(
                f"the canonicalizer looks at {expected[0]} vectors and {expected[1]} features of each point, the inputs have "
                f"{cloud.vectors.shape[2]} and {cloud.features.shape[2]}: FrameCanonicalizer(group, vectors=..., features=...)"
            )
        vectors, share = self.network(cloud)
        # points on a line that is symmetric about its middle cancel; the principal axes still follow the line
        cancelled = (share[:, 0] < CANCELLED)[:, None, None]
        frame, certainty = self._frame(torch.where(cancelled, principal_axes(cloud, self.space.axis)[0], vectors[:, :3].mT))
        needed = 1 if self.space.axis else 3 if self.space.reflections else 2
        certainty = certainty * (share[:, :needed].amin(-1) / CLEAR_SHARE).clamp(max=1)
        if self.training and self.spread:
            frame = frame @ self._further(len(frame)).to(frame)
        origin = vectors[:, 3] if self.origin == "learned" else torch.zeros_like(vectors[:, 3])
        scores = torch.zeros(len(cloud), 1, dtype=frame.dtype, device=frame.device)
        return scores, frame[:, None], certainty.detach(), origin

    def _further(self, b: int) -> Float[Tensor, "b 3 3"]:
        angle = math.radians(self.spread) * torch.randn(b, dtype=torch.float64)
        turn = rotations.about_z(angle) if self.space.axis else rotations.about_any_axis(angle)
        return torch.where(torch.rand(b, 1, 1) < 0.5, -turn, turn) if self.space.reflections else turn

    def _frame(self, columns: Float[Tensor, "b 3 3"]) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, " b"]]:
        if self.space.axis:
            x, y = columns[:, 0, 0], columns[:, 1, 0]
            return rotations.about_z(torch.atan2(y, x)), torch.hypot(x, y) / columns[:, :, 0].norm(dim=-1).clamp(min=1e-300)
        if self.method == "gram-schmidt":
            # the first vector becomes z, by which most data are aligned, and not a product of two that may be degenerate
            frame, certainty = rotations.gram_schmidt(columns, self.space.reflections)
            return frame[..., [1, 2, 0]], certainty
        singular = torch.linalg.svdvals(columns.detach())
        # not unique where the second vanishes (for O(3) the third), or equals a third of the opposite sign
        third = torch.where(torch.linalg.det(columns.detach()) < 0, -singular[:, 2], singular[:, 2])
        clear = singular[:, 2] if self.space.reflections else singular[:, 1] + third
        return rotations.nearest_rotation(columns, self.space.reflections), (clear / singular[:, 0].clamp(min=1e-300)).clamp(
            max=1
        )


METHODS, ORIGINS = ("gram-schmidt", "procrustes"), ("centroid", "learned")
