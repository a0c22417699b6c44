"""Ready-made canonicalizers: fitted ones that come with the package, a folder each, with a card in config.json."""

from pathlib import Path

from .. import _checks
from .._files import is_folder

FOLDER = Path(__file__).parent
# by group, the default of `adapt` for known models of images
DEFAULTS = {"C4": "photos-c4", "SO2": "photos-so2"}


def names() -> list[str]:
    """The names of all ready-made canonicalizers."""
    return sorted(path.parent.name for path in FOLDER.glob("*/model.safetensors"))


def meant(name: str | Path) -> str | None:
    """The ready-made one of that name, whatever joins its words ("photos_c4"); None for a Path, and where a folder has it."""
    known = _checks.meant(name, names())
    return None if known != name and is_folder(name) else known


def default(group_name: str) -> str | None:
    """The name of the one for photos and that group; None where there is none."""
    name = DEFAULTS.get(group_name)
    return name if name in names() else None
