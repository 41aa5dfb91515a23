"""The tables of docs/scoreboard.md and docs/bugs-found.md: who passes, and where others deviate."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.pages.tables import folded, markdown
from verification.scoreboard.implementations import Listed, read_list

Content = Mapping[str, Any]
BOARD, LAYERS = "scoreboard", "scoreboard-layers"  # results files in docs/results

HEADINGS = ["implementation", "version", "judged for", "patterns", "passed", "failed",
            "not decidable"]  # fmt: skip
# Columns of the second table, and the checks that each stands for.
CHECKS = {
    "no result": ("output", "input", "layout", "finite", "refusals"),
    "counts": ("counts",),
    "zeros": ("zeros",),
    "outlier rows": ("outliers",),
    "masks": ("masks", "vector mask"),
    "kept weights": ("kept", "updates", "replay", "vector weights", "losses"),
}
DEVIATIONS = ["implementation", "pattern", "check", "cases", "smallest case", "what the judge says"]
COSTS = ["implementation", "pattern", "zeros", "more than `thanos_torch`", "loss / `thanos_torch`"]


def board_rows(content: Content) -> Iterator[list[str]]:
    """A row for each implementation. Columns: HEADINGS."""
    for listed, row in _pairs(content):
        counts = row["counts"]
        yield [
            listed.title,
            _version(listed, row),
            row["judged_for"],
            ", ".join(row["declared"]["patterns"]),
            f"{counts['passed']} of {counts['supported']}",
            str(counts["failed"]),
            str(counts["not decidable"]),
        ]


def check_rows(content: Content) -> Iterator[list[str]]:
    """In how many cases each kind of check failed, for rows with a failure."""
    for listed, row in _pairs(content):
        if row["counts"]["failed"]:
            failed = row["cases_by_checks"]
            yield [listed.title, *(str(_cases(failed, names)) for names in CHECKS.values())]


def deviation_rows(content: Content) -> Iterator[list[str]]:
    """One row for each kind of deviation, with its smallest case. Columns: DEVIATIONS."""
    for listed, row in _pairs(content):
        for each in row["deviations"]:
            yield [
                listed.title,
                each["pattern"],
                each["check"],
                str(each["cases"]),
                f"`{each['smallest']}`",
                _said(each),
            ]


def cost_rows(runs: Iterable[Content]) -> Iterator[list[str]]:
    """Zeros and losses on the layers of a real model. Columns: COSTS."""
    titles = {row.name: row.title for row in read_list()}
    for run in runs:
        if "failed" in run:
            yield [titles[run["name"]], run["pattern"], "", "", _plain(run["failed"])]
            continue
        ratio = run["loss"] / run["loss_of_thanos_torch"]
        yield [
            titles[run["name"]],
            run["pattern"],
            f"{run['zeros']:,}",
            f"{run['zeros'] - run['zeros_of_thanos_torch']:+,}",
            f"{ratio:.4f}",
        ]


def shows(run: Content) -> bool:
    """Whether zeros or the loss differ from those of `thanos_torch` by more than a thousandth."""
    return "failed" in run or any(
        abs(run[what] / run[f"{what}_of_thanos_torch"] - 1) > 1e-3 for what in ("zeros", "loss")
    )


def _pairs(content: Content) -> Iterator[tuple[Listed, Content]]:
    listed = {row.name: row for row in read_list()}
    for row in content["implementations"]:
        yield listed[row["name"]], row


def _version(listed: Listed, row: Content) -> str:
    if not listed.source:
        return f"this project at {row['judged']['commit']}"
    source = row["source"]
    what = (
        listed.source.what if source.get("checked", True) else f"{listed.source.what}, from files"
    )
    return f"[{what}]({listed.source.where})"


def _cases(failed: Mapping[str, int], names: tuple[str, ...]) -> int:
    """Cases in which at least one of some checks failed; keys are names joined by ' + '."""
    return sum(count for key, count in failed.items() if set(key.split(" + ")) & set(names))


def _said(deviation: Content) -> str:
    explanation = deviation["explanation"]
    if explanation:
        return _plain(f"{explanation['key']}: {explanation['text']}")
    return _plain(" / ".join(text.removeprefix("FAILED ") for text in deviation["failed"]))


def _plain(text: str) -> str:
    """Text of others as a cell of a table."""
    short = text if len(text) <= 160 else text[:157] + "..."
    return short.replace("|", "/").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def _origin(content: Content) -> str:
    machines = ", ".join(
        dict.fromkeys(row["judged"]["machine"] for row in content["implementations"])
    )
    commits = ", ".join(
        dict.fromkeys(row["judged"]["commit"] for row in content["implementations"])
    )
    seeds = ", ".join(
        dict.fromkeys(str(row["judged"]["seed"]) for row in content["implementations"])
    )
    return f"`make scoreboard` at commit {commits} on {machines}, fresh cases of seed {seeds}"


def _board(results: Results) -> str:
    content = results.content(BOARD)
    text = markdown(HEADINGS, board_rows(content), left=4)
    return f"{text}\n\n{folded('How this was judged', _origin(content))}"


def _checks(results: Results) -> str:
    return markdown(["implementation", *CHECKS], check_rows(results.content(BOARD)), left=1)


def _deviations(results: Results) -> str:
    rows = markdown(DEVIATIONS, deviation_rows(results.content(BOARD)), left=6)
    return folded("Every kind of deviation, with its smallest case", rows)


def _costs(results: Results) -> str:
    content = results.content(LAYERS)
    text = markdown(COSTS, cost_rows(filter(shows, content["runs"])), left=2)
    everything = markdown(COSTS, cost_rows(content["runs"]), left=2)
    source = (
        f"`{content['command']}` at commit {content['commit']} on {content['machine']}: layers "
        f"{', '.join(content['layers'])} of `{content['model']['source']}`, "
        f"{content['calibration']['windows']} windows of {content['calibration']['seqlen']} tokens, "
        f"blocks of {content['block_size']} columns, damping {content['damping']}"
    )
    below = f"{folded('All layers and patterns', everything)}\n\n{folded('How this was measured', source)}"
    return f"{text}\n\n{below}"


SCOREBOARD = Page(
    "scoreboard",
    "Who passes?",
    {
        "scoreboard": _board,
        "scoreboard checks": _checks,
        "scoreboard deviations": _deviations,
        "scoreboard costs": _costs,
    },
)
