"""Zero-shot accuracy on a page: ranks, a table, and what is shown against another method.

A task in which the dense model is no better than guessing cannot tell what pruning took from it:
pruned models may even score higher there. So means are told twice, over all tasks, as the paper
does, and over those in which the dense model, and it alone, shows that it knows something.
"""

import math
from collections.abc import Sequence

from verification.benchmarks.pages.pairs import Record, signed
from verification.benchmarks.pages.tables import markdown
from verification.benchmarks.quality.plan import label
from verification.benchmarks.statistics import Estimate, gain, in_words, mean

# Right answers when one is picked blindly; a few questions of ARC have three or five.
GUESSED = {
    "winogrande": 1 / 2,
    "openbookqa": 1 / 4,
    "boolq": 1 / 2,
    "piqa": 1 / 2,
    "hellaswag": 1 / 4,
    "arc_easy": 1 / 4,
    "arc_challenge": 1 / 4,
}
# How a claim that a method is better fares.
SHOWN = {
    "higher": "**shown**",
    "lower": "**contradicted**",
    "no difference": "**not shown**, nor the contrary",
}
KNOWN_BY = 2.0  # standard errors that the dense model is above guessing in a telling task


def ranks(records: Sequence[Record]) -> str:
    """Mean accuracies on the draws that all methods have, the best first."""
    by_label, draws = _on_shared_draws(_by_label(records))
    if not draws:
        return "- **Zero-shot accuracy** is not ranked: there is no draw that all methods have."
    over = f"{draws} draws" if draws > 1 else "one draw"
    told = [
        f"- **Zero-shot accuracy, mean of {which}, on {over} that all have, ± one standard error:** "
        f"{_ranked(by_label, tasks)}."
        for which, tasks in _means(records)
    ]
    return "\n".join(told)


def section(records: Sequence[Record], base: str) -> str:
    """What was asked, the table of all tasks, and means against those of the method `base`."""
    return f"""Zero-shot accuracy of the same models, in %, mean over the draws that each has. {asked(records)} ± is another kind of interval than above: one
standard error over the items of the first draw's model, which says nothing of other draws, and is not paired with the other methods': no difference is called one by it.

{table(records)}

{_against(base, records)}"""


def telling(records: Sequence[Record]) -> list[str]:
    """Tasks in which the dense model is better than guessing by more than chance."""
    dense = next((record for record in records if "layers" not in record), None)
    if dense is None:
        return []
    return [
        task["task"]
        for task in dense["zero_shot"]["tasks"]
        if task["acc"] - KNOWN_BY * task["acc_stderr"] > GUESSED[task["task"]]
    ]


def claimed(records: Sequence[Record], name: str, others: Sequence[str]) -> str:
    """Whether a method is better than the best of the others, of each mean, over several draws."""
    by_label = _by_label(records)
    told = []
    for which, tasks in _means(records):
        ahead = {
            other: _ahead(by_label[name], by_label[other], tasks)
            for other in others
            if name in by_label and other in by_label
        }
        known = {other: each for other, each in ahead.items() if each.count > 1}
        if not known:
            return "not measured on several draws yet"
        best = min(known, key=lambda other: known[other].value)
        told.append(
            f"mean of {which}: {SHOWN[gain(known[best])]}, {_points(known[best])} points "
            f"against {best} over {known[best].count} draws"
        )
    return "; ".join(told)


