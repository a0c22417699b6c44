"""What a job is: something done to every file of a plan, the same for every engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .._checks import reason
from ..images.files import UnreadableImage

Row = dict[str, Any]  # a value for each column, None where there is none
Work = Callable[[Sequence["Item"]], list[Row]]
FULL = (28, 122)  # ENOSPC, EDQUOT: an error of the disk and not of a file


class Item(NamedTuple):
    """One file: its name in the results, where it is, and its place below the folder of results."""

    file: str
    source: Path
    destination: str


class Job(Protocol):
    """Plain values that can be sent to another process, and what is made of them there.

    `columns`: of a row, by name, their types: str, int or float, with a [] for each axis of a list.
    """

    @property
    def columns(self) -> Mapping[str, str]: ...

    def start(self) -> Work:
        """A function from a batch of items to a row for each, in their order. Errors of a file are in its row."""
        ...


def failed(item: Item, columns: Mapping[str, str], error: str) -> Row:
    """The row of a file that has no result."""
    return dict.fromkeys(columns) | {"file": item.file, "error": error}


def told(item: Item, error: BaseException) -> str:
    """An error of a file in one line that names it. Raises what is no error of a file: a full disk, a bug."""
    if not item.file:
        return "an empty path"
    if isinstance(error, UnreadableImage):
        return str(error).replace(str(item.source), item.file)
    if isinstance(error, OSError) and error.errno in FULL:
        raise error
    if isinstance(error, (OSError, MemoryError, RuntimeError, ValueError)):  # torch raises RuntimeError where memory ends
        return f"{item.file}: {reason(error)}"
    raise error


Batches = Iterator[tuple[int, list[Item]]]
Done = Iterator[tuple[int, list[Row]]]
Engine = Callable[[Job, Batches], Done]  # the rows of batches, in any order
