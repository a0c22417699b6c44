"""A whole adapted model, or a canonicalizer alone, as one graph in a file: ONNX, or torch's own .pt2."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._checks import reason
from ._files import replaced
from ._optional import optional
from .batching.calls import kinds_by_name, parameter_names
from .canonicalizers.base import Canonicalizer
from .canonicalizers.images import ImageCanonicalizer
from .equivariant import Equivariant
from .geometry import nested
from .geometry.arrays import as_tensor
from .geometry.groups import Group
from .geometry.kinds import Kind
from .geometry.moving import act, first_image

FORMATS = (".onnx", ".pt2")
TOLERANCE = 1e-5  # a difference from the model's answers, as a share of the largest of them
# of continuous poses, which the rounding of another engine turns by up to 1e-5: a thousandth of a pixel at the edge
CONTINUOUS = 1e-3
NOISY = ("onnx._internal.exporter._registration", "fx.experimental.symbolic_shapes")  # loggers of torch
TRACED, CHECKED = 2, 3  # rows: a graph that keeps the number of one fails with the other
BY_THE_DATA = ("tiles", "energy", "cascade", "seam", "polyphase")  # canonicalizers without a graph
POSE = ("index", "probabilities", "g")  # what the graph of a canonicalizer gives


class Call(NamedTuple):
    """The arguments of a call by name, each a tensor, with their kinds. `by_name`: it is called so."""

    values: dict[str, Tensor]
    kinds: dict[str, Any]
    by_name: bool

    @classmethod
    def of(cls, model: Equivariant | Canonicalizer, example: Any) -> "Call":
        """Raises TypeError or ValueError for what is no batch of square images with tensors beside it."""
        by_name = isinstance(example, Mapping)
        if isinstance(model, Equivariant):
            args = () if by_name else example if isinstance(example, tuple) else (example,)
            names = list(example) if by_name else parameter_names(model.predictor, args)
            given = dict(example) if by_name else dict(zip(names, args, strict=False))
            kinds = kinds_by_name(model.inputs, names, given)
        else:
            given, kinds = {"images": example}, {"images": Kind("image")}
        for name, value in given.items():
            if not hasattr(value, "__array__"):
                came = f"a {type(value).__name__}"
                raise TypeError(f"the example's {name!r} is {came}; a graph takes tensors: batches of images of one size")
        call = cls({name: as_tensor(value) for name, value in given.items()}, kinds, by_name)
        shape = call.images.shape
        if len(shape) != 4 or shape[2] != shape[3] or not shape[0]:
            way_out = "resize or pad them before the model, as its predictor wants them"
            raise ValueError(
                f"an example is a batch of square images (b, channels, side, side), whose turns have one canvas; got "
                f"{tuple(shape)}: {way_out}"
            )
        return call

    @property
    def images(self) -> Tensor:
        return first_image(list(self.values.values()), [self.kinds.get(name, Kind("invariant")) for name in self.values])

    def by_row(self, name: str) -> bool:
        """Whether an argument has an entry for each row."""
        kind, value = self.kinds.get(name), self.values[name]
        return isinstance(kind, Kind) and kind.axis == 0 and value.ndim > 0 and value.shape[0] == self.images.shape[0]

    def turned(self, group: Group, rows: int) -> tuple[Tensor, ...]:
        """So many rows of the example, each moved by an element of the group drawn at random."""
        g = group.random(rows, torch.Generator().manual_seed(rows)).to(self.images.device)
        which = torch.arange(rows) % self.images.shape[0]
        moved = {name: value[which] if self.by_row(name) else value for name, value in self.values.items()}
        known = {name: moved[name] for name in self.kinds}
        moved |= act(g, known, self.kinds, tuple(self.images.shape[2:]))
        return tuple(moved.values())


class Graph(nn.Module):
    """The model, called with the tensors of a call in their order."""

    def __init__(self, model: Equivariant | Canonicalizer, call: Call):
        super().__init__()
        self.model, self.keys = model, list(call.values) if call.by_name else None

    def forward(self, *args: Tensor) -> Any:
        if isinstance(self.model, Equivariant):
            return self.model(*args) if self.keys is None else self.model(**dict(zip(self.keys, args, strict=True)))
        pose = self.model(*args)
        return {name: getattr(pose, name) for name in POSE}


def export(model: Equivariant | Canonicalizer, path: str | Path, example: Any) -> Path:
    """Write an adapted model, or its canonicalizer alone, as one graph for any number of rows. Returns the path.

    path: ends in .onnx (ONNX, for onnxruntime and others) or .pt2 (for `torch.export.load`). example: what the model is called
    with: a batch of square images (b, c, s, s), a tuple of arguments, or a dict of them by name; the graph is for that size.
    That of a canonicalizer gives three tensors: `index` (b,) of the likeliest element, `probabilities` (b, n) and `g`
    (b, 3, 3), the pose.

    Before the file is there it has answered a batch of the example's images, turned at random, as the model does: the numbers
    that are whole alike, others within 1e-5 of the largest of them (1e-3 for continuous groups, whose poses lie between any
    two, and so move with the rounding of the engine).

    Raises ValueError for what has no such graph (answers from several poses, lists, canvases that are not square, predictors
    that are no torch), with the reason and the way out, and where answers differ; then nothing is written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"the name of an export ends in {' or '.join(FORMATS)}; got {path}")
    _check(model)
    call = Call.of(model, example)
    graph = Graph(model, call).eval()
    with torch.no_grad(), _quiet():
        batch = call.turned(model.group, CHECKED)
        expected = _named(graph(*batch))
        program = _traced(graph, call)
        with replaced(path) as scratch:
            if path.suffix.lower() == ".onnx":
                found = _through_onnx(program, scratch, list(call.values), list(expected), batch)
            else:
                torch.export.save(program, scratch)
                found = _named(program.module()(*batch))
            _compare(path.name, found, expected, CONTINUOUS if model.group.order is None else TOLERANCE)
    return path


