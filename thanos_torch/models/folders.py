"""Folders that hold all of their content or do not exist."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, next to `folder`; moved there in one step at the end, or removed again.

    Raises ValueError at once if `folder` is occupied or cannot be made.
    """
    refuse_unusable(folder)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rmdir()  # it is empty
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_unusable(folder: Path) -> None:
    """Raise ValueError unless `folder` is an empty folder or can be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"out must be a new or empty folder, got {folder}")
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"out must be a new folder, got {folder}: cannot write to {parent}")


def stamp(path: Path) -> str:
    """A short text that changes when the file, or a file in the folder, is another or changed.

    Folders in it do not count: a result may be written there.
    """
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((path.resolve(), facts)).encode()).hexdigest()[:16]
