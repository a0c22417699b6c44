"""The results of `evaluate` as plain values: a row per method, and sample inputs."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .confidence import Confidence


@dataclass(frozen=True)
class Method:
    """One row of the table: a way to use the predictor.

    `values`: the metric on every element; `passes`: mean forward passes of the predictor per input; `time`: relative to one
    forward of the bare predictor, measured interleaved (median of ratios); `parameters`: added, relative to the predictor's
    (None where unknown); `pose_accuracy`: None where there is no pose; `equivariance_error`: the greatest absolute difference
    between f(g.x) and g.f(x), None where the outputs cannot be compared; `higher_is_better`: whether greater
    values are better; `mean_from`: the mean is of the values from this index on, 1 where the first is the upright pose and the
    others are of elements that were drawn; `confidence`: whether it knows when a pose is wrong, None where there is no pose;
    `interval`: the ends of the 95 % interval of the mean; `gain`: the mean of the adapted model, the first method, less this
    one's, and the ends of its interval on the same inputs; both empty where the metric cannot be resampled.
    """

    name: str
    values: list[float]
    pose_accuracy: float | None = None
    equivariance_error: float | None = None
    passes: float = 1.0
    time: float | None = None
    parameters: float | None = None
    higher_is_better: bool = True
    mean_from: int = 0
    confidence: Confidence | None = None
    interval: list[float] = field(default_factory=list)
    gain: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean over the orbit, of continuous groups over the elements drawn; nan as soon as one value is."""
        return float(np.mean(self.values[self.mean_from :]))

    @property
    def worst(self) -> float:
        """The smallest value, or the greatest where smaller is better; nan as soon as one value is."""
        return float(np.min(self.values) if self.higher_is_better else np.max(self.values))

    @property
    def worst_index(self) -> int:
        """The index of that value: the first of several, or the first nan."""
        return int(np.argmin(self.values) if self.higher_is_better else np.argmax(self.values))


@dataclass(frozen=True)
class Sample:
    """One input as it was shown to the model, and its canonical form: uint8 (h, w, 3); the element, and the confidence."""

    image: Tensor
    canonical: Tensor
    element: str
    confidence: float
    right: bool


def picture(image: Tensor) -> Tensor:
    """uint8 (h, w, 3) of a (1, c, h, w) image in any range; of a volume its three middle slices, side by side."""
    x = image[0].float().cpu() if image.ndim == 4 else _slices(image[0].float().cpu())
    x = x[:3] if len(x) >= 3 else x[:1].expand(3, -1, -1)
    if image.dtype == torch.uint8:
        x = x / 255
    elif bool((x.min() < 0) | (x.max() > 1)):
        x = (x - x.min()) / (x.max() - x.min()).clamp(min=1e-6)
    return (x * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _slices(x: Tensor) -> Tensor:
    """The middle slices of a volume (c, d, h, w) across d, h and w, side by side, (c, m, n)."""
    across = [x.select(axis, x.shape[axis] // 2) for axis in (1, 2, 3)]
    height, darkest = max(one.shape[1] for one in across), float(x.min())
    padded = [F.pad(one, (0, 1, 0, height - one.shape[1]), value=darkest) for one in across]
    return torch.cat(padded, 2)[..., :-1]
