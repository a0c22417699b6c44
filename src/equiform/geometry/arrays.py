"""Arrays as tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(x: Any) -> Tensor:
    """A tensor with the memory of an array; of a copy where torch does not take it as it is (read-only, mirrored, big-endian).

    Raises TypeError for a masked array.
    """
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        check_whole_array(x)
        if not x.dtype.isnative:
            x = x.astype(x.dtype.newbyteorder("="))
        if not x.flags.writeable or min(x.strides, default=0) < 0:
            x = x.copy()
    return torch.as_tensor(x)


def check_whole_array(x: Any, name: str = "x") -> None:
    """Raise TypeError for a masked array, whose mask would be lost."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost: pass x.filled(value), or the mask beside it")
