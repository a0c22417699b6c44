"""Training-free frames of clouds: their principal axes."""

import itertools
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.clouds import Cloud
from ..geometry.groups import Group
from .clouds import CloudCanonicalizer

CLEAR_GAP = 0.05  # axes whose deviations differ by this share of the largest are told apart with full certainty


def principal_axes(cloud: Cloud, axis: bool = False) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, " b"]]:
    """The axes of greatest to least deviation as a rotation, and the least gap between deviations, in shares of the greatest.

    With `axis`, the third is z and the others are those of x and y. Directions are arbitrary; so are axes of equal deviation.
    """
    with torch.no_grad():  # a sum over pairs of eigenvalues that may coincide has no useful gradient
        p = torch.where(cloud.present[..., None], cloud.points, 0)
        covariance = p.mT @ p / cloud.present.sum(1).clamp(min=1)[:, None, None]
        d = 2 if axis else 3
        values, vectors = torch.linalg.eigh(covariance[:, :d, :d])
        deviation = values.flip(-1).clamp(min=0).sqrt()
        frame = torch.eye(3, dtype=p.dtype, device=p.device).repeat(len(p), 1, 1)
        frame[:, :d, :d] = vectors.flip(-1)
        frame[:, :, 0] *= torch.linalg.det(frame).sign()[:, None]
        gap = (deviation[:, :-1] - deviation[:, 1:]).amin(-1) / deviation[:, 0].clamp(min=1e-300)
    return frame, gap


class PrincipalAxesCanonicalizer(CloudCanonicalizer):
    """Training-free: principal axes; each choice of their signs is a candidate (4 for SO(3), 8 for O(3), 2 about z).

    `scores="skewness"`: directions in which the points reach further score higher, `sharpness` times the sum of the third
    moments. `scores="equal"`: none is preferred, for frame averaging (Puny et al. 2022, arXiv 2110.03336): `top_k` = all of
    them in `adapt`; with fewer, an arbitrary one answers.
    """

    name = "principal-axes"
    learns = False

    def __init__(self, group: str | Group, *, scores: str = "skewness", sharpness: float = 4.0):
        super().__init__(group)
        self._continuous()
        if scores not in ("skewness", "equal"):
            raise ValueError(f"unknown scores {scores!r}; known: skewness, equal")
        if not isinstance(sharpness, float | int) or not 0 <= sharpness < math.inf:
            raise ValueError(f"sharpness is a number >= 0; got {sharpness!r}")
        self.how, self.sharpness = scores, sharpness
        signs = [
            s
            for s in itertools.product((1.0, -1.0), repeat=3)
            if (s[2] == 1 or not self.space.axis) and (math.prod(s) > 0 or self.space.reflections)
        ]
        self.register_buffer("signs", torch.tensor(signs, dtype=torch.float64), persistent=False)

    signs: Tensor

    def config(self) -> dict[str, Any]:
        return super().config() | {"scores": self.how, "sharpness": self.sharpness}

    @property
    def num_poses(self) -> int:
        return len(self.signs)

    def frames(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frame, gap = principal_axes(cloud, self.space.axis)
        along = cloud.points @ frame
        deviation = cloud.mean(along.square()).sqrt().clamp(min=1e-6)
        skewness = cloud.mean((along / deviation[:, None]) ** 3) * (1 if self.how == "skewness" else 0)
        scores = self.sharpness * skewness @ self.signs.T
        candidates = frame[:, None] * self.signs[:, None]
        return scores, candidates, (gap / CLEAR_GAP).clamp(max=1), torch.zeros_like(frame[:, 0])
