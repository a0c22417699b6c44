"""The wrapper: find the pose, bring the input back, run the predictor, move its answer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import ready, saving
from .batching.answers import can_average, merged
from .batching.batch import Batch
from .batching.calls import in_order, parameter_names
from .batching.chosen import Chosen, choose, likeliest
from .canonicalizers.base import Canonicalizer, Prior, refuse_tracing
from .canonicalizers.orbit import OrbitCanonicalizer
from .canonicalizers.poses import Pose, straight_through
from .canonicalizers.product import product_of
from .canonicalizers.ring import RingCanonicalizer
from .canonicalizers.seam import SeamCanonicalizer
from .canonicalizers.search import SearchCanonicalizer
from .canonicalizers.volumes import VolumeCanonicalizer
from .geometry import groups
from .geometry.actions import ACTIONS
from .geometry.groups import Group, Shift, factors_of
from .geometry.kinds import Kind, Rows, as_kinds, looked_at, plain
from .geometry.nested import first_logits
from .predictors import known_kinds
from .predictors.pairs import as_predictor
from .predictors.photo_tasks import known_task
from .second_opinion import Opinion, evidence

Predictor = Callable[..., Any] | tuple[Any, Any]
TOLD = ("config", "device", "dtype")  # no methods: their answers would be those of the bare predictor
# of a loop of one's own, which trains the predictor
UNTAUGHT = (
    "training an adapted model in the ordinary way does not train its canonicalizer as fit does, with the prior: "
    "equiform.fit(model, data, task_loss=loss) does; model.canonicalizer.requires_grad_(False) says that it is to stay"
)


class Prediction(NamedTuple):
    """The answer, moved with the input, and the pose that the canonicalizer found."""

    output: Any
    pose: Pose


class Equivariant(nn.Module):
    """A predictor made equivariant by a canonicalizer. Made by `adapt`; keeps nothing about its last call.

    `model(x)` has the structure and types of `predictor(x)`. `opinion`, fitted by `equiform.learning.fit_opinion`, corrects
    the weights of several poses by the predictor's own answers. With a `prior` that is not uniform (how likely each pose is
    before looking) the whole is not exactly equivariant. In `canonicalizer.train()` mode gradients reach the canonicalizer
    straight through its choice; otherwise it is an ordinary hard choice.
    """

    def __init__(
        self,
        predictor: Callable[..., Any],
        canonicalizer: Canonicalizer,
        inputs: Any,
        outputs: Any,
        top_k: int = 1,
        coverage: float | None = None,
        opinion: Opinion | None = None,
        prior: Prior | None = None,
    ):
        super().__init__()
        order = canonicalizer.num_poses
        if not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= order:
            raise ValueError(f"top_k is a number of poses, 1 to {order} for {canonicalizer.group.name}; got {top_k!r}")
        share = isinstance(coverage, float | int) and not isinstance(coverage, bool) and 0 < coverage <= 1
        if coverage is not None and (top_k > 1 or not share):
            came = f"{coverage!r}, top_k={top_k}"
            raise ValueError(f"coverage is a share of the posterior in (0, 1], instead of top_k; got {came}")
        self.predictor, self.canonicalizer = predictor, canonicalizer
        self.inputs = in_order(as_kinds(inputs, canonicalizer.group), predictor)
        self.outputs = as_kinds(outputs, canonicalizer.group)
        for name, kinds in (("inputs", self.inputs), ("outputs", self.outputs)):
            _check_moves(kinds, name, canonicalizer.group, looked_at(self.inputs) == "volume")
        self.top_k, self.coverage, self.opinion = top_k, coverage, opinion
        if prior is not None:
            canonicalizer.log_prior(prior)
        self.prior = prior if prior is None or isinstance(prior, int | float) else [float(share) for share in prior]
        self.training = isinstance(predictor, nn.Module) and predictor.training

    @property
    def group(self) -> Group:
        """The group the model is equivariant to."""
        return self.canonicalizer.group

    def __getattr__(self, name: str) -> Any:
        """What others ask of a model beside its answers, such as a pipeline of transformers, is the predictor's to say."""
        if name in TOLD:
            return getattr(self.predictor, name)
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        doubt = f"top_k={self.top_k}" if self.coverage is None else f"coverage={self.coverage}"
        return f"group={self.group.name}, inputs={self.inputs!r}, outputs={self.outputs!r}, {doubt}"

    @property
    def averages(self) -> bool:
        """Whether answers are averaged over several poses. Boxes and lists never are: they come from the MAP pose."""
        return (self.top_k > 1 or self.coverage is not None) and can_average(self.outputs)

    def predict(self, *args: Any, **kwargs: Any) -> Prediction:
        """The output and the pose. Raises ValueError or TypeError where an input or output does not fit its kind."""
        batch = self.bind(args, kwargs)
        pose = self.pose(batch.seen)
        parts = batch.parts(self.choose(pose))
        answers = [part.answer(alone=len(parts) == 1) for part in parts]
        output = merged(answers, parts, self.outputs, self.averages, self._evidence)
        return Prediction(batch.finish(output), pose)

    def bind(self, args: tuple, kwargs: Mapping[str, Any]) -> Batch:
        """The arguments with their kinds, and the owner of every entry."""
        refuse_tracing()
        return Batch.bind(self.predictor, self.inputs, args, kwargs, self.group.dim)

    def pose(self, seen: Any) -> Pose:
        """The pose of images or clouds; with gradients only while the canonicalizer is trained."""
        self.canonicalizer.warn_untrained()
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.canonicalizer.training):
            return self.canonicalizer.posterior(seen, self.prior)

    def choose(self, pose: Pose) -> Chosen:
        """The poses that the predictor is run on, with their weights."""
        zero = straight_through(pose.scores) if self.canonicalizer.training and pose.scores.requires_grad else None
        chosen = choose(pose.scores, self.top_k, self.coverage) if self.averages else likeliest(pose.index)
        return chosen.of(pose, zero, self.group.motion)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What predictor(*args, **kwargs) would return, equivariant."""
        output = self.predict(*args, **kwargs).output
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._warn_where_trained(output)
        return output

    def _warn_where_trained(self, output: Any) -> None:
        """Warn, once, where a loss of this answer is trained on: `fit` does not call forward."""
        learns = self.canonicalizer.learns and any(p.requires_grad for p in self.canonicalizer.parameters())
        answer = output if isinstance(output, Tensor) else first_logits(output)
        if learns and isinstance(answer, Tensor) and answer.requires_grad:
            answer.register_hook(lambda gradient: self.canonicalizer.advise(UNTAUGHT))

    def save(self, folder: str | Path) -> None:
        """Write model.safetensors, and config.json to read: the canonicalizer and the kinds, nothing of the predictor."""
        saving.save(folder, self.canonicalizer, self._settings())

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save to the Hugging Face Hub; `options` go to `HfApi.create_repo` (private, token, ...). Returns the address."""
        return saving.push(repo_id, self.canonicalizer, self._settings(), **options)

    @property
    def _evidence(self) -> Callable[[Any, Any], Any] | None:
        """The second opinion as a function (logits, kind) -> scores of their poses; None without one."""
        opinion = self.opinion
        return None if opinion is None else lambda logits, kind: opinion(evidence(logits, kind))

    def _settings(self) -> dict[str, Any]:
        names = ("inputs", "outputs", "top_k", "coverage", "opinion", "prior")
        return {name: getattr(self, name) for name in names}


