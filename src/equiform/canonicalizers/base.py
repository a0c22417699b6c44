"""The base of all canonicalizers: a module that finds poses, and knows the arguments that build it again."""

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..geometry import groups
from ..geometry.groups import Group
from .poses import Pose, pose_of

Prior = int | float | Sequence[int | float]
_TOLD: "weakref.WeakKeyDictionary[Canonicalizer, set[str]]" = weakref.WeakKeyDictionary()
MAX_ORDER = 720  # elements that are scored one by one; half a degree apart in C720


class Advice(UserWarning):
    """What is said once of a canonicalizer that is used for what it was not fitted for, with the way out."""


class Canonicalizer(nn.Module, ABC):
    """From a batch of inputs to a `Pose`. See `ImageCanonicalizer` and `CloudCanonicalizer` for what the inputs are.

    To be saved and loaded it says its `config`, its `parts`, its `given_network` and whether it `needs_predictor`: these are
    the arguments of its constructor.
    """

    name = ""  # in the table of canonicalizers
    learns = True  # whether there is anything to fit
    max_order = MAX_ORDER
    estimates = True  # whether its poses can be right or wrong
    ready_made: ClassVar[Mapping[str, str]] = {}  # those of the package that could stand in its place, by group
    needs_predictor = False  # whether its constructor takes the predictor, as `predictor`
    fitted = False  # whether its weights were learnt: set by `fit` and `load`; yours to set after a training of your own
    fitted_on = ""  # of a ready-made one: what it was fitted on, for errors
    card: Mapping[str, Any] | None = None  # a model card in plain JSON values: data, licences, figures, limits
    given_network: str | None = None  # the class of the network that its constructor was given, as `network`
    _place: Tensor

    def __init__(self, group: str | Group):
        super().__init__()
        self.group = groups.group(group)
        if self.group.order is not None and self.group.order > self.max_order:
            most = self.max_order
            raise ValueError(f"canonicalizers score groups of at most {most} elements; {group} has {self.group.order}")
        self.register_buffer("_place", torch.zeros(1), persistent=False)  # follows the module from device to device

    @abstractmethod
    def forward(self, inputs: Any) -> Pose:
        """The pose of every row of the batch."""

    def posterior(self, inputs: Any, prior: Prior | None = None) -> Pose:
        """The pose of every row, given how likely each pose is before looking: scores + log prior, Bayes' rule."""
        refuse_tracing()
        pose = self(inputs)
        if prior is None:
            return pose
        return pose_of(pose.scores + self.log_prior(prior).to(pose.scores), pose.candidates, pose.certainty)

    def log_prior(self, prior: Prior) -> Float[Tensor, " n"]:
        """The logarithm of a prior over the elements, 0 for the likeliest, so that a uniform one changes no score.

        prior: the share of the inputs that is upright, the rest being spread over the other poses alike; or a number above 0
        for every element, in their order. Raises ValueError for any other, and where poses are found in the input.
        """
        if self.group.order is None or self.group.wraps or self.num_poses != self.group.order:
            raise ValueError(f"a prior is over the elements of a finite group, or the angles of images; got {self.group.name}")
        order = self.group.order
        if isinstance(prior, int | float):
            prior = [check_share(prior), *[(1 - prior) / max(order - 1, 1)] * (order - 1)]
        try:
            shares = torch.as_tensor(prior, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            shares = torch.zeros(0)
        if shares.shape != (order,) or not bool((shares.isfinite() & (shares > 0)).all()):
            raise ValueError(
                f"prior is the share that is upright, or a number above 0 for each of the {order} elements of "
                f"{self.group.name}; got {prior!r}"
            )
        return (shares / shares.max()).log()

    @property
    def untrained(self) -> bool:
        """Whether it has weights of its own that were never fitted. A network that was given counts as fitted, unless it is
        a backbone with a new last layer (`equiform.canonicalizers.scorer`)."""
        given = self.given_network is not None and not getattr(self.network, "untrained", False)
        return (self.learns and not self.fitted and not given) or any(part.untrained for part in self.parts.values())

    def warn_untrained(self) -> None:
        """Warn, once, where its poses would be those of random weights."""
        if self.untrained and not self.training:
            self.advise(
                f"this {self.name} canonicalizer is not fitted, and its poses mean nothing: equiform.fit(model, inputs) in the "
                f"poses the predictor knows{self._for_photos}"
            )

    def advise(self, said: str) -> None:
        """Warn, once of this canonicalizer."""
        told = _TOLD.setdefault(self, set())  # Python forgets what it has shown whenever filters of warnings change
        if said not in told:
            told.add(said)
            warnings.warn(said, Advice, stacklevel=4)

    @property
    def _for_photos(self) -> str:
        """The way out, where there is a ready-made one."""
        known = self.ready_made.get(self.group.name)
        return f"; for photos there is a ready-made one, canonicalizer={known!r} (--adapter {known})" if known else ""

    def config(self) -> dict[str, Any]:
        """The plain arguments that build this canonicalizer again, beside its parts, its given network and the predictor."""
        return {"group": self.group.name}

    @property
    def parts(self) -> dict[str, "Canonicalizer"]:
        """The canonicalizers that its constructor was given, by the names of their arguments."""
        return {}

    @property
    def elements(self) -> Float[Tensor, "n d d"]:
        """The elements, in full precision whatever the weights are, on the device of the canonicalizer."""
        return self.group.elements.to(self._place.device)

    @property
    def num_poses(self) -> int:
        """The number of candidates for a pose."""
        return len(self.elements)

    @property
    def enough(self) -> int | None:
        """A side of pixels to which photos may be reduced before it looks at them; None where it looks at pixels."""
        return None

    @property
    def predictor_passes(self) -> int:
        """How often the predictor runs for the pose of one row."""
        return 0

    @property
    def device(self) -> torch.device:
        """Where the canonicalizer computes."""
        return self._place.device

    def _check_finite(self, way_out: str = "") -> None:
        """Raise ValueError for a continuous group, whose elements cannot be scored one by one."""
        if self.group.order is None:
            name, finite = self.group.name, self.group.finite.name
            raise ValueError(
                f"{name} is continuous and the {self.name} canonicalizer scores finite groups: take a fine one, such as "
                f"{finite}{way_out}"
            )


def check_share(prior: Any) -> float:
    """The share of inputs that is upright. Raises ValueError unless it lies between 0 and 1."""
    if not isinstance(prior, int | float) or isinstance(prior, bool) or not 0 < prior < 1:
        raise ValueError(f"prior is the share that is upright, between 0 and 1, such as 0.95; got {prior!r}")
    return float(prior)


def refuse_tracing() -> None:
    """Raise RuntimeError under `torch.jit.trace`, which bakes the pose of its example in."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        raise RuntimeError("torch.jit.trace would keep the pose of its example for every input: use torch.compile")
