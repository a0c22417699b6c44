"""Files written whole or not at all."""

import secrets
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all: under a temporary name in the same folder, then renamed."""
    scratch = path.with_name(f".{secrets.token_hex(8)}.part")  # short, since the name itself may be as long as names can be
    try:
        with scratch.open("xb") as file:
            file.write(data)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
