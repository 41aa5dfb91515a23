"""The page on outlier rows."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.changes import Change, change_table, changes, meaning
from verification.benchmarks.pages.groups import RUINED
from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.pairs import percent
from verification.benchmarks.pages.style import change_axis, save
from verification.benchmarks.pages.tables import lines, markdown, protocol, source, verdict
from verification.benchmarks.statistics import added_percent
from verification.benchmarks.studies.plan import family, label

SCORES = {"output": "‖W_i X‖²", "wanda": "Σ_j W_ij² G_jj"}
NONE = "thanos"  # the label of a run without outlier rows


def _by_pattern(results: dict[str, Any]) -> dict[str, list[Any]]:
    """Records of pruned models by the pattern without outlier rows."""
    grouped: dict[str, list[Any]] = {}
    for record in results["runs"]:
        if "layers" in record:
            grouped.setdefault(family(record["run"]), []).append(record)
    return grouped


def by_sparsity(results: dict[str, Any]) -> dict[str, list[Change]]:
    """By the pattern without outlier rows: every share and score against no outlier rows."""
    return {name: changes(records, NONE) for name, records in _by_pattern(results).items()}


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
    dense = next(record["perplexity"] for record in results["runs"] if "layers" not in record)
    tables = (
        f"**{name}**\n\n{markdown(*change_table(found))}\n" for name, found in grouped.items()
    )
    return f"""# What do outlier rows contribute?

Perplexity against no outlier rows, of SmolLM2-135M, with 95 % intervals:

{lines(_answer(name, found, dense) for name, found in grouped.items())}
{lines(_between_scores(*each) for each in _by_pattern(results).items())}

On the small models, and in n:m pruning, outlier rows are judged on the page of [claims](claims.md).

{lines(tables)}
- Outlier rows keep all their weights, and the columns removed from the others are more, so that the same share of the layer goes.
- They are the rows with the largest {SCORES["output"]}; with *rows by Wanda's score*, with the largest {SCORES["wanda"]}.
{meaning(results)}

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity against the share of outlier rows](outliers.png)
"""


def _answer(name: str, found: list[Change], dense: float) -> str:
    """The paper's choice first, then what else was shown, and what is left of the model."""
    none = found[0]
    others = [each for each in found if share(each) > 0]  # the rest are controls without any
    choice = next(each for each in others if share(each) == 0.1 and score(each) == "output")
    return (
        f"- **{name}**: the paper's choice, {_setting(choice)}: perplexity {choice.shown}, "
        f"{_against_none(choice)}. {_shown('Lower', others)} {_shown('Higher', others)} "
        f"{_kept(none, others, dense)}"
    )


def _shown(word: str, found: list[Change]) -> str:
    """Settings with that verdict against no outlier rows."""
    told = [
        f"{_setting(each)} ({_against_none(each)})"
        for each in found
        if each.verdict == word.lower()
    ]
    return f"{word}: {'; '.join(told) or 'none'}."


def _setting(change: Change) -> str:
    return f"{share(change):.0%} by {SCORES[score(change)]}"


def _against_none(change: Change) -> str:
    return f"{percent(change.perplexity_ratio)} over {change.over}"


def _kept(none: Change, others: list[Change], dense: float) -> str:
    """How far all that is from the dense model: where it is ruined, a difference is of no use."""
    best = min(each.perplexity for each in (none, *others))
    ruined = ", which is of no use" if best > RUINED * dense else ""
    return (
        f"Without outlier rows perplexity is {none.perplexity / dense:.0f} times the dense model's, "
        f"at best {best / dense:.0f} times{ruined}."
    )


def _between_scores(name: str, records: list[Any]) -> str:
    """The two scores at the paper's share, on the same draws."""
    of_paper = f"{NONE}, outlier rows 0.1"
    wanda = f"{of_paper}, outlier_score wanda"
    runs = [record for record in records if label(record["run"]) in (of_paper, wanda)]
    (change,) = changes(runs, of_paper)[1:]
    return (
        f"- **{name}**, 10% by {SCORES['wanda']} against 10% by {SCORES['output']}: perplexity "
        f"{change.shown}, {_against_none(change)}."
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
