"""torchvision beside a torch that it was not built for: what its compiled part lacks, in plain torch.

The one torchvision that goes with the tested torch is built for CUDA; on a CPU its operators do not load, and importing it,
timm or anything else that uses them fails. With matching builds nothing is done here.
"""

import sys
from importlib.util import find_spec

import torch
from torch import Tensor

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # torch forgets the operators with the object that declared them
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def loads() -> bool:
    """Whether the installed torchvision can be imported as it is."""
    try:
        import torchvision  # noqa: F401  (only to see whether it loads)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The indices of the boxes that are kept, best first: each one drops those behind it that overlap it too much."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    order, kept = scores.argsort(descending=True, stable=True), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low, high = torch.maximum(boxes[best, :2], boxes[order, :2]), torch.minimum(boxes[best, 2:], boxes[order, 2:])
        overlap = (high - low).clamp(min=0).prod(-1)
        order = order[overlap <= iou_threshold * (areas[best] + areas[order] - overlap)]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)


if find_spec("torchvision") is not None and not loads():
    for operator in ("nms", "qnms"):
        LIBRARY.define(operator + SIGNATURE)
    LIBRARY.impl("nms", nms, "CPU")
    import torchvision.ops.boxes

    torchvision.ops.boxes._assert_has_ops = lambda: None
    # where its operator is missing torchvision compiles roi_align on first use, which takes a minute; plain it takes none
    module = sys.modules["torchvision.ops.roi_align"]
    module._roi_align = module._roi_align.__wrapped__
