"""Progress bars and tables in a terminal."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Paths may hold [brackets]. A file, unlike a terminal, has room for wide tables.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)

SHOWN = 10  # lines of one kind that are printed


def command_line() -> str:
    """This command, as a results file names it: of a path only its last part, the rest is ours."""
    parts = (Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:])
    return " ".join(["thanos", *parts])


def bars(*counts: ProgressColumn) -> Progress:
    """Bars with the time left and a note, on the error stream; `counts` stand before the time.

    Tasks need the field `note`. In a file, which would collect the remains of bars, there are none.
    """
    errors = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """One bar; call what is yielded with (note, done, of)."""
    with bars(MofNCompleteColumn()) as progress:
        task = progress.add_task(what, total=None, note="")

        def show(note: str, done: int, of: int) -> None:
            progress.update(task, completed=done, total=of, note=note)

        yield show


def say(line: str) -> None:
    """Print a line that stays one line, however narrow the terminal: paths can be copied."""
    console.print(_printable(line), soft_wrap=True)


def _printable(line: str) -> str:
    """A line without control characters: names in a stranger's files may hold some."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def say_first(lines: Sequence[str], shown: int = SHOWN) -> None:
    """Print the first lines, and how many more there are; JSON files hold all."""
    for line in lines[:shown]:
        say(line)
    if len(lines) > shown:
        say(f"... and {len(lines) - shown} more.")


def table(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a table; the first column to the left, the others to the right."""
    say(title)  # the table's own title would be broken to the table's width
    drawn = Table()
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        drawn.add_row(*map(_printable, row))
    console.print(drawn)
