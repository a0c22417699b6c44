"""The `equiform` command. Every expected error is one line; `equiform --debug COMMAND` shows where it came from."""

import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

from . import __version__, demo, hub
from ._optional import optional
from .canonicalizers import OrbitCanonicalizer
from .cli_info import contents, environment
from .cli_models import (
    adapted,
    check_folder,
    check_network,
    check_predictor,
    chosen_normalisation,
    device_of,
    no_predictor,
    restored,
    say,
    scoring_network,
    to_fit,
)
from .evaluation import BASELINES, evaluate
from .fitting import EPOCHS, LR, fit
from .images import LabelledImages
from .references import load_reference
from .upright import plan, turn_files, write_csv

# ModuleNotFoundError, FileNotFoundError and UnreadableImage are among them
EXPECTED = (ValueError, TypeError, ImportError, OSError)
REPORTS = (".html", ".json", ".csv")
NUM_NAMED = 20  # files that are named one by one before the rest is only counted


class Commands(TyperGroup):
    """The commands, with what they raise turned into a line and an exit code: 2 for an error, 130 for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # as in `equiform info | head -1`; typer knows what to do
            raise
        except EXPECTED as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            say(f"error: {' '.join(str(error).split()) or type(error).__name__}", err=True)
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, SystemExit) as error:
            # the training engine turns Ctrl-C into an exit
            if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
                raise
            say("interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # help as it stands here, examples in their own lines
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PREDICTOR_HELP = "timm:NAME, torchvision:NAME, transformers:REPO (or a folder), or FILE.py:FUNCTION, which is called for it."
Predictor = Annotated[str, typer.Argument(metavar="PREDICTOR", help=PREDICTOR_HELP, show_default=False)]
ADAPTER_HELP = (
    "What `equiform fit` saved: a folder, or OWNER/NAME on the Hub; or a ready-made one by its name, such as text-c4."
)
Adapter = Annotated[str, typer.Option(metavar="DIR", help=ADAPTER_HELP)]
Backbone = Annotated[
    str | None,
    typer.Option(metavar="REF", help="The reference that --backbone of `equiform fit` was given, if it was."),
]


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
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Make a pretrained model equivariant: turned and mirrored images are answered as well as upright ones.

    \b
    equiform demo                                              see it work, in a minute or two, without a download
    equiform fit timm:resnet18 photos/ --out adapter           learn what upright photos look like
    equiform evaluate timm:resnet18 test/ --adapter adapter    what it gains: a table, and a report
    equiform upright scans/ --out straight/ --adapter adapter  turn image files upright
    """


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path("demo-report"),
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random numbers.")] = 0,
) -> None:
    """See it work, on handwritten digits.

    Adapts a small classifier and measures it; writes a report. Needs no download.

    \b
    equiform demo
    equiform demo --out digits --seed 1
    """
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
        str, typer.Option(metavar="NAME", help="C4: quarter turns; D4: with mirror images; C8, C16, ...: finer turns.")
    ] = "C4",
    backbone: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Fine-tune this classifier as scoring network (a reference like PREDICTOR)."),
    ] = None,
    resolution: Annotated[
        int, typer.Option(metavar="N", min=1, help="Side in pixels of what the scoring network looks at.")
    ] = 64,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the photos.")] = EPOCHS,
    lr: Annotated[float, typer.Option(metavar="X", help="Learning rate; 1e-4 suits a large pretrained backbone better.")] = LR,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Photos in a training step.")] = 32,
    val: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Upright photos held out: the epoch that does best on them is kept.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random numbers: two runs with one seed agree.")] = 0,
    outputs: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="How the predictor's output moves: logits, mask, ... Known for the libraries' models."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the state of the run here; a run that was stopped goes on from it.")
    ] = None,
) -> None:
    """Fit an adapter to a folder of photos.

    It learns what upright photos look like, and is saved as a folder that `evaluate`, `upright` and equiform.load take. The
    predictor never runs. It tells how its outputs move; with --outputs it is not even loaded.

    \b
    equiform fit timm:resnet18 photos/ --out adapter
    equiform fit torchvision:mobilenet_v2 photos/ --out adapter --group D4 --val more-photos/
    equiform fit my_models.py:classifier photos/ --out adapter --outputs logits --epochs 10
    equiform fit timm:resnet18 photos/ --out adapter --backbone timm:mobilenetv3_small_100 --lr 1e-4
    """
    check_folder(out)
    if lr <= 0:
        raise ValueError(f"--lr is a positive number; got {lr}")
    torch.manual_seed(seed)  # the first weights are drawn here, not in fit
    canonicalizer = OrbitCanonicalizer(group, scoring_network(backbone), resolution=resolution)
    check_network(canonicalizer, backbone)
    model = to_fit(predictor, canonicalizer, outputs)
    options = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "checkpoint": checkpoint}
    start = time.monotonic()
    result = fit(model, images, val=val, enable_progress_bar=sys.stderr.isatty(), **options)
    model.save(out)
    _list("skipped", result.skipped)
    accuracies = [epoch["pose_accuracy"] for epoch in result.history if "pose_accuracy" in epoch]
    if accuracies:
        say(f"pose accuracy on {val}: {max(accuracies):.3f}")
    say(f"fitted {canonicalizer.group.name} in {time.monotonic() - start:.0f} s; saved in {out} ({_size(out)})")


