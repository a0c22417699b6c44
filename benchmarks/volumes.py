"""Volumes: equal to the bit over the symmetries of the cube, orientations found, and the Dice of a segmenter, bare and adapted.

The data is a synthetic anatomy (anatomy.py) without mirror symmetry; the segmenter, a small U-Net, is trained here on upright
bodies, and the adapters are fitted on others of them, unlabelled. What is measured on was seen by none; files of volumes
are counted by volume_files.py. No package here ships a body or a stack with its labels: scikit-image's cells3d is a download,
scikit-learn and SciPy have none, nibabel's test files and nilearn's templates have no labels. Times are of one thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import common
from anatomy import CLASSES, bodies
from equiform import Equivariant, act, adapt, evaluate, fit, group
from equiform.canonicalizers import VolumeCanonicalizer
from intervals import PerPhoto, interval, over_elements, samples

LAW = ("O", "Oh", "D2h", "C4z", "C2z")
SHAPES = ((12, 12, 12), (9, 12, 14))
KINDS = {"mask": "volume_mask", "logits": "invariant", "points": "points", "boxes": "boxes", "spacing": "spacing"}
RESAMPLES = 4000
COST = ((32, 40, 36), (128, 128, 128), (200, 256, 256))


class UNet(nn.Module):
    """A small U-Net of three dimensions: volumes (b, 1, d, h, w), sides multiples of 4, to scores (b, k, d, h, w)."""

    def __init__(self, classes: int = len(CLASSES), width: int = 8):
        super().__init__()
        self.down = nn.ModuleList([_convs(1, width), _convs(width, 2 * width), _convs(2 * width, 4 * width)])
        self.up = nn.ModuleList([_convs(6 * width, 2 * width), _convs(3 * width, width)])
        self.out = nn.Conv3d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - x.mean((1, 2, 3, 4), keepdim=True)) / x.std((1, 2, 3, 4), keepdim=True)
        kept = []
        for i, layer in enumerate(self.down):
            x = layer(F.max_pool3d(x, 2) if i else x)
            kept.append(x)
        for layer, skip in zip(self.up, kept[-2::-1], strict=True):
            x = layer(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.out(x)


def _convs(into: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (into, out):
        layers += [nn.Conv3d(inputs, out, 3, padding=1, bias=False), nn.BatchNorm3d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def trained(num: int, passes: int, batch: int = 2) -> UNet:
    """The segmenter, trained on `num` upright bodies."""
    torch.manual_seed(0)
    network, (x, y) = UNet(), bodies(num, seed=1)
    steps = passes * num // batch
    optimizer = torch.optim.AdamW(network.parameters(), 6e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(num, (batch,))
        loss = overlap_loss(network(x[rows]), y[rows].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"segmenter {step}/{steps}: loss {float(loss.detach()):.3f}", flush=True)
    return network.eval()


def overlap_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, and one minus the soft Dice of the organs, which are few of the voxels."""
    shares, target = scores.softmax(1), F.one_hot(labels, scores.shape[1]).movedim(-1, 1).float()
    both, either = (shares * target).sum((0, 2, 3, 4)), (shares + target).sum((0, 2, 3, 4))
    return F.cross_entropy(scores, labels) + 1 - (2 * both / (either + 1))[1:].mean()


# ------------------------------------------------------------------------------------------------------ to the bit


