"""Make any pretrained model equivariant without changing its architecture or its weights."""

from ._moved import __getattr__ as __getattr__  # names that were here in 0.1
from .canonicalizers import EnergyCanonicalizer, FrameCanonicalizer, GroupConvCanonicalizer, OrbitCanonicalizer
from .equivariant import Equivariant, adapt, load
from .evaluation.diagnose import diagnose
from .evaluation.evaluate import evaluate
from .exporting import export
from .geometry import (
    E3,
    O2,
    O3,
    SE3,
    SO2,
    SO3,
    Boxes,
    Cyclic,
    Dihedral,
    Invariant,
    Logits,
    Points,
    Rows,
    Scale,
    Shift,
    act,
    group,
    inverse,
)
from .learning import fit
from .upright import Upright

__version__ = "0.1.0"

__all__ = [
    "E3",
    "O2",
    "O3",
    "SE3",
    "SO2",
    "SO3",
    "Boxes",
    "Cyclic",
    "Dihedral",
    "EnergyCanonicalizer",
    "Equivariant",
    "FrameCanonicalizer",
    "GroupConvCanonicalizer",
    "Invariant",
    "Logits",
    "OrbitCanonicalizer",
    "Points",
    "Rows",
    "Scale",
    "Shift",
    "Upright",
    "act",
    "adapt",
    "diagnose",
    "evaluate",
    "export",
    "fit",
    "group",
    "inverse",
    "load",
]
