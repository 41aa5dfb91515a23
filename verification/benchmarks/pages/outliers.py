"""The page on outlier rows."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.style import save
from verification.benchmarks.pages.tables import lines, markdown, protocol, source, verdict
from verification.benchmarks.statistics import difference, perplexity_ratio
from verification.benchmarks.studies.plan import family

Record = dict[str, Any]
SCORES = {"output": "‖W_i X‖²", "wanda": "Σ_j W_ij² G_jj"}


def share(record: Record) -> float:
    """α of a run."""
    return float(record["run"]["pattern"].partition("+outliers:")[2] or 0)


def score(record: Record) -> str:
    """Which score picks the outlier rows."""
    return str(record["run"].get("outlier_score", "output"))


def by_sparsity(results: dict[str, Any]) -> dict[str, list[Record]]:
    """Pruned runs by the pattern without outlier rows, by share."""
    grouped: dict[str, list[Record]] = {}
    for record in results["runs"]:
        if "layers" in record:
            grouped.setdefault(family(record["run"]), []).append(record)
    return {name: sorted(runs, key=share) for name, runs in grouped.items()}


def text(sources: Sources) -> str:
    """Answer, table, plot."""
    results = sources["outliers"]
    grouped = by_sparsity(results)
    return f"""# What do outlier rows contribute?

{lines(_answer(name, runs) for name, runs in grouped.items())}

{markdown(["pattern", "score of a row", "outlier rows", "perplexity", "layer error"], _rows(grouped), left=2)}

- Outlier rows keep all their weights, and the columns removed from the others are more, so that the same share of the layer goes.
- One calibration draw; perplexities are compared window by window, and a difference is called one if its 95 % interval leaves out 0 %.

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity against the share of outlier rows](outliers.png)
"""


def _answer(name: str, runs: list[Record]) -> str:
    without = runs[0]
    best = min(runs, key=lambda run: float(run["perplexity"]))
    ratio = perplexity_ratio(without["window_losses"], best["window_losses"])
    found = difference(ratio)
    if best is without or found != "lower":
        return (
            f"- {name}: no share of outlier rows is better than none ({without['perplexity']:.2f})."
        )
    return (
        f"- {name}: best at {share(best):.0%} outlier rows, perplexity {best['perplexity']:.2f} "
        f"against {without['perplexity']:.2f} without any."
    )


def _rows(grouped: dict[str, list[Record]]) -> list[list[str]]:
    return [
        [
            name,
            SCORES[score(run)],
            f"{share(run):.0%}",
            f"{run['perplexity']:.2f}",
            f"{run['error']:.4f}",
        ]
        for name, runs in grouped.items()
        for run in sorted(runs, key=lambda run: (score(run), share(run)))
    ]


def draw(sources: Sources, folder: Path) -> None:
    """Write outliers.png."""
    grouped = by_sparsity(sources["outliers"])
    figure, panels = plt.subplots(1, len(grouped), figsize=(9, 3.4), squeeze=False)
    for panel, (name, runs) in zip(panels[0], grouped.items(), strict=True):
        for which, colour in zip(SCORES, ("#D55E00", "#0072B2"), strict=True):
            line = [run for run in runs if score(run) == which or share(run) == 0]
            values = [run["perplexity"] for run in line]
            panel.plot(
                [share(run) for run in line], values, "o-", color=colour, label=SCORES[which]
            )
        panel.set(title=name, xlabel="share of outlier rows")
    panels[0][0].set_ylabel("perplexity")
    panels[0][-1].legend(title="rows picked by")
    save(figure, folder / "outliers.png")


OUTLIERS = Page("outliers", "What do outlier rows contribute?", ("outliers",), text, draw)