# ----------------------------------------------------------------------------------------------------------- evaluate


@app.command("evaluate")
def evaluate_command(
    predictor: Predictor,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder of upright photos with one subfolder for each class.")
    ],
    adapter: Adapter,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="The poses to measure: C4, D4, C16, ... [default: the adapter's]")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help='Class index of each subfolder, {"cats": 281, ...}. [default: sorted order]'),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="accuracy or top5_accuracy.")] = "accuracy",
    baseline: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Another row of the table: bare, orbit-averaging, training-free. Repeatable."),
    ] = ["bare"],  # noqa: B006  (typer copies it)
    top_k: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Average the answers of that many likeliest poses.")
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(metavar="P", help="... of as many as cover that share of the posterior, 0 to 1.")
    ] = None,
    size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Photos are squeezed to SIZE x SIZE pixels, RGB in [0, 1].")
    ] = 224,
    normalize: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto: as a timm, torchvision or transformers model was trained, none for FILE.py; imagenet; none.",
        ),
    ] = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Photos in a batch.")] = 32,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps, ...")] = "cpu",
    out: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Write a report: .html, .json or .csv by its name. Repeatable.")
    ] = [],  # noqa: B006  (typer copies it)
    backbone: Backbone = None,
) -> None:
    """Measure an adapted predictor in every pose.

    On labelled photos: accuracy upright, on average and in the worst pose, equivariance error, cost.

    \b
    equiform evaluate timm:resnet18 test/ --adapter adapter --labels labels.json
    equiform evaluate timm:resnet18 test/ --adapter adapter --out report.html --out report.json
    equiform evaluate my_models.py:classifier test/ --adapter adapter --size 32 --baseline bare --baseline orbit-averaging

    \b
    test/cats/1.jpg, test/dogs/2.jpg: the class is the position of the subfolder in sorted order (cats 0, dogs 1), or what
    labels.json says of it: {"cats": 281, "dogs": 207}
    """
    for path in out:
        if path.suffix.lower() not in REPORTS:
            raise ValueError(f"--out {path}: a report ends in {', '.join(REPORTS)}")
    names = {name.replace(" ", "-"): name for name in BASELINES}
    data = LabelledImages(images, labels, size)
    loaded = load_reference(predictor)
    data.normalisation = chosen_normalisation(normalize, predictor, loaded)
    place = device_of(device)
    model = adapted(loaded, adapter, backbone, top_k, coverage).to(place)
    check_predictor(predictor, loaded, data, labels is None, place)
    baselines = list(dict.fromkeys(names.get(name, name) for name in baseline))
    options = {"metric": metric, "group": group, "baselines": baselines, "batch_size": batch_size}
    report = evaluate(model, data, progress=sys.stdout.isatty(), **options)
    _list("skipped", data.skipped)
    if sys.stdout.isatty():
        optional("rich", "all").print(report)
    else:
        say(report)
    for path in out:
        report.save(path)
        say(f"saved {path}")


