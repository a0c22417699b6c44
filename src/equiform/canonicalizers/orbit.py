"""Canonicalizers: from images to poses. A score per element; the likeliest element is the pose.

Turning the input permutes the scores, which makes the pose equivariant whatever the weights are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..geometry.groups import Group
from ..geometry.nested import first_logits, is_container
from ..images.views import orbit_views
from .images import ImageCanonicalizer
from .networks import ScoreNetwork

PAIRS = 64  # scored at once: more take memory, fewer take time


class OrbitCanonicalizer(ImageCanonicalizer):
    """Score element g by what a network thinks of g^-1.x: equivariant by construction, costs |G| small forward passes.

    `network` maps views (b, channels, resolution, resolution) to one score per row; see `equiform.scorer` for using a
    pretrained backbone. Optimised over the orbit as in Panigrahi & Mondal 2024, arXiv 2405.14089.
    """

    name = "orbit"

    def __init__(self, group: str | Group, network: nn.Module | None = None, *, resolution: int = 64, channels: int = 3):
        super().__init__(group, resolution, channels)
        self.given_network = None if network is None else type(network).__qualname__
        self.network = ScoreNetwork(channels) if network is None else network

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        """Raises ValueError where the network gives more than one score per row."""
        orbit = orbit_views(view, self.group).to(self._dtype())
        # batch statistics see the whole orbit at once; otherwise element by element, which is easier on memory and caches,
        # and lets no rounding depend on where in a batch a view comes to lie
        parts = orbit.flatten(0, 1)[None] if self.training else orbit
        return torch.cat([self._scores_of(part) for part in parts]).reshape(len(orbit), len(view)).mT

    def scores_of(
        self, view: Float[Tensor, "b c s s"], row: Int[Tensor, " m"], index: Int[Tensor, " m"]
    ) -> Float[Tensor, " m"]:
        """The scores of some pairs of a row and the index of an element alone, each at one pass of the network."""
        pairs = orbit_views(view, self.group).to(self._dtype())[index, row]
        return torch.cat([self._scores_of(part) for part in pairs.split(PAIRS)]) if len(pairs) else view.new_zeros(0)

    def _scores_of(self, views: Float[Tensor, "m c r r"]) -> Float[Tensor, " m"]:
        answer = self.network(views.contiguous(memory_format=torch.channels_last))
        scores = first_logits(answer) if is_container(answer) else answer  # transformers classifiers answer with a dict
        if not isinstance(scores, Tensor) or scores.numel() != len(views):
            came = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(answer).__name__}"
            raise ValueError(
                f"the network must give one score per row, ({len(views)},); got {came}: see equiform.scorer(backbone)"
            )
        return scores.flatten()
