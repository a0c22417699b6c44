"""What a model says of a turned photo, bare and adapted, in one form that can be drawn; and how both fare at all angles."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .._checks import reason
from ..batching.calls import fitting_kinds
from ..batching.lists import with_lists
from ..canonicalizers.poses import Pose
from ..equivariant import Equivariant
from ..geometry import nested
from ..geometry.arrays import as_tensor
from ..geometry.groups import PlaneGroup, inverse, turn
from ..geometry.kinds import Rows
from ..geometry.moving import act, unstacked
from ..images.files import Normalisation, normalised
from ..images.views import radius, squeezed
from ..predictors.pairs import PhotoPredictor
from .photos import SHOWN, turned

STEP = 15  # degrees between the angles of a curve
AT_ONCE = 6  # photos in a batch
LEAST = 0.5  # score of a box that is drawn
OVERLAP = 0.5  # of two boxes that are taken for one


class Setup(NamedTuple):
    """A model and how it is shown photos: the side of their squares, and what it wants instead of RGB in [0, 1]."""

    model: Equivariant
    title: str
    size: int
    normalisation: Normalisation | None = None
    names: Sequence[str] = ()

    @property
    def side(self) -> int:
        """Of the canvas that boxes and masks lie on. A pair with a processor is given photos as they are shown."""
        return SHOWN if isinstance(self.model.predictor, PhotoPredictor) else self.size


class Said(NamedTuple):
    """What was said of one photo: probabilities of classes, or boxes (xyxy), or a map of labels.

    `labels`: of each box; without boxes the names of the map's labels, from 0 on, where they are known.
    """

    classes: Float[Tensor, " k"] | None = None
    boxes: Float[Tensor, "n 4"] | None = None
    labels: Sequence[str] = ()
    mask: Tensor | None = None

    @property
    def sort(self) -> str:
        """What is drawn: "classes" as bars, "places" on the photo; "nothing" where there is neither."""
        if self.classes is not None:
            return "classes"
        return "nothing" if self.boxes is None and self.mask is None else "places"


class Compared(NamedTuple):
    """A turned photo, the pose that was found in it, its canonical form, and what the bare and the adapted model say."""

    view: Float[Tensor, "3 s s"]
    upright: Float[Tensor, "3 s s"]
    pose: Pose
    bare: Said
    adapted: Said


class Curves(NamedTuple):
    """How the bare and the adapted model fare by angle: values from 0 to 1, and what they are, in words."""

    degrees: list[int]
    bare: list[float]
    adapted: list[float]
    title: str


@torch.no_grad()
def first_answer(setup: Setup) -> Said:
    """What the model says of a grey square. Raises ValueError where the page cannot turn for it, or draw what it says."""
    group = setup.model.group
    if not isinstance(group, PlaneGroup):
        raise ValueError(f"the page turns photos, which is not what {group.name} does: take an adapter for SO2, C4 or D4")
    try:
        (said,), _, _ = _both(setup, torch.full((1, 3, SHOWN, SHOWN), 0.5))
    except Exception as error:  # predictors raise whatever they like
        paired = isinstance(setup.model.predictor, PhotoPredictor)
        see = "without more; a FILE.py:FUNCTION of yours can give it more" if paired else "see --size"
        side = f"{setup.side} x {setup.side}"
        raise ValueError(f"{setup.title} fails on a photo of {side} pixels ({see}): {reason(error)}") from error
    if said.sort == "nothing" and setup.model.predictor is not nothing:
        raise ValueError(
            f"{setup.title} answers with nothing that can be drawn, outputs that move as {setup.model.outputs!r}: the page "
            "shows 'logits' as bars, and draws 'mask' and {'boxes': 'boxes', 'labels': 'invariant', 'scores': 'invariant'}; "
            "a FILE.py:FUNCTION of yours can bring the answer to one of these forms"
        )
    return said


def nothing(images: Tensor) -> Tensor:
    """The predictor of a page without one, which shows the pose alone."""
    return images.new_zeros(len(images))


@torch.no_grad()
def compared(setup: Setup, photo: Float[Tensor, "3 s s"], degrees: float) -> Compared:
    """Everything that the page shows of a photo at one angle."""
    view = turned(photo, [degrees])
    bare, adapted, pose = _both(setup, view)
    return Compared(view[0], act(inverse(pose.g.cpu()), view)[0], pose, bare[0], adapted[0])


@torch.no_grad()
def by_angle(setup: Setup, photo: Float[Tensor, "3 s s"]) -> Curves:
    """The answers at all angles beside that of the bare model for the upright photo."""
    degrees = list(range(0, 360, STEP))
    reference = _both(setup, turned(photo, [0]))[0][0]
    bare, adapted = [], []
    for some in (degrees[i : i + AT_ONCE] for i in range(0, len(degrees), AT_ONCE)):
        ours = _both(setup, turned(photo, some))
        for angle, one, other, g in zip(some, ours[0], ours[1], ours[2].g.cpu(), strict=True):
            if reference.sort == "nothing":
                bare.append(_near(setup, angle, torch.eye(3)))
                adapted.append(_near(setup, angle, g))
            else:
                bare.append(agreement(one, reference, angle, setup.side))
                adapted.append(agreement(other, reference, angle, setup.side))
    return Curves(degrees, bare, adapted, _title(setup, reference))


def _title(setup: Setup, reference: Said) -> str:
    if reference.classes is not None:
        name = name_of(setup.names, int(reference.classes.argmax()))
        return f"probability of the upright answer, “{name}”"
    return "how near the found turn is to the true one" if reference.sort == "nothing" else "agreement with the upright answer"


def _near(setup: Setup, degrees: float, g: Tensor) -> float:
    """1 where the turn is g, 0 where it is half a turn away."""
    true = turn(torch.tensor([degrees * torch.pi / 180]))[0]
    return max(0.0, 1 - float(PlaneGroup.distance(true, g.to(true))) / torch.pi)


def agreement(said: Said, reference: Said, degrees: float, side: int) -> float:
    """0 to 1: the probability of the reference's class; else how well boxes or masks lie where its own have moved to."""
    if reference.classes is not None and said.classes is not None:
        return float(said.classes[reference.classes.argmax()])
    g = turn(torch.tensor([degrees * torch.pi / 180]))
    if reference.boxes is not None and said.boxes is not None:
        around = act(g, reference.boxes[None], "boxes", (side, side))[0]
        return matched(said, reference._replace(boxes=around), _tight(g[0], reference.boxes, around))
    assert reference.mask is not None  # the sort was checked
    assert said.mask is not None
    side = said.mask.shape[-1]  # which may be smaller than the photo's
    inside = radius(side) < side / 2
    return mean_overlap(said.mask[inside], act(g, reference.mask[None], "mask")[0][inside])


