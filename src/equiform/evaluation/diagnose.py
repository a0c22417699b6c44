"""Whether turning hurts a predictor on some data, whether the data have a pose, and what is worth doing about it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .._checks import MAX_SEED, check_positive, check_whole
from ..batching.answers import averaging
from ..batching.calls import fitting_kinds, inputs_of, invoke, is_row_list, target_kinds, to_device
from ..batching.lists import with_lists
from ..equivariant import Equivariant
from ..geometry import nested
from ..geometry.groups import O2, Cyclic, Dihedral, Group, PlaneGroup, inverse
from ..geometry.kinds import Per, Rows, as_kinds
from ..geometry.moving import act, first_image, image_sizes, precision
from ..geometry.owners import gathered, owned, owners_of, take
from ..images.clips import kind_of
from ..learning.data import Columns, batches
from . import metrics
from .agreement import same_answers
from .diagnosis import Diagnosis, Option, Turned, advised
from .evaluate import as_it_is, evaluate, evaluating, is_pair, prepared
from .significance import LEVEL, PoseTest, binomial_tail, pose_test, sign_test, untied

LOSS = 0.02  # of the metric as the data came, from which on it hurts
CHANGES = 0.05  # of the answers, which may change without harm
NEAR = 1e-3  # between elements that are the same
MOST = 16  # elements of the model's own group that are tried


def diagnose(
    model: Equivariant,
    data: Any,
    *,
    metric: str | Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
    num: int = 200,
    batch_size: int = 20,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Diagnosis:
    """Say whether turning hurts this predictor on these data, whether they have a pose, which group matters, and what to do.

    data: as `evaluate` takes them, of which the targets are used (metric: by default accuracy; `targets`: their kinds), or
    inputs alone, a tensor, a list, a Dataset or a DataLoader. `num` of them are drawn with the seed, in whole batches; a
    DataLoader and a stream are read from their beginning. Use inputs on which the canonicalizer was not fitted: it may know
    those by heart, as they came. About 8 passes of the predictor an input, and 3 for each element of the model's group (no pose
    and few elements: |G| more of each); off the grid the canonicalizer looks |G| times, of SO2 16. Answers are the same where
    the class is, or the rest within `tolerance`, see `same_answers`.

    An element *hurts* where the metric is worse by 2 % or more of what it was and the exact sign test finds p < 0.05 / number
    of elements; without targets, where more than 5 % of answers change, by an exact binomial test at that level. The data *have
    a pose* where the poses that the canonicalizer finds are not spread evenly over the group; see `PoseTest`. Elements: those
    of D4, and up to about 16 of the model's group.

    *Leave* the predictor where no element hurts. *Fit* a canonicalizer first where this one is not, or gains nothing. *Adapt*
    where the data have a pose, with the smallest of C1, C2, D1, C4, D4 and the model's group that undoes every element which
    hurts, up to one that does not. *Average* over the orbit where no pose is found: then no metric can fall, as every pose is
    in the data, and what counts is whether answers change. Photos turned at random are found to have no pose either, as if they
    were textures; with targets they are told apart, since there adapting gains more than averaging, by 2 % or more: adapt.
    *More data* where there are too few to find nothing: under 50 inputs for no harm, under 10 for each element for no pose.

    Raises ValueError or TypeError where data, metric or numbers do not fit, or the model is of clouds.
    """
    if not isinstance(model, Equivariant):
        raise TypeError(f"model is what equiform.adapt returns; got a {type(model).__name__}")
    if model.group.dim != 2:
        raise ValueError(f"diagnose is for images; {model.group.name} moves clouds and volumes: measure with equiform.evaluate")
    if model.group.resizes:
        raise ValueError(f"diagnose turns and flips images; {model.group.name} resizes them: measure it with equiform.evaluate")
    check_whole(num=num, batch_size=batch_size)
    check_whole(least=0, most=MAX_SEED, seed=seed)
    check_positive(tolerance=tolerance)
    drawn = _drawn(model, data, num, batch_size, seed)
    labelled = drawn[0].labelled
    if metric is not None and not labelled:
        raise ValueError(f"the metric {metrics.name(metric)} needs targets, and the data are inputs alone: leave it out")
    measure = ("accuracy" if metric is None else metric) if labelled else _agreement(model.outputs, tolerance)
    kinds = targets if labelled else model.outputs  # without targets the answer to the input as it came stands for one
    with evaluating([model]), torch.no_grad():
        pose, unasked = _pose(model, drawn, seed)
        elements = _elements(model.group)
        rows = [_rows(model, elements, batch, measure, kinds, tolerance) for batch in drawn]
    sign = 1 if metrics.is_better_higher(metrics.make(measure, model.outputs)) else -1
    turned = _turned(elements, rows, sign, labelled)
    no_pose = not unasked and pose is not None and not pose.found
    needed = _needed(model.group, elements, [one.changes if no_pose else one.hurts for one in turned])
    averaged = rows[0].averaged
    pairs = Columns([batch.x for batch in drawn], [row.target for row in rows])
    report = evaluate(
        model,
        DataLoader(pairs, batch_size=None, collate_fn=as_it_is),
        metric=measure,
        targets=kinds,
        baselines=["bare"] + ["orbit averaging"] * (no_pose and averaged and (model.group.order or math.inf) <= MOST),
    )
    bare, others = report["bare"].mean, [method for method in report.methods if method.name != "bare"]
    options = [Option(one.name, one.mean, sign * (one.mean - bare), one.passes, one.time) for one in others]
    upright = float(torch.cat([row.values[0] for row in rows]).nanmean())
    return Diagnosis(
        report.metric,
        report.num_samples,
        upright,
        turned,
        pose,
        unasked,
        needed.name,
        report.group,
        bare,
        options,
        *advised(pose, unasked, needed, options, averaged, report.num_samples, LOSS * abs(upright), labelled),
    )


class _Batch(NamedTuple):
    x: Any
    target: Any
    labelled: bool


def _drawn(model: Equivariant, data: Any, num: int, batch_size: int, seed: int) -> list[_Batch]:
    """At least `num` inputs where there are so many, as the predictor takes them."""
    lists = hasattr(model.predictor, "read_photos")
    if isinstance(data, (tuple, list)):
        pair = is_pair(data) and not is_row_list(data, model.inputs)
        data = Columns(*data) if pair else Columns(data) if isinstance(data, list) else data
    found, n = [], 0
    for batch in batches(data, model.inputs, min(batch_size, num), seed=seed, lists=lists):
        several = isinstance(batch, tuple) or (isinstance(batch, list) and not lists)
        labelled = several and len(batch) == 2 and not is_row_list(batch, model.inputs)
        alone = batch if lists and isinstance(batch, list) else inputs_of(batch, model.inputs)
        x, target = batch if labelled else (alone, None)
        x = prepared(x, model)
        found.append(_Batch(x, to_device(target, model.canonicalizer.device), labelled))
        n += len(image_sizes(x, fitting_kinds(model.inputs, x)) or [])
        if n >= num:
            break
    if n == 0:
        raise ValueError("there is nothing in the data")
    return found


def _agreement(outputs: Any, tolerance: float) -> Callable[[Any, Any], float]:
    def agreement(output: Any, target: Any) -> float:
        return float(same_answers(output, target, outputs, tolerance).double().mean())

    return agreement


def _pose(model: Equivariant, drawn: Sequence[_Batch], seed: int) -> tuple[PoseTest | None, str]:
    """The test, and why it says nothing where it does not."""
    canonicalizer, group = model.canonicalizer, model.group
    if canonicalizer.untrained:
        return None, "the canonicalizer is not fitted, so that its poses mean nothing"
    if not canonicalizer.estimates:
        return None, f"a canonicalizer of kind {canonicalizer.name} finds no poses"
    generator, confidence = torch.Generator().manual_seed(seed), []
    g: list[list[Tensor]] = [[] for _ in (group.finite.elements if not group.on_grid else range(1))]
    for batch in drawn:
        images = first_image(batch.x, fitting_kinds(model.inputs, batch.x))
        kind: Any = kind_of(images, group)
        kind = Rows(kind) if isinstance(images, list) else kind
        poses = [canonicalizer(images)]
        for element in group.finite.elements[1 : len(g)].to(canonicalizer.device):
            poses.append(canonicalizer(act(element[None], images, kind)))
        confidence.append(poses[0].confidence)
        for one, pose in zip(g, poses, strict=True):
            one.append(untied(pose, generator))
    test = pose_test(group, torch.stack([torch.cat(one) for one in g]), torch.cat(confidence), generator)
    rate = f"the test of it finds one in {test.false_positives:.0%} of data sets without a pose"
    return test, "" if test.trusted else rate


def _elements(own: Group) -> Tensor:
    """Those of D4, the identity first, and of the model's own group those that are others."""
    plain = Dihedral(4).sample()
    more = own.sample()[:: max(1, (own.order or MOST) // MOST)]
    return torch.cat([plain, more[(more[:, None] - plain).abs().amax((2, 3)).amin(1) > NEAR]])


class _Rows(NamedTuple):
    """Of one batch: the metric and whether the answer is the same, (elements, rows); the targets; whether answers average."""

    values: Tensor
    same: Tensor
    target: Any
    averaged: bool


def _rows(model: Equivariant, elements: Tensor, batch: _Batch, metric: Any, targets: Any, tolerance: float) -> _Rows:
    x, predictor, inputs = batch.x, model.predictor, fitting_kinds(model.inputs, batch.x)
    sizes, values, same = image_sizes(x, inputs) or [], [], []
    upright = invoke(predictor, predictor, x)
    outputs = with_lists(model.outputs, [upright], [len(sizes)], "output", isinstance(first_image(x, inputs), list))
    target = batch.target if batch.labelled else upright
    moving = target_kinds(model.inputs, outputs, target) if targets is None else as_kinds(targets, model.group)
    for g in elements.to(model.canonicalizer.device, precision(x))[:, None]:
        got = invoke(predictor, predictor, act(g, x, inputs))
        same.append(same_answers(got, act(g, upright, outputs, sizes, name="output"), outputs, tolerance))
        if batch.labelled:
            there, row_values = act(g, target, moving, sizes, name="target"), []
            for i in range(len(sizes)):
                one = metrics.make(metric, model.outputs, None if targets is None else moving)
                one.update(_row(got, outputs, i, len(sizes), "output"), _row(there, moving, i, len(sizes), "target"))
                row_values.append(float(one.compute()))
            values.append(torch.tensor(row_values, dtype=torch.float64))
    leaves = owned(nested.leaves(outputs, upright, "output"), owners_of([], len(sizes)))
    together = torch.stack(same)
    averaged = any(averaging(leaf) != "likeliest" for leaf in leaves)
    return _Rows(torch.stack(values) if values else together.double(), together, target, averaged)


def _row(x: Any, kinds: Any, i: int, b: int, name: str) -> Any:
    """The answer, or the target, of one row: a batch of one, with what all rows share as it is."""
    owners = owners_of([], b)
    index, new = gathered(owners, torch.tensor([i]))
    # nobody but the predictor made it: what is as long as the batch has an entry per row
    leaves = [leaf._replace(kind=Per("row", leaf.kind)) for leaf in owned(nested.leaves(kinds, x, name), owners)]
    return nested.filled(kinds, x, iter([take(leaf, index, owners, new, whole=False) for leaf in leaves]))


def _turned(elements: Tensor, rows: Sequence[_Rows], sign: int, labelled: bool) -> list[Turned]:
    level, found = LEVEL / (len(elements) - 1), []
    values, same = torch.cat([row.values for row in rows], 1), torch.cat([row.same for row in rows], 1)
    for g, value, alike in zip(elements[1:], values[1:], same[1:], strict=True):
        changed = int((~alike).sum())
        p_changed = binomial_tail(changed, len(alike), CHANGES)
        gain = sign * (value - values[0])
        p = sign_test(int((gain > 0).sum()), int((gain < 0).sum()))
        hurts = (
            p < level and -float(gain.nanmean()) >= LOSS * abs(float(values[0].nanmean())) if labelled else p_changed < level
        )
        measured = (float(value.nanmean()), p) if labelled else (None, None)
        found.append(Turned(O2().label(g), *measured, changed / len(alike), p_changed, hurts, p_changed < level))
    return found


def _needed(own: Group, elements: Tensor, harmful: Sequence[bool]) -> Group:
    """The smallest group by which every element becomes harmless: h = g k with g in the group and k an element that is."""
    largest = Dihedral(math.lcm(4, own.num_turns)) if isinstance(own, PlaneGroup) and own.num_turns else O2()
    known = [Cyclic(1), Cyclic(2), Dihedral(1), Cyclic(4), Dihedral(4), own, largest]
    rest = inverse(elements)[:, None] @ elements
    harmless = elements[~torch.tensor([False, *harmful])]
    undone = ((rest[:, :, None] - harmless).abs().amax((-1, -2)) < NEAR).any(-1)
    for group in sorted(known, key=lambda one: one.order or math.inf):
        inside = (group.nearest(elements) - elements).abs().amax((-1, -2)) < NEAR
        if bool(undone[inside].any(0).all()):
            return group
    return largest
