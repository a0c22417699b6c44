"""`equiform predict`: an adapted model over a folder or a table of paths."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from .. import ready, saving
from .._checks import named, reason
from ..images.files import UnreadableImage, normalised, open_image, read_square, to_tensor
from ..jobs.journal import Journal
from ..jobs.plan import TABLES, Found, Plan, Roots, found_in, sharded, table_paths
from ..jobs.predicting import Predicting, Reader, columns_of
from ..jobs.running import summed
from ..predictors.class_names import class_names
from ..predictors.pairs import PhotoPredictor
from ..predictors.references import check_reference, load_reference
from .models import NORMALISATIONS, READERS, around, check_adapter, chosen_normalisation, device_of, for_readers, tell_of_pixels
from .options import SIDE, Adapter, Backbone, Coverage, Device, Normalize, Predictor, Size, TopK
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


def reader_of(
    ref: str,
    adapter: str,
    backbone: str | None,
    outputs: str | None,
    top_k: int | None,
    coverage: float | None,
    size: int,
    normalize: str,
    device: str,
) -> Reader:
    """The adapted model, and how it wants its photos: squares of a size, or whole where it has a processor of its own."""
    predictor = load_reference(ref)
    model = around(predictor, adapter, backbone, top_k, coverage, outputs).to(device_of(device))
    names = partial(class_names, ref, predictor)
    if isinstance(predictor, PhotoPredictor):
        return Reader(model, _whole, stacked=False, names=names)
    read = partial(_square, size, chosen_normalisation(normalize, ref, predictor))
    return Reader(model, read, device=torch.device(device), names=names)


def _whole(path: Path) -> Tensor:
    return to_tensor(open_image(path))


def _square(size: int, normalisation: Any, path: Path) -> Tensor:
    return normalised(read_square(path, size).float() / 255, normalisation)


def predict_command(
    predictor: Predictor,
    inputs: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="A folder that is searched for images, or a table with their paths: CSV, Parquet."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The answers: a table in .csv, or in .parquet, which is a folder of parts.")
    ],
    adapter: Adapter = None,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of a table with the paths. [default: file, path, image or filename]"),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="What the predictor gives: logits, mask, ... [default: as known, or as saved]"),
    ] = None,
    top_k: TopK = None,
    coverage: Coverage = None,
    size: Size = SIDE,
    normalize: Normalize = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Photos in a batch.")] = 16,
    device: Device = "cpu",
    backbone: Backbone = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    shard: Shard = None,
    engine: EngineName = "processes",
    address: Address = None,
) -> int:
    """Run an adapted model over a folder, or a table of paths.

    A table of answers has a row for each file: the pose that was found (angle, flip, confidence), and what the model says, of a
    classifier the likeliest class, its probability and, where it is known, its name; of a file that cannot be read the error.
    The paths in a table are relative to its folder. A run that was cut short, even by a kill, goes on where the same command is
    given again. The exit code is 1 where files failed.

    \b
    equiform predict efficientnet-lite0 photos/ --out answers.csv
    equiform predict timm:resnet18 photos/ --out answers.csv
    equiform predict timm:resnet18 photos/ --adapter adapter --out answers.parquet --workers 8
    equiform predict my_models.py:segmenter paths.csv --outputs mask --out masks.parquet
    equiform predict timm:resnet50 paths.parquet --out answers.parquet --engine ray --address head:6379 --device cuda
    """
    normalize = named("normalization", normalize, NORMALISATIONS)
    part, where = shard_of(shard), engine_of(engine, workers, address, gpus=int(device.startswith("cuda")))
    if not inputs.exists():
        raise FileNotFoundError(f"no file or folder {inputs}")
    if column is not None and inputs.suffix.lower() not in TABLES:
        raise ValueError(f"--column {column} is for a table of paths, in {' or '.join(TABLES)}; {inputs} is none")
    place = Place("--out", out, part)
    check_reference(predictor)
    adapter = adapter or ready.DEFAULTS["C4"]
    check_adapter(adapter, backbone)
    said = {"adapter": adapter, "backbone": backbone, "column": column, "outputs": outputs, "top-k": top_k}
    said |= {"coverage": coverage, "size": size, "normalize": normalize, "batch-size": batch_size, "device": device}
    identity = {"command": command_line("predict", [predictor, inputs], {"out": out, **said, "shard": shard}), **said}
    identity |= {"predictor": predictor, "inputs": [str(inputs.absolute())], "weights": saving.fingerprint(adapter)}
    identity |= {"shard": shard, "table": str(out.absolute())}
    make = partial(reader_of, predictor, adapter, backbone, outputs, top_k, coverage, size, normalize, device)

    def columns(plan: Plan) -> dict[str, str]:
        return Predicting(make, _answers(make(), plan, predictor, adapter)).columns

    def found(roots: Roots) -> Iterator[Found]:
        if inputs.suffix.lower() not in TABLES:
            return sharded(found_in([inputs], roots), part)
        number = roots.add("", inputs.absolute().parent)
        return sharded(((number, path) for path in table_paths(inputs, column)), part)

    with journal_of(place, identity, overwrite, found, columns, batch_size) as (journal, again):
        own = ("file", "angle", "flip", "confidence", "error")
        job = Predicting(make, {name: kind for name, kind in journal.columns.items() if name not in own})
        tell_of_pixels(predictor, normalize)
        run_with_progress(job, journal, where, again, "predicting")
        return tell(journal)


def _answers(reader: Reader, plan: Plan, ref: str, adapter: str) -> dict[str, str]:
    """The columns of an answer, by the first photo that can be read. Raises ValueError naming the predictor where it fails."""
    first = None
    for k in range(plan.num_batches):
        for item in plan.batch(k):
            try:
                photo = reader.read(item.source)
            except (UnreadableImage, OSError) as error:
                first = first or str(error).replace(str(item.source), item.file)
                continue
            try:
                return columns_of(reader, photo)
            except Exception as error:  # predictors raise whatever they like
                raise ValueError(_failure(reader, photo, ref, adapter, f"{type(error).__name__}: {reason(error)}")) from error
    raise ValueError(f"none of {count(plan.num_rows, 'image')} can be read; the first: {first}")


def _failure(reader: Reader, photo: Tensor, ref: str, adapter: str, said: str) -> str:
    """What is wrong where no answer of a photo could be kept: the adapter, the size of the photo, or the kind of the answer."""
    if for_readers(reader.model.outputs):
        others = "for any other predictor take --adapter photos-c4, or say what it gives: --outputs logits, mask, ..."
        return f"{adapter} is {READERS}, and {ref} fails as one ({said}): {others}"
    try:
        reader.bare([photo])
    except Exception:  # as above
        size = " x ".join(map(str, photo.shape[1:]))
        return f"{ref} fails on an image of {size} pixels (see --size): {said}"
    return (
        f"{ref} runs, and its answer cannot be kept as {reader.model.outputs!r}: {said}; where it gives something else say so: "
        "--outputs mask for a segmenter, or another kind (see equiform info)"
    )


def tell(journal: Journal) -> int:
    """How many answers there are. Returns how many files failed."""
    summary = summed(journal)
    list_files("skipped", summary.errors, summary.num_failed)
    done = f"{summary.num_rows - summary.num_failed} of " * bool(summary.num_failed) + count(summary.num_rows, "image")
    say(f"{done} answered; answers in {journal.table}")
    return summary.num_failed
