"""Cyclic shifts found by the seam: the line where the opposite edges of the photo meet."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ..geometry.shifts import MAX_STRIDE, shift
from ..images.views import filled, ranged
from .images import ImageCanonicalizer, Images, canvases, check_shifts
from .poses import Pose, pose_of

LINES = 3  # candidates for the seam in each direction
FLOOR = 2.0**-7  # of the range of a channel: differences far below it are noise
MARGIN = 640.0  # of a plain margin as wide as the canvas, in the logarithm of the posterior: above any seam
STEP = 2.0**-20  # of logarithms that are summed over a line: sums of whole steps are exact in any order
SHARPNESS = 4.0  # of the posterior: the best by likelihood on 300 photos of Imagenette and 1,000 of CIFAR-10


class SeamCanonicalizer(ImageCanonicalizer):
    """The cyclic shift that puts the seam back to the edge: nothing to fit; the whole shift is found, not its rest modulo n.

    In a shifted photo the left edge lies beside the right one, and neighbouring columns differ there as nowhere else. A column
    counts by the logarithm of its differences from the column before, less those of the columns on either side, averaged over
    its pixels; rows likewise. So the pose moves with every cyclic shift of the canvas, to the bit, and answers of any predictor
    do not depend on it. Where two lines tie, the first counts. The frames of a clip have one seam together.

    plain: for objects on a plain ground, where no seam is to be seen: the middle of the widest plain margin goes to the edge,
    and so the object to the middle. That undoes shifts that bring in plain ground from outside as well, as long as nothing of
    the object is cut off.
    """

    name = "seam"
    learns = False
    shifts = True
    max_order = MAX_STRIDE**2

    def __init__(self, group: Any, *, plain: bool = False):
        super().__init__(group)
        check_shifts(self)
        if not isinstance(plain, bool):
            raise ValueError(f"plain is True for objects on a plain ground, else False; got {plain!r}")
        self.plain = plain

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name, "plain": self.plain}

    @property
    def num_poses(self) -> int:
        return LINES**2

    def forward(self, inputs: Images) -> Pose:
        """The likeliest pose of every row, and the others of the three best columns and rows.

        Raises ValueError where a canvas is smaller than the shifts of the group.
        """
        found = [self._found(images) for images in canvases(inputs, self.group)]
        t, scores = (torch.cat(part).to(self.device) for part in zip(*found, strict=True))
        # the share of all shifts of the canvas that these few have
        return pose_of(scores.float(), shift(t.float()), scores.logsumexp(1).exp().clamp(max=1).float())

    def _found(self, images: Shaped[Tensor, "b c h w"]) -> tuple[Int[Tensor, "b n 2"], Float[Tensor, "b n"]]:
        """The shifts (x, y) of the best lines, the likeliest first, with the logarithms of their shares."""
        pixels = ranged(filled(images))
        (x, of_x), (y, of_y) = (best_lines(part, self.plain) for part in (pixels, pixels.mT))
        both = torch.stack([x[:, :, None].expand(-1, -1, LINES), y[:, None].expand(-1, LINES, -1)], -1)
        return both.flatten(1, 2), (of_x[:, :, None] + of_y[:, None]).flatten(1)


def best_lines(x: Float[Tensor, "b c h w"], plain: bool = False) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
    """The columns before which the seam most likely lies (b, LINES), the likeliest first, and the logs of their shares."""
    apart = (x - x.roll(1, -1)).abs()
    strength = ((apart.mean(1) + FLOOR).log() / STEP).round().sum(1)
    excess = 2 * strength - strength.roll(1, -1) - strength.roll(-1, -1)
    if plain:
        excess = excess + margins(apart.amax((1, 2)) <= FLOOR) * round(MARGIN * x.shape[-2] / (SHARPNESS * STEP * x.shape[-1]))
    shares = (excess * (SHARPNESS * STEP / x.shape[-2])).log_softmax(1)
    order = excess.argsort(stable=True, dim=1, descending=True)
    order = order[:, torch.arange(LINES).clamp(max=x.shape[-1] - 1).to(order.device)]
    return order, shares.gather(1, order)


def margins(plain: Bool[Tensor, "b w"]) -> Int[Tensor, "b w"]:
    """How far each line lies from the ends of its run of plain lines, about the edge too: the greatest in the middle."""
    w = plain.shape[1]
    place = torch.arange(2 * w, device=plain.device)

    def run(line: Tensor) -> Tensor:
        """The length of the run up to every line of the second half."""
        return (place - torch.where(line, -1, place).cummax(1)[0]).clamp(max=w)[:, w:]

    twice = plain.repeat(1, 2)
    before, after = run(twice), run(twice.flip(1)).flip(1)
    nearer = torch.minimum(before, after)
    return 2 * nearer + ((before <= after) & (nearer > 0))  # of an even number of lines, one is the middle
