"""The page on model families."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from verification.benchmarks.pages.page import Page, Sources
from verification.benchmarks.pages.pairs import Record, on_one_draw, percent
from verification.benchmarks.pages.style import COLOURS, change_axis, legend_of_all, save
from verification.benchmarks.pages.tables import lines, markdown, protocol, source, timing, verdict
from verification.benchmarks.pages.trainings import training_section
from verification.benchmarks.small_models.families import PREFIX
from verification.benchmarks.statistics import added_percent, difference, in_words
from verification.benchmarks.studies.plan import family, label

SHOWN = (
    *("magnitude", "wanda", "sparsegpt", "thanos", "thanos, outlier rows 0.1"),
    *("wanda + refit", "sparsegpt + refit", "thanos + refit"),
)


def by_model(results: dict[str, Any]) -> dict[str, list[Record]]:
    """Runs by model, in order; the dense one first."""
    grouped: dict[str, list[Record]] = {}
    for record in results["runs"]:
        grouped.setdefault(record["model"], []).append(record)
    return grouped


def text(sources: Sources) -> str:
    """Answer, table of perplexities, trainings."""
    results = sources["architectures"]
    grouped = by_model(results)
    patterns = dict.fromkeys(family(r["run"]) for r in results["runs"] if "layers" in r)
    return f"""# Does it hold for newer families?

Whether Thanos is better than SparseGPT there too, with 95 % intervals:

{lines(_answer(pattern, grouped) for pattern in patterns)}

These are small models that were trained here, from scratch, on C4, calibrated with windows of the same text, and measured on WikiText-2: they
show whether a method depends on the architecture, not how a large model fares. Real weights of these families come from a hub only, which was out of
reach where this was measured; SmolLM2-135M, on the other pages, is a real model of Llama's architecture, and `thanos bench --paper` has the paper's. One training and one calibration draw each: the verdicts above
compare stretches of the evaluation text, say nothing of other draws nor of what rounding moves, and are not corrected for how many they are.

Perplexity (layer error with dense inputs; *pruning s*):

{markdown(["pattern", "method", *grouped], _rows(grouped), left=2)}

*Pruning s*: {timing(results)}. *With dense inputs*: on windows of C4 drawn apart from those of the calibration; a few tokens may be in both.

{protocol(results)} {verdict(results)}

## The models

{training_section(results)}

Weights are not published: `thanos bench --standard --study architectures` trains them again
(`python -m verification.benchmarks.small_models` trains one), with the same seed; the same models come only from the same text, see `--data`.

{source(results)}

![Perplexity by family, pattern and method](architectures.png)
"""


def _find(records: list[Record], pattern: str, method: str) -> Record:
    return next(
        record
        for record in records
        if "layers" in record
        and family(record["run"]) == pattern
        and label(record["run"]) == method
    )


def _answer(pattern: str, grouped: dict[str, list[Record]]) -> str:
    words: dict[str, list[str]] = {"lower": [], "higher": [], "not shown to differ": []}
    added = []
    for model, records in grouped.items():
        before, after = (_find(records, pattern, name) for name in ("sparsegpt", "thanos"))
        ratio = on_one_draw(before, after)
        words[in_words(difference(ratio))].append(
            f"{model.removeprefix(PREFIX)} ({percent(ratio)})"
        )
        added.append(added_percent(after["perplexity"] / records[0]["perplexity"]))
    said = "; ".join(f"{found} on {', '.join(models)}" for found, models in words.items() if models)
    return (
        f"- **{pattern}**: the perplexity of Thanos, against SparseGPT's, is {said}. To the dense models' it adds "
        f"{min(added):+.1f} to {max(added):+.1f} %."
    )


def _rows(grouped: dict[str, list[Record]]) -> list[list[str]]:
    return [
        [
            family(records[0]["run"]),
            label(records[0]["run"]),
            *(_cell(record) for record in records),
        ]
        for records in zip(*grouped.values(), strict=True)
    ]


def _cell(record: Record) -> str:
    error = (
        f" ({record['dense_error']:.4f}; {record['seconds']['pruning']:.1f})"
        if "layers" in record
        else ""
    )
    return f"{record['perplexity']:.1f}{error}"


def draw(sources: Sources, folder: Path) -> None:
    """Write architectures.png."""
    save(families_figure(by_model(sources["architectures"])), folder / "architectures.png")


def families_figure(grouped: dict[str, list[Record]]) -> Any:
    """What methods add to the dense models' perplexity: a panel for each pattern."""
    patterns = list(
        dict.fromkeys(family(r["run"]) for each in grouped.values() for r in each if "layers" in r)
    )
    figure, panels = plt.subplots(1, len(patterns), figsize=(11, 3.8), sharey=True)
    for panel, pattern in zip(panels, patterns, strict=True):
        for number, method in enumerate(SHOWN):
            values = [_added(records, pattern, method) for records in grouped.values()]
            if all(value is not None for value in values):
                # Side by side, as some of them are equal but for a hair.
                places = np.arange(len(values)) + 0.1 * (number - (len(SHOWN) - 1) / 2)
                panel.plot(places, values, "o", color=COLOURS[method], label=method, markersize=5)
        change_axis(panel.yaxis, linear=2)
        panel.axhline(0, color="black", linewidth=1)
        names = [name.removeprefix(PREFIX) for name in grouped]
        panel.set_xticks(np.arange(len(names)), names)
        panel.set_title(pattern)
    panels[0].set_ylabel("perplexity against the dense model, %\n(linear within ±2)")
    figure.legend(*legend_of_all(panels), loc="center left", bbox_to_anchor=(0.91, 0.5))
    return figure


def _added(records: list[Record], pattern: str, method: str) -> float | None:
    try:
        return added_percent(
            _find(records, pattern, method)["perplexity"] / records[0]["perplexity"]
        )
    except StopIteration:
        return None


ARCHITECTURES = Page(
    "architectures", "Does it hold for newer families?", ("architectures",), text, draw
)
