"""Bit-exact equivariance, counted: torch.equal(model(g.x), g.model(x)) for the groups whose elements move pixels to pixels, by
quarter turns, flips, cyclic shifts, and both at once.

Random convolutional and attention predictors; class, mask, point and box outputs; square, non-square and odd photos; uint8 and
float32; a different element in every row. The control is the bare predictor under the same law.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import common
from equiform import GroupConvCanonicalizer, OrbitCanonicalizer, act, adapt, group
from equiform.canonicalizers import Canonicalizer, SeamCanonicalizer
from equiform.canonicalizers.product import product_of
from equiform.geometry import Group
from equiform.geometry.groups import factors_of
from equiform.geometry.kinds import as_kinds

GROUPS = ("C1", "C2", "C4", "D1", "D2", "D4", "Shift4", "Shift16", "Shift4*D4", "D4*Shift16")
SIZES = ((32, 32), (33, 33), (32, 48), (31, 45))
KINDS = {"logits": "invariant", "mask": "mask", "points": "points", "boxes": "boxes"}


class Convolutional(nn.Module):
    """A small random network with all four kinds of answer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 6, 3, padding=1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return answers(self.body(x), self.head(x))

    def head(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))


class Attention(Convolutional):
    """Patches of 4 x 4 pixels with absolute positions, one layer of self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 4, 4)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.out = nn.Linear(32, 6)

    def head(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT
        position = torch.arange(tokens.shape[1])[:, None] * torch.linspace(0.1, 1, 32)
        return self.out(self.layer(tokens + position.sin())).mean(1)


def answers(maps: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """Everything a predictor may say: logits, a map, the soft maxima of the map as points, boxes around them."""
    h, w = maps.shape[2:]
    weight = maps.flatten(2).mul(20).softmax(-1).unflatten(-1, (h, w))
    x = (weight.sum(2) * (torch.arange(w) + 0.5)).sum(-1)
    y = (weight.sum(3) * (torch.arange(h) + 0.5)).sum(-1)
    points = torch.stack([x, y], -1)
    return {"logits": logits, "mask": maps, "points": points, "boxes": torch.cat([points - 3.3, points + 5.7], -1)}


def photos(size: tuple[int, int], dtype: torch.dtype, b: int, seed: int) -> Tensor:
    x = torch.rand(b, 3, *size, generator=torch.Generator().manual_seed(seed))
    return (x * 255).to(torch.uint8) if dtype == torch.uint8 else x


def count(model: Callable[[Any], Any], x: Tensor, g: Tensor, moved_by: Group) -> tuple[int, int]:
    """The leaves of the answers that are equal to the bit, and all of them; every row moves by its own element.

    Square photos are one batch. Others end on two canvases, so that both sides run photo by photo: the rounding of a random
    network may depend on how many rows it is given, which is not what is measured here.
    """
    canvas, image, kinds = (x.shape[-2], x.shape[-1]), as_kinds("image", moved_by), as_kinds(KINDS, moved_by)
    if canvas[0] == canvas[1]:
        turned, upright = split(model(act(g, x, image))), split(model(x))
    else:
        turned = [model(act(g[i : i + 1], x[i : i + 1], image)) for i in range(len(x))]
        upright = [model(x[i : i + 1]) for i in range(len(x))]
    expected = [act(g[i : i + 1], answer, kinds, canvas) for i, answer in enumerate(upright)]
    pairs = [(a[name], b[name]) for a, b in zip(turned, expected, strict=True) for name in KINDS]
    return sum(torch.equal(a, b) for a, b in pairs), len(pairs)


def split(answer: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    return [{name: value[i : i + 1] for name, value in answer.items()} for i in range(len(answer["logits"]))]


def canonicalizers(moved_by: Group) -> list[Canonicalizer]:
    """With random weights, which are as exact as any; no warning of them is wanted."""
    if len(factors := factors_of(moved_by)) > 1:
        return [product_of([canonicalizers(factor)[0] for factor in factors])]
    if moved_by.wraps:
        return [SeamCanonicalizer(moved_by)]
    found = [OrbitCanonicalizer(moved_by, resolution=32), GroupConvCanonicalizer(moved_by, resolution=32)]
    for canonicalizer in found:
        canonicalizer.fitted = True
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a row of a matrix product must not depend on how the batch is cut among threads
    table: dict[str, dict[str, list[int]]] = {}
    for name, (i, size), dtype in itertools.product(GROUPS, enumerate(SIZES), (torch.uint8, torch.float32)):
        torch.manual_seed(i)
        x = photos(size, dtype, args.batch, seed=i)
        g = group(name).random(args.batch, torch.Generator().manual_seed(i))
        for predictor in (Convolutional().eval(), Attention().eval()):
            methods: dict[str, Callable[..., Any]] = {"bare": predictor}
            for canonicalizer in canonicalizers(group(name)):
                methods[canonicalizer.name] = adapt(predictor, name, outputs=KINDS, canonicalizer=canonicalizer)
            for label, method in methods.items():
                with torch.no_grad():
                    equal, total = count(method, x, g, group(name))
                tally = table.setdefault(name, {}).setdefault(label, [0, 0])
                tally[0], tally[1] = tally[0] + equal, tally[1] + total
    for name, row in table.items():
        print(name, "  ".join(f"{label} {equal}/{total}" for label, (equal, total) in row.items()))
    print("figures in", common.keep("exactness", {"equal_of_total": table, "sizes": SIZES, "batch": args.batch}, args.out))


if __name__ == "__main__":
    main()
