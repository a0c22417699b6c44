"""Canonicalizers: from images to poses. A score per element; the likeliest element is the pose.

Turning the input permutes the scores, which makes the pose equivariant whatever the weights are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from . import groups
from .groups import Group, inverse
from .images import open_image, read_square, to_tensor
from .moving import act, as_tensor
from .networks import GroupConvNetwork, ScoreNetwork
from .poses import Pose, pose_of
from .tiles import dark_ink, tile_squares, tile_view
from .trees import children, is_container
from .views import disc, orbit_views, square_view, squares, view_size

Images = Tensor | np.ndarray | Sequence[Tensor]


def check_whole(least: int = 1, **values: Any) -> None:
    """Raise ValueError naming the first value that is no whole number from `least` on."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")


class Canonicalizer(nn.Module):
    """From images (b, c, h, w), or a list of (c, h, w), to a `Pose`. Subclasses say `scores` of views and their `config`.

    A view is what `view` makes of an image; training works on views, so that it can keep a whole data set of them.
    """

    name = ""
    learns = True
    images_alone = False  # whether it cannot look at clouds
    _place: Tensor

    def __init__(self, group: str | Group, resolution: int = 64, channels: int = 3):
        super().__init__()
        self.group = groups.group(group)
        if self.images_alone and self.group.dim == 3:
            name = self.group.name
            raise ValueError(
                f"the {self.name} canonicalizer looks at images, {name} moves clouds: use SearchCanonicalizer({name!r})"
            )
        if self.group.order is None and self.group.dim == 2:
            raise ValueError(
                f"{self.group.name} is continuous and canonicalizers score finite groups: take a fine one, such as "
                f"{'D16' if self.group.reflections else 'C16'}"
            )
        check_whole(resolution=resolution, channels=channels)
        self.resolution, self.channels = resolution, channels
        self.register_buffer("_place", torch.zeros(1), persistent=False)  # follows the module from device to device

    @property
    def elements(self) -> Float[Tensor, "n d d"]:
        """The elements, in full precision whatever the weights are, on the device of the canonicalizer."""
        return self.group.elements.to(self._place.device)

    @property
    def num_poses(self) -> int:
        """The number of candidates for a pose."""
        return len(self.elements)

    @property
    def device(self) -> torch.device:
        """Where the canonicalizer computes."""
        return self._place.device

    def config(self) -> dict[str, Any]:
        """The arguments that build this canonicalizer again, but for a network of the caller's own."""
        return {"group": self.group.name, "resolution": self.resolution, "channels": self.channels}

    @property
    def view_size(self) -> int:
        """The side of the views that `scores` takes."""
        return view_size(self.group, self.resolution)

    def view(self, images: Images) -> Float[Tensor, "b c s s"]:
        """What the canonicalizer looks at: the whole image in a small square, standardised."""
        images = as_tensor(images) if isinstance(images, np.ndarray) else images
        # photos may lie elsewhere than the canonicalizer: files are read on the processor, models may be on a GPU
        return square_view(images, self.view_size, self.channels).to(self._place.device)

    def squares(self, images: Any, side: int) -> Tensor:
        """What training keeps of a batch of images, to draw views from: the whole images, squeezed to squares."""
        return squares(images, side)

    def read(self, file: Path, side: int) -> Tensor:
        """The squares of one image file."""
        return read_square(file, side)

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        """One score per element and row: how much the view, brought back by that element, looks like canonical input."""
        raise TypeError(f"{type(self).__name__} has no scores of views")

    def forward(self, images: Images) -> Pose:
        """The pose of every image."""
        view = self.view(images)
        if len(view) == 0:
            return pose_of(torch.zeros(0, len(self.elements), device=view.device), self.elements)
        # a few small layers gain nothing from half precision, and poses would be blurred by it
        with torch.autocast(view.device.type, enabled=self.training and torch.is_autocast_enabled(view.device.type)):
            return pose_of(self.scores(view).float(), self.elements)

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.dtype.is_floating_point), torch.float32)


PAIRS = 64  # scored at once: more take memory, fewer take time


