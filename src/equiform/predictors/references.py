"""Predictors by reference, as the command line names them: timm:NAME, torchvision:NAME, transformers:REPO, FILE.py:FUNCTION.

And efficientnet-lite0, which has a name alone.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

from .._checks import meant, reason
from .._optional import optional
from ..images.files import Normalisation
from .efficientnet_lite import LITE0, LITE0_PIXELS, efficientnet_lite0
from .pairs import PhotoPredictor

FORMS = f"timm:NAME, torchvision:NAME, transformers:REPO (or a folder), FILE.py:FUNCTION, {LITE0}"
CLASSIFIER = "ForImageClassification"  # in the names of transformers' classes
IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Reference(NamedTuple):
    """A reference taken apart: the library, or "file" with its path as the name, and the function in that file; LITE0 alone."""

    source: str
    name: str
    function: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.function}" if self.source == "file" else f"{self.source}:{self.name}".removesuffix(":")


def parse_reference(ref: str) -> Reference:
    """The parts of a reference; nothing is imported or fetched. Raises ValueError for one of no known form."""
    if meant(ref, [LITE0]):
        return Reference(LITE0, "")
    source, _, name = ref.partition(":")
    if source in LOADERS and source not in ("file", LITE0) and name:
        return Reference(source, name)
    path, _, function = ref.rpartition(":")  # the last colon: a Windows path has one of its own
    if path.endswith(".py") and function.isidentifier():
        return Reference("file", path, function)
    hint = " (name the function that returns the predictor)" if ref.endswith((".py", ".py:")) else ""
    raise ValueError(f"{ref!r} is no reference to a predictor{hint}; known forms: {FORMS}")


def check_reference(ref: str) -> None:
    """Raise ValueError or FileNotFoundError for a wrong reference; nothing is imported or fetched."""
    parsed = parse_reference(ref)
    if parsed.source == "file" and not Path(parsed.name).is_file():
        raise FileNotFoundError(f"no file {parsed.name} (from {ref!r})")


def check_resolves(ref: str) -> None:
    """Raise where a reference is wrong, as far as can be told without running a predictor or fetching its weights.

    A file must define the function; timm, torchvision and transformers must be installed, and know the name: transformers by
    its configuration, which is fetched where it is not cached.
    """
    check_reference(ref)
    parsed = parse_reference(ref)
    if parsed.source == "file":
        _check_defines(parsed, ref)
    if parsed.source in NAMED_IN:
        NAMED_IN[parsed.source](parsed)


def _check_defines(ref: Reference, given: str) -> None:
    try:
        body = ast.parse(Path(ref.name).read_bytes()).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{ref.name} is no Python file: {reason(error)} (from {given!r})") from None
    plain = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    imports = [alias for node in body if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names]
    bound = {*plain, *((alias.asname or alias.name).partition(".")[0] for alias in imports)}
    # what else may bind a name, such as a star, an assignment or an if, shows when the file runs
    if not bound & {ref.function, "*"} and all(isinstance(node, PLAIN) for node in body):
        raise ValueError(
            f"{ref.name} defines no {ref.function!r}; it defines: {', '.join(plain) or 'nothing'} (from {given!r})"
        )


def _check_torchvision(ref: Reference) -> None:
    models = optional("torchvision.models", "torchvision")
    with _told(ref):
        models.get_model_builder(ref.name)


def _check_timm(ref: Reference) -> None:
    timm = optional("timm", "timm")
    if ":" not in ref.name and "/" not in ref.name and not timm.is_model(ref.name):
        raise ValueError(f"timm knows no model {ref.name!r}: see timm.list_models()")


def _check_transformers(ref: Reference) -> None:
    transformers = optional("transformers", "transformers")
    with _told(ref):
        transformers.AutoConfig.from_pretrained(ref.name)


PLAIN = (ast.FunctionDef, ast.ClassDef, ast.Expr, ast.Import, ast.ImportFrom)
NAMED_IN = {"torchvision": _check_torchvision, "timm": _check_timm, "transformers": _check_transformers}


def load_reference(ref: str) -> Callable[..., Any]:
    """The predictor that a reference names, in eval mode where it is a module.

    timm, torchvision and transformers give it with its pretrained weights, downloaded where they are not cached; a file gives
    what its function returns when called without arguments. What transformers saved as anything but a classifier comes with its
    processor, as a `PhotoPredictor`.
    Raises ValueError, FileNotFoundError, TypeError or ModuleNotFoundError naming what came.
    """
    check_reference(ref)
    parsed = parse_reference(ref)
    predictor = LOADERS[parsed.source](parsed)
    if isinstance(predictor, nn.Module):
        return predictor.eval()
    if not callable(predictor):
        raise TypeError(f"{ref} gives a {type(predictor).__name__}; a predictor is a module or a callable")
    return predictor


def normalisation(ref: str, predictor: Any) -> Normalisation | None:
    """The mean and deviation per channel that a predictor was trained with; None for a file, whose inputs are in [0, 1].

    timm and transformers tell it. torchvision's classifiers share ImageNet's, which is also the default.
    """
    parsed = parse_reference(ref)
    if parsed.source == "file":
        return None
    if parsed.source == LITE0:
        return LITE0_PIXELS
    said: dict[str, Any] = {}
    if parsed.source == "timm":
        said = getattr(predictor, "pretrained_cfg", None) or {}
        said = {"image_mean": said.get("mean"), "image_std": said.get("std")}
    if parsed.source == "transformers":
        said = _processor(parsed.name)
        if said.get("do_normalize") is False:
            return None
    mean, deviation = said.get("image_mean"), said.get("image_std")
    return (mean, deviation) if mean and deviation else IMAGENET


def _processor(name: str) -> dict[str, Any]:
    base = optional("transformers.image_processing_base", "transformers")
    try:
        return base.ImageProcessingMixin.get_image_processor_dict(name)[0]
    except (OSError, ValueError):  # a repository without a preprocessor_config.json
        return {}


# ------------------------------------------------------------------------------------------------------- one per form


def _timm(ref: Reference) -> Any:
    timm = optional("timm", "timm")
    with _told(ref):
        return timm.create_model(ref.name, pretrained=True)


def _torchvision(ref: Reference) -> Any:
    models = optional("torchvision.models", "torchvision")
    with _told(ref):
        return models.get_model(ref.name, weights="DEFAULT")


def _transformers(ref: Reference) -> Any:
    transformers = optional("transformers", "transformers")
    with _told(ref), _bars_for_terminals_only(transformers.utils.logging):
        saved = next(iter(transformers.AutoConfig.from_pretrained(ref.name).architectures or ()), CLASSIFIER)
        if CLASSIFIER in saved:
            return transformers.AutoModelForImageClassification.from_pretrained(ref.name)
        # as a classifier it would have a last layer of random numbers
        model = getattr(transformers, saved, None)
        if not (isinstance(model, type) and issubclass(model, transformers.PreTrainedModel)):
            raise TypeError(f"it was saved of a {saved}, which transformers {transformers.__version__} does not have")
        return PhotoPredictor(transformers.AutoProcessor.from_pretrained(ref.name), model.from_pretrained(ref.name))


@contextmanager
def _bars_for_terminals_only(logging: Any) -> Iterator[None]:
    """Without the progress bars of transformers where standard error is a file or a pipe."""
    silence = logging.is_progress_bar_enabled() and not sys.stderr.isatty()
    if silence:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silence:
            logging.enable_progress_bar()


@contextmanager
def _told(ref: Reference) -> Iterator[None]:
    """Any error of a library that has no such model, or cannot fetch it, as a ValueError."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{ref} cannot be loaded: {_reason(error)}") from error


