"""Small networks that score poses, and one whose answers are vectors."""

from .groupconv import GroupConvNetwork
from .occupancy import OccupancyNetwork
from .plain import ScoreNetwork, scorer
from .vectorneurons import VectorNetwork

__all__ = ["GroupConvNetwork", "OccupancyNetwork", "ScoreNetwork", "VectorNetwork", "scorer"]
