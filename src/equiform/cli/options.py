"""The arguments and options that several commands share."""

from typing import Annotated

import typer

PREDICTOR_HELP = "timm:NAME, torchvision:NAME, transformers:REPO (or a folder), or FILE.py:FUNCTION, which is called for it."
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
