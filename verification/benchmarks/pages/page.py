"""The class of a page: its name, question, results files, text and plots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Sources = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Page:
    """Answers one question.

    name     of its file, `name.md`, and the beginning of its plots' names
    sources  names of the results files that it is made of
    whole    whether all of them are needed; otherwise the page says how far they go
    text     Markdown, with the plots by name
    draw     writes the plots into a folder
    """

    name: str
    question: str
    sources: tuple[str, ...]
    text: Callable[[Sources], str]
    draw: Callable[[Sources, Path], None]
    whole: bool = True


def joined(sources: Sources, names: Sequence[str]) -> dict[str, Any]:
    """Those of some studies that are there, as one; what several measured, once; dense ones first.

    The environment is the first one's; every run has its own commit and machine, and `parts` has
    the studies as they are.
    """
    parts = [sources[name] for name in names if name in sources]
    runs: dict[str, dict[str, Any]] = {}
    for record in (record for part in parts for record in part["runs"]):
        runs.setdefault(_what(record), record)
    return {**parts[0], "runs": sorted(runs.values(), key=_pruned), "parts": parts}


def links(sources: Sources, names: Sequence[str]) -> str:
    """To the pages of the studies that are there: those of all draws, or parts, have one."""
    found = dict.fromkeys(name.partition("-")[0] for name in names if name in sources)
    return ", ".join(f"[{name}]({name}.md)" for name in found)


def _what(record: dict[str, Any]) -> str:
    """What was measured, as text. A dense model is the same on every draw."""
    decisive = ("run", "model", "evaluation", *(("calibration",) if _pruned(record) else ()))
    return str([record[name] for name in decisive])


def _pruned(record: dict[str, Any]) -> bool:
    return "layers" in record
