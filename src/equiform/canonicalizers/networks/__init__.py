"""The networks inside canonicalizers."""

from .groupconv import GroupConvNetwork
from .mobile import PLANS, MobileNetwork
from .occupancy import OccupancyNetwork
from .plain import ScoreNetwork, scorer
from .vectorneurons import VectorNetwork
from .volumes import VolumeNetwork

__all__ = [
    "PLANS",
    "GroupConvNetwork",
    "MobileNetwork",
    "OccupancyNetwork",
    "ScoreNetwork",
    "VectorNetwork",
    "VolumeNetwork",
    "scorer",
]
