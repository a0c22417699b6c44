"""Checks of numbers and names, and the errors of other packages in one line."""

import math
from collections.abc import Iterable
from typing import Any

MAX_SEED = 2**32 - 1  # that every generator takes


def check_whole(least: int = 1, most: int | None = None, **values: Any) -> None:
    """Raise ValueError naming the first value that is no whole number from `least` to `most`."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
            limits = f">= {least}" if most is None or (isinstance(value, int) and value < least) else f"from {least} to {most}"
            raise ValueError(f"{name} must be a whole number {limits}; got {value!r}")


def check_positive(**values: Any) -> None:
    """Raise ValueError naming the first value that is no finite number above 0."""
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number above 0; got {value!r}")


def named(what: str, given: str, known: Iterable[str], others: str = "") -> str:
    """The known name that is meant, whatever joins its words (hyphens, spaces, underscores), in small letters or capitals.

    Raises ValueError for others.

    `others`: what else may be given, for the error.
    """
    known = list(known)
    if (name := meant(given, known)) is None:
        raise ValueError(f"unknown {what} {given!r}; known: {', '.join(known)}{others}")
    return name


def meant(given: Any, known: Iterable[str]) -> str | None:
    """The known name with the words of the given one, whatever joins them, in any letters; None where there is none."""
    return next((name for name in known if isinstance(given, str) and _words(name) == _words(given)), None)


def _words(name: str) -> list[str]:
    return name.lower().replace("_", " ").replace("-", " ").split()


def reason(error: BaseException) -> str:
    """The message of another package's error, in one line; its class where it is empty."""
    return " ".join(str(error).split()) or type(error).__name__
