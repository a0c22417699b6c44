"""Measuring a model over the orbit of its data: the metric on every element, pose accuracy, equivariance error, cost."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import testing
from .._checks import named
from ..batching.calls import arguments, fitting_kinds, invoke, seen_cloud, target_kinds, to_device
from ..canonicalizers.energy import EnergyCanonicalizer
from ..canonicalizers.poses import Pose
from ..canonicalizers.principal_axes import PrincipalAxesCanonicalizer
from ..canonicalizers.uniform import UniformCanonicalizer
from ..equivariant import Equivariant
from ..evaluation import metrics
from ..geometry import kinds, nested
from ..geometry.groups import PROTOCOLS, Cyclic, Dihedral, Group, PlaneGroup, inverse, protocol, turn
from ..geometry.kinds import Kind, are_sigmoids, as_kinds, looked_at
from ..geometry.moving import act, first_image, image_sizes, precision, unstacked
from ..learning.data import batches
from .confidence import Confidence
from .frames import FRAMES, check_frame, framed
from .report import OrbitReport
from .resampling import with_intervals
from .results import Method, Sample, picture

BASELINES = ("bare", "orbit averaging", "training-free")
NUM_SAMPLES_SHOWN = 8
MIN_TIMINGS = 5
NUM_DRAWN = 15  # elements of a continuous group of space, beside the identity
NUM_ANGLES = 24  # of SO2 and O2: steps of 15 degrees
WITHIN = 10.0  # degrees by which the pose of a continuous group may be off


def evaluate(
    model: Equivariant,
    data: Any,
    *,
    metric: str | Callable[[Any, Any], Any] = "accuracy",
    targets: Any = None,
    group: str | Group | Sequence[float] | None = None,
    frame: str = FRAMES[0],
    baselines: Sequence[str] = (),
    others: Mapping[str, Callable[..., Any]] | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> OrbitReport:
    """Measure `model` on upright labelled data moved by every element of `group`.

    data: (inputs, targets) tensors or lists, a Dataset or a DataLoader of such pairs; inputs may be tuples or dicts of
    arguments, and targets move as the outputs do, or as `targets` says. Where the model takes a list with an entry per row
    (photos of many sizes), batches are lists. metric: a name of `metrics.METRICS`, such as
    "accuracy", "miou" or "box_map", a torchmetrics Metric, or a callable (output, target) -> mean over the batch; the greater
    the better, unless its attribute `higher_is_better` is False. group: a group or its name, or a list of angles in degrees; by
    default the group of the model. SO2 and O2 are measured in steps of 15 degrees, their poses found within 10. Of a continuous
    group of space come the upright pose and 15 elements drawn with a seed, which alone count for the mean. Clouds: a group of
    space, or a protocol, "z/z", "z/SO3" or "SO3/SO3", whose second part says how the data are turned here.

    frame: "inside", as papers do: images are turned inside their own canvas, and lose their corners at angles between quarter
    turns. "crop": every image, the upright one too, is the largest central square that lies inside the photo at every angle
    (1/sqrt(2) of its shorter side), so that no corner is missing and the size is the same; for answers that do not move.

    baselines: rows of the same table, "bare" (the predictor), "orbit averaging" (|G| passes), "training-free" (the predictor's
    own confidence), of SO2 and O2 both over 16 turns; of clouds: frame averaging, and principal axes. others: more models by
    name, such as the same with top_k=2.

    The interval of a mean, and of what the adapted model gains over each other method, is one of 95 % from drawing the inputs
    again (a bootstrap); of metrics by name, not of those of torchmetrics and of functions.

    Times are medians of ratios to the bare predictor on the same upright batch, interleaved. The equivariance error is the
    greatest absolute difference between f(g.x) and g.f(x), of probabilities for logits.
    Raises ValueError or TypeError where the data, the metric or a baseline is not known or does not fit.
    """
    if not isinstance(model, Equivariant):
        raise TypeError(f"model is what equiform.adapt returns; got a {type(model).__name__}")
    frame = named("frame", frame, FRAMES)
    check_frame(frame, model, targets)
    elements, name, mean_from = _elements(model, group)
    loader = _loader(data, model, batch_size)
    methods = {"adapted": model} | _baselines(model, baselines) | dict(others or {})
    tallies = [_Tally(label, method, elements, metric, model, targets, frame) for label, method in methods.items()]
    clock = _Clock()
    samples: list[Sample] = []
    num_samples, x = 0, None
    with evaluating(methods.values()), torch.no_grad():
        for batch in _progress(loader, progress):
            x, target = _pair(batch)
            x = prepared(x, model)
            target = to_device(target, model.canonicalizer.device)
            samples = samples or _samples(model, x, elements, frame)
            num_rows = [tally.add(x, target) for tally in tallies]
            num_samples += num_rows[0]
            x = framed(x, fitting_kinds(model.inputs, x), frame)
            clock.measure(methods, model.predictor, x)
        if num_samples == 0:
            raise ValueError("there is nothing in the evaluation data")
        while clock.rounds < MIN_TIMINGS:
            clock.measure(methods, model.predictor, x)
    rows = [tally.method(clock.ratio(tally.name), mean_from) for tally in tallies]
    rows = with_intervals(rows, [tally.metrics[mean_from:] for tally in tallies])
    angles, flips = model.group.angles(elements)
    labels = [model.group.label(element) for element in elements]
    within = WITHIN if _is_any_angle(model.group) else None
    return OrbitReport(metrics.name(metric), name, labels, angles, flips, num_samples, rows, samples, frame, within)


# ------------------------------------------------------------------------------------------------ what is evaluated


def _elements(model: Equivariant, which: str | Group | Sequence[float] | None) -> tuple[Tensor, str, int]:
    """The elements, the name of all of them, and where those begin that the mean is over."""
    if which is None:
        which = model.group
    if model.group.dim == 3 and not isinstance(which, (str, Group)):
        what = (
            "volumes are turned by a group of space, such as O"
            if looked_at(model.inputs) == "volume"
            else (f"clouds are turned by a group of space or a protocol ({', '.join(PROTOCOLS)})")
        )
        raise ValueError(f"{what}; got {which!r}")
    if isinstance(which, (str, Group)):
        chosen = protocol(which, 1)
        if chosen.dim != model.group.dim:
            raise ValueError(
                f"the model is equivariant to {model.group.name}, in {model.group.dim} dimensions; got {chosen.name}"
            )
        if _is_any_angle(chosen):
            steps = Dihedral(NUM_ANGLES) if chosen.reflections else Cyclic(NUM_ANGLES)
            return steps.elements, chosen.name, 0
        sampled = chosen.sample(NUM_DRAWN)
        if chosen.order is not None:
            return sampled, chosen.name, 0
        return torch.cat([chosen.identity().to(sampled), sampled]), chosen.name, 1
    angles = torch.as_tensor(list(which), dtype=torch.float64)
    if angles.ndim != 1 or len(angles) == 0 or not bool(angles.isfinite().all()):
        raise ValueError(f"group is a group, its name or a list of angles in degrees; got {which!r}")
    return turn(torch.deg2rad(angles)), "angles", 0


def _is_any_angle(group: Group) -> bool:
    """Whether it is SO2 or O2."""
    return group.dim == 2 and group.order is None


def _loader(data: Any, model: Equivariant, batch_size: int) -> Iterable[Any]:
    pair = is_pair(data)
    if pair and len(data[0]) != len(data[1]):
        raise ValueError(f"{len(data[0])} inputs and {len(data[1])} targets: one target per input is expected")
    if not pair and not isinstance(data, (Dataset, DataLoader)):
        came = f"got a {type(data).__name__}"
        if isinstance(data, (tuple, list)) and data:
            came += f" of {' and '.join(f'a {type(part).__name__}' for part in data[:3])}"
        raise TypeError(f"data is (inputs, targets) tensors or lists, a Dataset or a DataLoader of such pairs; {came}")
    # the photos of a batch are a list, and so are their targets, as they may differ in size and number
    return batches(data, model.inputs, batch_size, lists=hasattr(model.predictor, "read_photos"))


def is_pair(data: Any) -> bool:
    """Whether it is (inputs, targets), tensors or lists."""
    several = isinstance(data, (tuple, list)) and len(data) == 2
    return several and all(isinstance(part, (Tensor, np.ndarray, list)) for part in data)


def prepared(x: Any, model: Equivariant) -> Any:
    """The inputs of a batch of data as the predictor takes them, on the device of the model."""
    x = getattr(model.predictor, "read_photos", as_it_is)(arguments(x, model.inputs))
    return to_device(unstacked(x, fitting_kinds(model.inputs, x)), model.canonicalizer.device)


def as_it_is(batch: Any) -> Any:
    return batch


def _baselines(model: Equivariant, names: Sequence[str]) -> dict[str, Callable[..., Any]]:
    def around(canonicalizer: Any, top_k: int = 1) -> Equivariant:
        canonicalizer = canonicalizer.to(model.canonicalizer.device)
        return Equivariant(model.predictor, canonicalizer, model.inputs, model.outputs, top_k)

    if isinstance(names, str):
        raise TypeError(f"baselines is a list of names; got {names!r}: baselines=[{names!r}]")
    made: dict[str, Callable[..., Any]] = {}
    found_in_points = model.group.dim == 3 and model.group.order is None
    group = model.group.finite if _is_any_angle(model.group) else model.group
    for name in dict.fromkeys(named("baseline", name, BASELINES) for name in names):
        if name == "bare":
            made[name] = model.predictor
        elif name == "orbit averaging" and found_in_points:
            frames = PrincipalAxesCanonicalizer(model.group, scores="equal")
            made[name] = around(frames, frames.num_poses)
        elif name == "training-free" and found_in_points:
            made[name] = around(PrincipalAxesCanonicalizer(model.group))
        elif name == "orbit averaging":
            uniform = UniformCanonicalizer(group)
            made[name] = around(uniform, uniform.num_poses)
        else:
            if model.group.dim == 3:
                raise ValueError(
                    f"the baseline training-free is for images and continuous groups; {model.group.name} is finite"
                )
            if isinstance(model.inputs, (Mapping, tuple, list)) and len(model.inputs) > 1:
                raise ValueError("the baseline training-free needs a predictor whose one argument is the image")
            sigmoid = are_sigmoids(model.outputs)
            made[name] = around(EnergyCanonicalizer(group, model.predictor, sigmoid=sigmoid))
    return made


@contextlib.contextmanager
def evaluating(methods: Iterable[Any]) -> Iterator[None]:
    """Everything in eval mode for the time being."""
    modules = {module for method in methods if isinstance(method, nn.Module) for module in method.modules()}
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _progress(loader: Iterable[Any], show: bool) -> Iterable[Any]:
    if not show:
        return loader
    from rich.progress import track

    return track(loader, "evaluating", transient=True)


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(f"evaluation data are (inputs, targets) pairs; got a {type(batch).__name__}")
    return batch[0], batch[1]


class _Tally:
    """One method's metric on every element, and its pose accuracy, equivariance error and passes."""

    def __init__(self, name: str, model: Any, elements: Tensor, metric: Any, reference: Equivariant, targets: Any, frame: str):
        self.name, self.model, self.reference, self.frame = name, model, reference, frame
        self.elements, self.device = elements, reference.canonicalizer.device
        self.targets = None if targets is None else as_kinds(targets, reference.group)
        self.metrics = [metrics.make(metric, reference.outputs, self.targets) for _ in elements]
        self.error: float | None = None
        self.passes = self.num_answers = 0
        self.right: list[Tensor] = []
        self.confidence: list[Tensor] = []

    def add(self, x: Any, target: Any) -> int:
        """Take a batch in; returns its number of rows."""
        inputs = fitting_kinds(self.reference.inputs, x)
        cloud = seen_cloud(x, inputs) if looked_at(self.reference.inputs) == "points" else None
        sizes = image_sizes(x, inputs) or []
        b = len(sizes) if cloud is None else len(cloud)
        moving = self.targets
        if moving is None:
            moving = target_kinds(self.reference.inputs, self.reference.outputs, target)
        elements = self.elements.to(self.device, precision(x))
        answers = [
            self._answer(framed(act(element[None], x, inputs), inputs, self.frame), element[None], b) for element in elements
        ]
        for element, output, metric in zip(elements, answers, self.metrics, strict=True):
            metric.update(output, act(element[None], target, moving, sizes, name="target"))
        identity = torch.eye(elements.shape[-1]).to(elements)
        upright = [i for i, element in enumerate(elements) if torch.equal(element, identity)]
        if upright:
            reference = answers[upright[0]]
        else:
            reference = invoke(self.model, self.reference.predictor, framed(x, inputs, self.frame))
        for element, output in zip(elements, answers, strict=True):
            self._compare(output, act(element[None], reference, self.reference.outputs, sizes))
        return b

    def _answer(self, moved: Any, g: Tensor, b: int) -> Any:
        self.num_answers += b
        if not isinstance(self.model, Equivariant):
            self.passes += b
            return invoke(self.model, self.reference.predictor, moved)
        output, pose = invoke(self.model.predict, self.reference.predictor, moved)
        self.passes += len(self.model.choose(pose).row)
        self.passes += b * self.model.canonicalizer.predictor_passes
        # elsewhere no pose is right; of frames, which differ by what the prior leaves open, none is known to be
        group = self.model.group
        estimates = self.model.canonicalizer.estimates and (group.order is not None or _is_any_angle(group))
        if estimates and float((group.nearest(g) - g).abs().max()) < 1e-3:
            self.right.append(_found(group, pose, g).cpu())
            self.confidence.append(pose.confidence.float().cpu())
        return output

    def _compare(self, output: Any, expected: Any) -> None:
        outputs = self.reference.outputs
        difference = testing.difference(_probabilities(output, outputs), _probabilities(expected, outputs), outputs)
        self.error = max(self.error or 0.0, difference)

    def method(self, ratio: float, mean_from: int) -> Method:
        """The row of the table."""
        canonicalizer = self.model.canonicalizer if isinstance(self.model, Equivariant) else None
        right = torch.cat(self.right) if self.right else None
        return Method(
            name=self.name,
            values=[float(metric.compute()) for metric in self.metrics],
            pose_accuracy=None if right is None else float(right.double().mean()),
            equivariance_error=self.error,
            passes=self.passes / self.num_answers,
            time=ratio,
            parameters=_added_parameters(self.reference.predictor, canonicalizer),
            higher_is_better=metrics.is_better_higher(self.metrics[0]),
            mean_from=mean_from,
            confidence=None if right is None else Confidence.of(torch.cat(self.confidence), right),
        )


