"""Measuring a model over the orbit of its data, and saying what to do about a predictor that turning hurts."""

from .diagnosis import Diagnosis
from .report import OrbitReport

__all__ = [
    "Diagnosis",
    "OrbitReport",
]