# ------------------------------------------------------------------------------------------------------------ upright


@app.command("upright")
def upright_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Image files and folders of them.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the upright images go: same names, same inner folders.")],
    adapter: Adapter,
    backbone: Backbone = None,
    min_confidence: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Leave an image as it is where the pose is less certain than this.")
    ] = 0.0,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table of poses. [default: poses.csv in the --out folder]")
    ] = None,
) -> None:
    """Turn image files upright.

    Each is written in its own format and colour mode, beside a table of the poses found: by how many degrees the content was
    turned, counter-clockwise (after a left-right flip, where flip is 1), which is what was undone; how certain that is; why a
    file was skipped. An image that is upright already is copied byte by byte. The inputs are never changed.

    \b
    equiform upright scans/ --out straight/ --adapter adapter
    equiform upright a.jpg b.png --out straight/ --adapter adapter --min-confidence 0.8 --csv poses.csv
    """
    files = plan(inputs, out)
    canonicalizer = restored(adapter, no_predictor, backbone)[0]
    if not canonicalizer.learns:
        raise ValueError(
            f"{adapter} holds a canonicalizer of kind {canonicalizer.name}, which says nothing without its predictor"
        )
    table = out / "poses.csv" if csv is None else csv
    if table.resolve() in {path.resolve() for pair in files for path in pair}:
        raise ValueError(f"--csv {table} is one of the images")
    results = list(_track(turn_files(files, canonicalizer, min_confidence), len(files)))
    failed = [result.error for result in results if result.error]
    _list("skipped", failed)
    if len(failed) == len(files):
        raise ValueError(f"none of {_count(len(files), 'image')} can be turned")
    write_csv(table, results)
    turned = sum(bool(result.angle or result.flip) for result in results)
    doubtful = sum(result.doubtful for result in results)
    sure = sorted(result.confidence for result in results if result.confidence is not None)
    median, chance = (sure[len(sure) // 2] if sure else 1.0), 1 / len(canonicalizer.elements)
    if median < 2 * chance:
        say(f"note: the median confidence is {median:.2f}, where guessing is {chance:.2f}: fit the adapter longer", err=True)
    left = f", {doubtful} left as found (confidence below {min_confidence:g})" if doubtful else ""
    say(f"{_count(len(files) - len(failed), 'image')} in {out}: {turned} turned{left}; poses in {table}")


def _track(results: Iterable[Any], total: int) -> Iterable[Any]:
    """With a progress bar, where somebody watches."""
    if not sys.stderr.isatty():
        return results
    console = optional("rich.console", "all").Console(stderr=True)
    return optional("rich.progress", "all").track(results, "turning", total, console=console, transient=True)


def _list(what: str, lines: list[str]) -> None:
    """The files that were left out, counted and named, on standard error."""
    if lines:
        say(f"{what} {_count(len(lines), 'file')}:", err=True)
        for line in lines[:NUM_NAMED]:
            say(f"  {line}", err=True)
        if len(lines) > NUM_NAMED:
            say(f"  and {len(lines) - NUM_NAMED} more", err=True)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in (folder / hub.CONFIG, folder / hub.WEIGHTS)) / 1e6:.1f} MB"


# --------------------------------------------------------------------------------------------------------------- info


@app.command("info")
def info_command(
    adapter: Annotated[str | None, typer.Argument(metavar="ADAPTER", help="A saved adapter to describe.")] = None,
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
