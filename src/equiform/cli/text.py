"""What the commands print: lines, errors, lists of files, counts, progress."""

import contextlib
import traceback
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from .. import saving
from .._checks import reason
from ..canonicalizers.base import Advice

# ModuleNotFoundError, FileNotFoundError and UnreadableImage are among them
EXPECTED = (ValueError, TypeError, ImportError, OSError)
LONG = 1200  # characters of an error; our own are shorter
NUM_NAMED = 20  # files that are named one by one before the rest is only counted


def say(text: object, *, err: bool = False) -> None:
    """A line to standard output or standard error; a file name that is no text is shown with escapes."""
    typer.echo(str(text).encode(errors="backslashreplace").decode(), err=err)


class Commands(TyperGroup):
    """The commands, with what they raise turned into a line and an exit code: 2 for an error, 130 for Ctrl-C.

    A command that reads files returns how many it skipped: where there are any, its work is done and the code is 1.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # --debug is ours wherever it stands
        end = args.index("--") if "--" in args else len(args)
        for before, arg in pairwise(["the command", *args]):
            if not arg or (arg.startswith("--") and arg.endswith("=")):
                ctx.fail(f"nothing is given after {arg or before}: is a variable of the shell not set?")
        debug = ["--debug"] if "--debug" in args[:end] else []
        return super().parse_args(ctx, [*debug, *[arg for arg in args[:end] if arg != "--debug"], *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        try:
            with _advice_in_a_line():
                skipped = super().invoke(ctx)
        except BrokenPipeError:  # as in `equiform info | head -1`; typer knows what to do
            raise
        except EXPECTED as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            say(f"error: {shortened(in_one_line(reason(error)))}", err=True)
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, SystemExit) as error:
            # the training engine turns Ctrl-C into an exit
            if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
                raise
            say("interrupted", err=True)
            raise typer.Exit(130) from None
        if skipped:
            raise typer.Exit(1)


@contextlib.contextmanager
def _advice_in_a_line() -> Iterator[None]:
    """Advice on a canonicalizer is a line on standard error, said once; other warnings are shown as Python does."""
    said: set[str] = set()

    def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
        if not issubclass(category, Advice):
            shown(message, category, *where, **more)
        elif str(message) not in said:
            said.add(str(message))
            say(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        shown, warnings.showwarning = warnings.showwarning, show
        warnings.simplefilter("always", Advice)
        yield


def in_one_line(text: str) -> str:
    """The text with what would break its line, or steer a terminal, as escapes: it may come from a file of someone else's."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str) -> str:
    """The beginning and the end of a text that is longer than a screen is good for: it may quote what was given."""
    if len(text) <= LONG:
        return text
    return f"{text[: LONG // 2]} ... ({len(text):,} characters) ... {text[-LONG // 3 :]}"


def list_files(what: str, lines: list[str], number: int | None = None) -> None:
    """The files that were left out, counted and named, on standard error. `number`: how many, where not all are in the list."""
    number = len(lines) if number is None else number
    if lines:
        say(f"{what} {count(number, 'file')}:", err=True)
        for line in lines[:NUM_NAMED]:
            say(f"  {in_one_line(line)}", err=True)
        if number > NUM_NAMED:
            say(f"  and {number - NUM_NAMED} more", err=True)


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def size_of(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in (folder / saving.CONFIG, folder / saving.WEIGHTS)) / 1e6:.1f} MB"
