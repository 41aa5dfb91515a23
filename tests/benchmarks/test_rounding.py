"""The tolerances of `compare` on the same draw, against what rounding was measured to do."""

import json
import math
from itertools import pairwise

from tests.test_imports import ROOT
from verification.benchmarks.comparing.compare import compare
from verification.benchmarks.comparing.noise import (
    FIRST_BLOCKS,
    ROUNDING,
    ROUNDING_AT_DEPTH,
    ROUNDING_OF_A_LAYER,
    Change,
    block_of,
)
from verification.benchmarks.comparing.records import no_results, read_results

FOLDER = ROOT / "docs" / "results" / "rounding"
PAGE = (ROOT / "docs" / "comparing.md").read_text()
# How far a tolerance is from the worst that was measured.
ROOM = 4.0
ROOM_AT_DEPTH = 2.5


def moved_by_rounding() -> list[list[float]]:
    """Changes of every layer's logarithm, a list a run, by one rounding of all activations."""
    content = json.loads((FOLDER / "first-blocks.json").read_text())
    found = []
    for repeat in content["repeats"]:
        run = next(run for run in content["runs"] if run["run"] == repeat["run"])
        pairs = zip(run["layers"], repeat["layers"], strict=True)
        found.append([math.log(b["error"] / a["error"]) for a, b in pairs])
        assert {block_of(layer["name"]) for layer in run["layers"]} == set(range(FIRST_BLOCKS))
    return found


def other_code() -> dict[str, Change]:
    """One run of the whole model by two commits that round otherwise."""
    sides = [read_results(FOLDER / f"{name}-code.json") for name in ("old", "new")]
    (pair,) = compare(sides[0], sides[1], no_results()).pairs
    assert not pair.regressions
    return {change.measure: change for change in pair.changes}


def test_rounding_in_the_first_blocks() -> None:
    moved = moved_by_rounding()
    assert len(moved) == 9
    mean = max(abs(sum(run) / len(run)) for run in moved)
    layer = max(abs(value) for run in moved for value in run)
    assert 0 < mean * ROOM < ROUNDING
    assert 0 < layer * ROOM < ROUNDING_OF_A_LAYER
    assert f"| mean of the first three blocks | {100 * mean:.2f} % | {100 * ROUNDING:g} % |" in PAGE
    assert f"| one layer in them | {100 * layer:.2f} % | {100 * ROUNDING_OF_A_LAYER:g} % |" in PAGE


def test_rounding_at_depth() -> None:
    found = other_code()
    for measure, name in (("layer error", "mean of all blocks"), ("perplexity", "perplexity")):
        moved = abs(math.log(found[measure].ratio.value))
        assert 0 < moved * ROOM_AT_DEPTH < ROUNDING_AT_DEPTH
        assert f"| {name} | {100 * moved:.2f} % | {100 * ROUNDING_AT_DEPTH:g} % |" in PAGE


def test_rounding_grows_with_depth() -> None:
    sides = [json.loads((FOLDER / f"{name}-code.json").read_text()) for name in ("old", "new")]
    layers = [side["runs"][0]["layers"] for side in sides]
    by_block: dict[int, list[float]] = {}
    for a, b in zip(*layers, strict=True):
        by_block.setdefault(block_of(a["name"]), []).append(math.log(b["error"] / a["error"]))
    means = [abs(sum(each) / len(each)) for each in by_block.values()]
    assert len(means) == 30
    thirds = [sum(means[start : start + 10]) for start in (0, 10, 20)]
    assert all(first < second for first, second in pairwise(thirds))
    agreement = f"{100 * max(abs(value) for value in by_block[0]):.3f} % a layer"
    assert f"first block agrees\nto {agreement}" in PAGE
