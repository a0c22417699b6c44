"""A plain message-passing network for particles: not equivariant to anything but their order."""

import torch
from torch import Tensor, nn


class MessagePassing(nn.Module):
    """Positions (b, n, 3) at a later time from positions, velocities and charges (b, n); every particle hears all others."""

    def __init__(self, width: int = 64, depth: int = 4):
        super().__init__()
        self.embed = nn.Linear(7, width)
        self.messages = nn.ModuleList(self._block(2 * width + 5, width) for _ in range(depth))
        self.updates = nn.ModuleList(self._block(2 * width, width) for _ in range(depth))
        self.out = self._block(width, width, 3)

    @staticmethod
    def _block(inputs: int, width: int, outputs: int | None = None) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs or width), nn.SiLU())[
            : 3 if outputs else 4
        ]

    def forward(self, x: Tensor, v: Tensor, charge: Tensor) -> Tensor:
        b, n = charge.shape
        apart = x[:, :, None] - x[:, None]
        product = charge[:, :, None, None] * charge[:, None, :, None]
        between = torch.cat([apart, apart.square().sum(-1, keepdim=True), product], -1)
        others = 1 - torch.eye(n, dtype=x.dtype, device=x.device)[..., None]
        h = self.embed(torch.cat([x, v, charge[..., None]], -1))
        for message, update in zip(self.messages, self.updates, strict=True):
            pairs = torch.cat([h[:, :, None].expand(b, n, n, -1), h[:, None].expand(b, n, n, -1), between], -1)
            heard = (message(pairs) * others).sum(2) / (n - 1)
            h = h + update(torch.cat([h, heard], -1))
        return x + v + self.out(h)
