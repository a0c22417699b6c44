"""What finds the pose of an input: images, volumes and clouds of points."""

from .base import Canonicalizer
from .cascade import CascadeCanonicalizer
from .clouds import CloudCanonicalizer
from .energy import EnergyCanonicalizer
from .frames import FrameCanonicalizer
from .group_conv import GroupConvCanonicalizer
from .images import ImageCanonicalizer
from .networks import scorer
from .orbit import OrbitCanonicalizer
from .polyphase import PolyphaseCanonicalizer
from .poses import Pose
from .principal_axes import PrincipalAxesCanonicalizer
from .product import ProductCanonicalizer
from .ring import RingCanonicalizer
from .seam import SeamCanonicalizer
from .search import SearchCanonicalizer
from .table import CANONICALIZERS
from .tiles import TileCanonicalizer
from .uniform import UniformCanonicalizer
from .volumes import VolumeCanonicalizer

__all__ = [
    "CANONICALIZERS",
    "Canonicalizer",
    "CascadeCanonicalizer",
    "CloudCanonicalizer",
    "EnergyCanonicalizer",
    "FrameCanonicalizer",
    "GroupConvCanonicalizer",
    "ImageCanonicalizer",
    "OrbitCanonicalizer",
    "PolyphaseCanonicalizer",
    "Pose",
    "PrincipalAxesCanonicalizer",
    "ProductCanonicalizer",
    "RingCanonicalizer",
    "SeamCanonicalizer",
    "SearchCanonicalizer",
    "TileCanonicalizer",
    "UniformCanonicalizer",
    "VolumeCanonicalizer",
    "scorer",
]
