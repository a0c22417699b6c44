"""The `equiform` command. Every expected error is one line; --debug shows where it came from."""

import sys
import time
from pathlib import Path
from typing import Annotated

import rich
import torch
import typer

from .. import __version__, ready, saving
from .._checks import check_positive, named
from ..cli import demo
from ..evaluation.evaluate import BASELINES, evaluate
from ..evaluation.frames import FRAMES, uncropped
from ..geometry.groups import group as group_of
from ..images.files import LabelledImages
from ..learning.fitting import FURTHER_LR, FURTHER_STEPS, STEPS, fit
from ..learning.objective import Objective
from ..predictors.references import check_reference, check_resolves, load_reference
from .diagnose import diagnose_command
from .exports import export_command
from .info import contents, environment
from .models import (
    FEWEST,
    NORMALISATIONS,
    adapted,
    add_opinion,
    begun,
    check_adapter,
    check_adapter_folder,
    check_aside,
    check_file,
    check_folder,
    check_network,
    check_predictor,
    chosen_normalisation,
    device_of,
    kept_aside,
    say_reached,
    teacher_of,
    tell_of_pixels,
    tell_of_poses,
    to_fit,
)
from .options import MAX_SIDE, SIDE, Adapter, Backbone, Coverage, Device, Normalize, Predictor, Replace, Seed, Size, TopK
from .predicting import predict_command
from .text import Commands, list_files, say, size_of
from .turning import upright_command
from .web import web_command

