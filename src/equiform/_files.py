"""Files written whole or not at all."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def writing(path: Path, scratch: Path | None = None) -> Iterator[BinaryIO]:
    """A file to be written in parts, which appears as a whole or not at all: under a temporary name, then renamed.

    `scratch`: the folder of the temporary name, on the same disk; else that of the file.
    """
    name = f".{secrets.token_hex(8)}.part"  # short, since the name itself may be as long as names can be
    part = path.with_name(name) if scratch is None else scratch / name
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Write a file as a whole or not at all."""
    with writing(path, scratch) as file:
        file.write(data)
