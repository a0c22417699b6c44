"""The plan of a job: every file of its inputs in batches, written down once, so that a run that goes on finds the same."""

import contextlib
import itertools
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._optional import optional
from ..images.files import no_images, walk
from .job import Item

TABLES = (".csv", ".parquet")
COLUMNS = ("file", "path", "image", "filename")  # what a column of paths is called, where it is not said
Found = tuple[int, str]  # which root, and the name below it


@dataclass(frozen=True)
class Roots:
    """The folders that the names in a plan are relative to: as they were named, and where they are."""

    named: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, named: str | Path, place: Path) -> int:
        """The number of a folder, new or known."""
        if (pair := (str(named), str(place.absolute()))) in (known := list(zip(self.named, self.places, strict=True))):
            return known.index(pair)
        self.named.append(pair[0])
        self.places.append(pair[1])
        return len(self.named) - 1

    def item(self, found: Sequence[Any]) -> Item:
        root, name = found
        return Item(str(Path(self.named[root], name)) if self.named[root] else name, Path(self.places[root], name), name)


class Plan:
    """Batches of items in a file, a line each, with an index of where each begins: any of them is found at once."""

    def __init__(self, folder: Path, roots: Roots, num_rows: int, batch_size: int):
        self.folder, self.roots, self.num_rows, self.batch_size = folder, roots, num_rows, batch_size
        self._starts = array("Q", (folder / "plan.index").read_bytes())

    @property
    def num_batches(self) -> int:
        return len(self._starts)

    def batch(self, k: int) -> list[Item]:
        """The items of batch k."""
        with (self.folder / "plan.jsonl").open("rb") as file:
            file.seek(self._starts[k])
            return [self.roots.item(found) for found in json.loads(file.readline())]

    def length(self, k: int) -> int:
        """How many items batch k has."""
        return min(self.batch_size, self.num_rows - k * self.batch_size)


def write_plan(folder: Path, roots: Roots, found: Iterable[Found], batch_size: int) -> Plan:
    """Write down what is found, as it comes."""
    starts, num_rows = array("Q"), 0
    with (folder / "plan.jsonl").open("wb") as file:
        for batch in _batched(found, batch_size):
            starts.append(file.tell())
            file.write(json.dumps(batch, separators=(",", ":")).encode() + b"\n")
            num_rows += len(batch)
    (folder / "plan.index").write_bytes(starts.tobytes())
    return Plan(folder, roots, num_rows, batch_size)


def _batched(found: Iterable[Found], size: int) -> Iterator[list[Found]]:
    found = iter(found)
    while batch := list(itertools.islice(found, size)):
        yield batch


def sharded(found: Iterable[Found], shard: tuple[int, int]) -> Iterator[Found]:
    """Those of one shard of several. Which one a file belongs to says its name, whatever other files come or go."""
    which, number = shard
    return (one for one in found if zlib.crc32(one[1].encode(errors="surrogateescape")) % number == which - 1)


# -------------------------------------------------------------------------------------------------------------- tables


def table_paths(table: Path, column: str | None) -> Iterator[str]:
    """The paths in a column of a CSV or Parquet file, as they are written there."""
    if not table.is_file():
        raise FileNotFoundError(f"no file or folder {table}")
    return _parquet_paths(table, column) if table.suffix.lower() == ".parquet" else _csv_paths(table, column)


def _csv_paths(table: Path, column: str | None) -> Iterator[str]:
    import csv

    with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.reader(file)
        names = next(rows, [])
        at = names.index(_column(table, names, column))
        yield from (row[at] if at < len(row) else "" for row in rows if row)


def _parquet_paths(table: Path, column: str | None) -> Iterator[str]:
    parquet: Any = optional("pyarrow.parquet", "parquet")
    with contextlib.closing(parquet.ParquetFile(table)) as file:
        name = _column(table, file.schema_arrow.names, column)
        for batch in file.iter_batches(columns=[name]):
            yield from (str(value or "") for value in batch.column(0).to_pylist())


def _column(table: Path, names: Sequence[str], column: str | None) -> str:
    known = [column] if column else [*COLUMNS, *names[: len(names) == 1]]
    for name in known:
        if name in names:
            return name
    raise ValueError(f"{table}: no column {' or '.join(known)}; its columns: {', '.join(names) or 'none'} (see --column)")


# -------------------------------------------------------------------------------------------------- folders and files


def found_in(inputs: Sequence[Path], roots: Roots, out: Path | None = None) -> Iterator[Found]:
    """Every image in files and folders, one after another. `out`: where results go, below which nothing is an input.

    Raises FileNotFoundError or ValueError where there is nothing to read, or where a source or another result would be
    overwritten; of a long walk, on the way.
    """
    guard = Guard(inputs, out)
    for given in dict.fromkeys(inputs):
        if given.is_dir():
            number, names = roots.add(given, given), walk(given, guard.out)
        elif given.exists():
            above = given.parent
            number, names = roots.add("" if str(above) == "." else above, above), iter([given.name])
        else:
            raise FileNotFoundError(f"no file or folder {given}")
        first = next(names, None)
        if first is None:
            raise no_images(given)
        folder = Path(roots.places[number])
        yield from ((number, name) for name in itertools.chain([first], names) if guard.is_new(folder / name, name))
        guard.seen(given)


class Guard:
    """Keeps results from overwriting an input or each other, without a list of all files in memory."""

    def __init__(self, inputs: Sequence[Path], out: Path | None):
        self.out = None if out is None else out.resolve()
        self._folders: list[Path] = []
        self._files: dict[str, Path] = {}
        self._sources = {given.resolve() for given in inputs if not given.is_dir()}
        self._inside = [given.resolve() for given in inputs if given.is_dir() and self._below_out(given.resolve())]
        if self.out in self._inside:
            raise ValueError(f"{out} is the input folder, and its photos would be overwritten: choose another folder for --out")

    def _below_out(self, path: Path) -> bool:
        return self.out is not None and path.is_relative_to(self.out)

    def seen(self, given: Path) -> None:
        """All of that input was found."""
        if given.is_dir():
            self._folders.append(given)
        else:
            self._files[given.name] = given

    def is_new(self, source: Path, name: str) -> bool:
        """Whether it was not found before, in another input. Raises ValueError where it may not be written to its place."""
        if self.out is not None and (self._sources or self._inside):
            place = self.out / name
            if place in self._sources or (place.exists() and any(place.is_relative_to(folder) for folder in self._inside)):
                raise ValueError(f"{source} would overwrite {place}, an input: choose another folder for --out")
        before = [folder / name for folder in self._folders] + [self._files[key] for key in (name,) if key in self._files]
        for other in (path for path in before if path.exists()):
            if other.resolve() == source.resolve():
                return False
            if self.out is not None:
                place = self.out / name
                raise ValueError(f"{other} and {source} would both be written to {place}: give the folder that holds them")
        return True
