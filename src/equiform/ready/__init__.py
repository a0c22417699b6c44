"""Ready-made canonicalizers: fitted ones that come with the package."""

from .table import DEFAULTS, FOLDER, default, names

__all__ = [
    "DEFAULTS",
    "FOLDER",
    "default",
    "names",
]
