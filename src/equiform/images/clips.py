"""Clips, images (b, t, c, h, w) with an axis of frames: what canonicalizers look at of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..geometry.arrays import as_tensor

MAX_FRAMES = 8  # looked at, evenly spaced: neighbouring frames tell the same


def as_frames(inputs: Any, channels: int) -> tuple[Any, int]:
    """A few frames of every clip as images, row by row, and how many of each; images as they are, one of each.

    inputs: images (b, c, h, w) or clips (b, t, c, h, w), or a list of them without the batch axis. Raises ValueError where the
    frames come after the channels.
    """
    clips = as_tensor(inputs) if isinstance(inputs, np.ndarray) else inputs
    shapes = [clips.shape[1:]] if isinstance(clips, Tensor) else [clip.shape for clip in clips]
    if not shapes or any(len(shape) != 4 for shape in shapes):
        return inputs, 1
    for shape in shapes:
        if shape[1] not in (1, 3, channels) or 0 in shape:
            raise ValueError(
                f"clips have shape (b, frames, channels, height, width); got (b, {', '.join(map(str, shape))}) for a "
                f"canonicalizer of {channels} channels. Where the predictor wants the channels first: adapt(lambda x: "
                "predictor(x.movedim(1, 2)), ...)"
            )
    num = min(MAX_FRAMES, *(shape[0] for shape in shapes))
    if isinstance(clips, Tensor):
        return clips[:, evenly(num, clips.shape[1])].flatten(0, 1), num
    return [frame for clip in clips for frame in clip[evenly(num, len(clip))]], num


def evenly(num: int, of: int) -> Sequence[int]:
    """`num` indices spread evenly over 0 to of - 1."""
    return ((torch.arange(num) + 0.5) * (of / num)).long().tolist()
