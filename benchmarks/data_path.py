"""What one batch of images costs in Python: calls, functions and files of the package between `model(x)` and its answer."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import equiform
from common import keep

PACKAGE = str(Path(equiform.__file__).parent)


def counted(function: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """The calls of the package's functions while `function(*args)` runs, by function, the most frequent first."""
    calls: Counter[str] = Counter()

    def watch(frame: Any, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        # comprehensions are calls in some versions of Python and not in others
        if event == "call" and file.startswith(PACKAGE) and not frame.f_code.co_name.startswith("<"):
            calls[f"{Path(file).relative_to(PACKAGE)}:{frame.f_code.co_qualname}"] += 1

    sys.setprofile(watch)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    files = {name.partition(":")[0] for name in calls}
    return {"calls": calls.total(), "functions": len(calls), "files": len(files), "most": dict(calls.most_common())}


def classifier(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where the JSON goes (default: benchmarks/results)")
    parser.add_argument("--most", type=int, default=0, help="print that many of the functions called most")
    options = parser.parse_args()
    x, figures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)), {}
    for top_k in (1, 4):
        model = equiform.adapt(classifier, "C4", outputs="logits", top_k=top_k)
        model.canonicalizer.fitted = True  # what it costs does not depend on the weights
        model(x)  # what is cached is cached
        with torch.no_grad():
            found = counted(model, x)
        print(f"top_k={top_k}: {found['calls']} calls of {found['functions']} functions in {found['files']} files")
        for name, n in list(found["most"].items())[: options.most]:
            print(f"  {n:4} {name}")
        figures[f"top_k={top_k}"] = {name: found[name] for name in ("calls", "functions", "files")}
    print(keep("data_path", figures, options.out))


if __name__ == "__main__":
    main()
