"""The predictor's second opinion: the pose judged by the predictor's own logits.

A network trained on upright photos answers differently when a photo lies on its side. Where several poses are run anyway, a
linear score of their logits, fitted without labels, corrects the posterior over these poses, without a further pass.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .geometry.arrays import as_tensor
from .geometry.kinds import are_sigmoids
from .geometry.moving import find_logits


class Opinion(nn.Module):
    """A linear score of `evidence` (b, k): how much it is like the predictor's answers to canonical inputs."""

    weight: Tensor

    def __init__(self, weight: Float[Tensor, " k"]):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, evidence: Float[Tensor, "b k"] | None) -> Float[Tensor, " b"]:
        """Raises ValueError unless these are logits (b, k) of as many classes as it was fitted on."""
        if evidence is None or evidence.ndim != 2 or evidence.shape[1] != len(self.weight):
            came = "none" if evidence is None else f"shape {tuple(evidence.shape)}"
            raise ValueError(f"the second opinion needs logits (b, {len(self.weight)}) in the output; got {came}")
        return evidence.to(self.weight) @ self.weight


def evidence(answer: Any, kinds: Any) -> Tensor | None:
    """The logits of an answer in float32; None where there are none.

    Softmax ignores a constant, so their mean is subtracted. Sigmoids, and a single logit, stay as they are.
    """
    logits = find_logits(answer, kinds)
    if logits is None:
        return None
    logits = as_tensor(logits).float()
    alone = are_sigmoids(kinds) or logits.ndim < 2 or logits.shape[-1] == 1
    return logits if alone else logits - logits.mean(-1, keepdim=True)


def linear_scorer(features: Float[Tensor, "m n d"], penalty: float) -> Float[Tensor, " d"]:
    """The weight w for which softmax over n of features @ w puts most on the first: logistic regression over the orbit.

    `penalty` times |w|^2, in units of the features' deviation, keeps it small.
    """
    deviation = features.std((0, 1)) + 1e-6
    scaled = (features - features.mean((0, 1))) / deviation
    weight = torch.zeros(features.shape[-1], requires_grad=True)
    upright = torch.zeros(len(features), dtype=torch.long)
    optimizer = torch.optim.LBFGS([weight], max_iter=80, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scaled @ weight, upright) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach() / deviation


def orbit_logits(answers: Iterable[Any], kinds: Any) -> Float[Tensor, "b n k"]:
    """The evidence of one batch, from its answers over the orbit."""
    each = [evidence(answer, kinds) for answer in answers]
    if any(x is None or x.ndim != 2 for x in each):
        raise ValueError("a second opinion needs a classifier: no output of the kind 'logits' with shape (b, k)")
    return torch.stack([x.cpu() for x in each if x is not None], 1)
