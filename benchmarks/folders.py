"""Folders of any size: memory over 100,000 photos, kills at random moments, Ray, and throughput by workers.

    python benchmarks/folders.py                             # all of it: half an hour and more
    python benchmarks/folders.py --parts memory --num 1000000
    python benchmarks/folders.py --parts kills ray speed

The photos are generated: a few hundred small JPEGs of skies over ground, some of them turned, under many names (hard links).
They are turned upright by the command, as a user would: for throughput with `photos-c4-small`, for the rest with a network of
random weights, which takes little time and turns most photos, so that most files are written anew.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import common
import equiform

DISTINCT, IN_A_FOLDER = 300, 1000
OPTIONS = ["--anyway", "--at-least", "0"]
BATCH, BLOCK = 16, 4096  # of the journal, by which its progress is seen
MARKS = (0.1, 0.5, 1.0)


def scene(rng: np.random.Generator) -> Image.Image:
    """A bright sky over darker ground with things standing on it, some of them turned by a quarter or half."""
    h, w = 96, 128
    horizon = int(rng.integers(30, 70))
    pixels = np.empty((h, w, 3))
    pixels[:horizon] = np.linspace(235, 200, horizon)[:, None, None] * rng.uniform(0.8, 1, 3)
    pixels[horizon:] = np.linspace(120, 60, h - horizon)[:, None, None] * rng.uniform(0.5, 1, 3)
    for _ in range(int(rng.integers(2, 7))):
        x, width, top = int(rng.integers(0, w - 12)), int(rng.integers(4, 12)), int(rng.integers(10, horizon))
        pixels[top : horizon + 8, x : x + width] = rng.uniform(20, 120, 3)
    image = Image.fromarray((pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8))
    return image.rotate(90 * int(rng.choice([0, 0, 0, 1, 2, 3])), expand=True)


def photos(folder: Path, num: int) -> None:
    """So many files, hard links to a few hundred, a thousand in a folder, and one in a thousand that is no photo."""
    rng = np.random.default_rng(0)
    originals = folder.parent / "originals"
    originals.mkdir()
    for i in range(DISTINCT):
        scene(rng).save(originals / f"{i}.jpg", quality=85)
    (originals / "bad.jpg").write_text("no photo")
    for i in range(num):
        place = folder / f"{i // IN_A_FOLDER:05d}"
        if i % IN_A_FOLDER == 0:
            place.mkdir(parents=True)
        name = "bad.jpg" if i % 1000 == 500 else f"{i % DISTINCT}.jpg"
        os.link(originals / name, place / f"{i:07d}.jpg")


def random_adapter(folder: Path) -> str:
    """A saved canonicalizer whose small network was never fitted, and says it was."""
    place = folder.parent / "random"
    if not place.exists():
        torch.manual_seed(0)
        canonicalizer = equiform.OrbitCanonicalizer("C4", resolution=16)
        canonicalizer.fitted = True
        equiform.adapt(lambda x: x, "C4", outputs="logits", canonicalizer=canonicalizer).save(place)
    return str(place)


def start(folder: Path, out: Path, *options: str, adapter: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "equiform", "upright", str(folder), "--out", str(out), *OPTIONS, *options]
    command += ["--adapter", adapter or random_adapter(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finished(process: subprocess.Popen[str]) -> None:
    error = process.communicate()[1]
    if process.returncode not in (0, 1):
        sys.exit(error)


def rows_done(out: Path, num: int) -> int:
    """How many of so many rows the journal has, about."""
    whole = len(list((out / "poses.parquet").glob("*.parquet"))) + len(list((out / ".poses.job").glob("part-*")))
    rows = whole * BLOCK
    for file in (out / ".poses.job").glob("rows-*"):
        try:
            rows += file.read_bytes().count(b"\n") * BATCH
        except FileNotFoundError:
            rows += BLOCK
    return min(rows, num)


def family(pid: int) -> list[int]:
    """A process and those that it has started."""
    found = [pid]
    for parent in found:
        try:
            found += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        except OSError:
            continue
    return found


def peaks(pid: int) -> dict[int, int]:
    """The most memory that each of them has had so far, in kilobytes."""
    found = {}
    for one in family(pid):
        try:
            match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{one}/status").read_text())
        except OSError:
            continue
        if match:
            found[one] = int(match[1])
    return found


def memory(place: Path, num: int, workers: int) -> dict:
    """The peak of the command and its workers, at 10, 50 and 100 % of the rows."""
    folder, out = place / "photos", place / "out"
    photos(folder, num)
    began, seen, marks = time.perf_counter(), {}, {}
    first = None
    process = start(folder, out, "--workers", str(workers))
    while process.poll() is None:
        seen |= peaks(process.pid)
        done = rows_done(out, num) if out.exists() else 0
        if first is None and done:
            first = time.perf_counter() - began
        for mark in MARKS[:-1]:
            if mark not in marks and done >= mark * num:
                marks[mark] = {"one": max(seen.values()), "all": sum(seen.values())}
                print(f"{mark:.0%}: {marks[mark]}", flush=True)
        time.sleep(1)
    marks[1.0] = {"one": max(seen.values()), "all": sum(seen.values())}
    seconds = time.perf_counter() - began
    finished(process)
    figures = {f"{mark:.0%}": {name: round(kb / 1024) for name, kb in peak.items()} for mark, peak in marks.items()}
    written = sum(name.endswith(".jpg") for _, _, files in os.walk(out) for name in files)
    share = round((first or 0) / seconds, 4)
    return {"photos": num, "workers": workers, "peak_mb": figures, "written": written, "share_before_the_first_row": share}


def digest(out: Path) -> str:
    """All that lies in a folder of results, but for what says of which folder it is."""
    total = hashlib.sha256()
    for file in sorted(path for path in out.rglob("*") if path.is_file() and path.name != "job.json"):
        total.update(str(file.relative_to(out)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def killed_at_random(process: subprocess.Popen[str], out: Path, num: int, rng: random.Random, number: int) -> bool:
    """Kill a run: one time in five while it starts, else within two seconds of its first new rows; every other time with all
    its workers at once. Whether it was still running."""
    before = rows_done(out, num)
    until = time.monotonic() + (rng.uniform(0.2, 8) if number % 5 == 0 else 120)
    while process.poll() is None and time.monotonic() < until and rows_done(out, num) == before:
        time.sleep(0.02)
    if number % 5:
        time.sleep(rng.uniform(0, 2))
    if process.poll() is not None:
        return False
    if number % 2:
        os.kill(process.pid, signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return True


def kills(place: Path, num: int, number: int, workers: int) -> dict:
    """One run killed so many times at random moments, then left to end."""
    folder, plain, killed = place / "photos", place / "plain", place / "killed"
    photos(folder, num)
    finished(start(folder, plain, "--workers", str(workers)))
    rng, done = random.Random(0), []
    while len(done) < number:
        process = start(folder, killed, "--workers", str(workers))
        if not killed_at_random(process, killed, num, rng, len(done)):
            break
        done.append(rows_done(killed, num))
        print(f"kill {len(done)}: {done[-1]} rows", flush=True)
    finished(start(folder, killed, "--workers", str(workers)))
    return {"photos": num, "kills": len(done), "rows_after_each": done, "byte_equal": digest(plain) == digest(killed)}


def kill_one_actor(pid: int) -> bool:
    """Kill one of Ray's worker processes that computes."""
    for one in family(pid)[1:]:
        try:
            name = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "MapWorker" in name or "ray::Map" in name:
            os.kill(one, signal.SIGKILL)
            return True
    return False


