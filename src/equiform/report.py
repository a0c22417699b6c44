"""What `evaluate` found: a table, plots, and files (JSON, CSV, one self-contained HTML page)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Method:
    """One row of the table: a way to use the predictor.

    `values`: the metric on every element; `passes`: mean forward passes of the predictor per input; `time`: relative to one
    forward of the bare predictor, measured interleaved (median of ratios); `parameters`: added, relative to the predictor's
    (None where unknown); `pose_accuracy`: None where there is no pose; `equivariance_error`: the greatest absolute difference
    between f(g.x) and g.f(x), None where the outputs cannot be compared.
    """

    name: str
    values: list[float]
    pose_accuracy: float | None = None
    equivariance_error: float | None = None
    passes: float = 1.0
    time: float | None = None
    parameters: float | None = None


@dataclass(frozen=True)
class Sample:
    """One input as it was shown to the model, and its canonical form: uint8 (h, w, 3); the element, and the confidence."""

    image: Tensor
    canonical: Tensor
    element: str
    confidence: float
    right: bool


@dataclass(frozen=True)
class OrbitReport:
    """The metric on every element of a group, for the adapted model (the first method) and for its baselines."""

    metric: str
    group: str
    elements: list[str]  # "0°", "90°", "flip 90°"
    angles: list[float]  # degrees, counter-clockwise
    flips: list[bool]
    num_samples: int
    methods: list[Method]
    samples: list[Sample] = field(default_factory=list)
