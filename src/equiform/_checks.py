"""Numbers and ranges, checked in one way."""

from typing import Any


def check_whole(least: int = 1, **values: Any) -> None:
    """Raise ValueError naming the first value that is no whole number from `least` on."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
