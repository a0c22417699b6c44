"""Worker processes: each computes with one thread, one batch at a time; one that dies takes no other with it."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from ..canonicalizers.base import Advice
from .job import Batches, Done, Item, Job, Row, failed

# small networks wait for each other's threads: one thread a process is several times faster
READY: list[Row] = []  # what a worker sends before its first rows
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def in_process(job: Job, batches: Batches) -> Done:
    """Every batch in this process, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = job.start()
        for k, items in batches:
            yield k, work(items)
    finally:
        torch.set_num_threads(threads)


class Workers:
    """A number of processes that do batches of a job. To be closed, by `with`.

    A worker that dies is replaced, and its batch done again file by file: the file at which one dies alone has an error for
    a row. An exception that is no file's (a full disk, a bug) is raised here.
    """

    def __init__(self, job: Job, number: int):
        self._job, self._number = pickle.dumps(job), number
        self._columns = job.columns
        self._workers: list[Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.end()

    def run(self, batches: Batches) -> Done:
        """The rows of batches, in the order in which they are done."""
        again: deque[Part] = deque()  # files of the batches at which a worker died, one by one
        rows: dict[int, dict[int, Row]] = {}
        while True:
            self._employ(batches, again)
            busy = [worker for worker in self._workers if worker.part is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                part = worker.part
                assert part is not None
                answer = worker.answer()
                if answer is READY:
                    continue
                if answer is None:
                    self._workers.remove(worker)
                    if len(part.items) > 1:
                        again.extend(Part(part.batch, at, [item], len(part.items)) for at, item in enumerate(part.items))
                        continue
                    answer = [failed(part.items[0], self._columns, f"{part.items[0].file}: {worker.death}")]
                known = rows.setdefault(part.batch, {})
                known |= {part.at + i: row for i, row in enumerate(answer)}
                if len(known) == part.whole:
                    yield part.batch, [row for _, row in sorted(rows.pop(part.batch).items())]

    def _employ(self, batches: Batches, again: "deque[Part]") -> None:
        """Give every idle worker something to do, as long as there is anything; start those that are missing."""
        for at in range(self._number):
            if at < len(self._workers) and self._workers[at].part is not None:
                continue
            part = again.popleft() if again else _next(batches)
            if part is None:
                return
            if at == len(self._workers):
                self._workers.append(Worker(self._job))
            self._workers[at].give(part)


class Part:
    """Items of a batch, from one of its places on; `whole`: how many the batch has."""

    def __init__(self, batch: int, at: int, items: Sequence[Item], whole: int):
        self.batch, self.at, self.items, self.whole = batch, at, items, whole


def _next(batches: Batches) -> Part | None:
    found = next(batches, None)
    return None if found is None else Part(found[0], 0, found[1], len(found[1]))


class Worker:
    """One process, and the batch that it has in hand."""

    def __init__(self, job: bytes):
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may wait for ever
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, job), daemon=True)
        with _one_thread():
            self.process.start()
        other.close()
        self.part: Part | None = None
        self._began = False

    def give(self, part: Part) -> None:
        self.part = part
        with contextlib.suppress(OSError):  # dead already, as its answer will show
            self.connection.send(part.items)

    def answer(self) -> list[Row] | None:
        """The rows of the batch in hand, READY before the first; None where the process has died. Raises what it raised."""
        try:
            answer: Any = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            if not self._began:
                raise ChildProcessError(f"a worker process cannot start: it {self._code}") from None
            return None
        if not self._began and not isinstance(answer, BaseException):
            self._began = True
            return READY
        self.part = None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def _code(self) -> str:
        code = self.process.exitcode or 0
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"has ended with code {code}"

    @property
    def death(self) -> str:
        """Why it died, as far as that is known."""
        memory = ", as where memory ends" if self.process.exitcode == -signal.SIGKILL else ""
        return f"the worker process {self._code} at this file{memory}"

    def end(self) -> None:
        self.connection.close()
        self.process.join(5)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """What this process starts has one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# ------------------------------------------------------------------------------------------------- in the worker process


def _serve(connection: Connection, job: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that has begun this
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", Advice)  # which the process that has begun this gives
    try:
        work = pickle.loads(job).start()
        connection.send(READY)
        while True:
            connection.send(work(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        _send_error(connection, error)


def _end_with_parent() -> None:
    """Leave nothing that writes on where the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _send_error(connection: Connection, error: Exception) -> None:
    error.add_note(traceback.format_exc())
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            connection.send(error)
            return
    except Exception:  # some take other arguments than they keep
        pass
    connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
