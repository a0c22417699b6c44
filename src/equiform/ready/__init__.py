"""Ready-made canonicalizers: fitted ones that come with the package."""

from .table import DEFAULTS, FOLDER, default, meant, names

__all__ = [
    "DEFAULTS",
    "FOLDER",
    "default",
    "meant",
    "names",
]
