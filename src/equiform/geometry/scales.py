"""Resizings of the plane about the centre of the canvas."""

import math
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .._checks import check_whole
from .isometries import Group, homogeneous, size_of, turn

MAX_STEPS = 64


class Scale(Group):
    """Resizings about the centre by `steps` factors from `low` to `high`, geometric on either side of 1, which is one of them.

    Resizings by any factor are a group in the limit of an endless canvas without pixels. On a finite picture they are a
    semigroup: what is enlarged loses what leaves the canvas, what is shrunk loses detail, and neither comes back (Worrall &
    Welling 2019, arXiv 1905.11697). These factors are a piece of it: the product of two may lie beyond both ends, and the
    nearest element is then the end. A pose may lie between two elements.
    Equivariance is a statement with an error, to be measured beside the error of resizing there and back.

    Examples:
        >>> [Scale(0.5, 2, 5).label(g) for g in Scale(0.5, 2, 5).elements]
        ['1x', '0.5x', '0.707x', '1.41x', '2x']

    Raises ValueError unless 0 < low <= 1 <= high, low < high, and there are steps for 1 and for both ends.
    """

    dim = 2
    resizes = True
    sort = "sizes"

    def __init__(self, low: int | float, high: int | float, steps: int | None = None):
        low, high = _checked(low, high)
        if steps is None:
            way_out = f"Scale({low:g}, {high:g}, 5)"
            raise ValueError(f"Scale(low, high, steps) takes how many sizes there are too; got {low:g} and {high:g}: {way_out}")
        check_whole(1 + (low < 1) + (high > 1), MAX_STEPS, steps=steps)
        self.low, self.high = low, high
        super().__init__(f"Scale({_plain(low)},{_plain(high)},{steps})", steps)

    @cached_property
    def sizes(self) -> Float[Tensor, " order"]:
        """The factors, ascending, in float64."""
        steps = (self.order or 1) - 1
        below = round(steps * math.log(self.low) / math.log(self.low / self.high))
        below = min(max(below, self.low < 1), steps - (self.high > 1))
        smaller = [self.low ** (i / below) for i in range(below, 0, -1)]
        larger = [self.high ** (i / (steps - below)) for i in range(1, steps - below + 1)]
        return torch.tensor([*smaller, 1.0, *larger], dtype=torch.float64, device="cpu")

    @cached_property
    def _order(self) -> Int[Tensor, " order"]:
        """The places of the elements among the ascending sizes: the identity comes first."""
        places = torch.arange(len(self.sizes), device="cpu")
        return torch.cat([places[self.sizes == 1], places[self.sizes != 1]])

    def _listed(self) -> Float[Tensor, "order 3 3"]:
        return resizing(self.sizes[self._order])

    def part(self, g: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
        """The resizing in each element, between the steps too."""
        return resizing(size_of(g))

    def index(self, g: Float[Tensor, "b 3 3"]) -> Int[Tensor, " b"]:
        """The index of the nearest element, by the logarithm of its size."""
        elements = self.sizes[self._order].to(g.device).log()
        return (size_of(g).double().log()[:, None] - elements).abs().argmin(1)

    def angles(self, g: Float[Tensor, "b 3 3"]) -> tuple[list[float], list[bool]]:
        """No turn and no mirroring."""
        return [0.0] * len(g), [False] * len(g)

    def label(self, g: Float[Tensor, "3 3"]) -> str:
        """The factor: "0.5x"."""
        return f"{float(size_of(g)):.3g}x"

    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b 3 3"]:
        """Turns by at most `degrees`, which resize nothing."""
        return turn(torch.deg2rad(2 * degrees * torch.rand(b, generator=generator) - degrees))

    def anywhere(self, b: int, generator: torch.Generator | None = None) -> Float[Tensor, "b 3 3"]:
        """Resizings by any factor from `low` to `high`, uniform in its logarithm."""
        share = torch.rand(b, dtype=torch.float64, generator=generator)
        return resizing(self.low * (self.high / self.low) ** share).to(torch.get_default_dtype())

    @staticmethod
    def distance(g: Float[Tensor, "*b n n"], h: Float[Tensor, "*b n n"]) -> Float[Tensor, " *b"]:
        """|log(size of g / size of h)|. Bi-invariant."""
        return (size_of(g.double()) / size_of(h.double())).log().abs().to(g.dtype)

    def carried(self, shares: Float[Tensor, "b order"], g: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b order"]:
        """Each share goes to the two elements about its new size, the nearer one more; beyond an end to that end."""
        order, logs = self._order.to(g.device), self.sizes.log().to(g.device)
        there = logs[order] + size_of(g).double().log()[:, None]
        below = (torch.searchsorted(logs, there) - 1).clamp(0, len(logs) - 2)
        above = ((there - logs[below]) / (logs[below + 1] - logs[below])).clamp(0, 1).to(shares)
        moved = torch.zeros_like(shares).scatter_add_(1, below, shares * (1 - above)).scatter_add_(1, below + 1, shares * above)
        return moved[:, order]

    def refined(self, scores: Float[Tensor, "b order"]) -> Float[Tensor, "b order 3 3"]:
        """Of each element the peak of a parabola through its score and those of its neighbours, over the logarithm of size.

        At most half a step away, so that no two elements become one; at an end, of the parabola through the last three.
        """
        order, logs = self._order.to(scores.device), self.sizes.log().to(scores.device)
        ascending = scores.double()[:, order.argsort()]
        if len(logs) < 3:
            return self.elements.to(scores.device).expand(len(scores), -1, -1, -1)
        lower, here, upper = ascending.unfold(1, 3, 1).unbind(-1)
        slope, bend = (upper - lower) / 2, lower - 2 * here + upper
        peak = torch.where(bend < 0, -slope / bend, slope.sign() * torch.inf)  # in steps; nan where all three are equal
        ends = (peak[:, :1] + 1).clamp(0, 0.5), (peak[:, -1:] - 1).clamp(-0.5, 0)
        share = torch.cat([ends[0], peak.clamp(-0.5, 0.5), ends[1]], 1).nan_to_num(0.0)
        steps = torch.cat([torch.zeros_like(logs[:1]), logs.diff(), torch.zeros_like(logs[:1])])
        moved = logs + torch.where(share < 0, steps[:-1], steps[1:]) * share
        return resizing(moved.exp()[:, order]).to(torch.get_default_dtype())


def resizing(size: Float[Tensor, " *b"]) -> Float[Tensor, "*b 3 3"]:
    """The elements that resize by these factors."""
    return homogeneous(size[..., None, None] * torch.eye(2, dtype=size.dtype, device=size.device))


def _checked(low: int | float, high: int | float) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ValueError(f"Scale(low, high, steps): {name} is a factor above 0, such as 0.5; got {value!r}")
    if low >= high:
        hint = "" if low == high else f": Scale({high:g}, {low:g}, steps)"
        raise ValueError(f"Scale(low, high, steps) goes from low up to high; got {low:g} and {high:g}{hint}")
    if not low <= 1 <= high:
        way_out = f"Scale({min(low, 1):g}, {max(high, 1):g}, steps)"
        raise ValueError(f"sizes from {low:g} to {high:g} do not hold 1, the size that the predictor knows: {way_out}")
    return float(low), float(high)


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")
