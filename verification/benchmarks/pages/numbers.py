"""Single numbers for the prose of a page, asked for by the queries of number marks.

A query is `MEASURE STUDY: RUN / BASE`, for example `change sweep: thanos unstructured:0.5 /
sparsegpt unstructured:0.5`, or `value FILE: path.to.a.number FORMAT`, where a second path after
` / ` is a divisor.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from verification.benchmarks.pages.studies import Results, StudyRuns, accuracy, geometric
from verification.benchmarks.pages.tables import percent, perplexity, signed
from verification.benchmarks.pages.zero_shot import telling
from verification.benchmarks.statistics import added_percent, mean

QUERY = re.compile(r"(?P<measure>[\w-]+) (?P<study>[\w/-]+)(?:: (?P<runs>.+))?")


def number(results: Results, query: str) -> str:
    """The text for a query. Raises ValueError if the query cannot be understood."""
    found = QUERY.fullmatch(query)
    if not found or found["measure"] not in {*MEASURES, "value"}:
        raise ValueError(f"number must ask for one of {', '.join(MEASURES)}, value, got {query!r}")
    if found["measure"] == "value":
        return _value(results.content(found["study"]), found["runs"])
    runs = found["runs"].split(" / ") if found["runs"] else []
    return MEASURES[found["measure"]](results.study(found["study"]), runs)


def _value(content: Any, asked: str) -> str:
    """A number of a JSON file, or a ratio of two, in a format such as `.1f` or `.0%`."""
    paths, _, shape = asked.rpartition(" ")
    value, *divisor = (_at(content, path) for path in paths.split(" / "))
    return format(value / divisor[0] if divisor else value, shape).replace("%", " %")


def _at(content: Any, path: str) -> Any:
    """What stands at a path of keys and indices, separated by dots."""
    for key in path.split("."):
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


def _dense(study: StudyRuns, runs: Sequence[str]) -> str:
    return perplexity(study.dense["perplexity"])


def _perplexity(study: StudyRuns, runs: Sequence[str]) -> str:
    return perplexity(geometric(study.of(*runs)))


def _change(study: StudyRuns, runs: Sequence[str]) -> str:
    return f"{signed(added_percent(study.compare(*runs).perplexity.value), 0)} %"


def _less(study: StudyRuns, runs: Sequence[str]) -> str:
    """The same without a sign, for "X % lower"."""
    return f"{abs(added_percent(study.compare(*runs).perplexity.value)):.0f} %"


def _interval(study: StudyRuns, runs: Sequence[str]) -> str:
    return percent(study.compare(*runs).perplexity)


def _error(study: StudyRuns, runs: Sequence[str]) -> str:
    return f"{abs(added_percent(study.compare(*runs).error.value)):.0f} %"


def _times(study: StudyRuns, runs: Sequence[str]) -> str:
    """Perplexity as a multiple of the dense model's."""
    return f"{geometric(study.of(*runs)) / study.dense['perplexity']:.1f}"


def _seconds(study: StudyRuns, runs: Sequence[str]) -> str:
    return f"{study.compare(*runs).seconds:.1f}"


def _accuracy(study: StudyRuns, runs: Sequence[str]) -> str:
    """Mean accuracy in % over the tasks in which the dense model beats guessing."""
    records = study.of(*runs) if runs else [study.dense]
    tasks = telling(study)
    return f"{100 * mean([accuracy(record, tasks) for record in records]).value:.1f}"


def _layers(study: StudyRuns, runs: Sequence[str]) -> str:
    """How many pruned layers the study certified."""
    return f"{sum(layer['passed'] for each in study.runs.values() for run in each for layer in run['layers']):,}"


MEASURES: dict[str, Callable[[StudyRuns, Sequence[str]], str]] = {
    "dense": _dense,
    "perplexity": _perplexity,
    "change": _change,
    "less": _less,
    "interval": _interval,
    "error": _error,
    "times": _times,
    "seconds": _seconds,
    "accuracy": _accuracy,
    "layers": _layers,
}
