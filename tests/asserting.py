"""What many tests assert in one line."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Subset

import equiform
from equiform.geometry.nested import children, is_container

QUIET = {"enable_progress_bar": False}


def refused(error: type[Exception], message: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """The call raises that error, whose text matches the message."""
    with pytest.raises(error, match=message):
        call(*arguments, **options)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit: types, keys, shapes, dtypes, values."""
    if is_container(a):
        pairs = itertools.zip_longest(children(a), children(b)) if type(a) is type(b) else [((0, 0), (1, 1))]
        return all(p is not None and q is not None and p[0] == q[0] and same(p[1], q[1]) for p, q in pairs)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def dataset(rows: Iterable[Any]) -> Subset:
    """A `Dataset` of these samples."""
    rows = list(rows)
    return Subset(rows, range(len(rows)))  # pyright: ignore


def python(*arguments: object, path: object = "", **options: Any) -> subprocess.Popen:
    """A fresh interpreter that finds this checkout, and before it what lies in `path`."""
    folders = [str(path), str(Path(equiform.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, *map(str, arguments)], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, **options)


def ran(*arguments: object, **options: Any) -> str:
    """What such an interpreter prints, which ends well."""
    process = python(*arguments, **options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out
