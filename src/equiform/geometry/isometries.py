"""Elements of groups, the base of all groups, and their products.

An element is a homogeneous matrix (d+1, d+1): compose with `@`, invert with `inverse`. In two dimensions x points
right and y down, so a positive (counter-clockwise on the screen) turn by t is [[cos t, sin t], [-sin t, cos t]].
In three, the axes are right-handed and a positive turn about z takes x to y.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


def inverse(g: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """The inverse of similarities (rotation, reflection, scale, translation). Exact for signed permutations."""
    dim = g.shape[-1] - 1
    linear, offset = g[..., :dim, :dim], g[..., :dim, dim:]
    squared_scale = linear.square().sum((-2, -1), keepdim=True) / dim
    back = linear.mT / squared_scale
    result = torch.zeros_like(g)
    result[..., :dim, :dim] = back
    result[..., :dim, dim:] = -(back @ offset)
    result[..., dim, dim] = 1
    return result


def size_of(g: Float[Tensor, "*b n n"]) -> Float[Tensor, " *b"]:
    """By how much each element resizes, |det|^(1/d): 1 for isometries, up to rounding."""
    d = g.shape[-1] - 1
    return torch.linalg.det(g[..., :d, :d]).abs() ** (1 / d)


def unscaled(g: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """The elements without their resizing: the linear part over `size_of`, the translation as it is."""
    d = g.shape[-1] - 1
    return homogeneous(g[..., :d, :d] / size_of(g)[..., None, None], g[..., :d, d])


def turn(angle: Float[Tensor, " *b"], flip: Tensor | None = None) -> Float[Tensor, "*b 3 3"]:
    """Turns by `angle` radians, counter-clockwise on the screen, after a left-right flip where `flip` is true.

    Multiples of a quarter turn come out exact.
    """
    quarters = angle / (math.pi / 2)
    exact = (quarters - quarters.round()).abs() < 1e-9
    c, s = torch.cos(angle), torch.sin(angle)
    c, s = torch.where(exact, c.round(), c), torch.where(exact, s.round(), s)
    turned = turn_to(torch.stack([c, s], -1))
    # adding zero turns -0.0 into 0.0, so that elements print well
    return (
        turned if flip is None else torch.where(flip[..., None, None], turned * turned.new_tensor([-1, 1, 1]), turned)
    ) + 0.0


def turn_to(direction: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3 3"]:
    """Turns by the angle of a direction (cos, sin) of length one."""
    c, s = direction.unbind(-1)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    rows = [torch.stack([c, s, zero], -1), torch.stack([-s, c, zero], -1), torch.stack([zero, zero, one], -1)]
    return torch.stack(rows, -2)


def homogeneous(linear: Float[Tensor, "*b d d"], offset: Float[Tensor, "*b d"] | None = None) -> Float[Tensor, "*b d+1 d+1"]:
    """The element x -> linear x + offset."""
    d = linear.shape[-1]
    result = torch.zeros(*linear.shape[:-2], d + 1, d + 1, dtype=linear.dtype, device=linear.device)
    result[..., :d, :d] = linear
    result[..., d, d] = 1
    if offset is not None:
        result[..., :d, d] = offset
    return result


PAIRS = 1 << 22  # of elements compared at once


class Group(ABC):
    """Isometries of the plane or of space, or resizings. `order` and `elements` are None for continuous groups.

    Groups are values: equal by name, hashable, cheap to make. A finite group says `_listed`; a continuous one `_drawn`,
    `_closest` and `finite`. Elements are on the CPU, whatever the default device.
    """

    dim: int
    reflections = False
    translations = False
    resizes = False
    sort = "turns"  # what its elements do: a product is of groups of different sorts
    on_grid = False  # whether every element moves pixels to pixels (quarter turns, flips, shifts)
    wraps = False  # whether what goes over an edge of the canvas comes back at the opposite one

    def __init__(self, name: str, order: int | None):
        self.name, self.order = name, order

    def __repr__(self) -> str:
        return f"equiform.group({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __mul__(self, other: "Group") -> "Product":
        """The product, "C4*Scale(0.5,2,5)": an element of this group after one of the other. See `Product`."""
        if isinstance(other, str):
            raise TypeError(_by_name(f"{self.name} * {other!r}", other, f"{self.name}*{other}"))
        return Product(*factors_of(self), *factors_of(other)) if isinstance(other, Group) else NotImplemented

    def __rmul__(self, other: object) -> "Product":
        if isinstance(other, str):
            raise TypeError(_by_name(f"{other!r} * {self.name}", other, f"{other}*{self.name}"))
        return NotImplemented

    def _listed(self) -> Float[Tensor, "order n n"]:
        """All elements of a finite group in float64, the identity first."""
        raise ValueError(f"{self.name} is continuous: it has no list of elements")

    def _drawn(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b n n"]:
        """b uniform elements of a continuous group in float64."""
        raise NotImplementedError(f"{type(self).__name__} is continuous and must define _drawn")

    def _closest(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        """The closest elements of a continuous group."""
        raise NotImplementedError(f"{type(self).__name__} is continuous and must define _closest")

    @property
    def finite(self) -> "Group":
        """The group itself where it is finite, else a finite subgroup fine enough to search in its place."""
        if self.order is None:
            raise NotImplementedError(f"{type(self).__name__} is continuous and must define finite")
        return self

    @staticmethod
    def distance(g: Float[Tensor, "*b n n"], h: Float[Tensor, "*b n n"]) -> Float[Tensor, " *b"]:
        """How far apart two elements are: an angle in radians, a ratio of sizes in its logarithm, pixels."""
        raise NotImplementedError("this group has no distance")

    @abstractmethod
    def angles(self, g: Float[Tensor, "b n n"]) -> tuple[list[float], list[bool]]:
        """The angle of each element in degrees, to three digits, and whether it mirrors."""

    @abstractmethod
    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b n n"]:
        """b small random rotations: the jitter of training inputs, which leaves their pose what it was.

        They need not be elements of the group.
        """

    @property
    def motion(self) -> str:
        """What all elements are known to do to pixels: "grid" (move them to pixels), "rigid" (resize nothing), or "any"."""
        return "grid" if self.on_grid else "any" if self.resizes else "rigid"

    def label(self, g: Float[Tensor, "n n"]) -> str:
        """One element in words: "0°", "90°", "flip 90°" (the flip comes first)."""
        (angle,), (mirrored,) = self.angles(g[None])
        return ("flip " if mirrored else "") + f"{angle:g}°"

    @cached_property
    def elements(self) -> Float[Tensor, "order n n"]:
        """All elements, the identity first; with reflections, element n + k is a left-right flip followed by turn k
        (in space minus rotation k).

        Raises ValueError for a continuous group.
        """
        return self._exact.to(torch.get_default_dtype())

    @cached_property
    def _exact(self) -> Float[Tensor, "order n n"]:
        """The elements in float64."""
        with torch.device("cpu"):
            return self._listed()

    def identity(self, b: int = 1) -> Float[Tensor, "b n n"]:
        """The identity, b times."""
        return torch.eye(self.dim + 1).repeat(b, 1, 1)

    def random(
        self, b: int, generator: torch.Generator | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "b n n"]:
        """b elements drawn uniformly (Haar measure; translations, which no uniform measure has, are normal).

        `dtype`: float64 for data in float64; by default torch's own default.
        """
        if self.order is None:
            drawn = self._drawn(b, generator)
        else:
            drawn = self._exact[torch.randint(self.order, (b,), generator=generator)]
        return drawn.to(torch.get_default_dtype() if dtype is None else dtype)

    def sample(self, num: int = 16) -> Float[Tensor, "m n n"]:
        """The elements equivariance is measured on, float64: all, or `num` of a continuous group drawn with a fixed seed."""
        return self._exact if self.order is not None else self._drawn(num, torch.Generator().manual_seed(0))

    def index(self, g: Float[Tensor, "b n n"]) -> Int[Tensor, " b"]:
        """The index of the nearest element of a finite group (Frobenius distance of the linear parts)."""
        d = self.dim
        elements = self._exact.to(g)[:, :d, :d]
        # part by part, since all pairs of the products of a large group would take gigabytes
        parts = g[:, None, :d, :d].split(max(1, PAIRS // len(elements)))
        return torch.cat([(part - elements).square().sum((-2, -1)).argmin(1) for part in parts])

    def nearest(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        """The element nearest to each matrix; of a continuous group the closest rotation (and flip).

        A translation is kept where the group has translations.
        """
        return self._closest(g) if self.order is None else self._exact.to(g)[self.index(g)]

    # ------------------------------------------------------------------------------- poses, which may lie between elements

    def part(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        """What a pose of a product does of this sort: a turn, a resizing, ..."""
        return self.nearest(g)

    def anywhere(self, b: int, generator: torch.Generator | None = None) -> Float[Tensor, "b n n"]:
        """b poses drawn for training, between the elements too where poses may lie there."""
        return self.random(b, generator)

    def carried(self, shares: Float[Tensor, "b order"], g: Float[Tensor, "b n n"]) -> Float[Tensor, "b order"]:
        """A histogram over the elements moved by g, p'(h) = p(g^-1 h)."""
        sources = inverse(g)[:, None] @ self._exact.to(g)
        return shares.gather(1, self.index(sources.flatten(0, 1)).reshape(len(g), -1))

    def refined(self, scores: Float[Tensor, "b order"]) -> Float[Tensor, "b order n n"]:
        """The poses that scores stand for: the elements, or where poses lie between them, the best about each."""
        return self.elements.to(scores.device).expand(scores.shape[0], -1, -1, -1)