def _check_moves(kinds: Any, name: str, group: Group, volumes: bool) -> None:
    """Raise ValueError for no kinds, and for one that does not move where the group does, or needs a canvas that is absent."""
    if not plain(kinds):
        raise ValueError(
            f"{name} are kinds, such as 'logits' or {{'boxes': 'boxes', 'scores': 'invariant'}}; got none, {kinds!r}"
        )
    for kind in plain(kinds):
        row = ACTIONS[kind.name]
        if group.dim == 2 and not row.in_plane:
            raise ValueError(
                f"{name}: {kind!r} moves in space, and {group.name} turns pictures: volumes take O, Oh, D2h, C4z or C2z, and "
                "inputs='volume'"
            )
        metric = row.in_space and not dict(kind.options).get("normalized")
        if group.dim == 3 and not (metric or (volumes and (row.in_space or row.in_volume))):
            known = [name for name, row in ACTIONS.items() if row.in_space or (volumes and row.in_volume)]
            if row.in_volume:
                raise ValueError(f"{name}: {kind!r} lies on a volume, and there is none among the inputs: pass inputs='volume'")
            hint = "" if volumes else "; three-dimensional images are inputs of the kind 'volume'"
            raise ValueError(
                f"{name}: {kind!r} does not move in space, as {group.name} does; kinds that do: {', '.join(known)}{hint}"
            )


