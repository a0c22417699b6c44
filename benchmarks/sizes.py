"""Photos shown smaller and larger than usual: an ImageNet classifier and a COCO detector, bare and adapted to their size.

Every photo is shown at 0.35 to 2 times its usual size on its own canvas: smaller ones in black, and once more with what lies
beyond their edges mirrored, so that no frame gives the size away; larger ones cropped. The canonicalizer is fitted on
unlabelled photos of the usual size alone. "known size" is told the size: what is lost there is lost by resampling. The group
ends at 1 by default, since what is enlarged and cropped is worse shrunk than as it is: "known size, shrunk too" shows it.

For every size: top-1 (AP50), and how far the answers are from those at the usual size: the equivariance error, beside that of
resampling alone ("known size"). Of classes it is the mean over photos of the greatest difference between probabilities; of
detections 1 - AP50 against the method's own answers at the usual size (of a score from 0.3 on), which are moved with the photo.
Means, and shares that are won back, have 95 % intervals from resampling the photos.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

import backbones
import common
import equiform
import photo_tasks
from equiform import Equivariant, OrbitCanonicalizer, Rows, act, adapt, fit, group, inverse
from equiform.canonicalizers import UniformCanonicalizer
from equiform.evaluation.detections import AveragePrecision
from equiform.geometry import Image, Scale
from equiform.geometry.groups import size_of
from equiform.geometry.scales import resizing
from intervals import PerPhoto, interval, samples
from turned import cost

SHOWN = (0.35, 0.5, 0.71, 1.0, 1.41, 2.0)
BEYOND = {"black": "zeros", "mirrored": "reflect"}  # what smaller photos lie in
SEEN = 0.25  # boxes of which less than this share is left on the canvas are no targets
SURE = 0.3  # the score from which on a detection counts as an answer
Scores = dict[str, dict[str, PerPhoto]]  # by size, by method


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="folder of unlabelled photos of the usual size")
    parser.add_argument("--test", type=Path, help="folder of photos, one subfolder per class")
    parser.add_argument("--labels", type=Path, help=common.LABELS_HELP)
    parser.add_argument("--predictor", default="mobilenet_v2", help="timm:NAME, torchvision:NAME, FILE.py:FUNCTION, ...")
    parser.add_argument("--detector", default="fastestdet_coco", help="a network with FastestDet's decode; empty: none")
    parser.add_argument("--data", type=Path, help="folder with boxes.json and images/")
    parser.add_argument("--group", default="Scale(0.35,1,5)", help="the sizes that are told apart")
    parser.add_argument("--backbone", default="mobilenet_v1_025", help="network whose last layer becomes the score")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=int, default=200, help="measure on that many photos, spread over the classes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--adapter", type=Path, help="save the fitted adapter in this folder; one that is there is measured")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def shown(x: Any, size: float, beyond: str = "black") -> Any:
    """Images (b, c, h, w), or a list of (c, h, w), at `size` times their size on their canvas."""
    kind = Image(border=BEYOND[beyond])
    return act(resizing(torch.tensor([size])), x, Rows(kind) if isinstance(x, list) else kind)


def fitted(predictor: Any, args: argparse.Namespace) -> tuple[OrbitCanonicalizer, dict[str, Any]]:
    """The canonicalizer, fitted or from `--adapter`, and how it was fitted."""
    if args.adapter and (args.adapter / "fit.json").exists():
        network = backbones.folded(backbones.scoring_network(args.backbone))
        model = equiform.load(args.adapter, predictor, network=network)
        return model.canonicalizer, json.loads((args.adapter / "fit.json").read_text())  # pyright: ignore[reportReturnType]
    train, _ = common.photos(args.train or common.shared("data/imagenette/train"), 224)
    start, used = time.perf_counter(), time.process_time()
    torch.manual_seed(args.seed)
    views = OrbitCanonicalizer(args.group, resolution=args.resolution).view(train[:: max(1, len(train) // 64)])
    network = backbones.with_batch_norms(backbones.scoring_network(args.backbone), views)
    canonicalizer = OrbitCanonicalizer(args.group, network, resolution=args.resolution)
    model = adapt(predictor, args.group, outputs="logits", canonicalizer=canonicalizer)
    history = fit(model, train, epochs=args.epochs, lr=args.lr, seed=args.seed).history
    how = {name: getattr(args, name) for name in ("group", "backbone", "resolution", "epochs", "lr", "seed")}
    how |= {"num_photos": len(train), "last_epoch": history[-1]}
    how |= {
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "minutes_of_computing": round((time.process_time() - used) / 60, 1),
    }
    canonicalizer = OrbitCanonicalizer(args.group, backbones.folded(network), resolution=args.resolution)
    if args.adapter:
        adapt(predictor, args.group, outputs="logits", canonicalizer=canonicalizer).save(args.adapter)
        (args.adapter / "fit.json").write_text(json.dumps(how))
    return canonicalizer, how


@torch.inference_mode()
def answers(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Class probabilities of uint8 photos."""
    return torch.cat([model(part.float() / 255).softmax(1) for part in images.split(20)])


