"""Small jobs for the tests of folders: what is done to a file is written down, so that it can be counted."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equiform.jobs.job import Item, Row, Work, failed, told
from equiform.jobs.journal import Journal, begin
from equiform.jobs.plan import Roots, found_in

COLUMNS = {"file": "str", "size": "int", "values": "float[]", "error": "str"}


@dataclass(frozen=True)
class Sizes:
    """The size of every file, appended to `log` as it is computed. A name says what happens: kill, raise, full, slow."""

    log: Path

    @property
    def columns(self) -> dict[str, str]:
        return COLUMNS

    def start(self) -> Work:
        return self._rows

    def _rows(self, items: Sequence[Item]) -> list[Row]:
        return [self._row(item) for item in items]

    def _row(self, item: Item) -> Row:
        if "kill" in item.source.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "slow" in item.source.name:
            time.sleep(0.05)
        try:
            if "raise" in item.source.name:
                raise KeyError(item.file)
            if "full" in item.source.name and not (item.source.parent / "more-space").exists():
                raise OSError(28, "No space left on device", item.file)
            size = item.source.stat().st_size
        except OSError as error:
            return failed(item, COLUMNS, told(item, error))
        with self.log.open("a") as log:
            log.write(item.file + "\n")
        return {"file": item.file, "size": size, "values": [size / 3, 1.0], "error": None}

    def computed(self) -> list[str]:
        """The names of the files that were computed, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


class Broken(Sizes):
    """A job that cannot start."""

    def start(self) -> Work:
        raise ValueError("no such adapter")


def files(folder: Path, names: Sequence[str]) -> Path:
    """A folder with files of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * i)
    return folder


def begun(folder: Path, place: Path, table: str = "sizes.csv", identity: dict | None = None) -> Journal:
    """A journal of blocks of four rows, in batches of two."""
    return begin(
        place / ".sizes.job",
        identity or {"command": "sizes"},
        lambda _: COLUMNS,
        lambda roots: found_in([folder], roots),
        lambda _: place / table,
        batch_size=2,
        block=4,
    )


def planned(folder: Path) -> list[str]:
    """The names found in a folder, in the order of a plan."""
    return [name for _, name in found_in([folder], Roots())]
