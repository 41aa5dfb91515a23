"""The page on models of other families: who is better on each, and what others measured."""

from collections.abc import Iterator
from typing import Any

from verification.benchmarks.pages import pictures
from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import (
    Comparison,
    NotMeasuredError,
    Results,
    StudyRuns,
    geometric,
)
from verification.benchmarks.pages.tables import (
    folded,
    markdown,
    percent,
    perplexity,
    run_table,
)
from verification.benchmarks.quality.families import FAMILIES, PATTERNS, FamilyModel
from verification.benchmarks.quality.paper_plan import METHODS

HEADINGS = ["pattern", "model", *METHODS, "Thanos against SparseGPT"]
AXIS = "perplexity against SparseGPT, % (linear within ±10); left is better"


def measured(results: Results) -> dict[FamilyModel, StudyRuns]:
    """The models with results. Raises NotMeasuredError if there is none."""
    found = {}
    for model in FAMILIES:
        try:
            found[model] = results.study(model.study)
        except NotMeasuredError:
            continue
    if not found:
        raise NotMeasuredError(f"{results.folder} has no results of any family")
    return found


def rows(results: Results) -> Iterator[list[str]]:
    """A row for every pattern and model: perplexities over the draws. Columns: HEADINGS."""
    studies = measured(results)
    for pattern in PATTERNS:
        for model, study in studies.items():
            values = [perplexity(geometric(study.of(f"{each} {pattern}"))) for each in METHODS]
            change = _change(study, pattern)
            ruined = "" if change.usable else ", ruined"
            dense = perplexity(study.dense["perplexity"])
            yield [
                pattern,
                f"{model.label}, dense {dense}",
                *values,
                f"{percent(change.perplexity)}{ruined}",
            ]


def _change(study: StudyRuns, pattern: str) -> Comparison:
    return study.compare(f"thanos {pattern}", f"sparsegpt {pattern}")


def _table(results: Results) -> str:
    return markdown(HEADINGS, rows(results), left=2)


def _runs(results: Results) -> str:
    """All runs of every model."""
    parts = [
        folded(f"{model.label}: every run", run_table(study))
        for model, study in measured(results).items()
    ]
    return "\n\n".join(parts)


def _picture(results: Results) -> Any:
    studies = measured(results)
    groups = {
        pattern: {model.label: _change(study, pattern) for model, study in studies.items()}
        for pattern in PATTERNS
    }
    return pictures.forest(groups, AXIS)


FAMILIES_PAGE = Page(
    "families",
    "Does it hold for newer model families?",
    {"families": _table, "families runs": _runs},
    {"families": _picture},
)
