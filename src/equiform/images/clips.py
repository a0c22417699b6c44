"""Clips, images (b, t, c, h, w) with an axis of frames: what canonicalizers look at of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry.arrays import as_tensor
from ..geometry.groups import Group
from ..geometry.kinds import Kind, as_kinds
from ..geometry.pixels import CHANNELS

MAX_FRAMES = 8  # looked at, evenly spaced: neighbouring frames tell the same


def as_frames(inputs: Any, channels: int) -> tuple[Any, int]:
    """A few frames of every clip as images, row by row, and how many of each; images as they are, one of each.

    inputs: images (b, c, h, w) or clips (b, t, c, h, w), or a list of them without the batch axis. Raises ValueError where the
    channels are not where they should be.
    """
    clips = as_tensor(inputs) if isinstance(inputs, np.ndarray) else inputs
    shapes = [clips.shape[1:]] if isinstance(clips, Tensor) else [clip.shape for clip in clips]
    if not shapes or any(len(shape) != 4 for shape in shapes):
        return inputs, 1
    for shape in shapes:
        if shape[1] not in (1, 3, channels) or 0 in shape:
            raise ValueError(
                f"clips have shape (b, frames, channels, height, width); got (b, {', '.join(map(str, shape))}) for a "
                f"canonicalizer of {channels} channels: {_way_out(tuple(shape), channels)}. Of volumes: a group of space, such "
                "as O, and inputs='volume'"
            )
    num = min(MAX_FRAMES, *(shape[0] for shape in shapes))
    if isinstance(clips, Tensor):
        return clips[:, evenly(num, clips.shape[1])].flatten(0, 1), num
    return [frame for clip in clips for frame in clip[evenly(num, len(clip))]], num


def _way_out(shape: tuple[int, ...], channels: int) -> str:
    """What to do with clips of these axes (frames, channels, height, width) if none of them is missing."""
    seen = (1, 3, channels)
    if shape[0] in seen:
        first = "pass x.movedim(1, 2), and where the predictor wants the channels first adapt(lambda x: predictor("
        return f"{first}x.movedim(1, 2)), ...)"
    if shape[3] in (*CHANNELS, channels):
        return "channels come before height and width, x.movedim(-1, 2)"
    return f"build it for them, such as OrbitCanonicalizer(group, channels={shape[1]})"


def kind_of(inputs: Any, group: Group) -> Kind:
    """The kind of what canonicalizers of images are given, a clip where it has five axes; of a list, of its entries."""
    axes = inputs.ndim if hasattr(inputs, "ndim") else 1 + max([image.ndim for image in inputs], default=3)
    return as_kinds("clip" if axes == 5 else "image", group)


def evenly(num: int, of: int) -> Sequence[int]:
    """`num` indices spread evenly over 0 to of - 1."""
    return ((torch.arange(num) + 0.5) * (of / num)).long().tolist()
