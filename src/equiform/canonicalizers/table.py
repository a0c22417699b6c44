"""The one table of canonicalizers, by name. What is in it is saved, loaded, fitted, evaluated: see docs/contributing.md."""

from .base import Canonicalizer
from .cascade import CascadeCanonicalizer
from .energy import EnergyCanonicalizer
from .frames import FrameCanonicalizer
from .group_conv import GroupConvCanonicalizer
from .orbit import OrbitCanonicalizer
from .polyphase import PolyphaseCanonicalizer
from .principal_axes import PrincipalAxesCanonicalizer
from .product import ProductCanonicalizer
from .ring import RingCanonicalizer
from .seam import SeamCanonicalizer
from .search import SearchCanonicalizer
from .tiles import TileCanonicalizer
from .uniform import UniformCanonicalizer
from .volumes import VolumeCanonicalizer

CANONICALIZERS: dict[str, type[Canonicalizer]] = {
    cls.name: cls
    for cls in (
        OrbitCanonicalizer,
        GroupConvCanonicalizer,
        TileCanonicalizer,
        EnergyCanonicalizer,
        UniformCanonicalizer,
        CascadeCanonicalizer,
        FrameCanonicalizer,
        PrincipalAxesCanonicalizer,
        SearchCanonicalizer,
        RingCanonicalizer,
        VolumeCanonicalizer,
        SeamCanonicalizer,
        PolyphaseCanonicalizer,
        ProductCanonicalizer,
    )
}