def _check(model: Any) -> None:
    """Raise TypeError or ValueError for a model that has no graph."""
    if not isinstance(model, (Equivariant, Canonicalizer)):
        raise TypeError(f"export takes an adapted model, or a canonicalizer; got a {type(model).__name__}")
    canonicalizer = model.canonicalizer if isinstance(model, Equivariant) else model
    if not isinstance(canonicalizer, ImageCanonicalizer):
        raise ValueError(f"models of images are exported; the {canonicalizer.name} canonicalizer looks at none")
    if canonicalizer.name in BY_THE_DATA:
        raise ValueError(
            f"the {canonicalizer.name} canonicalizer decides by the data how much it computes, and has no graph; orbit, ring "
            "and group-conv canonicalizers have one, such as photos-c4 and photos-so2"
        )
    if model.group.resizes:
        raise ValueError(f"{model.group.name} resizes, by as much as the data say: such a graph is not exported; turns are")
    if isinstance(model, Equivariant) and model.averages:
        asked = f"top_k={model.top_k}" if model.coverage is None else f"coverage={model.coverage}"
        raise ValueError(
            f"{asked} runs the predictor as often as the data say, and a graph once: export the model with one pose, "
            "adapt(predictor, group, canonicalizer=model.canonicalizer)"
        )
    if isinstance(model, Equivariant) and not isinstance(model.predictor, nn.Module):
        came = type(model.predictor).__name__
        raise ValueError(
            f"the predictor is a {came} and no torch module, so that it cannot become a part of a graph: export the "
            "canonicalizer alone, export(model.canonicalizer, ...)"
        )
    canonicalizer.warn_untrained()


def _traced(graph: Graph, call: Call) -> torch.export.ExportedProgram:
    example = call.turned(graph.model.group, TRACED)
    rows = tuple({0: torch.export.Dim.DYNAMIC} if call.by_row(name) else None for name in call.values)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where it prints the whole graph of what it cannot do
            return torch.export.export(graph, example, dynamic_shapes=(rows,), strict=False)
    except Exception as error:  # of many kinds, from whatever the graph goes through
        came = reason(error)
        if "specialized it to be a constant" in came:
            raise ValueError("the predictor keeps the number of rows that it was shown, and no graph for others") from error
        raise ValueError(
            f"there is no graph of this model: {came[:300]}. Graphs are for modules that torch.export takes, with the orbit, "
            "ring and group-conv canonicalizers"
        ) from error


def _through_onnx(
    program: torch.export.ExportedProgram, scratch: Path, inputs: list[str], outputs: list[str], batch: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """What onnxruntime answers to the batch, once the graph is written."""
    for package in ("onnx", "onnxscript"):
        optional(package, "onnx")
    runtime = optional("onnxruntime", "onnx")
    # names that the graph has for other things are changed in silence
    written = torch.onnx.export(program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False)
    if written is None:
        raise RuntimeError("torch.onnx gave no program")
    written.save(scratch)
    try:
        session = runtime.InferenceSession(str(scratch), providers=["CPUExecutionProvider"])
        fed = {slot.name: value.cpu().numpy() for slot, value in zip(session.get_inputs(), batch, strict=True)}
        answers = session.run(None, fed)
    except Exception as error:  # onnxruntime has its own kinds, without a base that is public
        raise ValueError(f"onnxruntime does not run this graph: {reason(error)[:300]}; .pt2 is for torch") from error
    return dict(zip(outputs, map(torch.from_numpy, answers), strict=True))


def _named(answer: Any) -> dict[str, Tensor]:
    """The tensors of an answer by name, "output" where there is one alone."""
    found = nested.leaves(None, answer, "output")
    if any(not isinstance(leaf, Tensor) for _, leaf, _ in found):
        came = ", ".join(sorted({type(leaf).__name__ for _, leaf, _ in found if not isinstance(leaf, Tensor)}))
        raise ValueError(f"a graph gives tensors; the predictor answers with {came} too: wrap it to leave that out")
    return {path.replace("output['", "").replace("']", "").replace("['", "."): leaf for _, leaf, path in found}


def _compare(name: str, found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Raise ValueError where answers differ."""
    for key, wanted in expected.items():
        got = found[key].to(wanted.device)
        if got.shape != wanted.shape:
            raise ValueError(f"{name}: {key} has shape {tuple(got.shape)}, the model's {tuple(wanted.shape)}: not written")
        if not wanted.dtype.is_floating_point:
            apart, allowed = float((got != wanted).any()), 0.0
        else:
            apart = float((got.double() - wanted.double()).abs().max()) if got.numel() else 0.0
            allowed = tolerance * max(1.0, float(wanted.abs().max()) if got.numel() else 0.0)
        if not apart <= allowed:
            raise ValueError(
                f"{name}: {key} differs from the model's by {apart:.2g}, more than {allowed:.2g}: not written. Where two "
                "poses are as likely, another example may help; in training mode answers are random: predictor.eval()"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on packages that are not there, on symbols of theirs and on their own future."""
    logs = [logging.getLogger(f"torch.{name}") for name in NOISY]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            # torch.export.save on constants that are views, of which it keeps what they show
            warnings.filterwarnings("ignore", message="No complete tensor found in the group")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
