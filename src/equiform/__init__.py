"""Make any pretrained model equivariant without changing its architecture or its weights."""

from .canonicalizers.base import Canonicalizer
from .canonicalizers.cascade import CascadeCanonicalizer
from .canonicalizers.energy import EnergyCanonicalizer
from .canonicalizers.frames import FrameCanonicalizer
from .canonicalizers.group_conv import GroupConvCanonicalizer
from .canonicalizers.networks import scorer
from .canonicalizers.orbit import OrbitCanonicalizer
from .canonicalizers.poses import Pose
from .canonicalizers.principal_axes import PrincipalAxesCanonicalizer
from .canonicalizers.search import SearchCanonicalizer
from .canonicalizers.tiles import TileCanonicalizer
from .canonicalizers.uniform import UniformCanonicalizer
from .equivariant import Equivariant, Prediction, adapt, load
from .evaluation.diagnose import diagnose
from .evaluation.diagnosis import Diagnosis
from .evaluation.evaluate import evaluate
from .evaluation.report import OrbitReport
from .geometry.groups import (
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
from .geometry.kinds import (
    Boxes,
    Field,
    Image,
    Invariant,
    Likeliest,
    Logits,
    Mask,
    Points,
    Regular,
    RotatedBoxes,
    Rows,
    Tokens,
)
from .geometry.moving import act
from .learning.augmentation import Augmentation
from .learning.cloud_augmentation import CloudAugmentation
from .learning.fitting import fit, fit_opinion
from .learning.teacher import Teacher
from .predictors.pairs import PhotoPredictor
from .segment_anything import EmbeddedPhoto, embed
from .upright import Upright

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
    "Diagnosis",
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
    "RotatedBoxes",
    "Rows",
    "SearchCanonicalizer",
    "Teacher",
    "TileCanonicalizer",
    "Tokens",
    "UniformCanonicalizer",
    "Upright",
    "act",
    "adapt",
    "diagnose",
    "embed",
    "evaluate",
    "fit",
    "fit_opinion",
    "group",
    "inverse",
    "load",
    "scorer",
]
