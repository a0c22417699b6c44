"""Exactness on clouds, measured: the error of f(g.x) against g.f(x) over groups of space, in float32 and float64.

A random network that knows nothing of rotations, with answers of every kind that clouds have; a different element and another
order of the points in every row; one pose and all poses. The error is relative, of every answer and row; the worst is kept.
The control is the bare network under the same law: the median over the rows of their worst error.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import common
from equiform import Equivariant, FrameCanonicalizer, PrincipalAxesCanonicalizer, SearchCanonicalizer, act, adapt, group
from equiform.frames import CloudCanonicalizer
from equiform.groups import SpaceGroup, homogeneous

CONTINUOUS, FINITE = ("SO3", "O3", "SE3", "E3", "SO2z"), ("C4z", "C5z", "O", "Oh", "I", "Ih")
BOUNDS = {"float32": 1e-5, "float64": 1e-12}
KINDS = {"logits": "logits", "parts": "logits", "points": "points", "vectors": "vectors", "matrices": "matrices"}


def procrustes(name: str) -> FrameCanonicalizer:
    return FrameCanonicalizer(name, method="procrustes", origin="learned" if group(name).translations else "centroid")


MAKERS: dict[str, Callable[[str], CloudCanonicalizer]] = {
    "search": SearchCanonicalizer,
    "frame": FrameCanonicalizer,
    "frame, procrustes, learned origin": procrustes,
    "principal-axes": PrincipalAxesCanonicalizer,
}


class Network(nn.Module):
    """Logits of the cloud and of its points; points, vectors and matrices of every point."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.logits, self.vectors = nn.Linear(32, 5), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        v = self.vectors(h)
        answer = {"logits": self.logits(h.mean(1)), "parts": self.logits(h), "points": x + v, "vectors": v}
        return answer | {"matrices": v[..., None] * v[..., None, :]}


def clouds(b: int, n: int, dtype: torch.dtype) -> Tensor:
    """Random clouds of unequal axes with a tail each, away from the origin: no two alike, none symmetric."""
    x = torch.randn(b, n, 3, dtype=torch.float64) * torch.tensor([1.6, 1.0, 0.6])
    x[:, : n // 3, 0] += 2
    x[:, : n // 5, 1] += 1
    return x.to(dtype)


def elements(which: SpaceGroup, b: int, dtype: torch.dtype) -> Tensor:
    """Random elements, orthogonal to the last digit of the dtype."""
    if which.order:
        return homogeneous(which.matrices[torch.randint(which.order, (b,))]).to(dtype)
    return which.nearest(which.random(b).to(dtype))


def errors(model: Callable[[Tensor], dict[str, Tensor]], x: Tensor, g: Tensor) -> Tensor:
    """The relative error (answers, b) of every answer and row."""
    order = torch.randperm(x.shape[1])
    with torch.no_grad():
        got, expected = model(act(g, x, "points")[:, order]), act(g, model(x), KINDS)
    expected = {name: value[:, order] if value.ndim > 2 else value for name, value in expected.items()}
    pairs = [(got[name].double().flatten(1), expected[name].double().flatten(1)) for name in KINDS]
    return torch.stack([(a - b).norm(dim=1) / b.norm(dim=1) for a, b in pairs])


def tied(model: Equivariant, x: Tensor, bound: float) -> Tensor:
    """The rows whose two likeliest poses have scores within the bound of each other."""
    with torch.no_grad():
        best = model.canonicalizer(x).scores.sort(dim=1, descending=True).values[:, :2]
    return best[:, 0] - best[:, -1] < bound if best.shape[1] > 1 else torch.zeros(len(x), dtype=torch.bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clouds", type=int, default=100)
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, dict[str, float]]] = {}
    rows_tied = rows = 0
    for dtype in (torch.float32, torch.float64):
        precision = str(dtype).removeprefix("torch.")
        for name in (*CONTINUOUS, *FINITE):
            torch.manual_seed(0)
            which, network = group(name), Network().to(dtype).eval()
            x = clouds(args.clouds, args.points, dtype)
            row = table.setdefault(precision, {})[name] = {}
            for label, make in MAKERS.items() if which.order is None else [("search", MAKERS["search"])]:
                canonicalizer = make(name).eval()
                for top_k in {1, canonicalizer.num_poses}:
                    model = adapt(network, name, outputs=KINDS, canonicalizer=canonicalizer, top_k=top_k)
                    found = errors(model, x, elements(which, len(x), dtype))
                    if top_k == 1:
                        ties = tied(model, x, BOUNDS[precision])
                        found, rows_tied, rows = found[:, ~ties], rows_tied + int(ties.sum()), rows + len(ties)
                    row[label if top_k == 1 else f"{label}, all {top_k} poses"] = float(found.max())
            bare = float(errors(network, x, elements(which, len(x), dtype)).amax(0).median())
            print(f"{precision} {name:5} worst of adapted {max(row.values()):.1e}  bare {bare:.2f}", flush=True)
            row["bare"] = bare
    worst = {key: max(v for row in part.values() for k, v in row.items() if k != "bare") for key, part in table.items()}
    print({key: f"{value:.1e}, bound {BOUNDS[key]:.0e}" for key, value in worst.items()})
    figures = {"worst": worst, "bounds": BOUNDS, "relative_error": table, "clouds": args.clouds, "points": args.points}
    figures["rows_with_a_tie"] = {"left out": rows_tied, "of": rows}
    print("figures in", common.keep("cloud_exactness", figures, args.out))
    if any(worst[key] > bound for key, bound in BOUNDS.items()):
        sys.exit("an error is above its bound")


if __name__ == "__main__":
    main()
