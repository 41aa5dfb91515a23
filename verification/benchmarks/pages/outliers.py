"""The page on outlier rows."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.ratios import (
    Change,
    change_table,
    changes,
    meaning,
    over,
    percent,
)
from verification.benchmarks.pages.style import change_axis, save
from verification.benchmarks.pages.tables import lines, markdown, protocol, source, verdict
from verification.benchmarks.statistics import added_percent, in_words
from verification.benchmarks.studies.plan import family

SCORES = {"output": "‖W_i X‖²", "wanda": "Σ_j W_ij² G_jj"}
NONE = "thanos"  # the label of a run without outlier rows


def by_sparsity(results: dict[str, Any]) -> dict[str, list[Change]]:
    """By the pattern without outlier rows: every share and score against no outlier rows."""
    grouped: dict[str, list[Any]] = {}
    for record in results["runs"]:
        if "layers" in record:
            grouped.setdefault(family(record["run"]), []).append(record)
    return {name: changes(records, NONE) for name, records in grouped.items()}


def share(change: Change) -> float:
    """α of a setting."""
    return float(change.what["pattern"].partition("+outliers:")[2] or 0)


def score(change: Change) -> str:
    """Which score picks the outlier rows."""
    return str(change.what.get("outlier_score", "output"))


def text(sources: Sources) -> str:
    """Answer, tables, plot."""
    results = sources["outliers"]
    grouped = by_sparsity(results)
    tables = (
        f"**{name}**\n\n{markdown(*change_table(found))}\n" for name, found in grouped.items()
    )
    return f"""# What do outlier rows contribute?

{lines(_answer(name, found) for name, found in grouped.items())}

{lines(tables)}
- Outlier rows keep all their weights, and the columns removed from the others are more, so that the same share of the layer goes.
- They are the rows with the largest {SCORES["output"]}; with *outlier_score wanda*, with the largest {SCORES["wanda"]}.
{meaning(results)}

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity against the share of outlier rows](outliers.png)
"""


def _answer(name: str, found: list[Change]) -> str:
    """Rows on all draws apart from those on one: their intervals are of different kinds."""
    none = found[0]
    others = [each for each in found if share(each) > 0]  # the rest are controls without any
    return f"- {name}: {_of_the_paper(others)} " + " ".join(
        _among(kind, [each for each in others if over(each) == kind])
        for kind in dict.fromkeys([over(none), *map(over, others)])
    )


def _of_the_paper(found: list[Change]) -> str:
    choice = next(each for each in found if share(each) == 0.1 and score(each) == "output")
    return (
        f"The paper's choice, 10% outlier rows picked by {SCORES['output']}: perplexity {in_words(choice.verdict)}, "
        f"{percent(choice.perplexity_ratio)} against no outlier rows, over {over(choice)}."
    )


def _among(kind: str, found: list[Change]) -> str:
    better = [each for each in found if each.verdict == "lower"]
    if not better:
        return f"Over {kind}, none was shown to be better than no outlier rows."
    best = min(better, key=lambda each: each.perplexity_ratio.value)
    return (
        f"Over {kind}, lowest at {share(best):.0%} outlier rows picked by {SCORES[score(best)]}: perplexity "
        f"{best.perplexity.value:.2f}, {percent(best.perplexity_ratio)} against no outlier rows."
    )


def draw(sources: Sources, folder: Path) -> None:
    """Write outliers.png."""
    grouped = by_sparsity(sources["outliers"])
    figure, panels = plt.subplots(1, len(grouped), figsize=(9, 3.4), squeeze=False)
    for panel, (name, found) in zip(panels[0], grouped.items(), strict=True):
        for which, colour in zip(SCORES, ("#D55E00", "#0072B2"), strict=True):
            line = [found[0], *(e for e in found if share(e) > 0 and score(e) == which)]
            line.sort(key=share)
            added = [added_percent(each.perplexity_ratio.value) for each in line]
            shares = [share(each) for each in line]
            panel.plot(shares, added, "o-", color=colour, label=SCORES[which])
            for each, at, value in zip(line, shares, added, strict=True):
                if each.draws == 1:
                    panel.plot([at], [value], "o", color=colour, markerfacecolor="white")
        panel.axhline(0, color="black", linewidth=1)
        values = [added_percent(each.perplexity_ratio.value) for each in found if share(each) > 0]
        change_axis(panel.yaxis, linear=20)
        panel.set_ylim(min(-2.0, 1.3 * min(values)), max(2.0, 1.3 * max(values)))
        panel.set(title=name, xlabel="share of outlier rows")
    panels[0][0].set_ylabel("perplexity against no outlier rows, %\n(linear within ±20)")
    panels[0][-1].legend(title="rows picked by (hollow: one draw)")
    save(figure, folder / "outliers.png")


OUTLIERS = Page("outliers", "What do outlier rows contribute?", ("outliers",), text, draw)
