"""The class of a page: its question, the results that it needs, its tables and pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verification.benchmarks.pages.studies import NotMeasuredError, Results
from verification.benchmarks.pages.style import save


@dataclass(frozen=True)
class Page:
    """What Python contributes to a page; the prose is written by hand in docs.

    name      of its Markdown file
    question  its title
    tables    Markdown of each table by the name in its mark
    pictures  a matplotlib figure for each file name without the ending
    """

    name: str
    question: str
    tables: Mapping[str, Callable[[Results], str]] = field(default_factory=dict)
    pictures: Mapping[str, Callable[[Results], Any]] = field(default_factory=dict)

    def draw(self, results: Results, folder: Path) -> list[Path]:
        """Write the pictures whose results exist as PNG files; returns the files."""
        drawn = []
        for name, figure in self.pictures.items():
            try:
                picture = figure(results)
            except NotMeasuredError:
                continue
            save(picture, folder / f"{name}.png")
            drawn.append(folder / f"{name}.png")
        return drawn

    def bare(self, results: Results, folder: Path) -> str:
        """The tables and pictures of fresh results as Markdown; empty if nothing was measured."""
        parts = []
        for table in self.tables.values():
            try:
                parts.append(table(results))
            except NotMeasuredError:
                continue
        parts += [f"![{file.stem}]({file.name})" for file in self.draw(results, folder)]
        return "\n\n".join([f"# {self.question}", *parts]) + "\n" if parts else ""
