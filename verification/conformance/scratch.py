"""A temporary folder that can be removed whatever a program has left in it."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(inside: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end: inside of another one, or among the temporary files."""
    folder = tempfile.mkdtemp(prefix="thanos-verify-", dir=inside)
    try:
        yield Path(folder)
    finally:
        with contextlib.suppress(OSError):  # what cannot be removed stays
            remove_tree(folder)


def remove_tree(top: str) -> None:
    """Remove a folder without recursion and without long paths, however deep it is.

    Folders inside of folders are moved to the top before their parents are removed.
    """
    if os.path.islink(top):
        os.unlink(top)
        return
    while entries := _entries(top):
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                for inner in _entries(entry.path):
                    if inner.is_dir(follow_symlinks=False):
                        os.chmod(inner.path, 0o700)
                        os.rename(inner.path, os.path.join(top, secrets.token_hex(16)))
                    else:
                        os.unlink(inner.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
    os.rmdir(top)


def _entries(folder: str) -> "list[os.DirEntry[str]]":
    os.chmod(folder, 0o700)
    with os.scandir(folder) as found:
        return list(found)
