"""Safetensors files joined into one, in constant memory."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_ALIGNMENT = 8  # the format wants its header to end at a multiple of this


def concatenate(files: Iterable[Path], target: Path) -> None:
    """Write `target` with all tensors of some files; no name may occur twice.

    Their metadata are JSON objects, as those of masks: what has one name there is joined too.
    """
    header: dict[str, Any] = {}
    metadata: dict[str, dict[str, Any]] = {}
    parts: list[tuple[Path, int]] = []
    size = 0
    for file in files:
        start, content = _header(file)
        for name, value in content.pop("__metadata__", {}).items():
            metadata[name] = metadata.get(name, {}) | json.loads(value)
        for name, entry in content.items():
            begin, end = entry["data_offsets"]
            header[name] = {**entry, "data_offsets": [size + begin, size + end]}
        size += file.stat().st_size - start
        parts.append((file, start))
    joined_metadata = {name: json.dumps(value) for name, value in sorted(metadata.items())}
    text = json.dumps({"__metadata__": joined_metadata, **header}).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with target.open("wb") as joined:
        joined.write(len(text).to_bytes(8, "little") + text)
        for file, start in parts:
            with file.open("rb") as part:
                part.seek(start)
                shutil.copyfileobj(part, joined)


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Where the data starts, and what the header says."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        return 8 + length, json.loads(content.read(length))
