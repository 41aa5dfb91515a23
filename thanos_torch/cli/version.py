"""What `thanos --version` prints; needs no extra."""

import platform
from importlib.metadata import PackageNotFoundError, version

from reference import SPECIFICATION
from thanos_torch.runtime.downloads import CACHE_VARIABLE, cache_folder

SHOWN = ("torch", "transformers")


def cache_line() -> str:
    """Where downloads are kept, and what moves that."""
    return f"Downloads: {cache_folder()} ({CACHE_VARIABLE} moves it)"


def version_lines() -> list[str]:
    """The version of the package, those of what it computes with, and where downloads are kept."""
    found = [f"Python {platform.python_version()}"]
    for package in SHOWN:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    package = f"thanos-pruning {version('thanos-pruning')}, specification {SPECIFICATION}"
    return [package, ", ".join(found), cache_line()]
