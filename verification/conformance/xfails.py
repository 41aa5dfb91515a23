"""Cases that are known to fail, from a file that a person keeps: `thanos verify --xfails FILE`."""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """An id, or a pattern of ids as the module fnmatch reads it, and its line in the file."""

    line: int
    pattern: str

    def names(self, case: str) -> bool:
        """Whether the entry names the case with this id."""
        return fnmatchcase(case, self.pattern)


@dataclass(frozen=True)
class Xfails:
    """The entries of a file; without one, no failure is expected."""

    file: str = ""
    entries: tuple[Entry, ...] = ()

    def name(self, case: str) -> bool:
        """Whether the case with this id is known to fail."""
        return any(entry.names(case) for entry in self.entries)


NONE_EXPECTED = Xfails()


def read_xfails(path: Path, ids: Collection[str]) -> Xfails:
    """Read a file with one entry a line, in which `#` begins a comment.

    ids  the ids of all cases that exist, also of those that are not selected
    Raises ValueError if the file cannot be read, or if an entry names none of these ids.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"xfails cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"xfails must be text in UTF-8, got {path}: {error}") from None
    lines = enumerate(text.split("\n"), start=1)
    found = (Entry(number, line.partition("#")[0].strip()) for number, line in lines)
    entries = tuple(entry for entry in found if entry.pattern)
    for entry in entries:
        if not any(entry.names(case) for case in ids):
            place = f"{path}, line {entry.line}"
            raise ValueError(
                f"xfails must name cases, but none is called {entry.pattern!r}: {place}"
            )
    return Xfails(str(path), entries)
