"""Durable files and folders: complete on disk or absent, whenever the process or the power ends."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `folder` in one step, or is removed on an error.

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
    """A short text that changes when the file, or a file directly in the folder, changes.

    Folders inside the folder do not count, because a result may be written there.
    """
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((path.resolve(), facts)).encode()).hexdigest()[:16]


STAGES = ("calibration", "solve", "shard write", "activations", "journal", "rename", "finish")
_begun: Counter[str] = Counter()


def begin(stage: str) -> None:
    """Note that `stage`, one of STAGES, begins; tests trace stages and make them fail here."""
    _begun[stage] += 1
    trace = os.environ.get("THANOS_TRACE")
    if trace:
        with open(trace, "a", encoding="utf-8") as file:
            file.write(f"{stage}\n")
    wanted = os.environ.get("THANOS_FAILPOINT")
    if wanted:
        where, count, action = wanted.split(":")
        if where == stage and int(count) == _begun[stage]:
            _act(action)


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise ValueError(f"THANOS_FAILPOINT must end in kill or enospc, got {action!r}")


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A temporary path to write; it becomes `file` in one step once the content is on the disk."""
    # Always the same name, so that a file that a killed run left is overwritten.
    unfinished = file.with_name(f"{file.name}.unfinished")
    yield unfinished
    sync(unfinished)
    begin("rename")
    move(unfinished, file)


def move(source: Path, target: Path) -> None:
    """Rename a file or a folder in one step, and wait until that is on the disk."""
    source.replace(target)
    sync(target.parent)


def write_json(file: Path, content: object) -> None:
    """Write JSON, all of it or nothing. Raises ValueError for NaN, which JSON does not have."""
    with whole_file(file) as unfinished:
        text = json.dumps(content, indent=1, allow_nan=False)
        unfinished.write_text(text + "\n", encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content; the file may be larger than the memory."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
