"""Any angle of the full circle: a posterior on a ring of angles, and a continuous answer between them."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .._checks import check_positive, check_whole
from ..geometry.groups import Cyclic, Group, turn, turn_to
from ..images.clips import as_frames
from ..images.views import back, central_square, disc, orbit_views, squares, view_size
from .base import Prior, check_share
from .images import ImageCanonicalizer, Images
from .networks import MobileNetwork
from .orbit import answers_to
from .poses import Pose, pose_of

SECTORS = 8  # candidates for a pose: the likeliest angle, and the best one in each of the other sectors about it
STEP = 2.0**-24  # of scores that are summed over views: sums of whole steps are exact in any order
CONCENTRATION = 60.0  # of the target about the true angle, von Mises: a deviation of 7 degrees


class RingCanonicalizer(ImageCanonicalizer):
    """The angle of an image, anywhere on the circle, for SO2 and O2.

    The image is looked at as a disc in its central square, in `num_views` turned views. For each, `network` scores `num_bins`
    angles, (b, num_bins); the scores of a view are shifted by its angle, and the mean over views is the score of every angle.
    So it is equivariant by construction under turns from view to view (with four views exactly, since pixels move by index),
    and between these as far as the network has learnt it. The angle is the circular mean of the likeliest bin and its
    neighbours. For O2 the mirrored image is scored as well, at twice the cost.

    `network`: a module, or the name of one of the package's own (`PLANS`). `temperature` divides the scores.
    """

    name = "ring"
    continuous = True

    def __init__(
        self,
        group: str | Group = "SO2",
        network: nn.Module | str = "mobilenet-v1-0.25",
        *,
        resolution: int = 128,
        num_views: int = 4,
        num_bins: int = 72,
        channels: int = 3,
        temperature: float = 1.0,
    ):
        super().__init__(group, resolution, channels)
        if self.group.order is not None:
            raise ValueError(f"the ring canonicalizer is for SO2 and O2; {self.group.name} is finite: use OrbitCanonicalizer")
        check_whole(most=720, num_views=num_views, num_bins=num_bins)
        if num_bins % num_views or num_bins % SECTORS or num_bins % 4:
            raise ValueError(f"num_bins must be a multiple of num_views and of {SECTORS}; got {num_bins} and {num_views} views")
        check_positive(temperature=temperature)
        self.num_bins, self.temperature, self.ring = num_bins, temperature, Cyclic(num_views)
        self._back = back(self.ring)
        self.given_network = type(network).__qualname__ if isinstance(network, nn.Module) else None
        self.own_network = None if isinstance(network, nn.Module) else network
        if isinstance(network, str):
            network = MobileNetwork(network, num_bins, channels=channels)
        self.network = network

    def config(self) -> dict[str, Any]:
        own = {"num_views": self.ring.num_turns, "num_bins": self.num_bins, "temperature": self.temperature}
        return super().config() | own | ({} if self.own_network is None else {"network": self.own_network})

    @property
    def num_poses(self) -> int:
        return SECTORS * self._flips

    @property
    def _flips(self) -> int:
        return 2 if self.group.reflections else 1

    @property
    def view_size(self) -> int:
        return view_size(self.ring, self.resolution)

    def view(self, images: Images) -> Float[Tensor, "b c s s"]:
        """The disc in the central square of every image, standardised."""
        return self._square(images, in_disc=True)

    def squares(self, images: Any, side: int) -> Tensor:
        """What training keeps of a batch of images: their central squares."""
        images = [central_square(image) for image in images] if isinstance(images, list) else central_square(images)
        return squares(images, side)

    def scores(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b m"]:
        """One score for every angle of the ring; of O2 then those of the angles after a flip. In training, of one view."""
        if self.group.reflections:
            flipped = view.flip(-1)
            return torch.cat([self._ring(view), self._mirrored(self._ring(flipped))], 1) / self.temperature
        return self._ring(view) / self.temperature

    def _ring(self, view: Float[Tensor, "b c s s"]) -> Float[Tensor, "b k"]:
        if self.training:
            return self._answer(view)
        answers = answers_to(self._answer, orbit_views(view, self.ring, self._back))
        # whole steps add up exactly in any order, so that a quarter turn moves the ring and changes nothing else
        whole = (answers.double() / STEP).round()
        step = self.num_bins // len(whole)
        turned = [part.roll(step * i, 1) for i, part in enumerate(whole)]
        return (torch.stack(turned).sum(0) * (STEP / len(whole))).float()

    @staticmethod
    def _mirrored(ring: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        # x = turn(t) flip c, and so flip x = turn(-t) c
        return ring.flip(1).roll(1, 1)

    def _answer(self, views: Float[Tensor, "b c r r"]) -> Float[Tensor, "b k"]:
        views = disc(views) if self.ring.on_grid else views  # views off the grid come as discs
        answer = self.network(views.to(self._dtype()).contiguous(memory_format=torch.channels_last))
        if not isinstance(answer, Tensor) or answer.shape != (views.shape[0], self.num_bins):
            came = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise ValueError(f"the network must give one score per angle, ({len(views)}, {self.num_bins}); got {came}")
        return answer

    def posterior(self, inputs: Images, prior: Prior | None = None) -> Pose:
        return self(inputs) if prior is None else self(inputs, self.log_prior(prior))

    def log_prior(self, prior: Prior) -> Float[Tensor, " m"]:
        """That share about the upright direction, as far as `target` is, the rest on the whole ring: a log for every score.

        A small tilt is drawn to the upright direction. Raises ValueError unless the prior is one number between 0 and 1.
        """
        share = check_share(prior)
        upright = self.target(torch.zeros(0), torch.eye(3)[None])[0]
        shares = share * upright + (1 - share) / len(upright)
        return (shares / shares.max()).log()

    def forward(self, inputs: Images, log_prior: Float[Tensor, " m"] | None = None) -> Pose:
        images, num_frames = as_frames(inputs, self.channels)
        view = self.view(images)
        if view.shape[0] == 0:
            return pose_of(torch.zeros(0, self.num_poses), torch.eye(3).expand(0, self.num_poses, 3, 3))
        scores = self.scores(view).double()
        scores = torch.where(scores.isfinite().all(1, keepdim=True), scores, torch.zeros_like(scores))
        scores = scores.unflatten(0, (-1, num_frames)).mean(1)
        rings = scores if log_prior is None else scores + log_prior.to(scores)
        rings = rings.unflatten(1, (self._flips, self.num_bins))
        logs, turns = zip(*[sectors(ring) for ring in rings.unbind(1)], strict=True)
        if self.group.reflections:
            turns = (turns[0], turns[1] * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64, device=view.device))
        return pose_of(torch.cat(logs, 1).float(), torch.cat(turns, 1).float())

    def target(self, prior: Tensor, g: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b m"]:
        """Von Mises about the angle (Mardia & Jupp 2000, sec. 3.5.4); there is no other prior of continuous groups."""
        angle = torch.atan2(g[:, 0, 1], g[:, 1, 1]).double()
        bins = 2 * math.pi * torch.arange(self.num_bins, device=g.device, dtype=torch.float64) / self.num_bins
        about = (CONCENTRATION * torch.cos(angle[:, None] - bins)).softmax(1)
        flipped = (torch.linalg.det(g) < 0)[:, None]
        both = [about * ~flipped, about * flipped] if self.group.reflections else [about]
        return torch.cat(both, 1)

    def right(self, scores: Float[Tensor, "b m"], target: Float[Tensor, "b m"]) -> Bool[Tensor, " b"]:
        """Within 10 degrees."""
        apart = (scores.argmax(1) - target.argmax(1)) % scores.shape[1]
        bins = 10 * self.num_bins / 360
        return (apart <= bins) | (apart >= scores.shape[1] - bins)


def sectors(ring: Float[Tensor, "b k"]) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b s 3 3"]]:
    """The log-share of each sector and the turn in it, the first sector about the likeliest angle of the ring.

    Sectors follow the peak, so that they turn with the image. Turns of rings that are a quarter turn apart differ by an exact
    quarter turn.
    """
    k = ring.shape[1]
    width = k // SECTORS
    top = ring.argmax(1)
    place: Int[Tensor, " k"] = torch.arange(k, device=ring.device) - width // 2
    share = ring.gather(1, (top[:, None] + place) % k).unflatten(1, (SECTORS, width))
    within = 2 * math.pi / k * place[:width].double()
    inner = share.softmax(2)
    mean = torch.stack([(inner * within.cos()).sum(2), (inner * within.sin()).sum(2)], -1)
    offset = turn_to(mean / mean.square().sum(-1, keepdim=True).sqrt())
    centre = (top[:, None] + width * torch.arange(SECTORS, device=ring.device)) % k
    return share.logsumexp(2), exact_turns(k).to(ring.device)[centre] @ offset


def exact_turns(k: int) -> Float[Tensor, "k 3 3"]:
    """Turns by multiples of 360/k degrees, k a multiple of 4, of which those a quarter turn apart differ by an exact one."""
    first = turn(2 * math.pi / k * torch.arange(k // 4, dtype=torch.float64))
    quarters = turn(math.pi / 2 * torch.arange(4, dtype=torch.float64))
    return (quarters[:, None] @ first).flatten(0, 1)