def _file(ref: Reference) -> Any:
    path = Path(ref.name)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        module = _module(path.resolve())
        function = getattr(module, ref.function, None)
        if not callable(function):
            missing = "there is no function" if function is None else f"a {type(function).__name__} is no function:"
            raise ValueError(f"{missing} {ref.function} in {path}; functions there: {_functions(module)}")
        try:
            return function()
        except Exception as error:
            raise ValueError(f"{ref.function}() in {path} failed: {_reason(error)}") from error
    finally:
        sys.path.remove(folder)


def _module(path: Path) -> ModuleType:
    """The file as a module of a private name, so that it hides no other; kept, as its classes are looked up there."""
    name = f"_equiform_reference_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path that ends in .py always has one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be imported: {_reason(error)}") from error
    return module


def _functions(module: ModuleType) -> str:
    own = (name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
    return ", ".join(name for name in own if getattr(vars(module)[name], "__module__", "") == module.__name__) or "none"


def _reason(error: Exception) -> str:
    """The class and the first paragraph of an error, in one line."""
    first = str(error).strip().partition("\n\n")[0]
    return f"{type(error).__name__}: {' '.join(first.split())}" if first else type(error).__name__


LOADERS: dict[str, Callable[[Reference], Any]] = {
    LITE0: lambda _: efficientnet_lite0(),
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
    "file": _file,
}
