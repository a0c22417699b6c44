"""Make any pretrained model equivariant without changing its architecture or its weights."""

from .canonicalizers import (
    Canonicalizer,
    EnergyCanonicalizer,
    GroupConvCanonicalizer,
    OrbitCanonicalizer,
    TileCanonicalizer,
    UniformCanonicalizer,
)
from .equivariant import Equivariant, Prediction, adapt, load
from .evaluation import evaluate
from .fitting import fit, fit_opinion
from .groups import O2, SO2, Cyclic, Dihedral, Group, group, inverse
from .kinds import Boxes, Field, Image, Invariant, Likeliest, Logits, Mask, Points, Regular, Rows, Tokens, act
from .networks import scorer
from .photos import PhotoPredictor
from .poses import Pose
from .promptable import EmbeddedPhoto, embed
from .report import OrbitReport
from .teaching import Teacher
from .upright import Upright
from .views import Augmentation

__version__ = "0.1.0"

__all__ = [
    "O2",
    "SO2",
    "Augmentation",
    "Boxes",
    "Canonicalizer",
    "Cyclic",
    "Dihedral",
    "EmbeddedPhoto",
    "EnergyCanonicalizer",
    "Equivariant",
    "Field",
    "Group",
    "GroupConvCanonicalizer",
    "Image",
    "Invariant",
    "Likeliest",
    "Logits",
    "Mask",
    "OrbitCanonicalizer",
    "OrbitReport",
    "PhotoPredictor",
    "Points",
    "Pose",
    "Prediction",
    "Regular",
    "Rows",
    "Teacher",
    "TileCanonicalizer",
    "Tokens",
    "UniformCanonicalizer",
    "Upright",
    "act",
    "adapt",
    "embed",
    "evaluate",
    "fit",
    "fit_opinion",
    "group",
    "inverse",
    "load",
    "scorer",
]