REPORTS = (".html", ".json", ".csv")
METRICS = ("accuracy", "top5_accuracy")  # those that a class index is enough for


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # help as it stands here, examples in their own lines
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point."""
    app(prog_name="equiform")


def show_version(value: bool) -> None:
    if value:
        say(f"equiform {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from; before or after the command.")] = False,
) -> None:
    """Make a pretrained model equivariant: turned and mirrored images are answered as well as upright ones.

    \b
    equiform demo                                              see it work, in a minute or two, without a download
    equiform fit timm:resnet18 photos/ --out adapter           learn what upright photos look like
    equiform evaluate timm:resnet18 test/ --adapter adapter    what it gains: a table, and a report
    equiform diagnose timm:resnet18 photos/                    what is worth doing: adapt, average, or leave it
    equiform upright scans/ --out straight/                    turn image files upright
    equiform predict timm:resnet18 photos/ --out answers.csv   its answers for a folder, however large
    equiform web                                               a page to play with: turn a photo, compare the answers
    """


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path("demo-report"),
    seed: Seed = 0,
    overwrite: Replace = False,
) -> None:
    """See it work, on handwritten digits.

    Adapts a small classifier and measures it; writes a report. Needs no download.

    \b
    equiform demo
    equiform demo --out digits --seed 1
    """
    check_folder("--out", out)
    saving.check_ours(out / demo.ADAPTER)
    for name in demo.WRITTEN:
        check_file("--out", out / name, overwrite)
    demo.run(out, seed)


# ---------------------------------------------------------------------------------------------------------------- fit


@app.command("fit")
def fit_command(
    predictor: Predictor,
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="A folder of photos, upright as the predictor knows them; no labels needed."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the adapter is saved: config.json, model.safetensors.")],
    group: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The poses to undo. C4: quarter turns; D4: mirror images too; C8, C16, ...: finer turns."
        ),
    ] = "C4",
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Find the pose with this classifier, fine-tuned, and not with a small network of our own."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The ready-made canonicalizer to go on from, or none for a small new network. [default: photos-c4 for C4, "
            "photos-so2 for SO2; none for other groups, and with --backbone or --resolution]",
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Side in pixels to which a new network's photos are reduced. [default: 64]"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help=f"Passes over the photos. [default: what makes {FURTHER_STEPS} steps; new: {STEPS}]"
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help=f"Learning rate; 1e-4 suits a large pretrained backbone. [default: {FURTHER_LR}; new: {Objective.lr}]",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Photos in a training step.")] = 32,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="REF", help="A large classifier that judges each photo once before: better where photos are few."),
    ] = None,
    opinion: Annotated[
        bool,
        typer.Option(
            "--opinion",
            help="Learn too how the predictor's answers tell the pose: better answers from several poses (--top-k).",
        ),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_SIDE,
            help=f"Side in pixels of the photos that --teacher and --opinion are shown. [default: {SIDE}]",
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Other upright photos: the epoch that does best on them is kept. [default: a tenth of the photos, of "
            f"{FEWEST} or more]",
        ),
    ] = None,
    seed: Seed = 0,
    outputs: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What the predictor gives: logits (a classifier), mask, ... (see `equiform info`). Needed for most FILE.py.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the state of the run here: the same command goes on where it was stopped."),
    ] = None,
    overwrite: Replace = False,
) -> int:
    """Fit an adapter to a folder of photos.

    It learns what upright photos look like, going on from a ready-made canonicalizer where there is one; and is saved as a
    folder that `evaluate`, `upright` and equiform.load take. The predictor is loaded only to see what it gives (with --outputs,
    not even that), and runs only for --opinion. Wherever a REF is asked for, it is a reference like PREDICTOR. The exit code is
    1 where photos were skipped.

    \b
    equiform fit timm:resnet18 photos/ --out adapter
    equiform fit torchvision:mobilenet_v2 photos/ --out adapter --group D4 --val more-photos/
    equiform fit my_models.py:classifier photos/ --out adapter --outputs logits --epochs 10
    equiform fit timm:resnet18 photos/ --out adapter --backbone timm:mobilenetv3_small_100 --lr 1e-4
    equiform fit timm:resnet18 photos/ --out adapter --teacher timm:resnet50 --opinion
    """
    if lr is not None:
        check_positive(**{"--lr": lr})
    if size is not None and teacher is None and not opinion:
        raise ValueError("--size is of the photos that --teacher and --opinion are shown: without them the predictor sees none")
    size = size or SIDE
    group_of(group)
    for ref in filter(None, (predictor, backbone, teacher)):
        check_resolves(ref)
    check_aside(images, val)
    check_adapter_folder(out, overwrite)
    if checkpoint is not None:
        check_folder("--checkpoint", checkpoint)
    torch.manual_seed(seed)  # the first weights are drawn here, not in fit
    canonicalizer, further = begun(group, start, backbone, resolution)
    check_network(canonicalizer, backbone)
    model = to_fit(predictor, canonicalizer, outputs, runs=opinion)
    judge = None if teacher is None else teacher_of(teacher, size)
    options = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "checkpoint": checkpoint}
    began = time.monotonic()
    if opinion:  # first: it does not depend on the rest, and may be refused
        add_opinion(model, predictor, images, size, batch_size)
    photos, aside = (images, val) if val is not None else kept_aside(images, seed)
    resumed = checkpoint is not None and any(checkpoint.rglob("*.ckpt"))
    result = fit(model, photos, val=aside, teacher=judge, enable_progress_bar=sys.stderr.isatty(), **options)
    model.save(out)
    list_files("skipped", result.skipped)
    say_reached(result, val, aside)
    if resumed:
        say(f"note: gone on from the run in {checkpoint}", err=True)
    what = canonicalizer.group.name + (f", going on from {further}," if further else "")
    say(f"fitted {what} in {time.monotonic() - began:.0f} s; saved in {out} ({size_of(out)})")
    return len(result.skipped)


# ----------------------------------------------------------------------------------------------------------- evaluate


@app.command("evaluate")
def evaluate_command(
    predictor: Predictor,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder of upright photos with one subfolder for each class.")
    ],
    adapter: Adapter = None,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="The poses to measure: C4, D4, C16, SO2, ... [default: the adapter's]")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help='Class index of each subfolder as JSON, {"cats": 281, ...}. [default: sorted order]'
        ),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help=f"{' or '.join(METRICS)}.")] = METRICS[0],
    baseline: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="One more row: bare (the predictor alone), orbit-averaging (the mean over all poses), training-free "
            "(the pose it is surest of). Repeatable.",
        ),
    ] = ["bare"],  # noqa: B006  (typer copies it)
    top_k: TopK = None,
    coverage: Coverage = None,
    size: Size = SIDE,
    normalize: Normalize = "auto",
    frame: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How photos are turned: inside (their corners are lost at angles between quarter turns), or crop (each is cut "
            "from the middle of a larger turned photo, and no corner is missing).",
        ),
    ] = FRAMES[0],
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Photos in a batch.")] = 32,
    device: Device = "cpu",
    out: Annotated[list[Path], typer.Option(metavar="FILE", help="Write the report as .html, .json or .csv. Repeatable.")] = [],  # noqa: B006  (typer copies it)
    overwrite: Replace = False,
    backbone: Backbone = None,
) -> int:
    """Measure an adapted predictor in every pose.

    On labelled upright photos, which are turned here: accuracy upright, on average and in the worst pose, how often the pose
    is found, how far answers are from equivariant, what it costs. Classifiers only; for others there is equiform.evaluate in
    Python. The exit code is 1 where images were skipped.

    \b
    equiform evaluate timm:resnet18 test/ --labels labels.json
    equiform evaluate timm:resnet18 test/ --labels labels.json --group SO2 --frame crop
    equiform evaluate timm:resnet18 test/ --adapter adapter --out report.html --out report.json
    equiform evaluate my_models.py:classifier test/ --adapter adapter --size 32 --baseline bare --baseline orbit-averaging

    \b
    test/cats/1.jpg, test/dogs/2.jpg: the class is the position of the subfolder in sorted order (cats 0, dogs 1), or what
    labels.json says of it: {"cats": 281, "dogs": 207}
    """
    for path in out:
        if path.suffix.lower() not in REPORTS:
            raise ValueError(f"--out {path}: a report ends in {', '.join(REPORTS)}")
        check_file("--out", path, overwrite)
    metric, normalize = named("metric", metric, METRICS), named("normalization", normalize, NORMALISATIONS)
    frame = named("frame", frame, FRAMES)
    baselines = list(dict.fromkeys(named("baseline", name, BASELINES) for name in baseline))
    if group is not None:
        group_of(group)
    data, place = LabelledImages(images, labels, size), device_of(device)
    check_reference(predictor)
    adapter = adapter or ready.DEFAULTS.get(group or "", ready.DEFAULTS["C4"])
    check_adapter(adapter, backbone)
    loaded = load_reference(predictor)
    data.normalisation = chosen_normalisation(normalize, predictor, loaded)
    model = adapted(loaded, adapter, backbone, top_k, coverage).to(place)
    check_predictor(predictor, loaded, data, labels is None, place)
    tell_of_pixels(predictor, normalize)
    tell_of_poses(adapter, model.group, group)
    data.size = uncropped(size) if frame == "crop" else size  # so that the predictor is shown that size
    options = {"metric": metric, "group": group, "frame": frame, "baselines": baselines, "batch_size": batch_size}
    report = evaluate(model, data, progress=sys.stdout.isatty(), **options)
    list_files("skipped", data.skipped)
    if sys.stdout.isatty():
        rich.print(report)
    else:
        say(report)
    for doubt in report.doubts:
        say(f"warning: {doubt}", err=True)
    for path in out:
        report.save(path)
        say(f"saved {path}")
    return len(data.skipped)


# ------------------------------------------------------------------------------------------------ those of other files


app.command("diagnose")(diagnose_command)
app.command("upright")(upright_command)
app.command("predict")(predict_command)
app.command("export")(export_command)
app.command("web")(web_command)


# --------------------------------------------------------------------------------------------------------------- info


@app.command("info")
def info_command(
    adapter: Annotated[
        str | None,
        typer.Argument(
            metavar="ADAPTER",
            help="What `equiform fit` saved, to be described: a folder, or OWNER/NAME on the Hub; or a ready-made one by its "
            "name, such as photos-c4.",
        ),
    ] = None,
) -> None:
    """Show versions, or what an adapter holds.

    Without an argument: versions, devices and known names, for a bug report.

    \b
    equiform info
    equiform info adapter
    """
    rows = environment() if adapter is None else contents(adapter)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")
