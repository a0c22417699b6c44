"""What `equiform upright` and `equiform predict` share: where the work is done, where the results go, how a run goes on."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import progress
from rich.console import Console

from .._checks import named
from ..jobs.cluster import check_ray
from ..jobs.job import Job
from ..jobs.journal import MANY, Journal, begin, check_free, going_on, locked
from ..jobs.plan import TABLES, Found, Plan, Roots
from ..jobs.running import ENGINES, Engine, run
from .models import check_folder

Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Worker processes, each with one thread; 0: none but this one. [default: one a processor; for fewer than 100 "
        "files 0; with --engine ray one a processor or GPU of the cluster]",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do one of N parts of the files, 1/N to N/N, each on a machine of its own."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew, and replace the results of an earlier run.")]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="Where to work: processes (here), or ray (a cluster, by Ray Data).")
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where Ray answers, or auto. [default: Ray is started on this machine]"),
]


def engine_of(name: str, workers: int | None, address: str | None, gpus: int = 0) -> Engine:
    """Where the work is done. Raises ValueError for options that do not belong together."""
    name = named("engine", name, ENGINES)
    if address is not None and name != "ray":
        raise ValueError(f"--address {address} is where Ray answers: add --engine ray")
    if name == "ray":
        check_ray(address)
    return Engine(name, workers, address, gpus)


def shard_of(text: str | None) -> tuple[int, int]:
    """(i, n) of "i/n". Raises ValueError."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    which, number = map(int, match.groups()) if match else (0, 0)
    if not 1 <= which <= number:
        raise ValueError(f"--shard is a part of so many, 1/16 to 16/16; got {text!r}")
    return which, number


class Place:
    """Where a table and its journal lie. `table`: in .csv or .parquet, or without an ending, where it may become either."""

    def __init__(self, option: str, table: Path, shard: tuple[int, int], journal_in: Path | None = None):
        self.said = table.suffix.lower() if table.suffix.lower() in TABLES else ""
        if option and not self.said:
            raise ValueError(f"{option} {table}: a table ends in {' or '.join(TABLES)}")
        if self.said == ".csv" and table.is_dir():
            raise IsADirectoryError(f"{option} {table} is a folder; name a file")
        check_folder(option, table.absolute().parent)
        self.stem = table.with_suffix("") if self.said else table
        which, number = shard
        self.part = f"{which:0{len(str(number))}d}-of-{number}" if number > 1 else ""
        self.prefix = f"{self.part}-" if self.part else ""
        name = "-".join(filter(None, (self.stem.name, self.part)))
        self.journal = (journal_in or self.stem.parent) / f".{name}.job"

    def table(self, suffix: str) -> Path:
        """The table in one form. Of a shard it is a CSV of its own, or parts in the folder of all."""
        part = f"-{self.part}" if self.part and suffix == ".csv" else ""
        return self.stem.with_name(self.stem.name + part + suffix)

    @property
    def tables(self) -> list[Path]:
        """Where this table may come to lie, but for the folder of all shards."""
        known = [self.said] if self.said else TABLES
        return [self.table(suffix) for suffix in known if suffix == ".csv" or not self.part]

    def by_number(self, num_rows: int) -> Path:
        """CSV for few rows, Parquet for many, unless it was said. Raises ValueError where pyarrow would be needed."""
        suffix = self.said or (".csv" if num_rows < MANY else ".parquet")
        if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            way_out = "pip install 'equiform[parquet]', or name a table in .csv"
            raise ModuleNotFoundError(f"{num_rows:,} rows are kept as Parquet, by pyarrow: {way_out}")
        return self.table(suffix)


@contextmanager
def journal_of(
    place: Place,
    identity: Mapping[str, Any],
    overwrite: bool,
    found: Callable[[Roots], Iterable[Found]],
    columns: Callable[[Plan], Mapping[str, str]],
    batch_size: int,
) -> Iterator[tuple[Journal, bool]]:
    """The journal of a job, found or begun, while no other run has it; and whether it goes on.

    `found`: the files; `columns`: those of the table, which may look at the plan before anything is written. Raises ValueError
    where another job has that place, FileExistsError where something else is there.
    """
    with locked(place.journal):
        journal = None if overwrite else going_on(place.journal, identity)
        if journal is not None:
            yield journal, True
            return
        if not overwrite:
            check_free(place.tables)
        yield begin(place.journal, identity, columns, found, place.by_number, batch_size, place.prefix), False


def command_line(command: str, inputs: Sequence[object], options: Mapping[str, object]) -> str:
    """The command as it would be typed, to be named in errors."""
    words = ["equiform", command, *map(str, inputs)]
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def run_with_progress(job: Job, journal: Journal, engine: Engine, again: bool, what: str) -> None:
    """Do the job, with a bar where somebody watches: rate and time left."""
    if journal.finished or not sys.stderr.isatty():
        run(job, journal, engine, lambda _: None, again)
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _Rate(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=journal.num_rows, completed=journal.num_done)
        run(job, journal, engine, lambda rows: bar.advance(task, rows), again)


class _Rate(progress.ProgressColumn):
    """Files a second, lately."""

    def render(self, task: progress.Task) -> Any:
        return f"{task.speed:.0f}/s" if task.speed else ""
