"""Zero-shot accuracy: the tasks that can tell something about pruning, and their tables.

In a task in which the dense model is no better than guessing, pruned models may even score higher.
Means are therefore taken over the telling tasks, in which the dense model beats guessing.
"""

from collections.abc import Sequence

from verification.benchmarks.pages.studies import Record, StudyRuns, accuracy, pruned
from verification.benchmarks.pages.tables import markdown, signed
from verification.benchmarks.statistics import Estimate, mean

# Share of right answers when one is picked blindly; a few questions of ARC have three or five.
GUESSED = {
    "winogrande": 1 / 2,
    "openbookqa": 1 / 4,
    "boolq": 1 / 2,
    "piqa": 1 / 2,
    "hellaswag": 1 / 4,
    "arc_easy": 1 / 4,
    "arc_challenge": 1 / 4,
}
KNOWN_BY = 2.0  # standard errors that the dense model is above guessing in a telling task


def tasks(study: StudyRuns) -> list[str]:
    """All tasks that the study measured."""
    return [task["task"] for task in study.dense["zero_shot"]["tasks"]]


def telling(study: StudyRuns) -> list[str]:
    """The tasks in which the dense model beats guessing by more than chance."""
    return [
        task["task"]
        for task in study.dense["zero_shot"]["tasks"]
        if task["acc"] - KNOWN_BY * task["acc_stderr"] > GUESSED[task["task"]]
    ]


def table(study: StudyRuns) -> str:
    """Accuracies in %, mean over the draws: a row for guessing, and one for every method."""
    columns = [telling(study), tasks(study), *([task] for task in tasks(study))]
    guessing = [f"{100 * sum(GUESSED[task] for task in each) / len(each):.1f}" for each in columns]
    methods = {
        "dense": [study.dense],
        **{name.rpartition(" ")[0]: runs for name, runs in study.runs.items()},
    }
    rows = [[name, *(_mean(runs, each) for each in columns)] for name, runs in methods.items()]
    headings = ["method", f"telling {len(columns[0])}", f"all {len(columns[1])}", *tasks(study)]
    return markdown(headings, [["guessing", *guessing], *rows])


def _mean(records: Sequence[Record], asked: Sequence[str]) -> str:
    return f"{100 * mean([accuracy(record, asked) for record in records]).value:.1f}"


def points(change: Estimate) -> str:
    """A difference of accuracies in percentage points, and its interval if it has one."""
    if change.low is None or change.high is None:
        return signed(change.value, 1)
    value, low, high = (signed(each, 1) for each in (change.value, change.low, change.high))
    return f"{value} ({low} to {high})"


def measured(study: StudyRuns) -> bool:
    """Whether the study scored zero-shot tasks."""
    return all("zero_shot" in record for record in study.records if pruned(record))
