"""Scores and refines poses of clouds from the occupancy of a coarse grid about the centroid."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...geometry.clouds import Cloud


class OccupancyNetwork(nn.Module):
    """A score and six numbers of a rotation for every candidate h, from the cloud turned back by h.

    The cloud is seen twice on a grid of side^3 soft cells: as it is, and stretched to equal deviation along its axes,
    which shows the shape of thin things. The signed permutations of the axes move the cells by index; other candidates are
    counted anew.
    """

    def __init__(self, side: int = 8, width: int = 192, dropout: float = 0.2):
        super().__init__()
        self.side = side
        self.body = nn.Sequential(
            *(nn.Linear(2 * side**3 + 3, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)),
            *(nn.Linear(width, width // 2), nn.LayerNorm(width // 2), nn.GELU(), nn.Linear(width // 2, 7)),
        ).double()
        last: nn.Linear = self.body[-1]  # pyright: ignore[reportAssignmentType]
        with torch.no_grad():  # at first hardly any candidate is turned, and no two scores are alike
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([0.0, 1, 0, 0, 0, 1, 0]))

    def forward(
        self, cloud: Cloud, candidates: Float[Tensor, "n 3 3"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3 2"]]:
        if bool((candidates.abs().amax(-1) == 1).all()):
            cells, spread = self._cells(cloud, cloud.points)
            order = moved_cells(candidates, self.side)
            seen = torch.cat([cells[0][:, order], cells[1][:, order], (spread @ candidates.abs()).transpose(0, 1)], -1)
        else:
            turned = [self._cells(cloud, cloud.points @ h) for h in candidates]
            seen = torch.stack([torch.cat([*cells, spread], -1) for cells, spread in turned], 1)
        answer = self.body(seen.to(next(self.body.parameters())))
        return answer[..., 0], answer[..., 1:].unflatten(-1, (2, 3)).mT

    def _cells(self, cloud: Cloud, points: Float[Tensor, "b n 3"]) -> tuple[list[Tensor], Float[Tensor, "b 3"]]:
        """The cells of both pictures, and the deviation along each axis."""
        spread = cloud.mean(points.square()).sqrt()
        stretched = points / spread[:, None].clamp(min=THINNEST)
        return [self._counted(cloud, points * RADIUS), self._counted(cloud, stretched)], spread * RADIUS

    def _counted(self, cloud: Cloud, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b c"]:
        """The root of the share of the points in every soft cell."""
        centres = torch.linspace(-EXTENT, EXTENT, self.side, dtype=points.dtype, device=points.device)
        deviation = 0.6 * 2 * EXTENT / (self.side - 1)
        near = torch.exp(-(points[..., None] - centres).square() / (2 * deviation**2))
        near = torch.where(cloud.present[..., None, None], near, 0)
        x, y, z = near.unbind(2)
        planes = (x[..., :, None] * y[..., None, :]).flatten(2)
        counts = (planes.mT @ z).flatten(1) / cloud.present.sum(1).clamp(min=1)[:, None]
        return 3 * (counts + 1e-12).sqrt()


EXTENT = 2.2  # the grid reaches so many deviations along each axis
RADIUS = math.sqrt(3)  # a cloud of root mean square radius 1 has a deviation of 1/sqrt(3) along each axis
THINNEST = 0.012


def moved_cells(candidates: Float[Tensor, "n 3 3"], side: int) -> Int[Tensor, "n c"]:
    """For every cell, the cell that a signed permutation takes it to: cells of h^-1.x are cells of x in another order."""
    middle = (side - 1) / 2
    axis = torch.arange(side, dtype=candidates.dtype, device=candidates.device) - middle
    cells = torch.cartesian_prod(axis, axis, axis)
    moved = (cells @ candidates.mT + middle).round().long()
    return (moved[..., 0] * side + moved[..., 1]) * side + moved[..., 2]
