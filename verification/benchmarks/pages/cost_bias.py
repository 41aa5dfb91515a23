"""The section of cost.md on where the cost model predicts too much or too little."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from verification.benchmarks.pages.pairs import signed
from verification.benchmarks.pages.tables import markdown, span
from verification.benchmarks.performance.cases import BLOCK_SIZE, UNSTRUCTURED
from verification.benchmarks.performance.cost_model import label
from verification.benchmarks.performance.predict import LLAMAS

Results = Mapping[str, Any]
Comparison = Mapping[str, Any]
Size = tuple[int, ...]  # rows and columns of a layer, columns and tokens of the others
OF_LAYERS = {"pruning": "pruning", "certificate": "certifying"}
QUANTITIES = {**OF_LAYERS, "gram": "Gram matrices", "pass": "passes"}
# As in `predictions`, and in the first lines of the page.
HEADLINE = {"method": "thanos", "pattern": UNSTRUCTURED, "block_size": BLOCK_SIZE, "refit_steps": 0}


def held_out(results: Results, quantity: str) -> dict[Size, list[Comparison]]:
    """Comparisons on held-out sizes, of layers those with B = 128; the smallest size first."""
    return _by_size(
        each
        for each in results["comparisons"]
        if each["quantity"] == quantity and each["held_out"]
        if each["run"] is None or each["run"]["block_size"] == BLOCK_SIZE
    )


def by_size(results: Results) -> list[str]:
    """A table of signed errors by held-out size, and how they change from the least to the most."""
    found = {quantity: held_out(results, quantity) for quantity in OF_LAYERS}
    sizes = found["pruning"]
    if not sizes:
        return []
    rows = [
        [_name(size), str(len(some)), *(_mean_and_span(found[each][size]) for each in OF_LAYERS)]
        for size, some in sizes.items()
    ]
    headings = ["held-out layers", "cases", *(f"error of {name}" for name in OF_LAYERS.values())]
    return [
        f"Which way it errs, by size, with B = {BLOCK_SIZE}:",
        "",
        markdown(headings, rows, left=len(headings)),
        "",
        "Predicted less measured, over measured: the mean over methods and patterns and, in "
        f"brackets, from the least to the most. Below 0 the model says too little.{_trend(found)}",
        "",
    ]


def in_answer(results: Results) -> list[str]:
    """Beside the first predictions, of one method and pattern: the way of their errors."""
    largest = {each: _largest(results, each) for each in OF_LAYERS}
    if not largest["pruning"]:
        return []
    ways = ", of ".join(
        f"{OF_LAYERS[each]} is {_way(some, _of_headline(some))}" for each, some in largest.items()
    )
    size = _name(_size(largest["pruning"][0]))
    return [
        "",
        f"Which way these err: on the largest held-out layers, {size} with B = {BLOCK_SIZE}, what "
        f"the model says of {ways}. {_farther(results)}{_follows(largest)}",
    ]


def on_the_largest(results: Results) -> list[str]:
    """Beside all predictions: the way of every error that is in those of whole models."""
    largest = {each: _largest(results, each) for each in QUANTITIES}
    largest = {each: some for each, some in largest.items() if some}
    if "pruning" not in largest:
        return []
    ways = "; ".join(
        f"{QUANTITIES[each]}, {_where(some[0])}: {_way(some)}" for each, some in largest.items()
    )
    return [
        "*Which way the model errs*, on the largest held-out sizes, of layers with B = "
        f"{BLOCK_SIZE}: {ways}. {_farther(results)}{_follows(largest)}",
        "",
    ]


def wider_blocks(results: Results) -> str:
    """Errors on the largest layer that was fitted with blocks wider than those of most layers."""
    sizes = _by_size(
        each
        for each in results["comparisons"]
        if each["quantity"] == "pruning" and not each["held_out"]
        if each["run"]["block_size"] > BLOCK_SIZE
    )
    if not sizes:
        return ""
    size, some = list(sizes.items())[-1]
    widths = {each["run"]["block_size"]: each["error"] for each in some}
    errors = ", ".join(f"{_signed(widths[B])} at B = {B}" for B in sorted(widths))
    return (
        f" On the largest layer that was fitted with a B larger than {BLOCK_SIZE}, {_name(size)}, "
        f"what the model says of pruning is {_side(some)}: {errors}."
    )


def _by_size(comparisons: Iterable[Comparison]) -> dict[Size, list[Comparison]]:
    found: dict[Size, list[Comparison]] = defaultdict(list)
    for each in comparisons:
        found[_size(each)].append(each)
    return dict(sorted(found.items(), key=lambda item: (math.prod(item[0]), item[0])))


def _size(comparison: Comparison) -> Size:
    """The last two numbers of what was measured: "wanda, 2:4, 512 x 576" has 512 and 576."""
    return tuple(map(int, re.findall(r"\d+", comparison["what"])[-2:]))


def _name(size: Size) -> str:
    return " x ".join(map(str, size))


def _of_headline(some: list[Comparison]) -> str:
    """The error of the one method and pattern that the first lines of the page predict."""
    own = [_signed(each["error"]) for each in some if each["run"] == HEADLINE]
    return f"; {own[0]} for this method and pattern" if own else ""


def _where(comparison: Comparison) -> str:
    return comparison["what"] if comparison["run"] is None else _name(_size(comparison))


def _largest(results: Results, quantity: str) -> list[Comparison]:
    *_, largest = [[], *held_out(results, quantity).values()]
    return largest


def _trend(found: Mapping[str, Mapping[Size, list[Comparison]]]) -> str:
    """From the smallest size to the largest, of the methods that all sizes have."""
    runs = [{label(each["run"]) for each in some} for some in found["pruning"].values()]
    common = set.intersection(*runs)
    if len(runs) < 2 or not common:
        return ""
    ways = ", of ".join(
        f"{OF_LAYERS[quantity]} from {_common_mean(sizes, 0, common)} on the smallest size to "
        f"{_common_mean(sizes, -1, common)} on the largest"
        for quantity, sizes in found.items()
    )
    return (
        f" Over the {len(common)} methods and patterns that all these sizes have, the mean goes, "
        f"of {ways}."
    )


def _common_mean(sizes: Mapping[Size, list[Comparison]], at: int, common: set[str]) -> str:
    some = list(sizes.values())[at]
    return _signed(mean(each["error"] for each in some if label(each["run"]) in common))


def _mean_and_span(some: list[Comparison]) -> str:
    errors = [each["error"] for each in some]
    return f"{_signed(mean(errors))} ({span(errors, _signed)})"


def _way(some: list[Comparison], more: str = "") -> str:
    """Which way, in how many cases, how far, and what more there is to say in brackets."""
    errors = [each["error"] for each in some]
    if len(errors) == 1:
        return f"{_side(some)} ({_signed(errors[0])}{more})"
    return f"{_side(some)} ({_signed(mean(errors))} in the mean, {span(errors, _signed)}{more})"


def _side(some: list[Comparison]) -> str:
    """Whether errors are all to one side; those that round to no percent are to none."""
    low, high = (sum(_percent(each["error"]) * way > 0 for each in some) for way in (-1, 1))
    for count, word in ((low, "too low"), (high, "too high")):
        if count == len(some):
            return f"{word} in {f'all {count} cases' if count > 1 else 'the one case'}"
    sides = "on both sides, " if low and high else ""
    return f"{sides}too low in {low} and too high in {high} of {len(some)} cases"


def _follows(largest: Mapping[str, list[Comparison]]) -> str:
    """What errors to one side let expect of layers that are larger still."""
    parts = []
    for way, word in ((-1, "too low"), (1, "too high")):
        names = [
            QUANTITIES[quantity]
            for quantity, some in largest.items()
            if all(_percent(each["error"]) * way > 0 for each in some)
        ]
        if names:
            parts.append(f"of {_listed(names)} is probably {word}")
    if not parts:
        return "Which way predictions of larger layers err is not known."
    return f"What is predicted {' and '.join(parts)} for larger layers, by how much is not known."


def _farther(results: Results) -> str:
    """How far predictions go beyond the largest layer that the model was held against."""
    asked = {each["model"] for each in results["predictions"]}
    weights = math.prod(_size(_largest(results, "pruning")[0]))
    ratios = [each.hidden * each.intermediate / weights for each in LLAMAS if each.name in asked]
    if not ratios:
        return ""
    return f"Llama's largest layers have {span(ratios, _times)} times as many weights. "


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def _listed(names: list[str]) -> str:
    """With commas, and "and" before the last."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _percent(error: float) -> int:
    """Whole ones, as the page shows them."""
    return round(100 * error)


def _signed(error: float) -> str:
    return f"{signed(100 * error, 0)}%"
