"""Writes a file: in one step where it replaces a file, in place where it is a device."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file. A device or pipe is written to; a file is replaced when all is written.

    Raises OSError if that is not possible; a file that was there is then unchanged.
    """
    if path.exists() and (not path.is_file() or path.absolute().parts[1] in ("dev", "proc")):
        path.write_bytes(content)  # /dev/stdout may lead to a file, which is open already
        return
    target = Path(os.path.realpath(path))  # of a link, the file that it leads to is replaced
    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
    descriptor, beside = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(beside, mode)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _umask() -> int:
    """The mode bits that new files do not get; the system tells them only when they are set."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
