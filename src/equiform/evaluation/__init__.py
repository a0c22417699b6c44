"""Measuring a model over the orbit of its data."""

from .report import OrbitReport

__all__ = [
    "OrbitReport",
]
