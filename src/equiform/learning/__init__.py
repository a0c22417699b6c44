"""Fitting canonicalizers."""

from .augmentation import Augmentation
from .calibration import calibrate
from .cloud_augmentation import CloudAugmentation
from .fitting import Fit, fit, fit_opinion
from .teacher import Teacher
from .volume_augmentation import VolumeAugmentation

__all__ = [
    "Augmentation",
    "CloudAugmentation",
    "Fit",
    "Teacher",
    "VolumeAugmentation",
    "calibrate",
    "fit",
    "fit_opinion",
]
