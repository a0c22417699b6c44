"""A score per element from small cubes of a volume, turned back by every element; the likeliest one is the pose."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .._checks import check_positive, check_whole
from ..geometry.actions import act_regular
from ..geometry.arrays import as_tensor
from ..geometry.grid import voxel_moves
from ..geometry.groups import Group
from ..images.cubes import cube_view, cubes, orbit_cubes
from .base import Canonicalizer
from .networks import VolumeNetwork
from .poses import Pose, pose_of

Volumes = Tensor | np.ndarray | Sequence[Tensor]
MAX_RESOLUTION, MAX_CHANNELS = 128, 512


class VolumeCanonicalizer(Canonicalizer):
    """From volumes (b, c, d, h, w), or a list of (c, d, h, w), to a `Pose`: the orbit canonicalizer of three dimensions.

    Element g is scored by what a network thinks of g^-1.x, as a cube of resolution^3 voxels: equivariant by construction, exact
    to the bit, at the cost of |G| passes of the network. `network`: any module from (b, channels, resolution, resolution,
    resolution) to one score per row. `temperature` divides the scores; see `equiform.learning.calibrate`.
    Raises ValueError for a group whose elements do not move voxels to voxels.
    """

    name = "volume"

    def __init__(
        self,
        group: str | Group,
        network: nn.Module | None = None,
        *,
        resolution: int = 24,
        channels: int = 1,
        temperature: float = 1.0,
    ):
        super().__init__(group)
        self._check_voxels()
        check_whole(4, MAX_RESOLUTION, resolution=resolution)
        check_whole(most=MAX_CHANNELS, channels=channels)
        check_positive(temperature=temperature)
        self.resolution, self.channels, self.temperature = resolution, channels, temperature
        self.given_network = None if network is None else type(network).__qualname__
        self.network = VolumeNetwork(channels) if network is None else network

    def _check_voxels(self) -> None:
        if self.group.dim != 3:
            raise ValueError(
                f"the volume canonicalizer needs a group of space, O, Oh, D2h, C4z or C2z; {self.group.name} turns pictures"
            )
        try:
            voxel_moves(self.group.elements)
        except ValueError:
            raise ValueError(
                f"volumes move by index, by the symmetries of the cube: O, Oh, D2h, C4z or C2z; got {self.group.name}"
            ) from None

    def config(self) -> dict[str, Any]:
        unusual = {} if self.temperature == 1 else {"temperature": self.temperature}
        return super().config() | {"resolution": self.resolution, "channels": self.channels} | unusual

    def view(self, volumes: Volumes) -> Float[Tensor, "b c r r r"]:
        """What the canonicalizer looks at: a standardised cube of the whole volume."""
        volumes = as_tensor(volumes) if isinstance(volumes, np.ndarray) else volumes
        if not isinstance(volumes, (Tensor, list, tuple)):
            raise TypeError(
                f"volumes are a tensor (b, channels, depth, height, width), or a list; got a {type(volumes).__name__}"
            )
        return cube_view(volumes, self.resolution, self.channels).to(self.device)

    def squares(self, volumes: Any, side: int) -> Tensor:
        """The cubes of volumes, which training keeps and draws views from."""
        return cubes(volumes, side, self.channels)

    def scores(self, view: Float[Tensor, "b c r r r"]) -> Float[Tensor, "b n"]:
        """One score per element and row. Raises ValueError where the network gives another number of scores."""
        orbit = orbit_cubes(view, self.group).to(self._dtype())
        if self.training:  # batch statistics see the whole orbit at once
            n, b = orbit.shape[:2]
            return self._answer(orbit.flatten(0, 1)).reshape(n, b).mT / self.temperature
        # element by element, so that no rounding depends on where in a batch a view comes to lie
        return torch.stack([self._answer(part) for part in orbit], 1) / self.temperature

    def _answer(self, views: Float[Tensor, "m c r r r"]) -> Float[Tensor, " m"]:
        scores = self.network(views)
        if not isinstance(scores, Tensor) or scores.numel() != len(views):
            came = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
            raise ValueError(f"the network must give one score per row, ({len(views)},); got {came}")
        return scores.reshape(-1)

    def target(self, prior: Float[Tensor, "*b n"], g: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b n"]:
        """The target of the scores of canonical views moved by g: the prior moved, p'(h) = p(g^-1 h)."""
        return act_regular(g, prior.to(g).expand(len(g), -1), None, group=self.group.name)

    def right(self, scores: Float[Tensor, "b n"], target: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
        """Whether the right pose is the likeliest one, and no other is as likely: of equal scores the first is the identity."""
        likeliest = scores == scores.amax(1, keepdim=True)
        return likeliest[torch.arange(len(scores)), target.argmax(1)] & (likeliest.sum(1) == 1)

    def forward(self, inputs: Volumes) -> Pose:
        """The pose of every volume."""
        view = self.view(inputs)
        if len(view) == 0:
            return pose_of(torch.zeros(0, self.num_poses, device=view.device), self.elements)
        with torch.autocast(view.device.type, enabled=self.training and torch.is_autocast_enabled(view.device.type)):
            return pose_of(self.scores(view).float(), self.elements)

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.dtype.is_floating_point), torch.float32)
