"""Files that are whole and on the disk, or not there, whenever the process or the power ends."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thanos_torch.models.failpoints import begin


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` in one step once its content is on the disk."""
    # Always the same name: what a killed run left there is written over.
    unfinished = file.with_name(f"{file.name}.unfinished")
    yield unfinished
    sync(unfinished)
    begin("rename")
    move(unfinished, file)


def move(source: Path, target: Path) -> None:
    """Rename a file or a folder in one step, and have that on the disk too."""
    source.replace(target)
    sync(target.parent)


def write_json(file: Path, content: object) -> None:
    """JSON, indented by one; NaN is refused with ValueError, as JSON has none."""
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
    """Of the content of a file of any size."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
