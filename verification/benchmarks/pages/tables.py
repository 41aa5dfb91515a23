"""Tables that several pages share, and the line that says which command made the numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verification.benchmarks.pages.studies import Comparison, StudyRuns, geometric, pruned
from verification.benchmarks.quality.plan import family
from verification.benchmarks.statistics import Estimate, added_percent, difference

RUN_HEADINGS = [
    "pattern",
    "method",
    "perplexity",
    "layer error",
    "pruning s",
    "peak MiB",
    "certified",
]


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table as Markdown; the first `left` columns are aligned left, the others right."""
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows))


def run_rows(study: StudyRuns) -> list[list[str]]:
    """A row for every record, the dense model first. Columns: RUN_HEADINGS."""
    return [_run_row(study, record) for record in study.records]


def _run_row(study: StudyRuns, record: Mapping[str, Any]) -> list[str]:
    memory = f"{record['peak_memory_bytes'] / 2**20:,.0f}"
    if not pruned(dict(record)):
        return ["not pruned", "dense", perplexity(record["perplexity"]), "0", "", memory, ""]
    passed = sum(layer["passed"] for layer in record["layers"])
    return [
        family(record["run"]),
        study.setting(dict(record)),
        perplexity(record["perplexity"]),
        f"{record['dense_error']:.4f}",
        f"{record['seconds']['pruning']:.1f}",
        memory,
        f"{passed} of {len(record['layers'])}",
    ]


def run_table(study: StudyRuns) -> str:
    """All runs of a study, and where they come from."""
    return f"{markdown(RUN_HEADINGS, run_rows(study), left=2)}\n\n{source(study)}"


def change_rows(study: StudyRuns, base: str) -> list[list[str]]:
    """Every run in the pattern of `base`, which comes first, against it.

    Columns: setting, perplexity, against the base, layer error against the base, seconds as a
    multiple of the base's, calibration draws.
    """
    rows = {base: study.compare(base, base), **against(study, base)}
    return [_change_row(study, name, change, name == base) for name, change in rows.items()]


def against(study: StudyRuns, base: str) -> dict[str, Comparison]:
    """The other runs in the pattern of `base` against it, by name. Refits have a page of their own."""
    pattern = base.rpartition(" ")[2]
    names = [name for name in study.runs if name != base and name.endswith(f" {pattern}")]
    return {name: study.compare(name, base) for name in names if "+ refit" not in name}


def _change_row(study: StudyRuns, name: str, change: Comparison, is_base: bool) -> list[str]:
    return [
        name.rpartition(" ")[0],
        perplexity(geometric(change.own)),
        "" if is_base else percent(change.perplexity),
        "" if is_base else percent(change.error, interval=False),
        "" if is_base else f"{change.seconds:.1f}",
        str(len(study.of(name))),
    ]


def change_table(study: StudyRuns, base: str, *, seconds: bool = False) -> str:
    """All runs in the pattern of `base` against it, and where they come from.

    seconds  whether to show pruning times, as multiples of the first row's
    """
    against = f"against {base.rpartition(' ')[0]}"
    headings = ["setting", "perplexity", against, "layer error", "× seconds", "draws"]
    rows = [headings, *change_rows(study, base)]
    if not seconds:
        rows = [[*row[:4], *row[5:]] for row in rows]
    return f"{markdown(rows[0], rows[1:])}\n\n{source(study)}"


def perplexity(value: float) -> str:
    """A perplexity with as many digits as matter."""
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}" if value < 1e5 else f"{value:.0e}"


def percent(ratio: Estimate, interval: bool = True) -> str:
    """A ratio as a change in percent, with its interval: "−8.4 % (−12.3 to −4.3)".

    A difference keeps the digits that show on which side of 0 its interval lies.
    """
    value = added_percent(ratio.value)
    if not interval or ratio.low is None or ratio.high is None:
        return f"{signed(value, 1)} %"
    ends = [added_percent(end) for end in (ratio.low, ratio.high)]
    differs = difference(ratio) != "no difference"
    digits = next((d for d in (1, 2) if all(round(end, d) for end in ends)), 3) if differs else 1
    low, high = (signed(end, digits) for end in ends)
    return f"{signed(value, digits)} % ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """A number with its sign; 0 has none."""
    rounded = round(value, digits)
    if not rounded:
        return f"{0:.{digits}f}"
    return f"{'−' if rounded < 0 else '+'}{abs(rounded):,.{digits}f}"


def source(study: StudyRuns) -> str:
    """The commands, commits and machines that made a study's numbers, folded away."""
    lines = [source_line(part, part["runs"]) for part in study.parts]
    passed = [
        layer["passed"] for record in filter(pruned, study.records) for layer in record["layers"]
    ]
    failed = len(passed) - sum(passed)
    verdict = (
        f"{failed} of {len(passed):,} layers FAILED"
        if failed
        else f"all {len(passed):,} layers certified"
    )
    return folded(f"How this was measured: {verdict}", "\n".join(f"- {line}" for line in lines))


def folded(summary: str, text: str) -> str:
    """Markdown that a reader opens by a click."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def source_line(content: Mapping[str, Any], runs: Sequence[Mapping[str, Any]] = ()) -> str:
    """One results file: command, commits, machine, PyTorch version and day."""
    origin = {**content.get("environment", {}), **content}
    commits, machines = (
        ", ".join(dict.fromkeys(str(run[name]) for run in runs)) or origin[name]
        for name in ("commit", "machine")
    )
    return (
        f"`{origin['command']}` at commit {commits} on {machines}, torch {origin['versions']['torch']}, "
        f"{origin['date'][:10]}"
    )
