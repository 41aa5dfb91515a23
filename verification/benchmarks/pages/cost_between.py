"""The first lines of cost.md: Thanos against SparseGPT, and a refit against none."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from verification.benchmarks.pages.cost_sections import Results
from verification.benchmarks.pages.tables import LARGE, span
from verification.benchmarks.performance.cases import BLOCK_SIZE, SEMI, UNSTRUCTURED, WIDER

Layers = Mapping[tuple[int, ...], Mapping[str, Any]]  # records by shape
NOT_SHOWN = "no difference shown"


class CostPair(NamedTuple):
    """Thanos, and what it is held against."""

    name: str
    run: Mapping[str, Any]
    own: Layers
    other: Layers
    other_name: str

    @property
    def both(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The records of layers that both were measured on."""
        return [(self.own[shape], self.other[shape]) for shape in self.own if shape in self.other]

    def ratios(self, what: str) -> list[float]:
        """Thanos over the other, a layer each."""
        return [own[what] / other[what] for own, other in self.both]


def between_methods(results: Results) -> list[str]:
    """Thanos against SparseGPT on large layers, pattern by pattern; its wider blocks; a refit."""
    pairs = [pair for pair in _pairs(results) if pair.both]
    if not pairs:
        return []
    repeats = [len(record["repeats"]) for pair in pairs for both in pair.both for record in both]
    return [
        f"Seconds and memory of pruning a layer by Thanos, B = {BLOCK_SIZE} unless another is "
        "named, on the layers of 4 million weights or more that both were measured on:",
        "",
        *(_line(pair) for pair in pairs),
        "",
        f"Seconds are medians of {span(repeats, str)} repeats. *Repeats differ by*: the slowest "
        "less the fastest of one layer and method, over their median. A ratio that is no further "
        "from 1 than the repeats of either side differ is not called a difference.",
        "",
        "That SparseGPT is the one of this project, which gives the published procedure's answer "
        "and is faster: [speed](../results/speed/speed.md) holds both against the published one. "
        f"SparseGPT has B = {BLOCK_SIZE} throughout, as published. Not measured here: "
        f"{_missing(pairs)}.",
        "",
    ]


def _pairs(results: Results) -> Iterator[CostPair]:
    """In the order of the runs; without layers where the other was not measured."""
    known = {_options(each["run"]): _large(each) for each in results["runs"]}
    for each in results["runs"]:
        run = each["run"]
        pattern, method, width, refit = _options(run)
        own, plain = known[_options(run)], (pattern, method, width, 0)
        sparsegpt = known.get((pattern, "sparsegpt", BLOCK_SIZE, 0), {})
        if method != "thanos":
            continue
        if refit and width == BLOCK_SIZE:
            yield CostPair(f"**{pattern}, refit**", run, own, known.get(plain, {}), "plain Thanos")
        elif width == BLOCK_SIZE:
            yield CostPair(f"**{pattern}**", run, own, sparsegpt, "SparseGPT")
        elif width == WIDER:
            name = f"**{pattern}, B = {WIDER}**, the paper's block size"
            yield CostPair(name, run, own, sparsegpt, "SparseGPT")


def _options(run: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return run["pattern"], run["method"], run["block_size"], run["refit_steps"]


def _large(run: Mapping[str, Any]) -> Layers:
    layers = {tuple(layer["shape"]): layer for layer in run["layers"] if layer["passed"]}
    return {shape: layer for shape, layer in layers.items() if math.prod(shape) >= LARGE}


def _line(pair: CostPair) -> str:
    seconds, memory = (
        span(pair.ratios(what), "{:.2f}".format) for what in ("seconds", "peak_memory_bytes")
    )
    many = len(pair.both) > 1
    where = f"{len(pair.both)} layers" if many else f"1 layer, {pair.both[0][0]['name']}"
    return (
        f"- {pair.name}: {seconds} times the seconds of {pair.other_name}, {memory} times the "
        f"memory, on {where}. {_shown(pair)}"
    )


def _shown(pair: CostPair) -> str:
    """On how many layers the seconds differ by more than their repeats do."""
    unsure = [max(record["spread"] for record in both) for both in pair.both]
    counts = Counter(map(_word, pair.ratios("seconds"), unsure))
    words = ", ".join(
        word + _of(counts[word], len(unsure), word)
        for word in ("slower", "faster", NOT_SHOWN)
        if counts[word]
    )
    return f"{words.capitalize()}: repeats differ by up to {max(unsure):.0%}."


def _word(ratio: float, unsure: float) -> str:
    if not max(ratio, 1 / ratio) - 1 > unsure:
        return NOT_SHOWN
    return "slower" if ratio > 1 else "faster"


def _of(count: int, total: int, word: str) -> str:
    if count < total:
        return f" on {count}"
    every = " on any" if word == NOT_SHOWN else " on all"
    return every if total > 1 else ""


def _missing(pairs: list[CostPair]) -> str:
    """Patterns that the paper has and this study has not; B matters to two of those it has."""
    wide = {pair.run["pattern"] for pair in pairs if pair.run["block_size"] == WIDER}
    narrow = [pattern for pattern in (UNSTRUCTURED, SEMI) if pattern not in wide]
    at = [f"{' and '.join(narrow)} with B = {WIDER}"] if narrow else []
    return ", ".join(["4:8", "patterns with outlier rows", *at])