def on_ray(place: Path, num: int) -> dict:
    """The rows of one process, and of Ray with 1, 2 and 4 workers, and with one of two killed on the way."""
    folder = place / "photos"
    photos(folder, num)
    finished(start(folder, place / "plain", "--workers", "0"))
    expected, figures = digest(place / "plain"), {}
    for workers, kill in ((1, False), (2, False), (4, False), (2, True)):
        out = place / f"ray-{workers}{'-killed' * kill}"
        process = start(folder, out, "--engine", "ray", "--workers", str(workers))
        hit = False
        while kill and not hit and process.poll() is None:
            hit = rows_done(out, num) > num // 8 and kill_one_actor(process.pid) if out.exists() else False
            time.sleep(0.2)
        finished(process)
        name = f"{workers} workers" + ", one killed" * kill
        figures[name] = {"equal": digest(out) == expected} | ({"killed": hit} if kill else {})
        print(name, figures[name], flush=True)
    return {"photos": num, **figures}


def speed(place: Path, num: int, rounds: int = 3) -> dict:
    """How many times as fast as one worker: medians of interleaved runs, the start of the processes left out."""
    folder = place / "photos"
    photos(folder, num)
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    for i in range(rounds):
        for workers, known in rates.items():
            out = place / f"{workers}-{i}"
            process, times = start(folder, out, "--workers", str(workers), adapter="photos-c4-small"), []
            while process.poll() is None:
                if (done := rows_done(out, num)) and (not times or done > times[-1][1]):
                    times.append((time.perf_counter(), done))
                time.sleep(0.05)
            finished(process)
            (t0, n0), (t1, n1) = times[0], times[-1]
            known.append((n1 - n0) / (t1 - t0))
            print(f"{workers} workers: {known[-1]:.0f} photos a second", flush=True)
    medians = {workers: float(np.median(known)) for workers, known in rates.items()}
    ratios = {f"{workers} worker{'s' * (workers > 1)}": round(rate / medians[1], 2) for workers, rate in medians.items()}
    return {"photos": num, "rounds": rounds, "processors": len(os.sched_getaffinity(0)), "times_one_worker": ratios}


