"""A job run to its end, by the engine that was asked for, into its journal."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .cluster import on_ray
from .job import Done, Job
from .journal import Journal
from .workers import Workers, in_process

ENGINES = ("processes", "ray")
FEW = 100  # files for which starting a process takes longer than the work
NUM_TOLD = 20  # errors that are kept to be named


@dataclass(frozen=True)
class Engine:
    """Where a job is run: in worker processes here, or by Ray on `address` (None: on this machine). `workers`: how many, None
    for as many as there are processors, and for a few files none but this process."""

    name: str = ENGINES[0]
    workers: int | None = None
    address: str | None = None
    gpus: int = 0

    def number(self, num_rows: int, again: bool) -> int:
        """How many workers: 0 for none but this process, of Ray for as many as it has room for.

        `again`: a run that was cut short, which may be the fault of a file: not in this process, then.
        """
        if self.workers is not None or self.name == "ray":
            return self.workers or 0
        return 0 if num_rows < FEW and not again else processors()

    def done(self, job: Job, journal: Journal, again: bool) -> Done:
        """The rows of all batches that are not done."""
        number = self.number(journal.num_rows, again)
        if self.name == "ray":
            yield from on_ray(job, journal, number, self.address, self.gpus)
        elif number == 0:
            yield from in_process(job, journal.batches())
        else:
            with Workers(job, number) as workers:
                yield from workers.run(journal.batches())


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(job: Job, journal: Journal, engine: Engine, progress: Callable[[int], None], again: bool = False) -> None:
    """Do what is not done, and make the table whole. `progress` is told how many rows have come."""
    if journal.finished:
        return
    for batch, rows in engine.done(job, journal, again):
        journal.add(batch, rows)
        progress(len(rows))
    journal.finish()


@dataclass
class Summary:
    """What became of the files: how often each thing was done, and the first errors."""

    done: Counter[str] = field(default_factory=Counter)
    num_failed: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        return sum(self.done.values())


def summed(journal: Journal, column: str | None = None) -> Summary:
    """Counts of a finished table, by the words in a column."""
    summary = Summary()
    for row in journal.rows([column, "error"] if column else ["error"]):
        summary.done[(row[column] if column else "") or ""] += 1
        if row["error"]:
            summary.num_failed += 1
            if len(summary.errors) < NUM_TOLD:
                summary.errors.append(row["error"])
    return summary
