"""Poses of clouds by search over a finite set of candidates, each scored and refined."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._checks import check_whole
from ..geometry import rotations
from ..geometry.clouds import Cloud
from ..geometry.groups import Group
from .clouds import CloudCanonicalizer
from .networks import OccupancyNetwork
from .principal_axes import CLEAR_GAP, principal_axes

MAX_SIDE, MAX_WIDTH = 32, 4096


class SearchCanonicalizer(CloudCanonicalizer):
    """Scores a finite set of poses and refines each: any network may look at a canonical form, and the whole stays equivariant.

    For continuous groups the candidates are the principal axes turned by the 24 rotations of the cube (about z: by four): every
    order and sign of the axes. Each is then refined by a small rotation that the network predicts.
    For finite groups of space the candidates are the elements, unrefined.
    """

    name = "search"

    searched: Tensor

    def __init__(self, group: str | Group, *, side: int = 8, width: int = 192):
        super().__init__(group)
        check_whole(2, MAX_SIDE, side=side)
        check_whole(2, MAX_WIDTH, width=width)
        self.side, self.width = side, width
        self.register_buffer("searched", self.space.finite.sample()[:, :3, :3], persistent=False)
        self.network = OccupancyNetwork(side, width)

    def config(self) -> dict[str, Any]:
        return super().config() | {"side": self.side, "width": self.width}

    @property
    def num_poses(self) -> int:
        return len(self.searched)

    def frames(self, cloud: Cloud) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        origin = torch.zeros(len(cloud), 3, dtype=torch.float64, device=cloud.device)
        if self.group.order:
            scores, _ = self.network(cloud, self.searched)
            return scores, self.searched.expand(len(cloud), -1, -1, -1), torch.ones_like(origin[:, 0]), origin
        frame, gap = principal_axes(cloud, self.space.axis)
        scores, six = self.network(replace(cloud, points=cloud.points @ frame), self.searched)
        six = six.double()
        if self.space.axis:
            refined = rotations.about_z(torch.atan2(six[..., 1, 0], six[..., 0, 0]))
        else:
            refined, _ = rotations.gram_schmidt(torch.cat([six, torch.zeros_like(six[..., :1])], -1))
        return scores, frame[:, None] @ self.searched @ refined, (gap / CLEAR_GAP).clamp(max=1), origin
