"""A job past one machine, by Ray Data (the extra `ray`): actors that do batches, one journal where the command runs."""

import contextlib
import importlib.util
import json
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from .._checks import reason
from .._optional import optional
from .job import Done, Job
from .journal import Journal
from .plan import Plan
from .workers import Workers

NUM_BLOCKS = 1000  # the parts that Ray hands out, at most; one that is lost is done again


class Actor:
    """What Ray runs on the machines of a cluster: batches of a job, in a process of its own, so that a file at which it dies
    is a row, and what Ray does again is done as it was."""

    def __init__(self, job: Job, plan: Plan):
        self._workers, self._plan = Workers(job, 1), plan

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        numbers = [int(k) for k in batch["item"]]
        rows = [dict(self._workers.run(iter([(k, self._plan.batch(k))])))[k] for k in numbers]
        return {"batch": numbers, "rows": [json.dumps(one) for one in rows]}


def on_ray(job: Job, journal: Journal, number: int, address: str | None, gpus: int) -> Done:
    """The rows of the batches that are not done, by `number` actors of a cluster (0: one for each CPU or GPU), each with so
    many GPUs. The plan and the files lie where all machines find them under one path.

    Raises ConnectionError where no Ray answers at the address.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"} | os.environ)
    ray, data = optional("ray", "ray"), optional("ray.data", "ray")
    todo = [k for k in range(journal.plan.num_batches) if not journal.has(k)]
    if not todo:
        return
    with _connected(ray, address, number):
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        have = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0)) // max(gpus, 1)
        number = min(number or have, len(todo))
        if number > have:
            what = "GPUs" if gpus else "CPUs"
            raise ValueError(f"--workers {number}: the Ray cluster has {have} {what}: --workers {have}, or start more nodes")
        options = {"fn_constructor_args": (job, journal.plan), "batch_size": 1, "concurrency": number, "num_gpus": gpus or None}
        parts = data.from_items(todo, override_num_blocks=min(len(todo), NUM_BLOCKS))
        try:
            for row in parts.map_batches(Actor, **options).iter_rows():
                yield row["batch"], json.loads(row["rows"])
        except ray.exceptions.RayError as error:
            raise _first_cause(error) from error


@contextlib.contextmanager
def _connected(ray: Any, address: str | None, number: int) -> Iterator[None]:
    """Ray at an address, or started on this machine and ended after."""
    if ray.is_initialized():  # by the program around us
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(address="local", num_cpus=number or os.cpu_count(), include_dashboard=False, **options)
        else:
            ray.init(address=address, **options)
    except (RuntimeError, ValueError, OSError) as error:
        raise _no_answer(address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def check_ray(address: str | None) -> None:
    """Raise ModuleNotFoundError where the extra is missing, and ConnectionError where nothing listens at HOST:PORT: before
    anything is begun, and at once, where Ray itself asks for a minute."""
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("ray is needed here: pip install 'equiform[ray]'", name="ray")
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_answer(address, error) from None


def _no_answer(address: str | None, error: Exception) -> ConnectionError:
    where = "on this machine" if address is None else f"at --address {address}"
    way_out = "ray start --head on one machine, ray start --address=HOST:6379 on the others"
    return ConnectionError(f"no Ray answers {where} ({reason(error)[:200]}): {way_out}")


def _first_cause(error: BaseException) -> BaseException:
    """What a job has raised on another machine, out of Ray's wrappings."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None) or seen.__cause__
        if cause is None or cause is seen:
            break
        seen = cause
    return seen if isinstance(seen, (OSError, ValueError, TypeError, ImportError)) else error
