"""Files written whole or not at all."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    with replaced(path) as scratch, scratch.open("xb") as file:
        file.write(data)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, to be written to: renamed at the end, removed after an error."""
    # short, since the name itself may be as long as names can be; with its ending, which some writers look at
    scratch = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix[:16]}")
    try:
        yield scratch
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