class Product(Group):
    """The product of groups that do different things: turns, resizings, shifts. Made by `*`; its elements are products a b ...

    Element (i, j) has index i |B| + j, the identity first. An element is taken apart factor by factor: what the first does,
    then what the second does of the rest. The distance is the root of the sum of the squared distances of the factors.
    Continuous where a factor is. Raises ValueError for groups of different dimensions, two of one sort, or cyclic shifts beside
    what is off the grid.
    """

    def __init__(self, *factors: Group):
        first = factors[0]
        names = [factor.name for factor in factors]
        if other := next((factor for factor in factors if factor.dim != first.dim), None):
            came = f"{first.name} moves {first.dim} dimensions, {other.name} {other.dim}"
            raise ValueError(f"a product is of groups of one dimension; got {' * '.join(names)}: {came}")
        if len({factor.sort for factor in factors}) < len(factors):
            raise ValueError(
                f"a product is of groups that do different things, such as Cyclic(4) * Scale(0.5, 2, 5); got "
                f"{' * '.join(names)}, of which two are {_repeated([factor.sort for factor in factors])}: take one larger group"
            )
        orders = [factor.order for factor in factors]
        super().__init__("*".join(names), None if None in orders else math.prod(order or 1 for order in orders))
        self.factors, self.dim = factors, first.dim
        for name in ("reflections", "translations", "resizes", "wraps"):
            setattr(self, name, any(getattr(factor, name) for factor in factors))
        self.on_grid = all(factor.on_grid for factor in factors)
        if self.wraps and not self.on_grid:
            raise ValueError(
                f"cyclic shifts go with quarter turns and flips, which keep opposite edges together: C2, C4, D1, D2, D4; got "
                f"{' * '.join(names)}"
            )

    def parts(self, g: Float[Tensor, "b n n"]) -> list[Float[Tensor, "b n n"]]:
        """What each factor does in g, in their order; between its elements where poses of it may lie there."""
        found = []
        for factor in self.factors:
            found.append(factor.part(g))
            g = inverse(found[-1]) @ g
        return found

    def _listed(self) -> Float[Tensor, "order n n"]:
        return self._of([factor._exact for factor in self.factors])

    @staticmethod
    def _of(each: list[Tensor]) -> Tensor:
        """All products (..., order, n, n) of one element of each list (..., m, n, n)."""
        found = each[0]
        for elements in each[1:]:
            found = (found[..., :, None, :, :] @ elements[..., None, :, :, :]).flatten(-4, -3)
        return found

    def _drawn(self, b: int, generator: torch.Generator | None) -> Float[Tensor, "b n n"]:
        return _composed([factor.random(b, generator, torch.float64) for factor in self.factors])

    def _closest(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        return _composed([factor.nearest(part) for factor, part in zip(self.factors, self.parts(g), strict=True)])

    def part(self, g: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
        return _composed(self.parts(g))

    def index(self, g: Float[Tensor, "b n n"]) -> Int[Tensor, " b"]:
        index = torch.zeros(len(g), dtype=torch.long, device=g.device)
        for factor, part in zip(self.factors, self.parts(g), strict=True):
            index = index * (factor.order or 1) + factor.index(part)
        return index

    @property
    def finite(self) -> Group:
        return Product(*[factor.finite for factor in self.factors])

    def angles(self, g: Float[Tensor, "b n n"]) -> tuple[list[float], list[bool]]:
        turning = [factor for factor in self.factors if factor.sort == "turns"]
        return (turning or self.factors)[0].angles(g)

    def label(self, g: Float[Tensor, "n n"]) -> str:
        """In words, factor by factor: "90° 0.5x"."""
        return " ".join(factor.label(part[0]) for factor, part in zip(self.factors, self.parts(g[None]), strict=True))

    def near_identity(self, b: int, degrees: float, generator: torch.Generator | None = None) -> Float[Tensor, "b n n"]:
        return self.factors[0].near_identity(b, degrees, generator)

    def distance(self, g: Tensor, h: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  (of its factors)
        apart = [factor.distance(g, h) for factor in self.factors]
        return torch.stack(apart).square().sum(0).sqrt()

    def anywhere(self, b: int, generator: torch.Generator | None = None) -> Float[Tensor, "b n n"]:
        return _composed([factor.anywhere(b, generator) for factor in self.factors])

    def carried(self, shares: Float[Tensor, "b order"], g: Float[Tensor, "b n n"]) -> Float[Tensor, "b order"]:
        if not self.resizes:  # a group to the letter, whose factors need not commute
            return super().carried(shares, g)
        shares = shares.unflatten(1, [factor.order or 1 for factor in self.factors])
        for axis, (factor, part) in enumerate(zip(self.factors, self.parts(g), strict=True), 1):
            last = shares.movedim(axis, -1)
            each = part.repeat_interleave(last[0, ..., 0].numel(), 0)
            shares = factor.carried(last.flatten(0, -2), each).reshape(last.shape).movedim(-1, axis)
        return shares.flatten(1)

    def refined(self, scores: Float[Tensor, "b order"]) -> Float[Tensor, "b order n n"]:
        """Of each factor by the scores that are the best over all others."""
        table = scores.unflatten(1, [factor.order or 1 for factor in self.factors])
        axes = range(1, table.ndim)
        best = [table.amax([other for other in axes if other != axis]) for axis in axes]
        return self._of([factor.refined(part) for factor, part in zip(self.factors, best, strict=True)])


def factors_of(group: Group) -> tuple[Group, ...]:
    """The factors of a product; of any other group the group itself."""
    return group.factors if isinstance(group, Product) else (group,)


def _by_name(came: str, name: str, product: str) -> str:
    return f"a product is of two groups; got {came}: write group({name!r}), or the whole as one name, group({product!r})"


def _composed(parts: list[Float[Tensor, "b n n"]]) -> Float[Tensor, "b n n"]:
    found = parts[0]
    for part in parts[1:]:
        found = found @ part
    return found


def _repeated(sorts: list[str]) -> str:
    return next(sort for sort in sorts if sorts.count(sort) > 1)


def check_turns(n: int) -> int:
    """The number of turns. Raises ValueError unless it is a whole number from 1 on."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"a group has n >= 1 turns, a whole number; got {n!r}")
    return n
