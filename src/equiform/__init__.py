"""Make any pretrained model equivariant without changing its architecture or its weights."""

from .canonicalizers import (
    Canonicalizer,
    EnergyCanonicalizer,
    GroupConvCanonicalizer,
    OrbitCanonicalizer,
    UniformCanonicalizer,
)
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
from .kinds import Boxes, Field, Image, Points, Regular, Rows, act
from .networks import scorer
from .poses import Pose
from .report import OrbitReport
from .teaching import Teacher
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
    "CloudAugmentation",
    "Cyclic",
    "Dihedral",
    "EnergyCanonicalizer",
    "Equivariant",
    "Field",
    "FrameCanonicalizer",
    "Group",
    "GroupConvCanonicalizer",
    "Icosahedral",
    "Image",
    "Octahedral",
    "OrbitCanonicalizer",
    "OrbitReport",
    "Points",
    "Pose",
    "Prediction",
    "PrincipalAxesCanonicalizer",
    "Regular",
    "Rows",
    "SearchCanonicalizer",
    "Teacher",
    "UniformCanonicalizer",
    "act",
    "adapt",
    "evaluate",
    "fit",
    "fit_opinion",
    "group",
    "inverse",
    "load",
    "scorer",
]