class OrbitCanonicalizer(Canonicalizer):
    """Score element g by what a network thinks of g^-1.x: equivariant by construction, costs |G| small forward passes.

    `network` maps views (b, channels, resolution, resolution) to one score per row; see `equiform.scorer` for using a
    pretrained backbone. Optimised over the orbit as in Panigrahi & Mondal 2024, arXiv 2405.14089.
    """

    name = "orbit"
    images_alone = True

    def __init__(self, group: str | Group, network: nn.Module | None = None, *, resolution: int = 64, channels: int = 3):
        super().__init__(group, resolution, channels)
        self.own_network = network is None
        self.network = ScoreNetwork(channels) if network is None else network

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        """Raises ValueError where the network gives more than one score per row."""
        orbit = orbit_views(view, self.group).to(self._dtype())
        # batch statistics see the whole orbit at once; otherwise element by element, which is easier on memory and caches,
        # and lets no rounding depend on where in a batch a view comes to lie
        parts = orbit.flatten(0, 1)[None] if self.training else orbit
        return torch.cat([self._scores_of(part) for part in parts]).reshape(len(orbit), len(view)).mT

    def scores_of(
        self, view: Float[Tensor, "b c s s"], row: Int[Tensor, " m"], index: Int[Tensor, " m"]
    ) -> Float[Tensor, " m"]:
        """The scores of some pairs of a row and the index of an element alone, each at one pass of the network."""
        pairs = orbit_views(view, self.group).to(self._dtype())[index, row]
        return torch.cat([self._scores_of(part) for part in pairs.split(PAIRS)]) if len(pairs) else view.new_zeros(0)

    def _scores_of(self, views: Float[Tensor, "m c r r"]) -> Float[Tensor, " m"]:
        answer = self.network(views.contiguous(memory_format=torch.channels_last))
        scores = first_logits(answer) if is_container(answer) else answer  # transformers classifiers answer with a dict
        if not isinstance(scores, Tensor) or scores.numel() != len(views):
            came = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(answer).__name__}"
            raise ValueError(
                f"the network must give one score per row, ({len(views)},); got {came}: see equiform.scorer(backbone)"
            )
        return scores.flatten()


class GroupConvCanonicalizer(Canonicalizer):
    """One pass of a group-convolution network; exact for quarter turns and flips, approximate for other elements.

    Kaba et al. 2023, arXiv 2211.06489, sec. 4, with the layers of Cohen & Welling 2016. The resolution is a multiple of 16
    with the default widths.
    """

    name = "group-conv"
    images_alone = True

    def __init__(
        self,
        group: str | Group,
        *,
        widths: Sequence[int] = (8, 16, 24, 32),
        resolution: int = 64,
        channels: int = 3,
    ):
        super().__init__(group, resolution, channels)
        if resolution % 2 ** len(widths):
            raise ValueError(f"resolution must be a multiple of {2 ** len(widths)} for {len(widths)} widths; got {resolution}")
        self.widths = tuple(widths)
        self.network = GroupConvNetwork(self.group.name, channels, self.widths)

    def config(self) -> dict[str, Any]:
        return super().config() | {"widths": list(self.widths)}

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b n"]:
        if not self.group.on_grid:
            view = disc(nn.functional.avg_pool2d(view, 2))
        return self.network(view.to(self._dtype()))


class TileCanonicalizer(Canonicalizer):
    """Small tiles at full detail, each judged over the orbit, their posteriors multiplied: for text, lost in a squeezed view.

    Costs |G| passes of a small network for each of at most `num_tiles` tiles. No tile counts for more than a tile that is
    wrong every so often (`TILE_ERROR`) should.
    """

    name = "tiles"
    images_alone = True

    def __init__(
        self,
        group: str | Group,
        *,
        num_tiles: int = 32,
        widths: Sequence[int] = (24, 48, 64),
        resolution: int = 64,
    ):
        super().__init__(group, resolution, channels=1)
        if resolution % 4:  # half a tile is even, so that a grid of them is even about the centre
            raise ValueError(f"resolution must be a multiple of 4; got {resolution}")
        check_whole(num_tiles=num_tiles)
        self.num_tiles, self.widths = num_tiles, tuple(widths)
        self.network = ScoreNetwork(1, self.widths)
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's stubs forget it)

    def config(self) -> dict[str, Any]:
        own = {"num_tiles": self.num_tiles, "widths": list(self.widths), "resolution": self.resolution}
        return {"group": self.group.name} | own

    def view(self, images: Images) -> Float[Tensor, "b t s s"]:
        """The tiles of every image, as channels."""
        if isinstance(images, (Tensor, np.ndarray)):
            images = as_tensor(images)
            if images.ndim != 4:
                raise ValueError(f"images have shape (b, channels, height, width); got {tuple(images.shape)}")
        return tile_view(images, self.view_size, self.num_tiles).to(self._place.device)

    def squares(self, images: Any, side: int) -> Tensor:
        """The tiles of all images, as images of their own; tiles as they are."""
        if isinstance(images, Tensor) and images.shape[1:] == (1, side, side):
            return images
        return tile_squares(images, side, self.num_tiles)

    def read(self, file: Path, side: int) -> Tensor:
        return self.squares(to_tensor(open_image(file))[None], side)

    def scores(self, view: Float[Tensor, "b t s s"]) -> Float[Tensor, "b n"]:
        orbit = orbit_views(dark_ink(view), self.group).to(self._dtype())
        if self.training:  # batch statistics see every tile and the whole orbit at once
            scores = self.network(orbit.reshape(-1, 1, *orbit.shape[-2:])).reshape(orbit.shape[:3])
            return _pooled(scores.movedim(0, -1))
        # image by image, so that no rounding depends on the other rows; flat tiles, which tell nothing, are left out
        tells = view.amax((-2, -1)) != view.amin((-2, -1))
        rows = []
        for i, keep in enumerate(tells):
            tiles = orbit[:, i, keep, None]
            rows.append(torch.stack([self.network(part) for part in tiles], 1) if keep.any() else view.new_zeros(1, len(tiles)))
        return torch.cat([_pooled(row[None]) for row in rows])