def _probabilities(output: Any, outputs: Any) -> Any:
    def leaf_probabilities(kind: kinds.Leaf, leaf: Any, path: str) -> Any:
        if not isinstance(kind, kinds.Kind) or kind.averaging not in ("softmax", "sigmoid"):
            return leaf
        x, axis = torch.as_tensor(leaf), 0 if kind.axis else -1
        alone = kind.averaging == "sigmoid" or x.ndim < 2 or x.shape[axis] == 1
        return x.sigmoid() if alone else x.softmax(axis)

    return nested.walk(leaf_probabilities, outputs, output, "output")


def _added_parameters(predictor: Any, canonicalizer: nn.Module | None) -> float | None:
    if not isinstance(predictor, nn.Module):
        return None
    own = sum(p.numel() for p in predictor.parameters())
    added = sum(p.numel() for p in canonicalizer.parameters()) if canonicalizer is not None else 0
    return added / own if own else None


class _Clock:
    """Seconds of every method and of the bare predictor, taken in turn on the same batches."""

    def __init__(self) -> None:
        self.rounds = 0
        self.seconds: dict[str | None, list[float]] = {}

    def measure(self, methods: Mapping[str, Any], predictor: Any, x: Any) -> None:
        for name, method in {None: predictor, **methods}.items():
            if method is predictor and name is not None:
                continue  # 1 by definition
            start = time.perf_counter()
            invoke(method, predictor, x)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        self.rounds += 1

    def ratio(self, name: str) -> float:
        """The median ratio, without the first round, which warms up."""
        if name not in self.seconds:
            return 1.0
        pairs = list(zip(self.seconds[name], self.seconds[None], strict=True))[1:]
        return statistics.median(method / bare for method, bare in pairs)


