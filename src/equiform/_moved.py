"""Names that were at the top of the package, and are in its packages now: found at the top for one more release."""

import importlib
import warnings
from typing import Any

MOVED = {
    "canonicalizers": "Canonicalizer CascadeCanonicalizer Pose PrincipalAxesCanonicalizer RingCanonicalizer "
    "SearchCanonicalizer TileCanonicalizer UniformCanonicalizer scorer",
    "equivariant": "Prediction",
    "evaluation": "OrbitReport",
    "geometry": "AboutZ Field Group Icosahedral Image Likeliest Mask Octahedral Per Regular RotatedBoxes Tokens",
    "learning": "Augmentation CloudAugmentation Teacher calibrate fit_opinion",
    "predictors": "PhotoPredictor",
    "segment_anything": "EmbeddedPhoto embed",
}


def __getattr__(name: str) -> Any:
    """The object of that name, with a DeprecationWarning that says where it is now. Raises AttributeError for any other."""
    package = next((package for package, names in MOVED.items() if name in names.split()), None)
    if package is None:
        raise AttributeError(f"module 'equiform' has no attribute {name!r}")
    place = f"equiform.{package}"
    warnings.warn(f"equiform.{name} is now {place}.{name}; version 0.2 drops the old name", DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(place), name)