class Everything(nn.Module):
    """A random network with all kinds of answer: a map, logits, the soft maxima of the map as points, boxes around them, and
    how far the first reaches along x, y and z."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv3d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body(x.float() / 255 if x.dtype == torch.uint8 else x)
        weight = maps.flatten(2).mul(20).softmax(-1).unflatten(-1, maps.shape[2:])
        sums = [weight.sum([axis for axis in (2, 3, 4) if axis != kept]) for kept in (4, 3, 2)]
        points = torch.stack([(one * (torch.arange(one.shape[-1]) + 0.5)).sum(-1) for one in sums], -1)
        boxes = torch.cat([points - 2.3, points + 3.7], -1)
        reach = torch.stack([one[:, 0].square().sum(-1) for one in sums], -1)
        return {"mask": maps, "logits": maps.mean((2, 3, 4)), "points": points, "boxes": boxes, "spacing": 1 / reach}


def exactness() -> dict[str, Any]:
    """The leaves of the answers that are equal to the bit, and all of them, over every element; the bare network as control."""
    table: dict[str, Any] = {}
    for name in LAW:
        torch.manual_seed(0)
        canonicalizer = VolumeCanonicalizer(name, resolution=8).eval()
        canonicalizer.fitted = True  # random weights are as exact
        predictor = Everything().eval()
        adapted = adapt(predictor, name, inputs="volume", outputs=KINDS, canonicalizer=canonicalizer)
        for shape in SHAPES:
            for dtype in (torch.uint8, torch.float32):
                x = (torch.rand(1, 1, *shape) * 255).to(dtype)
                for label, model in (("bare", predictor), ("adapted", adapted)):
                    equal, total = count(model, x, name)
                    tally = table.setdefault(name, {}).setdefault(label, [0, 0])
                    tally[0], tally[1] = tally[0] + equal, tally[1] + total
    return table


def count(model: Callable[[Tensor], Any], x: Tensor, name: str, kinds: Any = KINDS) -> tuple[int, int]:
    upright, found = model(x), []
    for g in group(name).elements.split(1):
        turned, expected = model(act(g, x, "volume")), act(g, upright, kinds, (x.shape[2], x.shape[3], x.shape[4]))
        found += [torch.equal(turned[key], expected[key]) for key in kinds]
    return sum(found), len(found)


# ------------------------------------------------------------------------------------------------- orientation and Dice


def adapter(name: str, predictor: nn.Module, args: argparse.Namespace) -> tuple[Equivariant, float]:
    """The segmenter adapted to a group, its canonicalizer fitted on unlabelled bodies; and the seconds that took."""
    torch.manual_seed(0)
    model = adapt(predictor, name, inputs="volume", outputs="volume_mask", canonicalizer=VolumeCanonicalizer(name))
    start = time.perf_counter()
    fit(model, bodies(args.fit, 2)[0], val=bodies(args.val, 3)[0], epochs=args.epochs, batch_size=8, enable_progress_bar=False)
    return model, time.perf_counter() - start


def poses(model: Equivariant, num: int) -> dict[str, Any]:
    """The share of bodies kept aside whose pose is found, each turned by an element of its own, and the mean confidence."""
    x, _ = bodies(num, seed=5)
    g = model.group.random(num, torch.Generator().manual_seed(0))
    found = [model.pose(act(g[i : i + 1], x[i : i + 1], "volume")) for i in range(num)]
    right = [int(pose.index) == int(model.group.index(g[i : i + 1])) for i, pose in enumerate(found)]
    return {"bodies": num, "right": sum(right), "confidence": sum(float(pose.confidence) for pose in found) / num}


def segmentation(model: Equivariant, num: int, folder: Path) -> dict[str, Any]:
    """The Dice over every element, bare and adapted, with the likeliest pose and with as many as cover 90 %.

    `interval`: of the mean over the elements, from bodies drawn again with replacement.
    """
    sure = Equivariant(model.predictor, model.canonicalizer, model.inputs, model.outputs, coverage=0.9)
    metric = PerPhoto("dice")
    report = evaluate(
        model, bodies(num, seed=4), metric=metric, baselines=["bare"], others={"coverage 0.9": sure}, batch_size=1
    )
    print(report, flush=True)
    report.save(folder / f"volumes-{model.group.name}.html")
    order, weights = len(report.elements), samples(num, RESAMPLES)
    found = {}
    for i, method in enumerate(report.methods):
        values = over_elements(metric.copies[i * order : (i + 1) * order], weights)
        keys = ("mean", "worst", "pose_accuracy", "equivariance_error", "passes", "time")
        found[method.name] = {"upright": report.upright_of(method.name)} | {key: getattr(method, key) for key in keys}
        found[method.name] |= {"interval": interval(values.mean(0), num)}
    return found


def cost(model: Equivariant) -> dict[str, Any]:
    """Milliseconds of the processor for the pose and for the segmenter, by the size of the volume: the least of five."""
    found = {}
    for shape in COST:
        x = torch.rand(1, 1, *shape)
        times = {
            "pose": least(lambda x=x: model.pose(x)),
            "move": least(lambda x=x: act(model.group.elements[5:6], x, "volume")),
        }
        if x.numel() < 1 << 18:  # the U-Net takes seconds on larger ones
            times["segmenter"] = least(lambda x=x: model.predictor(x))
        found["x".join(map(str, shape))] = times
    return found


def least(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        start = time.process_time()
        run()
        times.append(1000 * (time.process_time() - start))
    return round(min(times), 1)


def table(figures: dict[str, Any]) -> str:
    """A row for every group and method: the Dice over the elements with the 95 % interval of its mean, the poses found, passes
    of the segmenter, and the time."""
    lines = ["| group | method | bodies | upright | mean | worst | poses found | passes | time |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name in (name for name in ("O", "Oh") if name in figures):
        found = f"{figures[name]['poses']['right']} of {figures[name]['poses']['bodies']}"
        for method, row in figures[name]["dice"].items():
            low, high = row["interval"]
            numbers = f"{row['upright']:.3f} | {row['mean']:.3f} ({low:.2f} to {high:.2f}) | {row['worst']:.3f}"
            poses, bodies = "-" if method == "bare" else found, figures[name]["test"]
            lines.append(f"| {name} | {method} | {bodies} | {numbers} | {poses} | {row['passes']:.2f} | {row['time']:.2f}x |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=150, help="bodies that the segmenter is trained on")
    parser.add_argument("--passes", type=int, default=5, help="passes over them")
    parser.add_argument("--fit", type=int, default=160, help="unlabelled bodies that the adapters are fitted on")
    parser.add_argument("--val", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--test", type=int, default=20, help="bodies whose Dice is measured over every element")
    parser.add_argument("--poses", type=int, default=200, help="bodies whose orientation is found")
    parser.add_argument("--groups", nargs="*", default=["O", "Oh"])
    parser.add_argument("--segmenter", type=Path, help="weights of an earlier run, whose figures of other groups are kept")
    parser.add_argument("--folder", type=Path, default=Path("volumes-report"), help="where adapters and HTML reports go")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    figures, predictor = begun(args)
    for name in args.groups:
        model, seconds = adapter(name, predictor, args)
        model.save(args.folder / name)
        with torch.no_grad():
            row = {"fit": args.fit, "epochs": args.epochs, "test": args.test, "fit_seconds": round(seconds)}
            row |= {"poses": poses(model, args.poses), "cost_ms": cost(model)}
            print(name, row, flush=True)
            figures[name] = row | {"dice": segmentation(model, args.test, args.folder)}
        print("figures in", common.keep("volumes", figures, args.out), flush=True)


def begun(args: argparse.Namespace) -> tuple[dict[str, Any], UNet]:
    """The figures so far, and the segmenter: those of an earlier run, or of a new one."""
    if args.segmenter is not None:
        predictor = UNet().eval()
        predictor.load_state_dict(torch.load(args.segmenter, weights_only=True))
        return json.loads(common.results("volumes", args.out).read_text()), predictor
    with torch.no_grad():
        figures: dict[str, Any] = {"equal_of_total": exactness(), "shapes": SHAPES}
    print(figures, flush=True)
    predictor = trained(args.train, args.passes)
    torch.save(predictor.state_dict(), args.folder / "segmenter.pt")
    return figures | {"train": args.train, "passes": args.passes}, predictor


if __name__ == "__main__":
    main()
