"""How inputs are shown turned: inside their own frame, or as the middle of a larger turned image, from which nothing is cut."""

import math
from itertools import count
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from ..equivariant import Equivariant
from ..geometry import nested
from ..geometry.actions import ACTIONS
from ..geometry.kinds import Leaf, Rows, as_kinds, plain
from ..images.views import central_square

FRAMES = ("inside", "crop")


def check_frame(frame: str, model: Equivariant, targets: Any) -> None:
    """Raise ValueError for what cannot be cut with the images: masks, points, boxes, clouds."""
    if frame == "inside":
        return
    for name, given in {"inputs": model.inputs, "outputs": model.outputs, "targets": as_kinds(targets or "invariant")}.items():
        for kind in plain(given):
            moves = ACTIONS[kind.name].act is not ACTIONS["invariant"].act
            if model.group.dim == 3 or (moves and not (name == "inputs" and _is_image(kind))):
                raise ValueError(
                    f"frame='crop' cuts images and measures answers that do not move, such as logits; {name} move as {kind!r}: "
                    "take frame='inside'"
                )


def framed(x: Any, kinds: Any, frame: str) -> Any:
    """x as it is, or of every image only the `middle` where the frame is "crop"."""
    return x if frame == "inside" else nested.walk(_cut, kinds, x, "input")


def middle(x: Shaped[Tensor, "*b h w"]) -> Shaped[Tensor, "*b s t"]:
    """The largest central square that lies inside an image at every angle: 1/sqrt(2) of its shorter side, rounded down."""
    x = central_square(x)
    h, w = x.shape[-2:]
    rim = min(_rim(min(h, w)), (min(h, w) - 1) // 2)
    return x[..., rim : h - rim, rim : w - rim]


def uncropped(side: int) -> int:
    """The least side of images whose middle is `side` pixels long."""
    return next(n for n in count(side) if n - 2 * _rim(n) == side)


def _rim(side: int) -> int:
    return math.ceil(side * (1 - math.sqrt(0.5)) / 2)


def _is_image(kind: Any) -> bool:
    return ACTIONS[kind.name].axes == 2


def _cut(kind: Leaf, leaf: Any, path: str) -> Any:
    if isinstance(kind, Rows):
        return type(leaf)(nested.walk(_cut, kind.kinds, entry, path) for entry in leaf)
    return middle(leaf) if _is_image(kind) else leaf
