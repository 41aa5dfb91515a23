"""What commands show and report: lines, tables, progress bars, `--json` files, exit statuses."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

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

from thanos_torch.checkpoint import record
from thanos_torch.runtime.strangers import printable

# Paths may hold [brackets] and :colons:. A file, unlike a terminal, has room for wide tables.
console = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 140
)

SHOWN = 10  # lines of one kind that are printed

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def command_line() -> str:
    """This command as results files name it, without the folders of absolute paths."""
    parts = (Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:])
    return " ".join(["thanos", *parts])


def bars(*counts: ProgressColumn) -> Progress:
    """Progress bars on the error stream, with `counts`, the time left and the field `note`.

    They are shown in a terminal only, because a file would collect the remains of bars.
    """
    errors = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show one progress bar; call the yielded function with (note, done, of)."""
    with bars(MofNCompleteColumn()) as progress:
        task = progress.add_task(what, total=None, note="")

        def show(note: str, done: int, of: int) -> None:
            progress.update(task, completed=done, total=of, note=printable(note))

        yield show


def say(line: str) -> None:
    """Print a line without breaking it in a narrow terminal, so that paths can be copied."""
    console.print(printable(line), soft_wrap=True)


def say_first(lines: Sequence[str]) -> None:
    """Print the first lines, and how many more there are."""
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"... and {len(lines) - SHOWN} more.")


def table(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a table; the first column is aligned to the left, the others to the right."""
    say(title)  # the table's own title would be broken to the table's width
    drawn = Table()
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        drawn.add_row(*map(printable, row))
    console.print(drawn)


def kind_of(name: str, shape: Sequence[int]) -> str:
    """The kind of a layer, and its shape, as in `q_proj 64 x 64`."""
    return record.layer_kind(name, shape)


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by their key, in the order of the first item of each key."""
    groups: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def write_result(file: Path | None, content: dict[str, Any]) -> None:
    """Write the file of `--json`, if there is one."""
    if file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class ExitStatus(IntEnum):
    """What a `thanos` command reports to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_DECIDABLE = 3
    LESS_THAN_ASKED = 4


MEANINGS = {
    ExitStatus.DONE: "done and verified",
    ExitStatus.FAILED: "failed, or could not be done",
    ExitStatus.USAGE: "bad command line; of verify: nothing was judged",
    ExitStatus.NOT_DECIDABLE: "nothing failed, but a certificate is not decidable",
    ExitStatus.LESS_THAN_ASKED: "less than asked: much was left alone that nobody excluded",
}

OF_VERDICT = {
    record.PASSED: ExitStatus.DONE,
    record.FAILED: ExitStatus.FAILED,
    record.NOT_DECIDABLE: ExitStatus.NOT_DECIDABLE,
}


def done_if(success: bool) -> ExitStatus:
    """DONE, or FAILED without success."""
    return ExitStatus.DONE if success else ExitStatus.FAILED
