"""Progress bars and tables."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# Paths may hold [brackets]. A file, unlike a terminal, has room for wide tables.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with the time left, on the error stream; call what is yielded with (note, done, of)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    errors = Console(stderr=True)
    hidden = not errors.is_terminal  # a file would collect the remains of bars
    with Progress(*columns, console=errors, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=None, note="")

        def show(note: str, done: int, of: int) -> None:
            progress.update(task, completed=done, total=of, note=note)

        yield show


def say(line: str) -> None:
    """Print a line that stays one line, however narrow the terminal: paths can be copied."""
    console.print(line, soft_wrap=True)


def table(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a table; the first column to the left, the others to the right."""
    say(title)  # the table's own title would be broken to the table's width
    drawn = Table()
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        drawn.add_row(*row)
    console.print(drawn)
