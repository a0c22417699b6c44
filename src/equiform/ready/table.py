"""Ready-made canonicalizers: fitted ones that come with the package, a folder each, with a card in config.json."""

from pathlib import Path

FOLDER = Path(__file__).parent
# what `adapt` takes for known models of images where nothing is said, by group
DEFAULTS = {"C4": "photos-c4", "SO2": "photos-so2"}


def names() -> list[str]:
    """The names of all of them."""
    return sorted(path.parent.name for path in FOLDER.glob("*/model.safetensors"))


def default(group_name: str) -> str | None:
    """The name of the one for photos moved by that group; None where there is none."""
    name = DEFAULTS.get(group_name)
    return name if name in names() else None
