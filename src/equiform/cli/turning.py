"""`equiform upright`: files turned upright, and a table of what was found."""

import statistics
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import ready, saving
from ..jobs import turning
from ..jobs.job import Item
from ..jobs.journal import Journal
from ..jobs.plan import Plan, found_in, sharded
from ..jobs.running import summed
from ..jobs.turning import Turning, looked_at
from ..upright import Upright
from .models import check_folder, upright_step
from .options import Adapter, Backbone
from .running import (
    Address,
    EngineName,
    Overwrite,
    Place,
    Shard,
    Workers,
    command_line,
    engine_of,
    journal_of,
    run_with_progress,
    shard_of,
)
from .text import count, list_files, say

BATCH = 16  # files that are looked at together
SAMPLE, ENOUGH = 32, 8  # files that are looked at before anything is written; how many of them must be readable to tell


def upright_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Image files, and folders that are searched for them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the upright images go: same names, same inner folders.")],
    adapter: Adapter = None,
    backbone: Backbone = None,
    any_angle: Annotated[
        bool,
        typer.Option("--any-angle", help="Level them too, by any angle: cropped to the largest rectangle, or see --fill."),
    ] = False,
    at_least: Annotated[
        float,
        typer.Option(
            metavar="P",
            min=0,
            max=1,
            help="Leave an image alone where the pose is less certain than this: 0.97 where a wrong turn is worse than none.",
        ),
    ] = 0.5,
    prior: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="The share that is upright, as known before: 0.95 suits a library of photos. [default: each pose alike]",
        ),
    ] = None,
    quarter: Annotated[
        float,
        typer.Option(
            metavar="DEGREES",
            min=0,
            max=45,
            help="Within so many degrees of a quarter turn, undo that one, without loss: 5 leaves level photos whole.",
        ),
    ] = 0.0,
    fill: Annotated[
        str | None,
        typer.Option(metavar="COLOUR", help="Fill the corners of a levelled image, as white or #808080, instead of cropping."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            "--csv",
            metavar="FILE",
            help="The table of poses, in .csv or .parquet. [default: poses.csv in the --out folder, from 10,000 images on "
            "poses.parquet, a folder of parts]",
        ),
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Go on where the adapter only guesses on these images.")] = False,
    overwrite: Overwrite = False,
    workers: Workers = None,
    shard: Shard = None,
    engine: EngineName = "processes",
    address: Address = None,
    min_confidence: Annotated[float | None, typer.Option(hidden=True, min=0, max=1)] = None,  # what --at-least was called
) -> int:
    """Turn image files upright.

    Each is written in its own format and colour mode; one that is upright as it is shown, or in doubt, is copied byte by byte.
    With the extra `jpeg` a JPEG is turned without loss where its size allows it. The inputs are never changed. A table says of
    each file by how many degrees its content was found turned, counter-clockwise (after a left-right flip where flip is 1); how
    certain that is, 0 to 1; what was done: turned (back by that angle), upright already, left alone or failed; whether nothing
    was lost; and why it failed. A run that was cut short, even by a kill, goes on where the same command is given again. The
    exit code is 1 where files failed.

    \b
    equiform upright scans/ --out straight/
    equiform upright holiday/ --out straight/ --prior 0.95 --at-least 0.97
    equiform upright holiday/ --out straight/ --any-angle --quarter 5
    equiform upright a.jpg b.png --out straight/ --any-angle --fill white --csv poses.csv
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; the results need a folder")
    check_folder("--out", out)
    part, where = shard_of(shard), engine_of(engine, workers, address)
    place = Place("--table" if table else "", table or out / "poses", part, journal_in=out)
    adapter = adapter or ready.DEFAULTS["SO2" if any_angle else "C4"]
    at_least = at_least if min_confidence is None else min_confidence
    options: dict[str, Any] = {"min_confidence": at_least, "prior": prior, "quarter": quarter, "fill": fill}
    make = partial(upright_step, adapter, backbone, any_angle, **options)
    step = make()
    if not overwrite:
        check_empty(out, place, part)
    said = {"adapter": adapter, "backbone": backbone, "any-angle": any_angle, "at-least": at_least, "prior": prior}
    said |= {"quarter": quarter or None, "fill": fill, "shard": shard}
    identity = {"command": command_line("upright", inputs, {"out": out, **said}), **said}
    identity |= {"table": str(place.stem.absolute()) + place.said, "inputs": [str(given.absolute()) for given in inputs]}
    identity |= {"weights": saving.fingerprint(adapter)}

    def columns(plan: Plan) -> dict[str, str]:
        chosen = sorted({i * plan.num_batches // SAMPLE for i in range(SAMPLE)})
        sample = [item for k in chosen for item in plan.batch(k)[: -(-SAMPLE // len(chosen))]]
        check_sees(step, sample, adapter, anyway)
        tell_of_jpegs(sample)
        return turning.COLUMNS

    with journal_of(place, identity, overwrite, lambda roots: sharded(found_in(inputs, roots, out), part), columns, BATCH) as (
        journal,
        again,
    ):
        here = where.name != "ray" and where.number(journal.num_rows, again) == 0
        job = Turning((lambda: step) if here else make, out.absolute(), journal.scratch.absolute())
        run_with_progress(job, journal, where, again, "turning")
        return tell(journal, out, at_least)


def check_empty(out: Path, place: Place, shard: tuple[int, int]) -> None:
    """Raise FileExistsError where there are files that this job has not written; shards write to one folder."""
    if out.is_dir() and not place.journal.exists() and shard[1] == 1 and any(out.iterdir()):
        raise FileExistsError(f"--out {out} holds other files: name a new folder, or --overwrite to write among them")


def tell_of_jpegs(items: list[Item]) -> None:
    """Say that JPEGs lose a little, before it happens, where what turns them without loss is not installed."""
    if find_spec("turbojpeg") is None and any(item.source.suffix.lower() in (".jpg", ".jpeg") for item in items):
        say("note: JPEGs that are turned will be encoded again; without loss: pip install 'equiform[jpeg]'", err=True)


def check_sees(step: Upright, items: list[Item], adapter: str, anyway: bool) -> None:
    """Look at some files from all over the plan. Raises ValueError where the adapter guesses, unless it may."""
    bare = Upright(step.canonicalizer)  # without what is known before
    found = [one for one in looked_at(bare, items) if not isinstance(one, Exception)]
    if not found:
        return
    median, chance = statistics.median(one.confidence for one in found), 1 / step.canonicalizer.num_poses
    if median >= 2 * chance:
        return
    guesses = (
        f"{adapter} guesses on these images: of {count(len(found), 'image')} that were looked at the median confidence is "
        f"{median:.2f}, where guessing is {chance:.2f}"
    )
    if len(found) >= ENOUGH and not anyway:
        raise ValueError(f"{guesses}; nothing was written: fit an adapter on images like these, or go on with --anyway")
    say(f"warning: {guesses}", err=True)


def tell(journal: Journal, out: Path, at_least: float) -> int:
    """What was done. Returns how many files failed. Raises ValueError where none could be turned."""
    summary = summed(journal, "done")
    list_files("skipped", summary.errors, summary.num_failed)
    if summary.num_failed == summary.num_rows:
        raise ValueError(f"none of {count(summary.num_rows, 'image')} can be turned")
    number = summary.done
    parts = [f"{number['turned']} turned", f"{number['upright already']} upright already"]
    parts += [f"{number['left alone']} left alone (confidence below {at_least:g})"] * (at_least > 0)
    parts += [f"{number['failed']} failed"] * bool(summary.num_failed)
    done = f"{summary.num_rows - summary.num_failed} of " * bool(summary.num_failed) + count(summary.num_rows, "image")
    say(f"{done} in {out}: {', '.join(parts)}; poses in {journal.table}")
    return summary.num_failed
