"""The tables of docs/models.md: what became of every registered causal language model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.tables import folded, markdown, source_line

SWEEP = "model-sweep"  # results file in docs/results
OUTCOMES = ("pruned", "partly", "refused", "failed")
COUNT_HEADINGS = ["outcome", "names", "classes"]
PARTLY_HEADINGS = ["names", "left alone", "removed", "of the blocks' weights is left alone"]
REFUSED_HEADINGS = ["names", "reason"]
Trial = Mapping[str, Any]


def count_rows(trials: Sequence[Trial]) -> Iterator[list[str]]:
    """A row for each outcome, and one for all. Columns: COUNT_HEADINGS."""
    for outcome in OUTCOMES:
        yield [outcome, *_counts([each for each in trials if each["outcome"] == outcome])]
    yield ["all", *_counts(trials)]


def _counts(trials: Sequence[Trial]) -> list[str]:
    return [str(len(trials)), str(len({each["kind"] for each in trials if each["kind"]}))]


def _names(trials: Sequence[Trial]) -> str:
    return ", ".join(f"`{each['name']}`" for each in trials)


def partly_rows(trials: Sequence[Trial]) -> Iterator[list[str]]:
    """A row for each group of names with the same layers left alone. Columns: PARTLY_HEADINGS."""
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for each in trials:
        if each["outcome"] == "partly":
            groups.setdefault(tuple(each["kinds"]), []).append(each)
    for kinds, group in groups.items():
        what = ", ".join(f"`{kind}`" for kind in kinds[:4]) + (", ..." if len(kinds) > 4 else "")
        yield [_names(group), what, _range(group, "share"), _range(group, "left_alone")]


def _range(trials: Sequence[Trial], key: str) -> str:
    found = sorted({f"{each[key]:.0%}" for each in trials}, key=lambda text: float(text[:-1]))
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def refused_rows(trials: Sequence[Trial]) -> Iterator[list[str]]:
    """A row for each reason of a refusal. Columns: REFUSED_HEADINGS."""
    groups: dict[str, list[Trial]] = {}
    for each in trials:
        if each["outcome"] == "refused":
            groups.setdefault(each["reason"], []).append(each)
    for reason, group in groups.items():
        yield [_names(group), reason.replace("|", "\\|")]


def _summary(results: Results) -> str:
    content = results.content(SWEEP)
    table = markdown(COUNT_HEADINGS, count_rows(content["trials"]))
    versions = content["environment"]["versions"]
    return f"{table}\n\n{source_line(content)}, Transformers {versions['transformers']}."


def _partly(results: Results) -> str:
    trials = results.content(SWEEP)["trials"]
    return markdown(PARTLY_HEADINGS, partly_rows(trials), left=2)


def _refused(results: Results) -> str:
    return markdown(REFUSED_HEADINGS, refused_rows(results.content(SWEEP)["trials"]), left=2)


def _pruned(results: Results) -> str:
    trials = [each for each in results.content(SWEEP)["trials"] if each["outcome"] == "pruned"]
    rows = [
        [f"`{each['name']}`", each["kind"], str(each["layers"]), f"{each['share']:.1%}"]
        for each in trials
    ]
    headings = ["name", "class", "layers", "removed of the blocks' weights"]
    return folded(f"The {len(trials)} names that are pruned", markdown(headings, rows, left=2))


MODELS = Page(
    "models",
    "Which models can be pruned?",
    {
        "models": _summary,
        "models partly": _partly,
        "models refused": _refused,
        "models pruned": _pruned,
    },
)
