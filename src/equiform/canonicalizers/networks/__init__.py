"""The networks inside canonicalizers."""

from .groupconv import GroupConvNetwork
from .mobile import PLANS, MobileNetwork
from .occupancy import OccupancyNetwork
from .plain import ScoreNetwork, scorer
from .vectorneurons import VectorNetwork

__all__ = ["PLANS", "GroupConvNetwork", "MobileNetwork", "OccupancyNetwork", "ScoreNetwork", "VectorNetwork", "scorer"]