def _means(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The means that are told, in words, and their tasks; the telling ones first."""
    everything, known = _names(records), telling(records)
    found = [(f"all {len(everything)} tasks (guessing {_guessed(everything):.1f})", everything)]
    if known and known != everything:
        which = f"{', '.join(known)} (guessing {_guessed(known):.1f})"
        found.insert(0, (f"the tasks in which the dense model is better than guessing, {which}", known))  # fmt: skip
    return found


def _ranked(by_label: dict[str, list[Record]], tasks: list[str]) -> str:
    means = sorted(((*_mean(runs, tasks), name) for name, runs in by_label.items()), reverse=True)
    return "; ".join(f"{name} {_accuracy(share, error)}" for share, error, name in means)


def _guessed(tasks: list[str]) -> float:
    return 100 * sum(GUESSED[task] for task in tasks) / len(tasks)


def _names(records: Sequence[Record]) -> list[str]:
    return [task["task"] for task in records[0]["zero_shot"]["tasks"]]


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


def asked(records: Sequence[Record]) -> str:
    """The protocol in a sentence, and the tasks that tell nothing."""
    told = records[0]["zero_shot"]
    items = {task["items"] for task in told["tasks"]}
    first = f"the first {min(items):,} items" if len(items) == 1 else "all items"
    splits = " or ".join(sorted({task["split"] for task in told["tasks"]}))
    known = telling(records)
    silent = [name for name in _names(records) if name not in known]
    nothing = (
        f" In {', '.join(silent)} the dense model is not better than guessing by {KNOWN_BY:.0f} standard errors: these tell nothing of pruning."
        if silent
        else ""
    )
    return (
        f"Scored are {first} of each task's {splits} split, without examples in the prompt ({told['harness']}, `acc`).{nothing}"
    )  # fmt: skip


def table(records: Sequence[Record]) -> str:
    """Accuracies in %, mean over the draws: a row for guessing, and one for every method."""
    names, known = _names(records), telling(records)
    guessing = ["guessing", "", f"{_guessed(names):.1f}", f"{_guessed(known):.1f}" if known else ""]
    rows = [guessing + [f"{100 * GUESSED[task]:.0f}" for task in names]]
    for name, runs in _by_label(records).items():
        draws = f"{len(runs)}" if _calibrated(runs) else ""
        telling_mean = _accuracy(*_mean(runs, known)) if known else ""
        means = [_accuracy(*_mean(runs, names)), telling_mean]
        rows.append([name, draws, *means, *(_accuracy(*_mean(runs, [task])) for task in names)])
    headings = ["method", "draws", "mean", f"mean of the {len(known)} telling ones", *names]
    return markdown(headings, rows)


def _against(base: str, records: Sequence[Record]) -> str:
    """Mean accuracies against a method's, draw by draw, where there are several draws."""
    by_label = _by_label(records)
    usual = by_label.pop(base)
    told = []
    for which, tasks in _means(records):
        ahead = {name: _ahead(runs, usual, tasks) for name, runs in by_label.items()}
        several = [
            f"{name} {_points(each)}, {in_words(gain(each))}, over {each.count} draws"
            for name, each in ahead.items()
            if each.count > 1
        ]
        if several:
            told.append(f"- *Mean of {which}*: {'; '.join(several)}.")
    if not told:
        return f"Mean accuracies are not held against {base}'s: it takes several draws."
    return (
        f"Mean accuracy against {base}'s on the same draws and items, in points, with Student's t intervals (95 %) over the draws, which say\n"
        "nothing of other items:\n\n" + "\n".join(told)
    )


def _ahead(own: list[Record], other: list[Record], tasks: list[str]) -> Estimate:
    """What mean accuracy some runs have more than others on the same draws, in points; NaN without any."""
    first, second = (
        {run["calibration"]["seed"]: _mean_accuracy(run, tasks) for run in runs}
        for runs in (own, other)
    )
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return Estimate(math.nan, None, None, 0)
    return mean([100 * (first[seed] - second[seed]) for seed in shared])


def _points(change: Estimate) -> str:
    """A change in points, and its interval."""
    assert change.low is not None
    assert change.high is not None
    value, low, high = (signed(each, 1) for each in (change.value, change.low, change.high))
    return f"{value} ({low} to {high})"


def _by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(label(record["run"]), []).append(record)
    return found


def _mean_accuracy(run: Record, tasks: list[str]) -> float:
    """Over some tasks, each counting the same."""
    told = [task["acc"] for task in run["zero_shot"]["tasks"] if task["task"] in tasks]
    return float(sum(told) / len(told))


def _mean(runs: list[Record], tasks: list[str]) -> tuple[float, float]:
    """Over draws and tasks, and the first draw's standard error: tasks share no items."""
    errors = [task["acc_stderr"] for task in runs[0]["zero_shot"]["tasks"] if task["task"] in tasks]
    accuracies = [_mean_accuracy(run, tasks) for run in runs]
    return mean(accuracies).value, math.hypot(*errors) / len(errors)


def _accuracy(share: float, error: float) -> str:
    return f"{100 * share:.1f} ± {100 * error:.1f}"