def known(predictor: Callable[[Any], Any], size: float, low: float, high: float) -> Callable[[Any], Any]:
    """The predictor told the size, which it undoes from `low` to `high`."""
    back = inverse(resizing(torch.tensor([min(max(size, low), high)])))
    return lambda x: predictor(act(back, x, Rows("image") if isinstance(x, list) else "image"))


def methods_at(predictor: nn.Module, model: Equivariant, size: float, beyond: str) -> dict[str, Any]:
    """What is measured on photos of that size; a method that sees what another sees is named after it, and not run again."""
    sizes = cast(Scale, model.group)
    methods: dict[str, Any] = {"bare": predictor, "adapted": model}
    methods["known size"] = "bare" if size == 1 or size > sizes.high == 1 else known(predictor, size, sizes.low, sizes.high)
    if beyond == "black":
        n, uniform = len(sizes.elements), UniformCanonicalizer(sizes)
        methods["scale-averaged"] = adapt(predictor, sizes, outputs="logits", canonicalizer=uniform, top_k=n)
        too = known(predictor, size, min(SHOWN), max(SHOWN))
        methods["known size, shrunk too"] = "known size" if size <= sizes.high else too
    return methods


def classified(
    predictor: nn.Module, model: Equivariant, images: Tensor, labels: Tensor, beyond: str
) -> tuple[dict[str, Any], Scores]:
    """Figures of every method at every size, and of the sizes found; what each photo adds to them."""
    usual: dict[str, Tensor] = {}
    result: dict[str, Any] = {}
    scores: Scores = {}
    for size in sorted(SHOWN, key=lambda one: one != 1):  # the usual size first, which the others are compared with
        x, found, seen = shown(images, size, beyond), {}, {}
        for name, method in methods_at(predictor, model, size, beyond).items():
            seen[name] = p = seen[method] if isinstance(method, str) else answers(method, x)
            error = float((p - usual.setdefault(name, p)).abs().amax(1).mean())
            score = scores.setdefault(str(size), {})[name] = PerPhoto("accuracy")
            score.update(p, labels)
            found[name] = {"top1": score.compute(), "error": error}
        result[str(size)] = found | {"pose": poses(model, x, size)}
        print(beyond, size, {name: round(one["top1"], 3) for name, one in found.items()}, result[str(size)]["pose"], flush=True)
    return result, scores


@torch.inference_mode()
def poses(model: Equivariant, x: Tensor, size: float) -> dict[str, float]:
    """The sizes found: their median, and the share within half a step of the size shown (or of the end of the group)."""
    sizes = cast(Scale, model.group)
    found = torch.cat([size_of(model.pose(part).g.double()) for part in x.split(20)])
    target = min(max(size, sizes.low), sizes.high)
    step = float(sizes.sizes.log().diff().max())
    right = (found.log() - torch.tensor(target).log()).abs() <= step / 2
    return {"median": float(found.median()), "within half a step": float(right.float().mean())}


