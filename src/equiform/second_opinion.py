"""The predictor's second opinion: what its own answer says about the pose it was given.

Where the wrapper runs several poses anyway, their logits tell more than the canonicalizer knew: a network trained on upright
photos answers in another way when the photo lies on its side. A linear scorer on the logits, fitted without labels, corrects
the posterior over the poses that were run, at no further pass.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .geometry.moving import find_logits


class Opinion(nn.Module):
    """A linear score of logits (b, k): how much they look like the predictor's answers to canonical input."""

    weight: Tensor

    def __init__(self, weight: Float[Tensor, " k"]):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, logits: Any) -> Float[Tensor, " b"]:
        """Raises ValueError unless these are logits (b, k) of as many classes as it was fitted on."""
        logits = torch.as_tensor(logits) if logits is not None else None
        if logits is None or logits.ndim != 2 or logits.shape[1] != len(self.weight):
            came = "none" if logits is None else f"shape {tuple(logits.shape)}"
            raise ValueError(f"the second opinion needs logits (b, {len(self.weight)}) in the output; got {came}")
        return centred(logits.to(self.weight)) @ self.weight


def centred(logits: Tensor) -> Tensor:
    """Logits minus their mean over the classes, which means nothing."""
    return logits - logits.mean(-1, keepdim=True)


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
    """The centred logits of one batch, from its answers over the orbit."""
    logits = [find_logits(answer, kinds) for answer in answers]
    if any(x is None or x.ndim != 2 for x in logits):
        raise ValueError("a second opinion needs a classifier: no output of the kind 'logits' with shape (b, k)")
    return torch.stack([centred(torch.as_tensor(x).float().cpu()) for x in logits if x is not None], 1)
