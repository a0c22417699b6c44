"""`equiform upright`: files turned upright, one by one, and a table of what was found."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ..upright import plan, tabled, turn_files
from .models import check_file, check_folder, upright_step
from .options import Adapter, Backbone
from .text import count, list_files, say, track


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
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table of poses. [default: poses.csv in the --out folder]")
    ] = None,
    min_confidence: Annotated[float | None, typer.Option(hidden=True, min=0, max=1)] = None,  # what --at-least was called
) -> None:
    """Turn image files upright.

    Each is written in its own format and colour mode; one that is upright already, or in doubt, is copied byte by byte. The
    inputs are never changed. A table (CSV) says of each file by how many degrees its content was found turned,
    counter-clockwise (after a left-right flip, where flip is 1), which was undone; how certain that is, 0 to 1; what was done:
    turned, upright already, left alone or failed; and why it failed.

    \b
    equiform upright scans/ --out straight/ --adapter adapter
    equiform upright holiday/ --out straight/ --prior 0.95 --at-least 0.97
    equiform upright holiday/ --out straight/ --any-angle --quarter 5
    equiform upright a.jpg b.png --out straight/ --any-angle --fill white --csv poses.csv
    """
    files = plan(inputs, out)
    check_folder("--out", out)
    table = out / "poses.csv" if csv is None else csv
    check_file("--csv", table)
    if table.resolve() in {path.resolve() for pair in files for path in pair}:
        raise ValueError(f"--csv {table} is one of the images")
    at_least = at_least if min_confidence is None else min_confidence
    step = upright_step(adapter, backbone, any_angle, min_confidence=at_least, prior=prior, quarter=quarter, fill=fill)
    results = list(track(tabled(turn_files(files, step), table), len(files)))
    failed = [result.error for result in results if result.error]
    list_files("skipped", failed)
    if len(failed) == len(files):
        raise ValueError(f"none of {count(len(files), 'image')} can be turned")
    sure = sorted(result.confidence for result in results if result.confidence is not None)
    median, chance = (sure[len(sure) // 2] if sure else 1.0), 1 / step.canonicalizer.num_poses
    if median < 2 * chance:
        say(f"note: the median confidence is {median:.2f}, where guessing is {chance:.2f}: fit the adapter longer", err=True)
    number = Counter(result.done for result in results)
    parts = [f"{number['turned']} turned", f"{number['upright already']} upright already"]
    parts += [f"{number['left alone']} left alone (confidence below {at_least:g})"] * (at_least > 0)
    parts += [f"{number['failed']} failed"] * bool(failed)
    done = f"{len(files) - len(failed)} of " * bool(failed) + count(len(files), "image")
    say(f"{done} in {out}: {', '.join(parts)}; poses in {table}")
