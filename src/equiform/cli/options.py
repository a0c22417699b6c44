"""The arguments and options that several commands share."""

from typing import Annotated

import typer

from .._checks import MAX_SEED

PREDICTOR_HELP = (
    "timm:NAME, torchvision:NAME, transformers:REPO (or a folder), FILE.py:FUNCTION, which is called for it, or "
    "efficientnet-lite0 (extra `web`)."
)
Predictor = Annotated[str, typer.Argument(metavar="PREDICTOR", help=PREDICTOR_HELP, show_default=False)]
ADAPTER_HELP = (
    "What `equiform fit` saved: a folder, or OWNER/NAME on the Hub; or a ready-made one by its name, such as text-c4. "
    "[default: photos-c4, or photos-so2 for any angle]"
)
Adapter = Annotated[str | None, typer.Option(metavar="DIR", help=ADAPTER_HELP)]
Backbone = Annotated[
    str | None,
    typer.Option(metavar="REF", help="Only for an adapter fitted with --backbone: the same reference again."),
]
TopK = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Answer with the mean over that many likeliest poses. [default: as saved, 1]"),
]
Coverage = Annotated[
    float | None,
    typer.Option(metavar="P", help="Answer with the mean over as many poses as are right with this probability."),
]
SIDE = 224  # of the photos that classifiers are shown, unless something else is said
MAX_SIDE = 8192  # of 16 photos with that side there are 13 GB
Size = Annotated[
    int, typer.Option(metavar="N", min=1, max=MAX_SIDE, help="Side in pixels to which photos are squeezed for the predictor.")
]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Seed of the random numbers: two runs with one agree.")
]
Normalize = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What the predictor wants instead of RGB in [0, 1]: imagenet (its mean and deviation), none, or auto: as timm, "
        "torchvision or transformers say, none for FILE.py.",
    ),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps, ...")]
