"""No preference: every pose alike."""

from typing import Any

import torch

from ..geometry.groups import Group
from .base import Canonicalizer
from .poses import Pose, pose_of


class UniformCanonicalizer(Canonicalizer):
    """Every pose alike. With `top_k` = |G| the wrapper then averages over the orbit, the classical baseline."""

    name = "uniform"
    learns = False
    estimates = False

    def __init__(self, group: str | Group):
        super().__init__(group)
        if self.group.order is None:
            frames = f"PrincipalAxesCanonicalizer({self.group.name!r}, scores='equal')"
            raise ValueError(f"{self.group.name} is continuous, and has no list of poses: average over frames, {frames}")

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name}

    def forward(self, images: Any) -> Pose:  # a `Cloud` too
        device = getattr(images, "device", None)
        return pose_of(torch.zeros(len(images), len(self.elements), device=device), self.elements)
