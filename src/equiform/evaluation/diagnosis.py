"""What `diagnose` found, as plain values and a short text, and the advice that follows from it."""

import json
from dataclasses import asdict, dataclass

from ..geometry.groups import Group
from .report import finite
from .significance import PoseTest, in_words

ENOUGH = 50  # inputs, to say that nothing hurts


@dataclass(frozen=True)
class Turned:
    """What one element does: the metric's mean over inputs, with the exact sign test of those that lose and gain by it (of
    accuracy McNemar's); the share of answers that change, with the probability of so many if one in twenty did."""

    element: str
    value: float | None
    p_value: float | None
    changed: float
    p_changed: float
    hurts: bool
    changes: bool


@dataclass(frozen=True)
class Option:
    """A way out: its mean over the model's group, how much better than bare that is, and its cost relative to bare."""

    name: str
    mean: float
    gain: float
    passes: float
    time: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found. `needed`: the group worth undoing; `advice`: "leave", "adapt", "average", "fit" or "more data".

    `metric`: without targets "agreement" with the predictor's own answer to the input as it came. `pose` is None where the
    question cannot be asked, and says nothing where `unasked` gives a reason. `upright`, `bare`: the predictor's values, as the
    data came and over `group`, the model's own, as are those of the `options`.
    """

    metric: str
    num_samples: int
    upright: float
    turned: list[Turned]
    pose: PoseTest | None
    unasked: str
    needed: str
    group: str
    bare: float
    options: list[Option]
    advice: str
    recommendation: str

    def to_json(self) -> str:
        data = {"format": "equiform diagnosis", "format_version": 1, **asdict(self)}
        return json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def __str__(self) -> str:
        hurting = [one.element for one in self.turned if one.hurts]
        lines = [f"1. Does turning hurt? {'Yes, by ' + ', '.join(hurting) if hurting else 'No'} ({self.num_samples} inputs)"]
        if self.metric != "agreement":
            lines.append(f"   {'as it came':>12}  {self.metric} {self.upright:.3f}")
        lines += [f"   {_line(one, self.metric)}" for one in self.turned]
        answer = f"{self.unasked[:1].upper()}{self.unasked[1:]}"
        if self.pose is not None and not self.unasked:
            answer = f"{'Yes' if self.pose.found else 'None found'}: {self.pose}"
        lines += [f"2. Do the data have a pose? {answer}", f"3. Which group? {self.needed}"]
        lines += [f"4. What is gained? {self.metric} over {self.group}, {self.num_samples} inputs; bare {self.bare:.3f}"]
        for one in self.options:
            cost = "" if one.time is None else f", {one.time:.2f}x the time"
            lines.append(f"   {one.name} {one.mean:.3f}, gain {one.gain:+.3f}, at {one.passes:.2f} passes{cost}")
        return "\n".join([*lines, f"5. {self.recommendation}"])


def _line(one: Turned, metric: str) -> str:
    """One element in the text."""
    value = "" if one.p_value is None else f"{metric} {one.value:.3f} ({in_words(one.p_value)}), "
    return f"{one.element:>12}  {value}{one.changed:.0%} of answers change ({in_words(one.p_changed)})"


def advised(
    pose: PoseTest | None,
    unasked: str,
    needed: Group,
    options: list[Option],
    averaged: bool,
    n: int,
    least: float,
    labelled: bool,
) -> tuple[str, str]:
    """What to do, in a word and in a sentence; the thresholds are in the docstring of `diagnose`.

    `averaged`: whether answers can be; `least`: the gain that counts; `labelled`: whether there were targets to measure it by.
    """
    name, no_pose = needed.name, pose is not None and not pose.found
    adapting, averaging = [*(one.gain for one in options), None][:2]
    if needed.order == 1 and n < ENOUGH:
        return "more data", f"Bring more inputs: no harm was seen, and {n} are too few to exclude it."
    if needed.order == 1:
        return "leave", "Leave the predictor as it is: turning does not hurt it on these data."
    if pose is None or unasked:
        return "fit", f"Fit a canonicalizer for {name} first, or take a ready-made one: turning hurts, but {unasked}."
    if no_pose and not pose.enough:
        return "more data", f"Bring more inputs: turning matters, and {n} are too few to say that the data have no pose."
    if no_pose and labelled and averaging is not None and adapting - averaging > least:
        gains = f"adapting gains {adapting:.3f}, averaging {averaging:.3f}"
        return "adapt", f"Adapt with {name}: each input has a pose, though they come in all of them alike, since {gains}."
    if no_pose and not averaged:
        return "leave", "Leave the predictor as it is: the data have no pose, and answers of this kind are not averaged."
    if no_pose:
        return "average", f"Take orbit averaging over {needed.finite.name}, since the data have no pose."
    if adapting <= least:
        return "fit", f"Fit a canonicalizer for {name} on such inputs: turning hurts, and this one's gain is {adapting:.3f}."
    return "adapt", f"Adapt with {name}: turning hurts, the data have a pose, and adapting gains {adapting:.3f}."
