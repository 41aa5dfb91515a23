"""The page of the headline table: the whole test set, seven tasks, several draws."""

import math
from pathlib import Path

from matplotlib import pyplot as plt

from verification.benchmarks.pages.changes import answer, change_table, changes, meaning
from verification.benchmarks.pages.page import Page, Sources, joined
from verification.benchmarks.pages.pairs import Record, signed
from verification.benchmarks.pages.style import COLOURS, log_axis, save
from verification.benchmarks.pages.tables import common, lines, markdown, protocol, source, verdict
from verification.benchmarks.statistics import Estimate, gain, in_words, mean
from verification.benchmarks.studies.plan import label
from verification.benchmarks.studies.profiles import HEADLINE_QUESTION, HEADLINES, SEEDS

STUDIES = tuple(f"{topic}-{seed}" for seed in SEEDS for topic, _ in HEADLINES)


def text(sources: Sources) -> str:
    """Answer and tables."""
    results = joined(sources, STUDIES)
    found = changes(results["runs"], "sparsegpt")
    return f"""# {HEADLINE_QUESTION}

{lines([answer(found), _zero_shot_answer(results["runs"])])}

The first row is SparseGPT{_extent(sources)}. {common(results)}

{markdown(*change_table(found))}

{meaning(results)}

Zero-shot accuracy of the same models, in %, mean over the draws that each has. ± is another kind of interval than above: one standard error over the items
of the first draw's model, which says nothing of other draws, and is not paired with the other methods': no difference is called one here.

{markdown(*_tasks(results["runs"]))}

{_zero_shot_against("sparsegpt", results["runs"])}

{protocol(results)} {verdict(results)}

{source(results)}

![Perplexity of every draw](headline.png)
"""


def _extent(sources: Sources) -> str:
    """How far the measurements go, while they are not all there."""
    missing = [f"`{name}`" for name in STUDIES if name not in sources]
    return f" (not measured yet: {', '.join(missing)})" if missing else ""


def _zero_shot_answer(records: list[Record]) -> str:
    """Mean accuracies on the draws that all methods have, the best first."""
    by_label, draws = _on_shared_draws(_by_label(records))
    if not draws:
        return "- **Zero-shot accuracy** is not ranked: there is no draw that all methods have."
    means = sorted(((*_mean_accuracy(runs), name) for name, runs in by_label.items()), reverse=True)
    told = "; ".join(f"{name} {_accuracy(share, error)}" for share, error, name in means)
    over = f"{draws} draws" if draws > 1 else "one draw"
    return f"- **Zero-shot accuracy, mean of the tasks, on {over} that all have, ± one standard error:** {told}."


def _on_shared_draws(by_label: dict[str, list[Record]]) -> tuple[dict[str, list[Record]], int]:
    """Of every method the runs on the draws that all calibrated ones have; how many those are."""
    seeds = {
        name: {run["calibration"]["seed"] for run in runs}
        for name, runs in by_label.items()
        if _calibrated(runs)
    }
    shared = set.intersection(*seeds.values())
    kept = {
        name: [run for run in runs if name not in seeds or run["calibration"]["seed"] in shared]
        for name, runs in by_label.items()
    }
    return kept, len(shared)


def _calibrated(runs: list[Record]) -> bool:
    """Dense models and magnitudes read no calibration text: one run is that of all draws."""
    return "layers" in runs[0] and runs[0]["run"]["method"] != "magnitude"


def _tasks(records: list[Record]) -> tuple[list[str], list[list[str]]]:
    names = [task["task"] for task in records[0]["zero_shot"]["tasks"]]
    rows = []
    for name, runs in _by_label(records).items():
        cells = [f"{len(runs)}" if _calibrated(runs) else "", _accuracy(*_mean_accuracy(runs))]
        for number in range(len(names)):
            tasks = [run["zero_shot"]["tasks"][number] for run in runs]
            cells.append(
                _accuracy(mean([task["acc"] for task in tasks]).value, tasks[0]["acc_stderr"])
            )
        rows.append([name, *cells])
    return ["method", "draws", "mean", *names], rows


def _zero_shot_against(name: str, records: list[Record]) -> str:
    """Mean accuracies against a method's, draw by draw, where there are several draws."""
    by_draw = {
        method: {run["calibration"]["seed"]: run["zero_shot"]["mean_acc"] for run in runs}
        for method, runs in _by_label(records).items()
    }
    base = by_draw.pop(name)
    told = []
    for method, accuracies in by_draw.items():
        shared = sorted(accuracies.keys() & base.keys())
        if len(shared) > 1:
            gains = [100 * (accuracies[seed] - base[seed]) for seed in shared]
            told.append(f"{method} {_points(mean(gains))} over {len(gains)} draws")
    if not told:
        return f"Mean accuracies are not held against {name}'s: it takes several draws."
    return (
        f"Mean accuracy against {name}'s on the same draws and items, in points, with Student's t intervals (95 %) over the draws: "
        f"{'; '.join(told)}."
    )


def _points(change: Estimate) -> str:
    """A change in points, its interval, and whether it is one."""
    assert change.low is not None
    assert change.high is not None
    value, low, high = (signed(each, 1) for each in (change.value, change.low, change.high))
    return f"{value} ({low} to {high}), {in_words(gain(change))},"


def _by_label(records: list[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(label(record["run"]), []).append(record)
    return found


def _mean_accuracy(runs: list[Record]) -> tuple[float, float]:
    """Over draws and tasks, and the first draw's standard error: tasks share no items."""
    errors = [task["acc_stderr"] for task in runs[0]["zero_shot"]["tasks"]]
    error = math.hypot(*errors) / len(errors)
    return mean([run["zero_shot"]["mean_acc"] for run in runs]).value, error


def _accuracy(share: float, error: float) -> str:
    return f"{100 * share:.1f} ± {100 * error:.1f}"


def draw(sources: Sources, folder: Path) -> None:
    """Write headline.png."""
    results = joined(sources, STUDIES)
    names = list(dict.fromkeys(label(record["run"]) for record in results["runs"]))
    figure, panel = plt.subplots(figsize=(7, 3.4))
    for record in results["runs"]:
        name = label(record["run"])
        colour = COLOURS.get(name, "black")
        panel.plot([record["perplexity"]], [names.index(name)], "o", color=colour, alpha=0.7)
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    log_axis(panel.xaxis)
    panel.set(xlabel="perplexity, a point for every calibration draw (log scale)")
    save(figure, folder / "headline.png")


HEADLINE = Page("headline", HEADLINE_QUESTION, STUDIES, text, draw, whole=False)
