"""Asking for an optional package, with the install line in the error."""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

TORCHVISION_OPERATOR = "operator torchvision::nms does not exist"


def optional(package: str, extra: str) -> ModuleType:
    """The imported package. A missing one names its install line, a broken one fails as itself.

    Raises ModuleNotFoundError (missing) or ImportError (a torchvision built for another torch).
    """
    try:
        with beside_torchvision():
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise ModuleNotFoundError(f"{package} is needed here: pip install 'equiform[{extra}]'", name=error.name) from error


@contextlib.contextmanager
def beside_torchvision() -> Iterator[None]:
    """Wraps imports that import torchvision: ImportError where it was built for another torch."""
    try:
        yield
    except RuntimeError as error:
        if TORCHVISION_OPERATOR not in str(error):
            raise
        raise ImportError(
            "the installed torchvision was built for another torch, and its operators do not load: "
            "install the pair that belongs together (see pytorch.org), or uninstall torchvision"
        ) from error
