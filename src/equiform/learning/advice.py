"""What a history of training says about more epochs and more data, in a plain sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

FALLING = 0.05  # by which the loss of the last quarter is below that of the quarter before
GAP = 0.1  # between the share of poses found in training and on data kept aside
FEWEST = 4  # epochs, to tell whether the loss still falls


def advice(history: Sequence[Mapping[str, Any]]) -> str:
    """Whether more epochs or more data would help, as far as the losses and the shares of poses found tell."""
    losses = [float(epoch["loss"]) for epoch in history]
    known = [epoch for epoch in history if {"pose_accuracy", "training_accuracy"} <= epoch.keys()]
    # of the epoch that was kept
    best = max(known, key=lambda epoch: epoch["pose_accuracy"], default=None)
    said = []
    if best is not None and best["training_accuracy"] - best["pose_accuracy"] > GAP:
        said.append(
            f"poses are found more often in training ({best['training_accuracy']:.2f}) than on what was kept aside: more data "
            "would help"
        )
    if len(losses) < FEWEST:
        epochs = "1 epoch is" if len(losses) == 1 else f"{len(losses)} epochs are"
        said.append(f"{epochs} too few to tell whether more would help")
    elif _falls(losses):
        said.append("the loss was still falling: more epochs may help")
    if best is None:
        said.append("nothing was kept aside, so whether more data would help is not known")
    return (
        "; ".join(said) or "the loss has settled, and poses are found as often on what was kept aside: more would hardly help"
    )


def _falls(losses: Sequence[float]) -> bool:
    quarter = max(len(losses) // 4, 1)
    last, before = losses[-quarter:], losses[-2 * quarter : -quarter]
    return sum(last) < (1 - FALLING) * sum(before)
