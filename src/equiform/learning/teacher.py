"""A teacher for canonicalizers: a linear probe on large pretrained features scores every image once, before training.

The probe is fitted out of fold (no image is scored by a probe that saw it), so that its posteriors are not overconfident. The
canonicalizer then learns from the prior and these posteriors together (distillation, Hinton et al. 2015, arXiv 1503.02531),
which keeps a small network from memorising a small data set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.actions import act_image
from ..geometry.groups import Group, inverse
from ..second_opinion import linear_scorer
from .augmentation import Augmentation, random_crops


@dataclass(frozen=True)
class Teacher:
    """What `fit(teacher=)` takes.

    `features`: from images (b, c, size, size), as the predictor takes them, to (b, d) or (b, d, h, w), which is averaged over
    space: the predictor's own trunk, or the predictor itself. `crops` of each image are scored and averaged; `weight` is the
    share of the teacher in the target, the rest is the prior's.
    """

    features: Callable[[Tensor], Tensor]
    size: int = 192
    crops: int = 4
    weight: float = 0.5
    folds: int = 4
    penalty: float = 0.05

    def posteriors(self, squares: Tensor, group: Group, seed: int, batch_size: int = 16) -> Float[Tensor, "n order"]:
        """The posterior over poses of every upright image. Costs crops x |G| forward passes of `features` an image."""
        generator = torch.Generator().manual_seed(seed)
        augmentation = Augmentation(area=(0.35, 1.0))
        crops = []
        with torch.no_grad():
            for part in squares.split(batch_size):
                for_all = [self._orbit_features(part, group, augmentation, generator) for _ in range(self.crops)]
                crops.append(torch.stack(for_all))
        return self._out_of_fold(torch.cat(crops, 1), generator).softmax(-1)

    def _orbit_features(self, squares: Tensor, group: Group, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
        b = len(squares)
        crop = random_crops(squares, group, self.size, augmentation, generator, group.identity(b))
        orbit = [act_image(g.expand(b, 3, 3), crop, None, border="reflect") for g in inverse(group.elements)]
        features = torch.as_tensor(self.features(torch.cat(orbit)))
        if features.ndim < 2 or len(features) != b * len(orbit):
            came, expected = tuple(features.shape), b * len(orbit)
            raise ValueError(f"a teacher's features have shape ({expected}, d) or ({expected}, d, h, w) here; got {came}")
        pooled = features.float().flatten(2).mean(-1) if features.ndim > 2 else features.float()
        return pooled.unflatten(0, (len(orbit), b)).transpose(0, 1)

    def _out_of_fold(self, features: Float[Tensor, "c n order d"], generator: torch.Generator) -> Float[Tensor, "n order"]:
        n = features.shape[1]
        if n < 2 * self.folds:
            raise ValueError(f"a teacher needs at least {2 * self.folds} images for its {self.folds} folds; got {n}")
        fold = torch.randperm(n, generator=generator) % self.folds
        scores = torch.zeros(n, features.shape[2])
        for f in range(self.folds):
            weight = linear_scorer(features[:, fold != f].flatten(0, 1), self.penalty)
            scores[fold == f] = (features[:, fold == f] @ weight).mean(0)
        return scores
