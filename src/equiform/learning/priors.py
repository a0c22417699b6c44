"""Priors over the poses of the predictor's training data, and the loss that ties a canonicalizer to them.

A prior is a histogram over the elements of a finite group, (n,), summing to one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.groups import Group


def identity_prior(group: Group) -> Float[Tensor, " n"]:
    """All mass on the identity: the data is upright (Mondal et al. 2023, arXiv 2310.01647, sec. 4)."""
    return histogram_prior(group, torch.arange(group.elements.shape[0]) == 0)


def uniform_prior(group: Group) -> Float[Tensor, " n"]:
    """Equal mass on every element."""
    return histogram_prior(group, torch.ones(group.elements.shape[0]))


def histogram_prior(group: Group, counts: Tensor) -> Float[Tensor, " n"]:
    """A prior from how often each element occurs. Raises ValueError unless counts are (order,), >= 0 and not all zero."""
    n = group.elements.shape[0]
    counts = torch.as_tensor(counts).float()
    if counts.shape != (n,) or not bool((counts >= 0).all()) or not bool(counts.sum() > 0):
        raise ValueError(f"a prior over {group.name} is {n} counts, none negative, not all zero; got {counts.tolist()}")
    return counts / counts.sum()


PRIORS = {"identity": identity_prior, "uniform": uniform_prior}


def prior(group: Group, which: str | Tensor) -> Float[Tensor, " n"]:
    """The prior of that name, or of that histogram; of a continuous group "identity" alone. Raises ValueError for others."""
    if group.order is None:
        if isinstance(which, str) and which == "identity":
            return torch.ones(1)
        raise ValueError(f"the prior of a continuous group such as {group.name} is 'identity'; got {which!r}")
    if isinstance(which, str):
        if which not in PRIORS:
            raise ValueError(f"unknown prior {which!r}; known: {', '.join(PRIORS)}, or a histogram of {group.order} counts")
        return PRIORS[which](group)
    return histogram_prior(group, which)


def prior_loss(scores: Float[Tensor, "b n"], prior: Float[Tensor, "*b n"]) -> Float[Tensor, ""]:
    """The cross-entropy -sum_g P(g) log p(g | x), averaged over rows, with p = softmax(scores).

    For the identity prior this is -log p(e | x) (Mondal et al. 2023, sec. 4; the KL divergence to P up to a constant).
    """
    return -(prior.to(scores) * scores.log_softmax(-1)).sum(-1).mean()


# ------------------------------------------------------------------------------------------ continuous groups of space

# the weight of each axis of the canonical frame: all alike, or z alone (up)
FRAME_PRIORS = {"identity": (1.0, 1.0, 1.0), "upright": (0.0, 0.0, 1.0)}
CONCENTRATION = 10.0


def frame_prior(which: str | Tensor) -> Float[Tensor, " 3"]:
    """The weight of each axis in a prior of frames: by name, or three numbers >= 0, not all zero."""
    if isinstance(which, str):
        if which not in FRAME_PRIORS:
            raise ValueError(f"unknown prior {which!r} of frames; known: {', '.join(FRAME_PRIORS)}, or a weight for each axis")
        which = torch.tensor(FRAME_PRIORS[which])
    which = torch.as_tensor(which)
    if which.shape != (3,) or not bool((which >= 0).all()) or not bool(which.sum() > 0):
        raise ValueError(f"a prior of frames is three weights, none negative, not all zero; got {which.tolist()}")
    return which.float()


def frame_distance(
    frames: Float[Tensor, "*b 3 3"], target: Float[Tensor, "*c 3 3"], weights: Float[Tensor, " 3"]
) -> Float[Tensor, " *d"]:
    """The squared distance of frames to the target, axis by axis; with equal weights |F - T|^2 (Kaba et al. 2023, sec. 4)."""
    return ((frames - target).square().sum(-2) * weights.to(frames)).sum(-1)


def frame_loss(
    scores: Float[Tensor, "b n"],
    frames: Float[Tensor, "b n 3 3"],
    target: Float[Tensor, "b 3 3"],
    weights: Float[Tensor, " 3"],
    concentration: float = CONCENTRATION,
) -> Float[Tensor, ""]:
    """-log of the target's density under the posterior, averaged over rows and up to a constant.

    The density is a mixture, by softmax(scores), of exp(-concentration/2 |F - T|^2) about each frame: on one axis that of von
    Mises and Fisher, on whole frames with equal weights its matrix form. With one frame the loss is half the concentration
    times the squared distance.
    """
    apart = frame_distance(frames, target[:, None], weights)
    return -torch.logsumexp(scores.log_softmax(-1) - concentration / 2 * apart, -1).mean()