def adapt(
    predictor: Predictor,
    group: str | Group,
    *,
    inputs: Any = None,
    outputs: Any = None,
    canonicalizer: Canonicalizer | str | Path | Sequence[Canonicalizer | str | Path | None] | None = None,
    top_k: int = 1,
    coverage: float | None = None,
    prior: Prior | None = None,
) -> Equivariant:
    """Make a predictor equivariant. Its weights, its mode and its architecture stay as they are.

    predictor: a module, any callable, or a pair (processor, model) of transformers, which then takes photos (paths, PIL images,
    arrays) with prompts in their pixels, and answers in their pixels; see `PhotoPredictor`.

    `inputs`, `outputs`: how the arguments and the result move: a kind ("image", "mask", "points", "boxes", "logits", ...), or
    a dict, list or tuple of kinds shaped like them. Left out, they are looked up by the predictor's class.
    canonicalizer: one of your own, the name of a ready-made one ("photos-c4", "photos-c4-small", "photos-so2"), or the folder
    or repository of a saved one; of a product of groups one for each factor, ("photos-c4", mine). Left out, known models of
    images take the ready-made one for their group, which needs no `fit`; all others an `OrbitCanonicalizer` (in space a
    `SearchCanonicalizer`, of volumes a `VolumeCanonicalizer`), to be fitted. Shifts take a `SeamCanonicalizer`, which has
    nothing to fit.
    `top_k`: answer with the mean over that many likeliest poses; `coverage`: with as many as cover that share of the posterior.
    `prior`: how likely each pose is before looking: the share of inputs that is upright, the rest spread over the other poses
    alike, or a number for each element. With one that is not uniform the model is no longer exactly equivariant: a photo that
    is in doubt counts as upright whichever way it lies. By default there is none.

    Raises ValueError or TypeError for an unknown group or kind, or where `outputs` is not known and not given.
    """
    single = _callable(predictor)
    known = known_kinds(single)
    in_space = groups.group(group).dim == 3
    inputs = inputs if inputs is not None else known[0] if known[0] is not None else "points" if in_space else "image"
    outputs = outputs if outputs is not None else known[1]
    if outputs is None:
        pair = "" if known_task(single) is None else ". With its processor it is known: adapt((processor, model), group)"
        images = "'mask' for a segmenter, {'boxes': 'boxes', 'scores': 'invariant'} for a dict"
        clouds = "'points' for positions, {'forces': 'vectors', 'energy': 'invariant'} for a dict"
        if looked_at(as_kinds(inputs)) == "volume":
            clouds = "'volume_mask' for a segmenter of volumes, {'boxes': 'boxes', 'scores': 'invariant'} for a dict"
        raise ValueError(
            f"how the outputs of {_name(single)} move is not known: pass outputs=, for example outputs='logits' for a "
            f"classifier, {clouds if in_space else images}{pair}"
        )
    seen = looked_at(as_kinds(inputs))
    chosen = _chosen(canonicalizer, groups.group(group), single, known[1] is not None, seen)
    return Equivariant(single, chosen.eval(), inputs, outputs, top_k, coverage, prior=prior)


