"""Make any pretrained model equivariant without changing its architecture or its weights."""

from .canonicalizers import (
    Canonicalizer,
    EnergyCanonicalizer,
    GroupConvCanonicalizer,
    OrbitCanonicalizer,
    UniformCanonicalizer,
)
from .equivariant import Equivariant, Prediction, adapt, load
from .evaluation import evaluate
from .fitting import fit
from .groups import O2, SO2, Cyclic, Dihedral, Group, group, inverse
from .kinds import Boxes, Field, Image, Points, Regular, Rows, act
from .networks import scorer
from .poses import Pose
from .report import OrbitReport

__version__ = "0.1.0"

__all__ = [
    "O2",
    "SO2",
    "Boxes",
    "Canonicalizer",
    "Cyclic",
    "Dihedral",
    "EnergyCanonicalizer",
    "Equivariant",
    "Field",
    "Group",
    "GroupConvCanonicalizer",
    "Image",
    "OrbitCanonicalizer",
    "OrbitReport",
    "Points",
    "Pose",
    "Prediction",
    "Regular",
    "Rows",
    "UniformCanonicalizer",
    "act",
    "adapt",
    "evaluate",
    "fit",
    "group",
    "inverse",
    "load",
    "scorer",
]
