"""Equal scores for all poses: orbit averaging."""

from typing import Any

import torch

from ..geometry.groups import Group
from .base import Canonicalizer
from .poses import Pose, pose_of


class UniformCanonicalizer(Canonicalizer):
    """Equal scores for all poses. With `top_k` = |G| the wrapper then averages over the orbit, the classical baseline."""

    name = "uniform"
    learns = False
    estimates = False

    def __init__(self, group: str | Group):
        super().__init__(group)
        frames = f", or average over frames, PrincipalAxesCanonicalizer({self.group.name!r}, scores='equal')"
        self._check_finite(frames if self.group.dim == 3 else "")

    def forward(self, inputs: Any) -> Pose:
        """Equal scores for every row of images or of a `Cloud`."""
        device = getattr(inputs, "device", None)
        return pose_of(torch.zeros(len(inputs), self.num_poses, device=device), self.elements)
