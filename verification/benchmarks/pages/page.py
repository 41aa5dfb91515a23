"""What a page is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Sources = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Page:
    """Answers one question.

    name     of its file, `name.md`, and the beginning of its plots' names
    sources  names of the results files that it is made of
    text     Markdown, with the plots by name
    draw     writes the plots into a folder
    """

    name: str
    question: str
    sources: tuple[str, ...]
    text: Callable[[Sources], str]
    draw: Callable[[Sources, Path], None]
