"""Globs on the names of layers."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase


def matching(glob: str, names: Sequence[str], source: str) -> list[str]:
    """The names that `glob` matches as a whole; ValueError if there is none, with near misses.

    source  where the glob stands, for the message
    """
    found = [name for name in names if fnmatchcase(name, glob)]
    if not found:
        near = _near_misses(glob, names)
        raise ValueError(
            f"{source}: {glob!r} matches none of the {len(names)} layers that can be pruned "
            f"(never the output head, embeddings and routers); near misses: {', '.join(near)}"
        )
    return found


def _near_misses(glob: str, names: Sequence[str]) -> list[str]:
    """Names and globs of whole kinds that look like `glob`; if none does, all kinds."""
    kinds = list(dict.fromkeys(f"*.{name.rpartition('.')[2]}" for name in names))
    alike = get_close_matches(glob, [*kinds, *names], n=3)
    return alike or kinds
