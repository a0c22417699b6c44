"""What is done of a job, on disk: rows as they come, and the table made of them. A kill loses only what was in hand.

Beside the table lies the folder of the journal, .NAME.job: the plan; what the job is, in job.json, written last and so the
sign that the plan is whole; a file of lines for every block of rows that is begun, each line the rows of one batch. A whole
block becomes one part of the table by a rename, and the lines go.
"""

import contextlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._files import replaced, write
from .job import Item, Row
from .plan import TABLES, Found, Plan, Roots, write_plan
from .tables import as_csv, as_parquet, header, read_csv, read_parquet

FORMAT_VERSION = 1
BLOCK = 4096  # rows of a part, about
MANY = 10_000  # rows from which a table is Parquet, unless it has a name


class Journal:
    """The state of one job. `table` ends in .csv or .parquet; a Parquet table is a folder of parts."""

    def __init__(self, folder: Path):
        said = json.loads((folder / "job.json").read_bytes())
        self.folder, self.identity, self.columns = folder, said["identity"], said["columns"]
        self.table, self.prefix = Path(os.path.normpath(folder / said["table"])), said["prefix"]
        self._block = said["batches_in_block"]
        self.num_rows, self.finished = said["rows"], bool(said.get("finished"))
        self._said = said
        if self.finished:
            self._tidy()
            return
        clear(self.scratch)
        self.plan = Plan(folder.absolute(), Roots(**said["roots"]), said["rows"], said["batch_size"])
        self._whole = {block for block in range(self._num_blocks) if self._part(block).exists()}
        self._done: defaultdict[int, set[int]] = defaultdict(set)
        for file in folder.glob("rows-*"):
            block = int(file.name.removeprefix("rows-"))
            if block in self._whole:  # the kill came between the rename of the part and the end of its lines
                file.unlink()
            else:
                self._done[block] = set(dict(_whole_lines(file)))
                self._close(block)

    @property
    def _num_blocks(self) -> int:
        return -(-self.plan.num_batches // self._block)

    @property
    def scratch(self) -> Path:
        """Where files are written before they are renamed: emptied when a run begins, so that none is left lying."""
        return self.folder / "scratch"

    def has(self, batch: int) -> bool:
        """Whether the rows of a batch are known."""
        block = batch // self._block
        return block in self._whole or batch in self._done.get(block, ())

    @property
    def num_done(self) -> int:
        """How many rows are known."""
        return sum(self.plan.length(k) for k in range(self.plan.num_batches) if self.has(k))

    def batches(self) -> Iterator[tuple[int, list[Item]]]:
        """The batches that are not done, with their items."""
        return ((k, self.plan.batch(k)) for k in range(self.plan.num_batches) if not self.has(k))

    def add(self, batch: int, rows: Sequence[Row]) -> None:
        """Keep the rows of a batch. One that is known already is left as it is: who was first has written its files."""
        if self.has(batch):
            return
        block = batch // self._block
        with self._lines(block).open("ab") as file:
            file.write(json.dumps([batch, [[row[name] for name in self.columns] for row in rows]]).encode() + b"\n")
        self._done[block].add(batch)
        self._close(block)

    def _close(self, block: int) -> None:
        """Make a part of a block whose batches are all there."""
        expected = min(self._block, self.plan.num_batches - block * self._block)
        if len(self._done[block]) < expected:
            return
        lines = dict(_whole_lines(self._lines(block)))
        rows = [dict(zip(self.columns, values, strict=True)) for k in sorted(lines) for values in lines[k]]
        make = as_parquet if self._parquet else as_csv
        write(self._part(block), make(rows, self.columns), self._scratch_of(self._part(block)))
        self._whole.add(block)
        del self._done[block]
        self._lines(block).unlink()

    def _lines(self, block: int) -> Path:
        return self.folder / f"rows-{block:06d}"

    def _part(self, block: int) -> Path:
        if self._parquet:
            return self.table / f"{self.prefix}part-{block:06d}.parquet"
        return self.folder / f"part-{block:06d}.csv"

    def _scratch_of(self, file: Path) -> Path | None:
        """The scratch folder, unless the table lies on another disk, where nothing can be renamed to."""
        return self.scratch if file.parent.stat().st_dev == self.scratch.stat().st_dev else None

    @property
    def _parquet(self) -> bool:
        return self.table.suffix == ".parquet"

    def finish(self) -> None:
        """Make the table whole, and leave of the journal what says that it is."""
        if not self._parquet and not self.table.exists():
            with replaced(self.table, self._scratch_of(self.table)) as whole, whole.open("xb") as file:
                file.write(header(self.columns))
                for block in range(self._num_blocks):
                    with self._part(block).open("rb") as part:
                        shutil.copyfileobj(part, file)
        self.finished = True
        self._said["finished"] = True
        write(self.folder / "job.json", _json(self._said), self.scratch)
        self._tidy()

    def _tidy(self) -> None:
        for file in self.folder.iterdir():
            if file.name != "job.json":
                shutil.rmtree(file) if file.is_dir() else file.unlink()

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Some columns of all rows, of a table that is whole."""
        if not self._parquet:
            yield from read_csv(self.table, names)
            return
        for part in sorted(self.table.glob(f"{self.prefix}part-*.parquet")):
            yield from read_parquet(part, names)


def begin(
    folder: Path,
    identity: Mapping[str, Any],
    columns: Callable[[Plan], Mapping[str, str]],
    found: Callable[[Roots], Iterable[Found]],
    table: Callable[[int], Path],
    batch_size: int,
    prefix: str = "",
    block: int = BLOCK,
) -> Journal:
    """Plan a job, and write down what it is. `table`: its path, by the number of rows. Leaves nothing behind where it fails.

    `columns` sees the plan, and may refuse it, before anything else is written.
    """
    try:
        clear(folder)
        roots = Roots()
        plan = write_plan(folder, roots, found(roots), batch_size)
        if plan.num_rows == 0:
            raise ValueError("this shard has no files: take fewer shards")
        said = {"format_version": FORMAT_VERSION, "identity": identity, "columns": columns(plan)}
        path = table(plan.num_rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        said |= {
            "table": os.path.relpath(path, folder),
            "prefix": prefix,
            "rows": plan.num_rows,
            "batch_size": batch_size,
            "roots": vars(roots),
        }
        said["batches_in_block"] = max(1, block // batch_size)
        _remove_table(path, prefix)
        if path.suffix == ".parquet":
            path.mkdir(exist_ok=True)
        write(folder / "job.json", _json(said))
    except BaseException:
        clear(folder)
        raise
    return Journal(folder)


def going_on(folder: Path, identity: Mapping[str, Any]) -> Journal | None:
    """The job whose journal lies in that folder; None where none was begun.

    Raises ValueError where it is another job, naming both.
    """
    if not (folder / "job.json").is_file():
        return None
    try:
        journal = Journal(folder)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{folder} is damaged ({type(error).__name__}: {error}): --overwrite begins anew") from None
    if journal.identity != identity:
        was = journal.identity
        other = ", ".join(key for key in {**was, **identity} if was.get(key) != identity.get(key) and key != "command")
        raise ValueError(
            f"{journal.table} is of another job (another {other}): that was `{was.get('command')}`, this is "
            f"`{identity['command']}`; name another place, or --overwrite"
        )
    return journal


def check_free(tables: Iterable[Path]) -> None:
    """Raise FileExistsError where a table is there that no journal knows."""
    for table in tables:
        if table.exists() and not (table.is_dir() and not any(table.iterdir())):
            raise FileExistsError(f"{table} is there already: --overwrite replaces it")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time on a folder, which is made where it is not there. A kill sets it free. Raises ValueError."""
    new = [place for place in (folder, folder.parent) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has no such locks
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run of this job is going on ({folder})") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
        for empty in new:
            with contextlib.suppress(OSError):  # something was begun
                empty.rmdir()


def clear(folder: Path) -> None:
    """An empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_table(table: Path, prefix: str) -> None:
    """An old table, in either form; of a folder the parts of this shard alone."""
    for path in {table.with_suffix(suffix) for suffix in TABLES}:
        if path.is_dir():
            for part in path.glob(f"{prefix}part-*.parquet"):
                part.unlink()
        else:
            path.unlink(missing_ok=True)


def _whole_lines(file: Path) -> Iterator[tuple[int, list[list[Any]]]]:
    """(batch, rows) of each line; the torn last one of a kill is cut off, so that the next begins on a line of its own."""
    data = file.read_bytes() if file.exists() else b""
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with file.open("r+b") as torn:
            torn.truncate(end)
    for line in data[:end].splitlines():
        batch, rows = json.loads(line)
        yield batch, rows


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
