"""What commands show and report: lines, tables, `--json` files, exit statuses."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from thanos_torch.checkpoint import record
from thanos_torch.cli.tables import table_lines
from thanos_torch.runtime.strangers import printable

WIDTH = 80  # columns of a table, in a file too

# Paths may hold [brackets] and :colons:.
console = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH
)

SHOWN = 10  # lines of one kind that are printed

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def command_line() -> str:
    """This command as results files name it, without the folders of absolute paths."""
    parts = (Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:])
    return " ".join(["thanos", *parts])


def say(line: str) -> None:
    """Print a line without breaking it in a narrow terminal, so that paths can be copied."""
    console.print(printable(line), soft_wrap=True)


def say_first(lines: Sequence[str]) -> None:
    """Print the first lines, and how many more there are."""
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"... and {len(lines) - SHOWN} more.")


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table below its title, as wide as the terminal, or as 80 columns in a file."""
    say(title)
    for line in table_lines(headings, [[*map(printable, row)] for row in rows], console.width):
        say(line)


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