def _chosen(given: Any, group: Group, predictor: Callable[..., Any], is_known: bool, seen: str) -> Canonicalizer:
    """The canonicalizer given, as a module or by name, else the default for this predictor, group and kind of input."""
    factors = factors_of(group)
    if isinstance(given, (list, tuple)) or (given is None and len(factors) > 1):
        each = [None] * len(factors) if given is None else given
        if len(each) != len(factors):
            names = " and ".join(factor.name for factor in factors)
            raise ValueError(f"{group.name} takes a canonicalizer for each of its factors, {names}; got {len(each)}")
        _check_order(each, factors)
        return product_of([_chosen(one, factor, predictor, is_known, seen) for one, factor in zip(each, factors, strict=True)])
    make = SearchCanonicalizer if group.dim == 3 else RingCanonicalizer if group.order is None else OrbitCanonicalizer
    if group.dim == 3 and seen == "volume":
        make = VolumeCanonicalizer
    make = SeamCanonicalizer if isinstance(group, Shift) else make
    if given is None:
        given = (ready.default(group.name) if is_known else None) or make(group)
        parameter = next(predictor.parameters(), None) if isinstance(predictor, nn.Module) else None
        device = parameter.device if parameter is not None else "cpu"
        return (saving.restore(given, predictor, None)[0] if isinstance(given, str) else given).to(device)
    name = str(given) if isinstance(given, (str, Path)) else ""
    if name:
        given = saving.restore(given, predictor, None)[0]
    if not isinstance(given, Canonicalizer):
        came = type(given).__name__
        raise TypeError(f"canonicalizer is a Canonicalizer, such as {make.__name__}({group.name!r}), or a name; got a {came}")
    if given.group != group:
        other = ready.default(group.name)
        way_out = f"adapt to {given.group.name!r}" + (f", or take {other!r}" if other else f", or fit one for {group.name}")
        way_out += given.fitted_on and f"; {given.fitted_on}"
        raise ValueError(f"the canonicalizer {name}".rstrip() + f" is for {given.group.name}, not for {group.name}: {way_out}")
    return given


def _check_order(each: Sequence[Any], factors: Sequence[Group]) -> None:
    """Raise ValueError where the canonicalizers of a product come in another order than its factors."""
    came = [one.group if isinstance(one, Canonicalizer) else None for one in each]
    wrong = [(one, factor) for one, factor in zip(came, factors, strict=True) if one is not None and one != factor]
    if wrong and all(one in factors for one, _ in wrong):
        names, given = (" and ".join(one.name for one in some) for some in (factors, [one for one in came if one is not None]))
        raise ValueError(f"canonicalizers of a product come in the order of its factors, {names}; got those for {given}")


def _callable(predictor: Any) -> Callable[..., Any]:
    """The predictor; a pair as one. Raises TypeError where it cannot be called."""
    predictor = as_predictor(predictor)
    if not callable(predictor):
        raise TypeError(
            f"a predictor is a callable (a module, a function); got a {type(predictor).__name__}. Wrap another engine in a "
            "function, for example lambda x: session.run(None, {'x': x.numpy()})[0]"
        )
    return predictor


def _name(predictor: Any) -> str:
    return getattr(predictor, "__name__", type(predictor).__name__)


def load(
    path_or_repo: str | Path, predictor: Predictor, *, network: nn.Module | Sequence[nn.Module] | None = None
) -> Equivariant:
    """A saved model around its predictor: a ready-made one by its name, from a folder, or from a Hub repository (owner/name).

    Ready-made: "photos-c4", "photos-c4-small" and "photos-so2", for photos and any predictor of images whose class is known
    (for others `adapt(predictor, group, outputs=..., canonicalizer=name)`); "text-c4", for text in any quarter turn: the
    predictor takes a list of photos and gives for each a dict with `text`, `words` and `boxes` (k, 4), xyxy. A folder that
    happens to have such a name is a `Path`, or begins with "./". Nothing is unpickled.
    `network`: the module of a canonicalizer that was given its own; the saved weights are loaded into it. Of a cascade of two
    such canonicalizers: both modules, the quick one's first.
    Raises FileNotFoundError or ValueError naming what is missing, damaged or of another version.
    """
    single = _callable(predictor)
    canonicalizer, settings = saving.restore(path_or_repo, single, network)
    if settings["outputs"] is None:  # one for any predictor
        if known_kinds(single)[1] is None:
            name = canonicalizer.group.name
            raise ValueError(
                f"{path_or_repo} is for any predictor, and how the outputs of {_name(single)} move is not known: "
                f"adapt(predictor, {name!r}, outputs='logits', canonicalizer={str(path_or_repo)!r}), or another kind"
            )
        return adapt(single, canonicalizer.group, canonicalizer=canonicalizer)
    saved = settings["inputs"]
    of_pair = isinstance(saved, dict) and saved.get("images") == Rows(Kind("image"))
    if of_pair and "images" not in parameter_names(single, ()):
        raise ValueError(f"{path_or_repo} was saved of a pair: pass (processor, model); got {_name(single)} alone")
    try:
        return Equivariant(single, canonicalizer, **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path_or_repo}: config.json is damaged: {error}") from None
