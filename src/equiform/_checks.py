"""Numbers checked in one way, and the errors of others told in one line."""

from typing import Any


def check_whole(least: int = 1, most: int | None = None, **values: Any) -> None:
    """Raise ValueError naming the first value that is no whole number from `least` to `most`."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
            limits = f">= {least}" if most is None or (isinstance(value, int) and value < least) else f"from {least} to {most}"
            raise ValueError(f"{name} must be a whole number {limits}; got {value!r}")


def reason(error: BaseException) -> str:
    """What an error of another package says, in one line; its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
