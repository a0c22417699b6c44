"""Files written whole or not at all, and folders asked for."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Write a file as a whole or not at all. `scratch`: see `replaced`."""
    with replaced(path, scratch) as part, part.open("xb") as file:
        file.write(data)


@contextlib.contextmanager
def replaced(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """A temporary name in the same folder, to be written to: renamed at the end, removed after an error.

    `scratch`: another folder for it, on the same disk.
    """
    # short, since the name itself may be as long as names can be; with its ending, which some writers look at
    part = (scratch or path.parent) / f".{secrets.token_hex(8)}.part{path.suffix[:16]}"
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder; False too for what no file system takes, such as a name of 5,000 characters."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # too long, or with a null byte
        return False