def table(figures: dict) -> str:
    """The figures as a table in Markdown."""
    peak, killed, ray = (figures[name] for name in ("memory", "kills", "ray"))
    one, all_of = (", ".join(f"{row[name]} MB at {at}" for at, row in peak["peak_mb"].items()) for name in ("one", "all"))
    equal = ", ".join(f"{name}: {'yes' if row['equal'] else 'no'}" for name, row in ray.items() if name != "photos")
    rows = [
        (f"peak memory of the largest process, {peak['photos']:,} photos, {peak['workers']} workers", one),
        ("the same, of all processes together", all_of),
        (
            f"{killed['kills']} kills at random moments, {killed['photos']:,} photos",
            f"the result is {'' if killed['byte_equal'] else 'not '}byte-equal to an uninterrupted run",
        ),
        (f"rows and files of Ray equal to those of one process, {ray['photos']:,} photos", equal),
    ]
    if fast := figures.get("speed"):
        rates = ", ".join(f"{ratio:.2f} with {name}" for name, ratio in fast["times_one_worker"].items())
        rows.append((f"photos a second, times those of one worker, on {fast['processors']} hardware threads", rates))
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"memory": memory, "kills": kills, "ray": on_ray, "speed": speed}
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--num", type=int, default=100_000, help="photos of the part memory")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--few", type=int, default=1500, help="photos of the other parts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    file = args.out or common.RESULTS / "folders.json"
    figures = json.loads(file.read_text()) if file.is_file() else {}
    figures.pop("machine", None)
    for part in args.parts:
        with tempfile.TemporaryDirectory() as place:
            numbers = {"memory": (args.num, args.workers), "kills": (8 * args.few, args.kills, args.workers)}
            figures[part] = parts[part](Path(place), *numbers.get(part, (args.few,)))
        print(part, figures[part], flush=True)
        common.keep("folders", figures, args.out)


if __name__ == "__main__":
    main()
