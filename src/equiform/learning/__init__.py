"""Fitting canonicalizers."""

from .augmentation import Augmentation
from .calibration import calibrate
from .cloud_augmentation import CloudAugmentation
from .fitting import Fit, fit, fit_opinion
from .teacher import Teacher

__all__ = [
    "Augmentation",
    "CloudAugmentation",
    "Fit",
    "Teacher",
    "calibrate",
    "fit",
    "fit_opinion",
]
