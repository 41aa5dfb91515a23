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
    ROUNDING_OF_PERPLEXITY,
    MeasureChange,
    block_of,
)
from verification.benchmarks.results import no_results, read_results

FOLDER = ROOT / "docs" / "results" / "rounding"
PAGE = (ROOT / "docs" / "comparing.md").read_text()
# How far a tolerance is from the worst that was measured.
ROOM = 4.0
ROOM_AT_DEPTH = 2.5
ROOM_OF_PERPLEXITY = 2.0


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


def other_code(old: str, new: str) -> list[dict[str, MeasureChange]]:
    """Runs of the whole model by two commits that round otherwise."""
    found = compare(read_results(FOLDER / old), read_results(FOLDER / new), no_results())
    assert not found.regressions
    return [{change.measure: change for change in pair.changes} for pair in found.pairs]


def moved(change: MeasureChange) -> float:
    return abs(math.log(change.ratio.value))


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
    (one,) = other_code("old-code.json", "new-code.json")
    worst = moved(one["layer error"])
    assert 0 < worst * ROOM_AT_DEPTH < ROUNDING_AT_DEPTH
    assert f"| mean of all blocks | {100 * worst:.2f} % | {100 * ROUNDING_AT_DEPTH:g} % |" in PAGE
    _, *quick = other_code("../quick/results.json", "quick-again.json")  # the first is dense
    assert len(quick) == 8
    assert max(moved(each["layer error"]) for each in quick) < worst
    perplexity = max(moved(each["perplexity"]) for each in [one, *quick])
    assert 0 < perplexity * ROOM_OF_PERPLEXITY < ROUNDING_OF_PERPLEXITY
    assert f"| perplexity | {100 * perplexity:.2f} % | {100 * ROUNDING_OF_PERPLEXITY:g} % |" in PAGE
    shallow = max(moved(each["layer error, first 3 blocks"]) for each in quick)
    assert f"first three blocks agree to {100 * shallow:.2f} % in the mean" in PAGE


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
