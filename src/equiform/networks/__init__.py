"""Small networks that score poses."""

from .groupconv import GroupConvNetwork
from .plain import ScoreNetwork, scorer

__all__ = ["GroupConvNetwork", "ScoreNetwork", "scorer"]
