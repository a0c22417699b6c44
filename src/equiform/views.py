"""The small square view of an image that canonicalizers look at, the same for every numeric range and every size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .actions import act_image
from .groups import Group, inverse

VIEW_STEP = 2.0**-12


def square_view(
    images: Float[Tensor, "b k h w"] | Sequence[Tensor], resolution: int, channels: int = 3
) -> Float[Tensor, "b c r r"]:
    """The whole image, squeezed to (resolution, resolution) with antialiasing and standardised by `standardise`.

    Every step is computed in float64 and rounded once at the end, so that the view of a turned image is the turned view
    to the bit, although sums run in another order. One channel is repeated to `channels`.
    Raises ValueError for another shape or number of channels.
    """
    if not isinstance(images, Tensor):
        parts = [square_view(image[None], resolution, channels) for image in images]
        return torch.cat(parts) if parts else torch.zeros(0, channels, resolution, resolution)
    if images.ndim != 4 or images.is_complex():
        came = f"{tuple(images.shape)} of {images.dtype}"
        raise ValueError(f"images have shape (b, channels, height, width); got {came} (one image: add the batch axis, x[None])")
    if images.shape[1] not in (1, channels):
        raise ValueError(
            f"the canonicalizer looks at {channels} channels (or 1), the images have {images.shape[1]}: "
            f"build it for them, OrbitCanonicalizer(group, channels={images.shape[1]})"
        )
    if 0 in images.shape[2:]:
        raise ValueError(f"images are empty: {tuple(images.shape)}")
    if len(images) == 0:
        return torch.zeros(0, channels, resolution, resolution, device=images.device)
    work = torch.float32 if images.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    small = F.interpolate(images.to(work), size=(resolution, resolution), mode="bilinear", antialias=True, align_corners=False)
    return standardise(small).expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)


def standardise(x: Tensor) -> Float[Tensor, "b c h w"]:
    """Mean 0.5 and deviation 0.25 per image and channel, like a picture in [0, 1]; a constant channel becomes 0.5."""
    centred = x - x.mean((-2, -1), keepdim=True)
    deviation = centred.square().mean((-2, -1), keepdim=True).sqrt()
    flat = deviation <= 1e-6 * x.abs().amax((-2, -1), keepdim=True)
    scaled = torch.where(flat, torch.zeros_like(x), centred / deviation) * 0.25 + 0.5
    return ((scaled / VIEW_STEP).round() * VIEW_STEP).float()


def view_size(group: Group, resolution: int) -> int:
    """The side of the view: the resolution on the grid; twice that elsewhere, to turn it before the last reduction."""
    return resolution if group.on_grid else 2 * resolution


def orbit_views(view: Float[Tensor, "b c s s"], group: Group) -> Float[Tensor, "n b c r r"]:
    """The view turned back by every element, g^-1.x: by index on the grid, otherwise at twice the size and then halved.

    Views of other groups are masked to a disc, so that no corner tells how far they were turned.
    """
    back = inverse(group.elements.to(view))
    turned = [act_image(g.expand(len(view), 3, 3), view, None, border="edge") for g in back]
    if not group.on_grid:
        turned = [disc(F.avg_pool2d(x, 2)) for x in turned]
    return torch.stack(turned)


def disc(x: Float[Tensor, "b c r r"]) -> Float[Tensor, "b c r r"]:
    """The view with everything outside the inscribed circle set to 0.5, softly over two pixels."""
    r = x.shape[-1]
    axis = torch.arange(r, device=x.device, dtype=x.dtype) + 0.5 - r / 2
    radius = (axis.square()[:, None] + axis.square()).sqrt()
    return (x - 0.5) * ((r / 2 - 0.5 - radius) / 2).clamp(0, 1) + 0.5
