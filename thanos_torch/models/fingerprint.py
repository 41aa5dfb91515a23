"""What must be the same for a run to be continued: model, data, options, versions, arithmetic."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.durable import sha256_of

PACKAGES = ("thanos-pruning", "torch", "transformers", "numpy", "safetensors")


def fingerprint(
    folder: Path, shards: Iterable[Path], windows: Tensor, options: Mapping[str, object]
) -> dict[str, Any]:
    """JSON-able, for `differences`.

    Of weights, size, time of change and a hash of the header (names, shapes, places) are taken: to
    read all of a checkpoint that is larger than the memory would take minutes at every start, and
    a change that keeps the time has to be made on purpose. Small files are hashed as a whole.
    """
    files = {file.name: _of_weights(file) for file in sorted(set(shards))}
    small = {file.name: sha256_of(file) for file in sorted(folder.glob("*.json"))}
    return {
        "model": files | small,
        "data": hashlib.sha256(windows.cpu().numpy().tobytes()).hexdigest(),
        "options": dict(options),
        "versions": versions(),
        # Other numbers of threads, or other instructions, add up in another order.
        "arithmetic": {
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
    }


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Where two fingerprints differ, for people: `options pattern: 2:4 there, 4:8 here`."""
    found: list[str] = []
    for part, content in wanted.items():
        before = stored.get(part)
        if not isinstance(content, Mapping) or not isinstance(before, Mapping):
            if before != content:
                found.append(f"{part}: another one")
        elif part == "model":
            names = sorted(content.keys() | before.keys())
            changed = (name for name in names if before.get(name) != content.get(name))
            found += [f"model file {name}: changed" for name in changed]
        else:
            found += _values_that_differ(part, before, content)
    return found


def _values_that_differ(where: str, before: object, now: object) -> list[str]:
    """Of values that may be mappings of mappings; every line says where."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [f"{where}: {before} there, {now} here"] if before != now else []
    names = sorted(before.keys() | now.keys())
    return [
        line
        for name in names
        for line in _values_that_differ(f"{where} {name}", before.get(name), now.get(name))
    ]


def versions() -> dict[str, str]:
    """Of the packages that a result depends on."""
    return {name: _version(name) for name in PACKAGES}


def _of_weights(file: Path) -> str:
    facts = file.stat()
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        header = hashlib.sha256(content.read(length)).hexdigest()
    return f"{facts.st_size} bytes, changed {facts.st_mtime_ns}, header {header}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # run from its source folder
