"""Whether two results are the same run's."""

import json
from pathlib import Path
from typing import Any

TIMES = ("seconds",)


def differing_files(one: Path, other: Path) -> list[str]:
    """Names of files that differ or are in one folder only; of thanos.json, all but the times."""
    names = {file.name for folder in (one, other) for file in folder.iterdir()}
    return sorted(name for name in names if not _same(one / name, other / name))


def _same(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()):
        return False
    if one.name != "thanos.json":
        return one.read_bytes() == other.read_bytes()
    return bool(_timeless(json.loads(one.read_text())) == _timeless(json.loads(other.read_text())))


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in TIMES}
    if isinstance(content, list):
        return [_timeless(value) for value in content]
    return content
