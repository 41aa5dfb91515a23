"""Files of a checkpoint beside its weights: which of them `thanos prune` copies or writes."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from filecmp import cmp
from json import loads
from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.shards import INDEX, MASKS, RECORD, inside
from thanos_torch.pruning.card import CARD

# Copied byte for byte from the top of the folder: configuration and tokenizer.
COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken")
CODE = ".py"  # copied as well if the model's code is trusted

# What pruning changes by design. docs/pruning-models.md has the same table.
WRITTEN = {
    INDEX: "names the new weight files",
    CARD: "is the model card of the pruned model",
    RECORD: "says what was done",
    MASKS: "holds the masks",
}
NOT_COPIED = "is of a kind that is not copied"

_NAMED = 5  # keys of a changed JSON file that are named
_PARSED = 2**26  # bytes; a larger JSON file is compared, but its keys are not


@dataclass
class FileComparison:
    """What became of the files beside the weights.

    same       how many are equal in both folders
    by_design  what pruning itself changed, and why, by name
    found      "added", "lost" or "changed", and how if that is known, by name
    """

    same: int = 0
    by_design: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)


def is_copied(name: str, trusted: bool) -> bool:
    """Whether `thanos prune` copies a file; `trusted` if the model's code is."""
    kinds = (*COPIED, CODE) if trusted else COPIED
    return "/" not in name and Path(name).suffix in kinds and name not in WRITTEN


def compare_files(
    original: Path, pruned: Path, weights: tuple[Iterable[Path], Iterable[Path]]
) -> FileComparison:
    """Compare all files of two folders but the files of weights, byte for byte.

    weights  the files of weights of both, whose tensors are compared elsewhere

    No link is followed out of a folder. What cannot be read counts as changed.
    """
    before = _files(original, weights[0], pruned)
    after = _files(pruned, weights[1])
    result = FileComparison()
    for name in sorted(before | after):
        if name in WRITTEN:
            result.by_design[name] = WRITTEN[name]
        elif name not in after and not is_copied(name, trusted=False):
            result.by_design[name] = NOT_COPIED
        elif name not in after or name not in before:
            result.found[name] = "lost" if name in before else "added"
        elif difference := _difference(original, pruned, name):
            result.found[name] = f"changed: {difference}"
        else:
            result.same += 1
    return result


def _files(folder: Path, weights: Iterable[Path], other: Path | None = None) -> set[str]:
    """The files below a folder by their paths in it, links too; without `other`, a result in it."""
    found: set[str] = set()
    without = {file.relative_to(folder).as_posix() for file in weights}
    for place, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not other or not _same(here / name, other)]
        found |= {(here / name).relative_to(folder).as_posix() for name in [*files, *links]}
    return found - without


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _refuse(error: OSError) -> None:
    raise error


def _difference(original: Path, pruned: Path, name: str) -> str:
    """How a file differs; empty if it does not."""
    try:
        files = inside(original, name), inside(pruned, name)
        strange = next((file for file in files if not file.is_file()), None)
        if strange:
            return f"{strange} is no regular file"
        if cmp(*files, shallow=False):
            return ""
        return _changed_keys(*files) if name.endswith(".json") else "other bytes"
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"


def _changed_keys(first: Path, second: Path) -> str:
    """The keys of two JSON objects whose values differ, for people."""
    try:
        before, after = _parsed(first), _parsed(second)
    except (ValueError, RecursionError):
        return "it is no JSON object of a usual size"
    keys = [
        key
        for key in sorted(before | after)
        if key not in before or key not in after or before[key] != after[key]
    ]
    named = ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "")
    return f"keys {named}" if keys else "the same values in other bytes"


def _parsed(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _PARSED:
        raise ValueError(f"{file} is too large")
    content = loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no object")
    return content
