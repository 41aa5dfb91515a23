"""The page on structured and 4:8 pruning of SmolLM2-135M, by method."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.changes import (
    VariantChange,
    answer,
    by_pattern,
    change_table,
    changes,
    meaning,
)
from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.style import COLOURS, change_axis, draw_change, save
from verification.benchmarks.pages.tables import common, lines, markdown, protocol, source, verdict
from verification.benchmarks.quality.profiles import PATTERNS_QUESTION

BASE = "sparsegpt"


def against_base(results: dict[str, Any]) -> dict[str, list[VariantChange]]:
    """All methods against SparseGPT, in every pattern."""
    return {name: changes(records, BASE) for name, records in by_pattern(results["runs"]).items()}


def text(sources: Sources) -> str:
    """Answers and a table for every pattern, plot."""
    results = sources["patterns"]
    found = against_base(results)
    return f"""# {PATTERNS_QUESTION}

{_below_names({name: answer(some) for name, some in found.items()})}
The first rows are SparseGPT. {common(results)} Unstructured pruning is on the page of the [sweep](sweep.md), and 2:4 on that of the [whole test
set](headline.md).

{_below_names({name: markdown(*change_table(some)) for name, some in found.items()})}
- Not measured, as the whole profile is to end in ten hours: magnitude, and in 4:8 also Wanda and refits. Wanda, magnitude and refits in 2:4 are on the page of the whole test set.
- Structured Thanos removes all its columns jointly and is its own refit ([section 7](../specification.md#7-beyond-the-paper)).
{meaning(results)}

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity against SparseGPT's](patterns.png)
"""


def _below_names(parts: dict[str, str]) -> str:
    return lines(f"**{name}**\n\n{part}\n" for name, part in parts.items())


def draw(sources: Sources, folder: Path) -> None:
    """Write patterns.png."""
    picture(against_base(sources["patterns"]), folder / "patterns.png")


def picture(found: dict[str, list[VariantChange]], file: Path) -> None:
    """A panel for every pattern, a row for every method."""
    rows = [len(some) - 1 for some in found.values()]
    figure, panels = plt.subplots(
        len(found), 1, figsize=(8, 1.2 + 0.4 * sum(rows)), sharex=True, height_ratios=rows,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for panel, (name, (_, *others)) in zip(panels[:, 0], found.items(), strict=True):
        for row, each in enumerate(others):
            colour = COLOURS[each.name]
            draw_change(panel, row, each.perplexity_ratio, colour, colour, 6)
        panel.axvline(0, color="black", linewidth=1)
        panel.set_yticks(range(len(others)), [each.name for each in others])
        panel.set_ylim(len(others) - 0.4, -0.6)
        panel.set_title(name, fontsize=9)
        change_axis(panel.xaxis, linear=10, marked=(2, 5, 10, 20, 50, 200, 1000))
    figure.supxlabel("perplexity against SparseGPT's, % (linear within ±10)", fontsize=9)
    save(figure, file)


PATTERNS = Page("patterns", PATTERNS_QUESTION, ("patterns",), text, draw)
