"""Jobs over files: planned once, journaled, gone on with; no row lost, doubled or computed twice."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from asserting import refused
from equiform.images.files import find_images, walk
from equiform.jobs import journal as journals
from equiform.jobs.journal import Journal, going_on, locked
from equiform.jobs.plan import Roots, sharded, table_paths, write_plan
from equiform.jobs.running import Engine, run, summed
from equiform.jobs.workers import Workers, in_process
from small_jobs import Broken, Sizes, begun, files, planned

NAMES = [f"{i:02d}.png" for i in range(11)]
ALONE = Engine(workers=0)


# ---------------------------------------------------------------------------------------------------------------- plans
def test_a_walk_is_in_order_and_leaves_out_what_is_hidden_or_skipped(tmp_path):
    names = ["a.jpg", "a/z.jpg", "a-b/1.png", "b/c/d.JPG", "b/e.txt", ".hidden/x.jpg", "b/.y.jpg", "out/b/f.jpg", "z.webp"]
    files(tmp_path, names)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    seen = [name for name in [*names, "gone.jpg"] if name.lower().endswith(("jpg", "png", "webp")) and "." not in name[0]]
    seen = [name for name in seen if "/." not in name]
    assert [tmp_path / name for name in walk(tmp_path)] == sorted(tmp_path / name for name in seen)
    assert find_images(tmp_path) == sorted(tmp_path / name for name in seen)
    assert list(walk(tmp_path, skip=(tmp_path / "out").resolve())) == [n for n in map(str, walk(tmp_path)) if "out" not in n]
    assert list(walk(tmp_path / "nothing")) == ["."], "a folder that cannot be listed is told of when it is read"


def test_a_plan_finds_any_batch_whatever_the_names(tmp_path):
    odd = ["a\nb.jpg", "quote\"'.jpg", "\udcff.jpg", "ü.jpg", "last.jpg"]
    roots = Roots()
    number = roots.add("photos", tmp_path)
    assert roots.add("photos", tmp_path) == number
    plan = write_plan(tmp_path, roots, ((number, name) for name in odd), batch_size=2)
    assert (plan.num_batches, plan.num_rows, [plan.length(k) for k in range(3)]) == (3, 5, [2, 2, 1])
    items = [item for k in (2, 0, 1) for item in plan.batch(k)]
    assert [item.destination for item in items] == [odd[4], *odd[:4]]
    assert [item.file for item in items] == [f"photos/{name}" for name in (odd[4], *odd[:4])]
    assert all(item.source == tmp_path / item.destination for item in items)


def test_shards_are_all_files_once_and_by_name_alone():
    found = [(0, f"{i}.jpg") for i in range(200)]
    parts = [list(sharded(found, (i, 3))) for i in (1, 2, 3)]
    assert sorted(itertools.chain(*parts)) == sorted(found)
    assert all(len(part) > 40 for part in parts)
    assert [list(sharded([(0, "new.jpg"), *found[7:]], (i, 3))) for i in (1, 2, 3)] != parts
    assert all(one in part for one in sharded(found[7:], (2, 3)) for part in parts[1:2]), "whatever comes or goes"


def test_tables_of_paths(tmp_path):
    (tmp_path / "a.csv").write_text("label,path\n1,x.jpg\n2,\n3,inner/y.jpg\n")
    assert list(table_paths(tmp_path / "a.csv", None)) == ["x.jpg", "", "inner/y.jpg"]
    assert list(table_paths(tmp_path / "a.csv", "label")) == ["1", "2", "3"]
    refused(ValueError, "no column name; its columns: label, path", lambda: list(table_paths(tmp_path / "a.csv", "name")))
    (tmp_path / "b.csv").write_text("photo\nx.jpg\n")
    assert list(table_paths(tmp_path / "b.csv", None)) == ["x.jpg"], "the only column"
    refused(FileNotFoundError, "no file", lambda: list(table_paths(tmp_path / "c.csv", None)))
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"image": ["x.jpg", None], "n": [1, 2]}), tmp_path / "d.parquet")
    assert list(table_paths(tmp_path / "d.parquet", None)) == ["x.jpg", ""]


# -------------------------------------------------------------------------------------------------------------- journals
def plain(folder: Path, tmp_path: Path, table: str) -> dict[str, bytes]:
    """What an uninterrupted run leaves."""
    place = tmp_path / "plain"
    place.mkdir()
    job = Sizes(tmp_path / "plain.log")
    run(job, begun(folder, place, table), ALONE, lambda _: None)
    assert job.computed() == [str(folder / name) for name in planned(folder)]
    return left_in(place)


def left_in(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


class Killed(BaseException):
    """The end of a process, as far as one process can play it: nothing is written after."""


@pytest.mark.parametrize("table", ["sizes.csv", "sizes.parquet"])
@pytest.mark.parametrize("at", range(1, 17))
def test_killed_at_any_write_it_goes_on_and_nothing_is_lost_doubled_or_done_twice(tmp_path, monkeypatch, table, at):
    """The kill comes before the `at`-th change of the disk after the plan: a line, a rename, a removal; a line may be torn."""
    if table.endswith("parquet"):
        pytest.importorskip("pyarrow")
    folder = files(tmp_path / "in", NAMES)
    expected = plain(folder, tmp_path, table)
    (tmp_path / "killed").mkdir()
    begun(folder, tmp_path / "killed", table)
    job, changes = Sizes(tmp_path / "killed.log"), itertools.count(1)

    def counted(function):
        def change(*args, **kwargs):
            if next(changes) == at:
                raise Killed
            return function(*args, **kwargs)

        return change

    with monkeypatch.context() as patched:
        for name in ("replace", "unlink"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        patched.setattr(journals.json, "dumps", counted(journals.json.dumps))
        with pytest.raises(Killed):
            run(job, Journal(tmp_path / "killed" / ".sizes.job"), ALONE, lambda _: None)
    computed = job.computed()
    for lines in (tmp_path / "killed" / ".sizes.job").glob("rows-*"):
        with lines.open("ab") as torn:
            torn.write(b'[99, [["half a li')
    again = going_on(tmp_path / "killed" / ".sizes.job", {"command": "sizes"})
    known = again.num_done if not again.finished else len(NAMES)
    run(job, again, ALONE, lambda _: None)
    assert left_in(tmp_path / "killed") == expected
    assert len(job.computed()) - len(computed) == len(NAMES) - known, "what the journal knows is not computed again"
    assert known >= len(computed) - 2, "and it knows all but the batch in hand"


def test_rows_come_back_in_order_from_batches_in_any_order(tmp_path):
    folder = files(tmp_path / "in", NAMES)
    expected = plain(folder, tmp_path, "sizes.csv")
    (tmp_path / "other").mkdir()
    journal, job = begun(folder, tmp_path / "other"), Sizes(tmp_path / "other.log")
    for k, rows in reversed(list(in_process(job, journal.batches()))):
        journal.add(k, rows)
        journal.add(k, [])  # by a worker that was thought dead
    journal.finish()
    assert left_in(tmp_path / "other") == expected
    assert [row["size"] for row in journal.rows(["size"])] == [str(i) for i in range(11)]


def test_another_job_is_refused_and_so_is_a_second_run(tmp_path):
    folder = files(tmp_path / "in", NAMES)
    place = tmp_path / ".sizes.job"
    begun(folder, tmp_path, identity={"command": "sizes --adapter a", "adapter": "a"})
    assert going_on(place, {"command": "sizes --adapter a", "adapter": "a"}) is not None
    both = r"another job \(another adapter\): that was `sizes --adapter a`, this is `sizes --adapter b`; .*--overwrite"
    refused(ValueError, both, going_on, place, {"command": "sizes --adapter b", "adapter": "b"})
    with locked(place):
        refused(ValueError, "another run of this job is going on", locked(place).__enter__)
    with locked(place):
        pass
    (place / "job.json").write_text("{")
    refused(ValueError, "is damaged", going_on, place, {"command": "sizes"})
    shutil.rmtree(place)
    assert going_on(place, {"command": "sizes"}) is None


def test_a_full_disk_stops_the_run_and_more_space_lets_it_go_on(tmp_path):
    folder = files(tmp_path / "in", [*NAMES[:5], "05-full.png", *NAMES[6:]])
    job = Sizes(tmp_path / "log")
    refused(OSError, "No space left on device: .*05-full.png", run, job, begun(folder, tmp_path), ALONE, lambda _: None)
    assert len(job.computed()) == 5
    (folder / "more-space").write_text("")
    run(job, Journal(tmp_path / ".sizes.job"), ALONE, lambda _: None)
    assert sorted(job.computed()) == sorted([*(str(p) for p in find_images(folder)), str(folder / "04.png")])
    assert len((tmp_path / "sizes.csv").read_text().splitlines()) == 12


def test_a_file_that_goes_on_the_way_is_a_row(tmp_path):
    folder = files(tmp_path / "in", NAMES)
    journal = begun(folder, tmp_path)
    (folder / "03.png").unlink()
    run(Sizes(tmp_path / "log"), journal, ALONE, lambda _: None)
    found = summed(Journal(tmp_path / ".sizes.job"))
    assert (found.num_rows, found.num_failed) == (11, 1)
    assert "03.png: [Errno 2] No such file" in found.errors[0]


# --------------------------------------------------------------------------------------------------------------- workers
@pytest.mark.slow
def test_a_worker_that_dies_costs_one_file(tmp_path):
    names = [*NAMES[:4], "04-kill.png", *NAMES[5:8], "08-kill.png", *NAMES[9:]]
    folder, job = files(tmp_path / "in", names), Sizes(tmp_path / "log")
    with Workers(job, 2) as workers:
        rows = dict(workers.run(begun(folder, tmp_path).batches()))
        processes = [worker.process for worker in workers._workers]
    assert not any(process.is_alive() for process in processes)
    found = [row for k in sorted(rows) for row in rows[k]]
    assert [Path(row["file"]).name for row in found] == names
    dead = "the worker process was killed by SIGKILL at this file, as where memory ends"
    assert [row["error"] for row in found if row["error"]] == [f"{folder / name}: {dead}" for name in names if "kill" in name]
    assert [row["size"] for row in found] == [None if "kill" in name else i for i, name in enumerate(names)]


@pytest.mark.slow
def test_what_a_worker_raises_is_raised_here(tmp_path):
    folder = files(tmp_path / "in", [*NAMES[:5], "raise.png"])
    with Workers(Sizes(tmp_path / "log"), 1) as workers:
        refused(KeyError, "raise.png", lambda: list(workers.run(begun(folder, tmp_path).batches())))
    with Workers(Broken(tmp_path / "log"), 1) as workers:
        refused(ValueError, "no such adapter", lambda: list(workers.run(begun(folder, tmp_path).batches())))
