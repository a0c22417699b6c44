"""A score per element, from views of the image turned back by every element; the MAP element is the pose.

Turning the input permutes the scores, which makes the pose equivariant whatever the weights are.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .._checks import check_positive
from ..geometry.groups import Group, inverse
from ..geometry.nested import first_logits, is_container
from ..images.views import back, orbit_views
from .images import ImageCanonicalizer
from .networks import MobileNetwork, ScoreNetwork

FEW = 16  # views in a pass of a network
PAIRS = 64  # scored at once: more take memory, fewer take time
STEP = 2.0**-18  # of scores


class OrbitCanonicalizer(ImageCanonicalizer):
    """Score element g by what a network thinks of g^-1.x: equivariant by construction, costs |G| small forward passes.

    `network` maps views (b, channels, resolution, resolution) to one score per row: how much the view looks upright. One whose
    attribute `outputs` is |G| classifies the pose of each view, (b, |G|): the answers to all views are averaged, and in
    training one view, drawn at random, is enough. A name takes one of the package's own networks (`PLANS`);
    `equiform.canonicalizers.scorer` makes one of a pretrained backbone. Optimised over the orbit as in Panigrahi & Mondal 2024,
    arXiv 2405.14089. `temperature` divides the scores; see `equiform.learning.calibrate`.
    """

    name = "orbit"

    def __init__(
        self,
        group: str | Group,
        network: nn.Module | str | None = None,
        *,
        resolution: int = 64,
        channels: int = 3,
        temperature: float = 1.0,
    ):
        super().__init__(group, resolution, channels)
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.given_network = type(network).__qualname__ if isinstance(network, nn.Module) else None
        self.own_network = None if isinstance(network, nn.Module) else network
        if isinstance(network, str):
            network = MobileNetwork(network, self.num_poses, channels=channels)
        self.network = ScoreNetwork(channels) if network is None else network
        self.register_buffer("_products", products(self.group), persistent=False)
        self._back = back(self.group)

    _products: Tensor

    def config(self) -> dict[str, Any]:
        unusual = {} if self.temperature == 1 else {"temperature": self.temperature}
        return super().config() | ({} if self.own_network is None else {"network": self.own_network}) | unusual

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        """Raises ValueError where the network gives another number of scores."""
        orbit = orbit_views(view.to(self._dtype()), self.group, self._back)
        if not self.training:
            answers = in_steps(answers_to(self._answer, orbit))
            return (self._over_orbit(answers) if self.sees_turns else answers.mT).to(view.dtype) / self.temperature
        return self._in_training(torch.stack(orbit)) / self.temperature

    def _in_training(self, orbit: Float[Tensor, "n b c r r"]) -> Float[Tensor, "b n"]:
        n, b = orbit.shape[:2]
        if not self.sees_turns:  # batch statistics see the whole orbit at once
            return self._answer(orbit.flatten(0, 1)).reshape(n, b).mT
        drawn, rows = torch.randint(n, (b,)).to(orbit.device), torch.arange(b, device=orbit.device)
        return self._answer(orbit[drawn, rows]).gather(1, self._products[drawn])

    @property
    def sees_turns(self) -> bool:
        """Whether the network classifies the pose of a view, instead of scoring how upright it looks."""
        return getattr(self.network, "outputs", 1) == self.num_poses > 1

    def _over_orbit(self, answers: Float[Tensor, "n b n"]) -> Float[Tensor, "b n"]:
        """The mean over h of what the view h^-1.x says of h^-1 g."""
        index = self._products[:, None].expand_as(answers)
        return answers.gather(2, index).mean(0)

    def scores_of(
        self, view: Float[Tensor, "b c s s"], row: Int[Tensor, " m"], index: Int[Tensor, " m"]
    ) -> Float[Tensor, " m"]:
        """The scores of some (row, index of an element) pairs alone, at one pass of the network each."""
        if self.sees_turns:
            return self.scores(view)[row, index]
        pairs = torch.stack(orbit_views(view, self.group, self._back)).to(self._dtype())[index, row]
        scores = [self._answer(part) for part in pairs.split(PAIRS)] or [view.new_zeros(0)]
        return torch.cat(scores) / self.temperature

    def _answer(self, views: Float[Tensor, "m c r r"]) -> Tensor:
        answer = self.network(views.contiguous(memory_format=torch.channels_last))
        scores = first_logits(answer) if is_container(answer) else answer  # transformers classifiers answer with a dict
        b = views.shape[0]
        shape = (b, self.num_poses) if self.sees_turns else (b,)
        if not isinstance(scores, Tensor) or scores.numel() != math.prod(shape):
            came = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(answer).__name__}"
            what = "element" if self.sees_turns else "row"
            raise ValueError(
                f"the network must give one score per {what}, {shape}; got {came}: see canonicalizers.scorer(backbone)"
            )
        return scores.reshape(shape)


def answers_to(network: Callable[[Tensor], Tensor], orbit: Sequence[Float[Tensor, "b c r r"]]) -> Float[Tensor, "n b *k"]:
    """What the network answers to each view: all views of a few rows in one pass, which is easy on memory and caches, and costs
    less than a pass for each; of all rows in a graph, and on an accelerator."""
    views = torch.stack(list(orbit))  # alike in memory, or a network may round differently
    whole = torch.compiler.is_compiling() or views.device.type != "cpu"
    parts = [views] if whole else views.split(max(1, FEW // len(orbit)), 1)
    answers = [network(part.flatten(0, 1)) for part in parts]
    return torch.cat([one.reshape(*part.shape[:2], *one.shape[1:]) for one, part in zip(answers, parts, strict=True)], 1)


def in_steps(answers: Tensor) -> Tensor:
    """In float64 and rounded to whole steps: the same whatever place in a batch a view has, and their sums in any order too."""
    return (answers.double() / STEP).round() * STEP


def products(group: Group) -> Int[Tensor, "n n"]:
    """The index of h^-1 g in row h and column g."""
    elements = group.elements.double()
    return group.index((inverse(elements)[:, None] @ elements).flatten(0, 1)).reshape(len(elements), -1)
