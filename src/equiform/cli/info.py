"""What `equiform info` tells: versions and known names, or what an adapter holds."""

import importlib.metadata
import json
import sys
from typing import Any

import torch

from .. import __version__, ready, saving
from .._checks import reason
from .._optional import optional
from ..canonicalizers.table import CANONICALIZERS
from ..evaluation.metrics import METRICS
from ..geometry.actions import ACTIONS
from ..geometry.groups import known_groups
from .text import in_one_line

EXTRAS = {"transformers": "transformers", "timm": "timm", "torchvision": "torchvision", "onnxruntime": "onnx"}
EXTRAS |= {"scikit-learn": "demo", "gradio": "web", "pyarrow": "parquet", "turbojpeg": "jpeg", "ray": "ray"}


def environment() -> list[tuple[str, str]]:
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        ("equiform", __version__),
        ("python", sys.version.split()[0]),
        ("torch", torch.__version__),
        *((package, package_version(package, extra)) for package, extra in EXTRAS.items()),
        ("threads", str(torch.get_num_threads())),
        ("devices", ", ".join(["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])])),
        ("groups", known_groups()),
        ("kinds", ", ".join(ACTIONS)),
        ("canonicalizers", ", ".join(CANONICALIZERS)),
        ("metrics", ", ".join(METRICS)),
        ("ready-made", ", ".join(ready.names())),
    ]


def package_version(package: str, extra: str) -> str:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed: pip install 'equiform[{extra}]'"
    if package == "torchvision":  # the one that is often installed and does not load
        try:
            optional(package, extra)
        except ImportError as error:
            return f"{version}, which does not load: {reason(error)}"
    return version


def card_rows(card: Any) -> list[tuple[str, str]]:
    """A line for each entry of a model card, and for each set that it has figures of."""
    rows = []
    for name, value in card.items() if isinstance(card, dict) else []:
        of_sets = isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values())
        rows += [(f"card {name} {key}", _listed(inner)) for key, inner in value.items()] if of_sets else []
        rows += [] if of_sets else [(f"card {name}", _listed(value))]
    return rows


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def contents(adapter: str) -> list[tuple[str, str]]:
    config, weights = saving.read(adapter)
    parameters = sum(tensor.numel() for tensor in weights.values() if tensor.dtype.is_floating_point)
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in config.items() if name != "card"]
    return [
        *((in_one_line(name), in_one_line(value)) for name, value in [*rows, *card_rows(config.get("card"))]),
        ("parameters", f"{parameters:,}"),
        ("size", f"{size / 1e6:.2f} MB"),
    ]