def _tight(g: Tensor, boxes: Tensor, around: Tensor) -> Tensor:
    """The boxes of what fills these boxes like an ellipse, moved by g; `around` are those of the moved corners, and larger.

    What a detector finds tight around a turned thing lies between the two. At quarter turns they are the same.
    """
    centre, half = (around[:, :2] + around[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = (half.square() @ g[:2, :2].T.square().to(half)).sqrt()
    return torch.cat((centre - half, centre + half), 1)


def matched(said: Said, reference: Said, tight: Tensor | None = None) -> float:
    """Twice the boxes that lie on one of the same label, over all boxes of both (F1); 1 where neither has any.

    `tight`: a second form of each box of the reference, on which one may lie as well.
    """
    assert said.boxes is not None
    assert reference.boxes is not None
    forms = (reference.boxes,) if tight is None else (reference.boxes, tight)
    left = list(range(len(reference.boxes)))
    total, hits = len(said.boxes) + len(left), 0
    for box, label in zip(said.boxes, said.labels, strict=True):
        near = [i for i in left if reference.labels[i] == label and max(_overlap(box, form[i]) for form in forms) >= OVERLAP]
        left = [i for i in left if i not in near[:1]]
        hits += bool(near)
    return 2 * hits / total if total else 1.0


def _overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two boxes."""
    size = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return float(size / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - size).clamp(min=1e-6))


def mean_overlap(labels: Tensor, reference: Tensor) -> float:
    """The mean over the labels of the reference of intersection over union."""
    each = [(labels == label, reference == label) for label in reference.unique()]
    return sum(float((a & b).sum() / (a | b).sum()) for a, b in each) / max(1, len(each))


# ----------------------------------------------------------------------------------------------------- asking, reading


def takes_lists(model: Equivariant) -> bool:
    """Whether the predictor takes a list of photos, as torchvision's detectors do."""
    return isinstance(fitting_kinds(model.inputs, torch.zeros(1, 3, 1, 1)), Rows)


def _both(setup: Setup, views: Tensor) -> tuple[list[Said], list[Said], Pose]:
    seen, n = _seen(setup, views), len(views)
    answer, pose = setup.model.predict(seen)
    return _said(setup, setup.model.predictor(seen), n), _said(setup, answer, n), pose


def _seen(setup: Setup, views: Tensor) -> Any:
    """The photos as the predictor takes them."""
    device = setup.model.canonicalizer.device
    if isinstance(setup.model.predictor, PhotoPredictor):
        return list((views * 255).round().byte())
    views = views if setup.size == SHOWN else squeezed(views, (setup.size, setup.size)).float()
    views = normalised(views, setup.normalisation).to(device)
    return unstacked(views, fitting_kinds(setup.model.inputs, views))


def _said(setup: Setup, answer: Any, n: int) -> list[Said]:
    """What an answer says of each of n photos."""
    kinds = setup.model.outputs
    if isinstance(answer, list):
        kinds = with_lists(kinds, [answer], [n], "output", listed=True)
    rows: list[list[tuple[Any, Any, str]]] = [[] for _ in range(n)]
    for kind, leaf, path in nested.leaves(kinds, answer, "output"):
        if isinstance(kind, Rows):
            for row, entry in zip(rows, leaf, strict=True):
                row += nested.leaves(kind.kinds, entry, path)
            continue
        leaf = as_tensor(leaf)
        if isinstance(leaf, Tensor) and kind.axis is not None and leaf.ndim > kind.axis and leaf.shape[kind.axis] == n:
            for row, entry in zip(rows, leaf.movedim(kind.axis, 0), strict=True):
                row.append((kind, entry, path))
    return [_read(row, setup.names) for row in rows]


def _read(leaves: Sequence[tuple[Any, Any, str]], names: Sequence[str]) -> Said:
    """The first leaf of each sort: logits, boxes, with the labels and scores beside them, a mask."""
    leaves = [(k, as_tensor(leaf).detach().cpu() if hasattr(leaf, "__array__") else leaf, path) for k, leaf, path in leaves]
    logits = next((leaf for kind, leaf, _ in leaves if kind.name == "logits" and leaf.ndim == 1 and leaf.numel()), None)
    if logits is not None:
        kind = next(kind for kind, leaf, _ in leaves if leaf is logits)
        return Said(classes=_probabilities(logits.float(), kind.averaging == "sigmoid"))
    boxes = next((leaf.float() for kind, leaf, _ in leaves if repr(kind) == "'boxes'" and leaf.ndim == 2), None)
    mask = next((leaf for kind, leaf, _ in leaves if kind.name == "mask" and leaf.ndim in (2, 3)), None)
    if boxes is None:
        return Said(mask=None if mask is None else _labels(mask), labels=names)
    fields = _fields(leaves)
    scores = fields.get("scores", torch.ones(len(boxes)))
    labels = fields.get("text_labels", fields.get("labels", [""] * len(boxes)))
    labels = [label if isinstance(label, str) else name_of(names, int(label)) for label in labels]
    kept = [i for i in range(len(boxes)) if float(scores[i]) >= LEAST]
    mask = mask[kept] if mask is not None and mask.ndim == 3 and len(mask) == len(boxes) else None
    return Said(boxes=boxes[kept], labels=[labels[i] for i in kept], mask=None if mask is None else _instances(mask))


def _fields(leaves: Sequence[tuple[Any, Any, str]]) -> dict[str, Any]:
    """The leaves by their names: tensors, and of lists of numbers or words the list, whose entries are leaves."""
    found: dict[str, Any] = {}
    for _, leaf, path in leaves:
        name = re.findall(r"[a-zA-Z_]\w*", path)[-1]
        if isinstance(leaf, Tensor) and leaf.ndim:
            found[name] = leaf
        else:
            found.setdefault(name, []).append(leaf)
    return found


def _probabilities(logits: Tensor, sigmoid: bool) -> Tensor:
    """One logit is yes or no."""
    if len(logits) == 1:
        return torch.stack([1 - logits[0].sigmoid(), logits[0].sigmoid()])
    return logits.sigmoid() if sigmoid else logits.softmax(0)


def _labels(mask: Tensor) -> Tensor:
    """A map of labels (h, w): from labels, from one map of scores for each, or from shares or logits of yes."""
    if mask.ndim == 3:
        return mask.argmax(0) if len(mask) > 1 else _labels(mask[0])
    if not mask.dtype.is_floating_point:
        return mask.long()
    return (mask > (0.5 if mask.min() >= 0 and mask.max() <= 1 else 0)).long()


def _instances(masks: Tensor) -> Tensor | None:
    """One map of labels 1, 2, ... from a mask for each box."""
    return None if not len(masks) else torch.stack([(mask > 0.5) * (i + 1) for i, mask in enumerate(masks)]).amax(0).long()


def name_of(names: Sequence[str], index: int) -> str:
    """The class in words, or its number where there are none."""
    return names[index] if 0 <= index < len(names) else f"class {index}"