TILE_ERROR = 0.1


def _pooled(scores: Float[Tensor, "b t n"]) -> Float[Tensor, "b n"]:
    """The sum over tiles of log-posteriors, each mixed with chance. In float64, so that the order of tiles does not show."""
    n = scores.shape[-1]
    posterior = (1 - TILE_ERROR) * scores.double().softmax(-1) + TILE_ERROR / n
    return posterior.log().sum(1).float()


def max_probability(logits: Float[Tensor, "b *hw k"]) -> Float[Tensor, " b *hw"]:
    """log max_k p(k | x): high where the predictor is sure of one class."""
    return logits.log_softmax(-1).amax(-1)


def negative_entropy(logits: Float[Tensor, "b *hw k"]) -> Float[Tensor, " b *hw"]:
    """sum_k p log p."""
    return -torch.distributions.Categorical(logits=logits, validate_args=False).entropy()  # NaN rows stay theirs


def energy(logits: Float[Tensor, "b *hw k"]) -> Float[Tensor, " b *hw"]:
    """log sum_k exp(logit_k), minus the energy of Liu et al. 2020, arXiv 2010.03759."""
    return logits.logsumexp(-1)


CONFIDENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "max_probability": max_probability,
    "negative_entropy": negative_entropy,
    "energy": energy,
}


class EnergyCanonicalizer(Canonicalizer):
    """Training-free: the predictor's own confidence over the orbit, at the cost of |G| forward passes of the predictor.

    `confidence`: "max_probability", "negative_entropy" or "energy". The predictor takes the image alone and gives logits
    (b, k), or per-pixel logits (b, k, h, w), whose confidence is averaged; in a nested output the first such tensor counts.
    """

    name = "energy"
    learns = False
    images_alone = True

    def __init__(self, group: str | Group, predictor: Callable[..., Any], *, confidence: str = "max_probability"):
        super().__init__(group)
        if confidence not in CONFIDENCES:
            raise ValueError(f"unknown confidence {confidence!r}; known: {', '.join(CONFIDENCES)}")
        if not callable(predictor):
            raise TypeError(f"a predictor is a callable; got a {type(predictor).__name__}")
        self.confidence = confidence
        self._predictor = (predictor,)  # in a tuple, so that its weights are not taken for the canonicalizer's

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name, "confidence": self.confidence}

    def forward(self, images: Images) -> Pose:
        if not isinstance(images, (Tensor, np.ndarray)):
            rows = [self.forward(image[None]).scores for image in images]
            scores = torch.cat(rows) if rows else torch.zeros(0, len(self.elements))
            return pose_of(scores, self.elements)
        if images.ndim != 4:
            raise ValueError(f"images have shape (b, channels, height, width); got {tuple(images.shape)}")
        if len(images) == 0:
            return pose_of(torch.zeros(0, len(self.elements)), self.elements)
        answers = [self._predictor[0](act(g[None], images)) for g in inverse(self.elements)]
        scores = torch.stack([self._confidence(answer) for answer in answers], 1)
        return pose_of(scores.float(), self.elements)

    def _confidence(self, answer: Any) -> Float[Tensor, " b"]:
        logits = first_logits(answer)
        if logits is None:
            raise ValueError(f"no logits (b, k) or (b, k, h, w) in the predictor's answer, a {type(answer).__name__}")
        score = CONFIDENCES[self.confidence](logits.float().movedim(1, -1))
        return score.flatten(1).mean(1) if score.ndim > 1 else score


def first_logits(answer: Any) -> Tensor | None:
    """What is called "logits" in an answer, or else its first floating-point tensor of two or more axes."""
    if is_container(answer):
        named = dict(children(answer)).get("logits")
        if named is not None:
            return first_logits(named)
        found = (first_logits(child) for _, child in children(answer))
        return next((tensor for tensor in found if tensor is not None), None)
    tensor = as_tensor(answer) if hasattr(answer, "__array__") else answer
    return tensor if isinstance(tensor, Tensor) and tensor.ndim >= 2 and tensor.dtype.is_floating_point else None


class UniformCanonicalizer(Canonicalizer):
    """Every pose alike. With `top_k` = |G| the wrapper then averages over the orbit, the classical baseline."""

    name = "uniform"
    learns = False

    def __init__(self, group: str | Group):
        super().__init__(group)
        if self.group.order is None:
            frames = f"PrincipalAxesCanonicalizer({self.group.name!r}, scores='equal')"
            raise ValueError(f"{self.group.name} is continuous, and has no list of poses: average over frames, {frames}")

    def config(self) -> dict[str, Any]:
        return {"group": self.group.name}

    def forward(self, images: Any) -> Pose:  # a `Cloud` too
        device = getattr(images, "device", None)
        return pose_of(torch.zeros(len(images), len(self.elements), device=device), self.elements)


CANONICALIZERS: dict[str, type[Canonicalizer]] = {
    cls.name: cls
    for cls in (OrbitCanonicalizer, GroupConvCanonicalizer, TileCanonicalizer, EnergyCanonicalizer, UniformCanonicalizer)
}
