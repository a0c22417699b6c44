"""Make any pretrained model equivariant without changing its architecture or its weights."""

from .canonicalizers import (
    Canonicalizer,
    EnergyCanonicalizer,
    GroupConvCanonicalizer,
    OrbitCanonicalizer,
    TileCanonicalizer,
    UniformCanonicalizer,
)
from .cascade import CascadeCanonicalizer
from .cloud_views import CloudAugmentation
from .equivariant import Equivariant, Prediction, adapt, load
from .evaluation import evaluate
from .fitting import fit, fit_opinion
from .frames import FrameCanonicalizer, PrincipalAxesCanonicalizer, SearchCanonicalizer
from .groups import (
    E3,
    O2,
    O3,
    SE3,
    SO2,
    SO3,
    AboutZ,
    Cyclic,
    Dihedral,
    Group,
    Icosahedral,
    Octahedral,
    group,
    inverse,
)
from .kinds import Boxes, Field, Image, Invariant, Likeliest, Logits, Mask, Points, Regular, Rows, Tokens
from .moving import act
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
    "E3",
    "O2",
    "O3",
    "SE3",
    "SO2",
    "SO3",
    "AboutZ",
    "Augmentation",
    "Boxes",
    "Canonicalizer",
    "CascadeCanonicalizer",
    "CloudAugmentation",
    "Cyclic",
    "Dihedral",
    "EmbeddedPhoto",
    "EnergyCanonicalizer",
    "Equivariant",
    "Field",
    "FrameCanonicalizer",
    "Group",
    "GroupConvCanonicalizer",
    "Icosahedral",
    "Image",
    "Invariant",
    "Likeliest",
    "Logits",
    "Mask",
    "Octahedral",
    "OrbitCanonicalizer",
    "OrbitReport",
    "PhotoPredictor",
    "Points",
    "Pose",
    "Prediction",
    "PrincipalAxesCanonicalizer",
    "Regular",
    "Rows",
    "SearchCanonicalizer",
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
