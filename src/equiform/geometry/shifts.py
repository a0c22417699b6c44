"""Cyclic shifts of the canvas: what is pushed over one edge comes back at the opposite one."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .isometries import Group, homogeneous, turn

MAX_STRIDE = 64


class Shift(Group):
    """Cyclic shifts by 0 to n-1 pixels in x and y, exact by index: n*n elements, y the slower index. Saved as "Shiftn".

    All cyclic shifts of a canvas are a group that depends on the canvas, of as many elements as there are pixels. These n*n
    are those that differ by less than n pixels, the stride of a predictor; they are multiplied, and found, modulo n. So they
    are the whole group where the canvas is n x n, and elsewhere what is left of it when shifts by whole strides do not count.
    Kinds move cyclically in models of this group; `act` does so for kinds that say it, such as `Image(border="wrap")`.
    Raises ValueError unless n is a whole number from 1 to 64.
    """

    dim = 2
    translations = True
    on_grid = True
    wraps = True
    sort = "shifts"

    def __init__(self, n: int):
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_STRIDE:
            raise ValueError(f"Shift(n) shifts by 0 to n-1 pixels, n a whole number from 1 to {MAX_STRIDE}; got {n!r}")
        super().__init__(f"Shift{n}", n * n)
        self.n = n

    def _listed(self) -> Float[Tensor, "order 3 3"]:
        steps = torch.arange(self.n, dtype=torch.float64)
        return shift(torch.cartesian_prod(steps, steps).reshape(-1, 2).flip(-1))

    def part(self, g: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """The whole shift in each element, beyond n too."""
        return shift(g[..., :2, 2])

    def index(self, g: Float[Tensor, "b 3 3"]) -> Int[Tensor, " b"]:
        """The index of the shift in each element, rounded to pixels, modulo n."""
        x, y = (g[:, :2, 2].round().long() % self.n).unbind(-1)
        return y * self.n + x

    def angles(self, g: Float[Tensor, "b 3 3"]) -> tuple[list[float], list[bool]]:
        """No turn and no mirroring."""
        return [0.0] * len(g), [False] * len(g)

    def label(self, g: Float[Tensor, "3 3"]) -> str:
        """The shift in x and y: "shift 3, 5"."""
        x, y = g[:2, 2].round().long().tolist()
        return f"shift {x}, {y}"

    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b 3 3"]:
        """Turns by at most `degrees`, which shift nothing."""
        return turn(torch.deg2rad(2 * degrees * torch.rand(b, generator=generator) - degrees))


def shift(t: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3 3"]:
    """The elements that shift by t = (x, y) pixels, x to the right and y down."""
    return homogeneous(torch.eye(2, dtype=t.dtype, device=t.device).expand(*t.shape[:-1], 2, 2), t)
