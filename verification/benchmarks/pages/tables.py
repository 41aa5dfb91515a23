"""Tables of a study's results, and the sentence that says where they come from."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from verification.benchmarks.quality.plan import family, label

LARGE = 2**22  # weights of a layer that counts as large on every page: 2048 x 2048
HOURS_OF_A_STUDY = 2.0  # that it may take; runs further apart were taken from another one

HEADINGS = [
    "pattern",
    "method",
    "sparsity",
    "perplexity",
    "layer error",
    "with dense inputs",
    "pruning s",
    "peak MiB",
    "certified",
]


def rows(results: dict[str, Any]) -> list[list[str]]:
    """A row for every run, dense models first."""
    return [_row(record) for record in results["runs"]]


def _row(record: dict[str, Any]) -> list[str]:
    what = record["run"]
    memory = f"{record['peak_memory_bytes'] / 2**20:.0f}"
    perplexity = f"{record['perplexity']:.2f}"
    if "layers" not in record:
        return ["", label(what), "0 %", perplexity, "0", "0", "", memory, ""]
    passed = sum(layer["passed"] for layer in record["layers"])
    return [
        family(what),
        label(what),
        f"{100 * record['sparsity']:.2f} %",
        perplexity,
        f"{record['error']:.4f}",
        f"{record['dense_error']:.4f}",
        f"{record['seconds']['pruning']:.1f}",
        memory,
        f"{passed} of {len(record['layers'])}",
    ]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table as Markdown; the first `left` columns to the left, the others to the right."""
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows))


def lines(parts: Iterable[str]) -> str:
    """One below the other."""
    return "\n".join(parts)


def span(values: Iterable[float], shown: Callable[[float], str]) -> str:
    """From the least to the most; once if they look the same."""
    known = list(values)
    least, most = shown(min(known)), shown(max(known))
    return least if least == most else f"{least} to {most}"


def summary(results: dict[str, Any]) -> str:
    """The table of all runs as Markdown."""
    return markdown(HEADINGS, rows(results), left=2)


def source(results: dict[str, Any]) -> str:
    """A sentence for every study: which command, commits and machines made these numbers."""
    return "\n\n".join(_source(part) for part in _parts(results))


def _parts(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The studies that are one, if several are."""
    parts: list[dict[str, Any]] = results.get("parts", [results])
    return parts


def _source(results: dict[str, Any]) -> str:
    records = results["runs"]
    pruned = [record for record in records if "layers" in record]
    jobs = _numbers(_jobs(record, results) for record in pruned)
    threads = _numbers(record["threads"] for record in pruned)
    return (
        f"Measured by `{results['command']}` at commit {', '.join(_distinct(records, 'commit'))} "
        f"on {'; '.join(_distinct(records, 'machine'))}, "
        f"torch {results['versions']['torch']}, {results['date'][:10]}: "
        f"its runs take {_minutes(results):.0f} minutes, {jobs} at a time with {threads} thread each."
    )


def _minutes(results: dict[str, Any]) -> float:
    """Of the runs of a study, whoever measured them: dense ones alone, the others side by side."""
    records = results["runs"]
    return sum(float(each["wall_seconds"]) / _jobs(each, results) for each in records) / 60


def _jobs(record: dict[str, Any], results: dict[str, Any]) -> int:
    """Runs at a time when this one was made. Older records leave it to their study."""
    beside = results["jobs"] if "layers" in record else 1
    return int(record.get("jobs", beside))


def _numbers(values: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(set(values))))


def _distinct(records: list[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(record[key] for record in records))


def timing(results: dict[str, Any]) -> str:
    """Half a sentence: what the seconds of pruning are, and what ran beside them."""
    jobs = max(_jobs(record, part) for part in _parts(results) for record in part["runs"])
    beside = (
        f"up to {jobs} runs of a study side by side on one device"
        if jobs > 1
        else "one run at a time"
    )
    several = len(_distinct(results["runs"], "machine")) > 1
    between = ", and those of different machines (named below) do not compare" if several else ""
    return (
        f"seconds of pruning in this run, {beside}, without calibration and certificates; no benchmark "
        f"timings, which `thanos bench cost` makes{between}{_apart(results)}"
    )


def _apart(results: dict[str, Any]) -> str:
    """How far apart in time the runs of a study were made, where that is longer than it takes."""
    spans = [0.0]
    for part in _parts(results):  # the oldest records have no date
        begun = [
            datetime.fromisoformat(record["date"])
            for record in part["runs"]
            if "layers" in record and "date" in record
        ]
        if begun:
            spans.append((max(begun) - min(begun)).total_seconds() / 3600)
    hours = max(spans)
    if hours < HOURS_OF_A_STUDY:
        return ""
    return f"; the runs of one study began up to {hours:.1f} hours apart, and a machine that others share is not always equally fast"


def protocol(results: dict[str, Any]) -> str:
    """One sentence: models, texts and their sizes, as far as all runs share them."""
    record = next(each for each in results["runs"] if "layers" in each)
    origins = ", ".join(dict.fromkeys(each["origin"] for each in results["runs"]))
    calibration, evaluation = record["calibration"], record["evaluation"]
    tokens = calibration["nsamples"] * calibration["seqlen"]
    return (
        f"{origins}; calibrated on {tokens:,} tokens of `{calibration['dataset']}` in windows of "
        f"{calibration['seqlen']}, and evaluated on {record['tokens']:,} tokens of `{evaluation['dataset']}` "
        f"in windows of {evaluation['seqlen']}."
    )


def common(results: dict[str, Any]) -> str:
    """One sentence: what all runs remove, and the perplexity of the model before."""
    patterns = dict.fromkeys(family(r["run"]) for r in results["runs"] if "layers" in r)
    dense = ", ".join(f"{r['perplexity']:.2f}" for r in results["runs"] if "layers" not in r)
    return f"All rows prune to {', '.join(patterns)}; the perplexity of the dense model is {dense}."


def verdict(results: dict[str, Any]) -> str:
    """Whether all is certified, in words."""
    layers = [layer for record in results["runs"] for layer in record.get("layers", [])]
    failed = sum(not layer["passed"] for layer in layers)
    if failed:
        return f"NOT every layer is certified: {failed} of {len(layers)} failed."
    return f"All {len(layers):,} pruned layers are certified."