def summary(scores: Scores, num_resamples: int = 1000) -> dict[str, Any]:
    """Of each method the mean over sizes, and the share of what size costs the bare predictor that it wins back, over all sizes
    and over those up to the usual one; with their intervals."""
    num = len(scores["1.0"]["bare"])
    weights = samples(num, num_resamples)
    values = {size: {name: one.weighted(weights) for name, one in row.items()} for size, row in scores.items()}

    found: dict[str, Any] = {}
    for name in scores["1.0"]:
        told = {"mean": np.mean([row[name] for row in values.values()], 0)}
        for what, largest in (("won_back", max(SHOWN)), ("won_back_up_to_1x", 1)):
            some = [row for size, row in values.items() if float(size) <= largest]
            bare = np.mean([row["bare"] for row in some], 0)
            told[what] = (np.mean([row[name] for row in some], 0) - bare) / (values["1.0"]["bare"] - bare)
        found[name] = {what: float(one[0]) for what, one in told.items()}
        found[name]["intervals"] = {what: interval(one, num) for what, one in told.items() if name != "bare" or what == "mean"}
    return found


# ------------------------------------------------------------------------------------------------------------ detection


def on_canvas(found: dict[str, Tensor], whole: Tensor, canvas: tuple[int, int]) -> dict[str, Tensor]:
    """Boxes cut at the edges of the canvas; those of which little is left are dropped. `whole`: all of them, uncut."""
    limit = torch.tensor([canvas[1], canvas[0]] * 2, dtype=whole.dtype)
    cut = torch.minimum(whole.clamp(min=0), limit)
    left = (cut[:, 2:] - cut[:, :2]).prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1).clamp(min=1e-6)
    return {name: (cut if name == "boxes" else value)[left >= SEEN] for name, value in found.items()}


@torch.inference_mode()
def detected(network: nn.Module, canonicalizer: OrbitCanonicalizer, data: Any) -> tuple[dict[str, Any], Scores]:
    """AP50 and error of the detector at every size, bare, adapted, and told the size; what each photo adds to AP50."""
    detector, sizes = photo_tasks.Detector(network), cast(Scale, canonicalizer.group)
    kinds, truth = Rows(photo_tasks.DETECTIONS), Rows({"boxes": "boxes", "labels": "invariant"})
    model = adapt(detector, sizes, inputs=Rows("image"), outputs=kinds, canonicalizer=canonicalizer)
    result: dict[str, Any] = {}
    scores: Scores = {}
    usual: dict[str, list[Any]] = {name: [] for name in ("bare", "adapted", "known size")}
    for size in sorted(SHOWN, key=lambda one: one != 1):  # the usual size first, which the others are compared with
        g, back = resizing(torch.tensor([size])), inverse(resizing(torch.tensor([min(max(size, sizes.low), sizes.high)])))
        row = scores[str(size)] = {name: PerPhoto("box_ap50") for name in usual}
        alike = {name: AveragePrecision("boxes", 0.5) for name in usual}
        for start in range(0, len(data), 16):
            images, targets = map(list, zip(*[data[i] for i in range(start, min(start + 16, len(data)))], strict=True))
            canvases = [(int(image.shape[1]), int(image.shape[2])) for image in images]
            x = shown(images, size)
            answers = {"bare": detector(x), "adapted": model(x)}
            answers["known size"] = act(inverse(back), detector(act(back, x, Rows("image"))), kinds, canvases)
            for name, answer in answers.items():
                if size == 1:
                    usual[name] += [sure(one) for one in answer]
                cut = all_on_canvas(answer, canvases)
                expected = act(g, usual[name][start : start + len(images)], truth, canvases)
                row[name].update(cut, all_on_canvas(act(g, targets, truth, canvases), canvases))
                alike[name].update(cut, all_on_canvas(expected, canvases))
        result[str(size)] = {name: {"ap50": row[name].compute(), "error": 1 - alike[name].compute()} for name in usual}
        print("detection", size, {name: round(one["ap50"], 3) for name, one in result[str(size)].items()}, flush=True)
    return result, scores


