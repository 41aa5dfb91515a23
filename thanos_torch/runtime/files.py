"""Durable files and folders: complete on disk or absent, whenever the process or the power ends."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def new_folder(folder: Path, inputs: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `folder` in one step, or is removed on an error.

    inputs  folders that are read meanwhile, by the name of their argument

    Raises ValueError at once if `folder` is occupied, cannot be made, or overlaps with an input.
    """
    refuse_unusable(folder)
    refuse_overlap({"out": folder}, inputs or {})
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        mode = partial.stat().st_mode & 0o666  # what the umask leaves; some writers give less
        for file in partial.rglob("*"):
            if file.is_file():
                file.chmod(mode)
        if folder.exists():
            folder.rmdir()  # it is empty
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_unusable(folder: Path, name: str = "out") -> None:
    """Raise ValueError unless a result that is finished can be renamed to `folder`.

    name  of the argument
    """
    if folder.name in ("", ".."):
        raise ValueError(f"{name} must end in the name of a new folder, got {folder}")
    wanted = f"{name} must be a new or empty folder, got {folder}"
    if folder.is_symlink():
        raise ValueError(f"{wanted}, which is a link: name the folder that it leads to")
    if os.path.ismount(folder):
        raise ValueError(f"{wanted}, where a disk is mounted: name a new folder inside of it")
    refuse_occupied(folder, name)
    _refuse_unwritable(folder.absolute().parent, f"{name} must be a new folder, got {folder}")


def refuse_occupied(folder: Path, name: str) -> None:
    """Raise ValueError unless `folder`, the argument `name`, is empty or can be made."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{name} must be a new or empty folder, got {folder}")
    _refuse_unwritable(folder.absolute(), f"{name} must be a new folder, got {folder}")


def _refuse_unwritable(folder: Path, problem: str) -> None:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"{problem}: cannot write to {there}")


def refuse_overlap(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Raise ValueError if a folder to write is, holds or lies in another one, however spelt.

    outputs  folders to write, by the name of their argument
    inputs   folders to read; these may overlap with one another
    """
    before = list(inputs.items())
    for name, path in outputs.items():
        for other, its in before:
            if _lies_in(path, its) or _lies_in(its, path):
                raise ValueError(
                    f"{name} must be neither {other}, nor inside or around it, got {path} and {its}"
                )
        before.append((name, path))


def _lies_in(path: Path, folder: Path) -> bool:
    own, wanted = Path(os.path.realpath(path)), _identity(Path(os.path.realpath(folder)))
    return any(_identity(each) == wanted for each in (own, *own.parents))


def _identity(path: Path) -> tuple[object, ...]:
    """What all spellings of a path share: the nearest folder that exists, and the names below."""
    there = next(each for each in (path, *path.parents) if each.exists())
    facts, names = there.stat(), path.relative_to(there).parts
    swapped = there.with_name(there.name.swapcase()) if there.name else there
    if swapped != there and swapped.exists() and swapped.samefile(there):
        names = tuple(name.casefold() for name in names)  # so this disk ignores case
    return facts.st_dev, facts.st_ino, *names


def stamp(path: Path) -> str:
    """A short text that changes when the file, or a file directly in the folder, changes.

    Folders inside the folder do not count, because a result may be written there.
    """
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((path.resolve(), facts)).encode()).hexdigest()[:16]


STAGES = (
    *("calibration", "solve", "shard write", "activations", "journal", "rename"),
    *("join", "drop", "finish"),
)
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
    """A temporary path to write; it becomes `file` in one step once the content is on the disk.

    The file gets the mode that the umask gives to new files, whatever its writer gives.
    """
    # Always the same name, so that a file that a killed run left is overwritten.
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch()
    mode = stat.S_IMODE(unfinished.stat().st_mode)
    try:
        yield unfinished
        unfinished.chmod(mode)
        sync(unfinished)
        begin("rename")
        move(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


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


def facts_of(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, JSON-able; compare later with `why_changed`."""
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def why_changed(file: Path, facts: Mapping[str, Any], *, thoroughly: bool = True) -> str:
    """How a file differs from its `facts_of` earlier; empty if it does not.

    thoroughly  compare the content too, not only the size
    """
    try:
        if not file.is_file():
            return "is missing"
        size = file.stat().st_size
        if size != facts["bytes"]:
            return f"has {size} bytes instead of {facts['bytes']}"
        same = not thoroughly or sha256_of(file) == facts["sha256"]
        return "" if same else "has other content, by its SHA-256"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