def _found(group: Group, pose: Pose, g: Tensor) -> Tensor:
    """Whether the pose of every row is g; of a continuous group within 10 degrees."""
    if group.order is None:
        return PlaneGroup.distance(pose.g, g.to(pose.g).expand_as(pose.g)) <= math.radians(WITHIN) + 1e-4
    return group.index(pose.g) == group.index(g)


def _samples(model: Equivariant, x: Any, elements: Tensor, frame: str) -> list[Sample]:
    """A few inputs, each moved by another element, with their canonical forms."""
    images = first_image(x, fitting_kinds(model.inputs, x))
    kind = as_kinds(looked_at(model.inputs), model.group)
    chosen: list[Sample] = []
    for i in range(min(NUM_SAMPLES_SHOWN, len(images) if images is not None else 0)):
        g = elements[i % len(elements)][None].to(model.canonicalizer.device, torch.get_default_dtype())
        image = act(g, images[i][None], kind)  # pyright: ignore[reportOptionalSubscript]  (the range is empty without images)
        image = framed(image, kind, frame)
        pose = model.pose(image)
        right = bool(_found(model.group, pose, g)[0])
        shown, canonical = (_drawn(y, kind) for y in (image, act(inverse(pose.g), image, kind)))
        label = model.group.label(elements[i % len(elements)])
        chosen.append(Sample(shown, canonical, label, float(pose.confidence[0]), right))
    return chosen


def _drawn(image: Tensor, kind: Kind) -> Tensor:
    """The picture of an image, of the first frame of a clip, or of a volume."""
    return picture(image if kind.name == "volume" else image.flatten(0, -4)[:1])
