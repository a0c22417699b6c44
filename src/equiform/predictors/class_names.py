"""The names of the classes of a predictor, where they are known."""

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._optional import optional
from .pairs import PhotoPredictor
from .references import parse_reference

IMAGENET_CLASSES = 1000


def class_names(ref: str | None, predictor: Any, num_classes: int) -> Sequence[str]:
    """The classes in words: as the model says, or as torchvision says of it; 1,000 classes are ImageNet's. Else none."""
    model = predictor.model if isinstance(predictor, PhotoPredictor) else predictor
    named = getattr(getattr(model, "config", None), "id2label", None)
    if named:
        return told_apart([str(named[i]) for i in sorted(named)])
    if ref is not None and parse_reference(ref).source == "torchvision":
        said: Any = optional("torchvision.models", "torchvision").get_model_weights(parse_reference(ref).name)
        return told_apart(said.DEFAULT.meta.get("categories", ()))
    return imagenet() if num_classes == IMAGENET_CLASSES else ()


def imagenet() -> Sequence[str]:
    """ImageNet's classes as gradio lists them for its own examples; none where it does not."""
    spec = find_spec("gradio")
    places = [] if spec is None else spec.submodule_search_locations or []
    listed = (Path(place, "media_assets", "data", "imagenet_labels.json") for place in places)
    return next((_listed(path) for path in listed if path.is_file()), ())


@cache  # what was found, and not that there was nothing: a package may be installed meanwhile
def _listed(path: Path) -> Sequence[str]:
    names = json.loads(path.read_text(encoding="utf-8"))
    return told_apart(names) if len(names) == IMAGENET_CLASSES else ()


def told_apart(names: Sequence[str]) -> list[str]:
    """The names, those that come twice with their number: ImageNet has two cranes."""
    return [name if list(names).count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
