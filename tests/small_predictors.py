"""The small predictors of all tests: of photos, of clouds, and their answers of every kind; none of them is equivariant."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = {"logits": "logits", "mask": "mask", "points": "points", "boxes": "boxes", "flow": "field", "count": "invariant"}


class Classifier(nn.Module):
    """Sees where things are."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(6 * self.body(x.float()).relu().mean((-2, -1)))


class CloudClassifier(nn.Module):
    """Not equivariant to anything but the order of the points."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 5)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.double()).mean(1)


class TopIsBright(nn.Module):
    """A classifier that is right about upright pictures: class 0 if the top is brighter than the bottom, else class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(9.0))

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-2] // 2
        difference = x[..., :half, :].float().mean((1, 2, 3)) - x[..., half:, :].float().mean((1, 2, 3))
        return torch.stack([difference, -difference], 1) * self.scale


def _as_float(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x


class Heads(nn.Module):
    """All kinds of answers from features (b, 8, h, w) and pooled features (b, 8)."""

    def __init__(self):
        super().__init__()
        self.classes, self.places = nn.Linear(8, 5), nn.Linear(8, 12)

    def forward(self, features: Tensor, pooled: Tensor) -> dict[str, Tensor]:
        h, w = features.shape[-2:]
        places = self.places(pooled).sigmoid().reshape(-1, 6, 2) * torch.tensor([w, h]).to(pooled)
        low, high = places[:, :3].minimum(places[:, 3:]), places[:, :3].maximum(places[:, 3:])
        logits = self.classes(pooled)
        return {
            "logits": logits,
            "mask": features[:, :3],
            "points": places,
            "boxes": torch.cat([low, high], -1),
            "flow": features[:, 3:5],
            "count": logits.argmax(-1),
        }


class Convolutions(nn.Module):
    """A small convolutional predictor, which knows left from right and up from down."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.first, self.second, self.heads = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), Heads()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.second(self.first(_as_float(image).to(self.first.weight.dtype)).relu())
        return self.heads(features, 3 * features.relu().mean((-2, -1)))


class Attention(nn.Module):
    """A small transformer on 4 x 4 patches with learned positions."""

    def __init__(self):
        super().__init__()
        self.embed, self.positions, self.mix = nn.Linear(3, 8), nn.Parameter(torch.randn(16, 8)), nn.Linear(8, 24)
        self.heads = Heads()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        patches = F.adaptive_avg_pool2d(_as_float(image).to(self.positions.dtype), 4)
        tokens = 3 * self.embed(patches.flatten(2).mT) + self.positions
        q, k, v = self.mix(tokens).chunk(3, -1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v)
        grid = tokens.mT.unflatten(-1, (4, 4))
        return self.heads(F.interpolate(grid, image.shape[-2:], mode="nearest"), tokens.mean(1))


class Only(nn.Module):
    """One of the answers of another predictor."""

    def __init__(self, body: nn.Module, key: str):
        super().__init__()
        self.body, self.key = body, key

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)[self.key]


class Detector(nn.Module):
    """Takes a list of (c, h, w) images, gives one dict per image, with its own number of boxes."""

    def __init__(self):
        super().__init__()
        self.body = Convolutions()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        answers = []
        for image in images:
            answer = self.body(image[None])
            n = 1 + int(10 * answer["points"].sum()) % 3
            answers.append({"boxes": answer["boxes"][0, :n], "scores": answer["logits"][0, :n], "masks": answer["mask"][0]})
        return answers


class Prompted(nn.Module):
    """Says how bright the image is at points asked for, where the brightest column is, and gives back what it was told."""

    def forward(
        self, image: Tensor, points: Tensor, labels: Tensor | None = None, *, scale: float = 1.0, tag: Any = None
    ) -> dict:
        h, w = image.shape[-2:]
        index = points.floor().long().clamp(min=0)
        at = image.mean(1)[torch.arange(len(image))[:, None], index[..., 1].clamp(max=h - 1), index[..., 0].clamp(max=w - 1)]
        weighed = at * (points[..., 0] + 2 * points[..., 1]) * (1 if labels is None else labels)
        return {"value": scale * weighed, "near": points + 0.25, "tag": tag}


class CloudHeads(nn.Module):
    """Not equivariant to anything but the order of the points; answers of every kind that clouds have."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
        self.logits, self.vectors = nn.Linear(16, 4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        v = self.vectors(h)
        answer = {"logits": self.logits(h.mean(1)), "points": x + v, "vectors": v, "parts": self.logits(h)}
        return answer | {"matrices": v[..., None] * v[..., None, :]}