def sure(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The boxes and classes of the detections that count as an answer."""
    return {name: found[name][found["scores"] >= SURE] for name in ("boxes", "labels")}


def all_on_canvas(found: list[dict[str, Tensor]], canvases: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
    return [on_canvas(one, one["boxes"], canvas) for one, canvas in zip(found, canvases, strict=True)]


# --------------------------------------------------------------------------------------------------------------- tables
SETTINGS = {"photos in black": ("black", "top1"), "with mirrored surroundings": ("mirrored", "top1")}
SETTINGS["detection in black"] = ("detection", "ap50")


def cells(figures: dict[str, Any], key: str, name: str, what: str) -> list[str]:
    """A figure of a method at every size; where it is told the size and nothing is undone it sees what the bare one sees."""
    by_size = figures[key]["by_size"]
    return ["as bare" if name == "known size" and size >= 1 else f"{by_size[str(size)][name][what]:.3f}" for size in SHOWN]


def share(told: dict[str, Any], what: str) -> str:
    """A figure of the summary, with its interval where one was computed."""
    ends = told.get("intervals", {}).get(what, [])
    value, *between = [f"{one:.3f}" if what == "mean" else f"{100 * one:.0f} %" for one in (told[what], *ends)]
    return f"{value} ({' to '.join(between)})" if between else value


def table(figures: dict[str, Any]) -> str:
    """A row for every setting and method: the score at every size, their mean, and the share that is won back."""
    shown_at = " | ".join(f"{size:g}x" for size in SHOWN)
    lines = [f"| shown at | | {shown_at} | mean | won back | up to 1x |", "| --- " * (len(SHOWN) + 5) + "|"]
    for setting, (key, score) in SETTINGS.items():
        for name, one in figures[key]["summary"].items():
            title = f"{setting}, {'AP50' if score == 'ap50' else 'top-1'}" if name == "bare" else ""
            row = [title, name, *cells(figures, key, name, score)]
            row += [
                share(one, "mean"),
                *("" if name == "bare" else share(one, what) for what in ("won_back", "won_back_up_to_1x")),
            ]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def error_table(figures: dict[str, Any]) -> str:
    """A row for every setting and method: how far the answers are from those at the usual size."""
    lines = [f"| error at | | {' | '.join(f'{size:g}x' for size in SHOWN)} |", "| --- " * (len(SHOWN) + 2) + "|"]
    for setting, (key, _) in SETTINGS.items():
        for name in figures[key]["summary"] if "error" in figures[key]["by_size"]["1.0"]["bare"] else ():
            called = "known size: resampling alone" if name == "known size" else name
            row = [setting if name == "bare" else "", called, *cells(figures, key, name, "error")]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    if not isinstance(group(args.group), Scale):
        raise SystemExit(f"--group is a range of sizes, such as Scale(0.35,1,5); got {args.group}")
    predictor = common.predictor(args.predictor)
    test, folders = common.photos(args.test or common.shared("data/imagenette/val"), 224)
    labels = common.class_indices(folders, args.labels)
    chosen = torch.arange(0, len(test), max(1, len(test) // args.photos))[: args.photos]
    canonicalizer, how = fitted(predictor, args)
    print(f"fitted on {how['num_photos']} photos in {how['minutes']} minutes; {len(chosen)} photos to measure on", flush=True)
    model = adapt(predictor, args.group, outputs="logits", canonicalizer=canonicalizer)
    figures: dict[str, Any] = {"predictor": args.predictor, "fit": how, "num_photos": len(chosen)}
    figures["cost"] = cost(model, predictor, test[chosen[:32]].float() / 255, 3)
    for beyond in BEYOND:
        found, scores = classified(predictor, model, test[chosen], labels[chosen], beyond)
        figures[beyond] = {"by_size": found, "summary": summary(scores)}
        print(json.dumps(figures[beyond]["summary"], indent=1), common.keep("sizes", figures, args.out), flush=True)
    if args.detector:
        data = photo_tasks.boxes_of(args.data or common.shared("data/coco128"))
        found, scores = detected(common.predictor(args.detector), canonicalizer, data)
        figures["detection"] = {"detector": args.detector, "num_photos": len(data), "by_size": found}
        figures["detection"]["summary"] = summary(scores)
        print(json.dumps(figures["detection"]["summary"], indent=1))
    print("figures in", common.keep("sizes", figures | {"equiform": equiform.__version__}, args.out))


if __name__ == "__main__":
    main()
