"""Arrays as tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(x: Any) -> Tensor:
    """A tensor with the memory of an array; of a copy where torch does not take it as it is (read-only or mirrored ones)."""
    if isinstance(x, np.ndarray) and (not x.flags.writeable or min(x.strides, default=0) < 0):
        x = x.copy()
    return torch.as_tensor(x)
