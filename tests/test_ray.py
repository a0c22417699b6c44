"""The same job by Ray Data: the rows and files of one process, also where a worker is killed on the way."""

import os
import signal
import time
from pathlib import Path

import pytest

from asserting import python, refused
from equiform.jobs import cluster
from equiform.jobs.cluster import check_ray
from test_folders import descendants, gone, home, left_in, plain, run, turning

__all__ = ["home", "plain"]  # fixtures


def test_where_no_ray_answers_and_where_it_is_missing(home, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    way_out = r"no Ray answers at --address 127.0.0.1:1 \(.*refused\): ray start --head"
    refused(ConnectionError, way_out, check_ray, "127.0.0.1:1")
    result = run(*turning(home, tmp_path / "out", "--engine", "ray", "--address", "127.0.0.1:1"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    refused(ModuleNotFoundError, r"pip install 'equiform\[ray\]'", check_ray, None)


def command(home, out, workers):
    return python("-m", "equiform", *turning(home, out, "--engine", "ray", "--workers", workers))


def named(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_two_workers_leave_what_one_process_leaves(home, plain, tmp_path, kill):
    pytest.importorskip("ray")
    process, out = command(home, tmp_path / "out", 2), tmp_path / "out"
    children, hit = set(), False
    while process.poll() is None:
        children |= {*descendants(process.pid)}
        if kill and not hit and any(out.rglob("*.png")):
            hit = any(os.kill(pid, signal.SIGKILL) is None for pid in children if "ray::MapWorker" in named(pid))
        time.sleep(0.01)
    _, said = process.communicate()  # closes its pipes
    assert process.returncode == 1, said
    assert hit == kill
    assert left_in(out) == plain
    assert gone(children)
