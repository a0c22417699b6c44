"""Predictors that are known by their class, and processor and model as a pair."""

from .known import known_kinds
from .pairs import PhotoPredictor, read_photo

__all__ = [
    "PhotoPredictor",
    "known_kinds",
    "read_photo",
]
