"""The tolerances of `compare` on the same draw, against what rounding was measured to do."""

import json
import math
from itertools import chain, pairwise

import numpy as np

from tests.test_imports import ROOT
from verification.benchmarks.comparing.compare import compare
from verification.benchmarks.comparing.noise import (
    FIRST_BLOCKS,
    ROUNDING,
    ROUNDING_AT_DEPTH,
    ROUNDING_OF_A_LAYER,
    ROUNDING_OF_PERPLEXITY,
    block_of,
)
from verification.benchmarks.results import read_results

FOLDER = ROOT / "docs" / "results" / "rounding"
PAGE = (ROOT / "docs" / "comparing.md").read_text()
# Smallest ratio of a tolerance to the worst value that was measured.
ROOM = 4.0
ROOM_AT_DEPTH = 2.5
ROOM_OF_PERPLEXITY = 2.0


def row(what: str, moved: float, tolerance: float) -> str:
    return f"| {what} | {100 * moved:.2f} % | {100 * tolerance:g} % |"


def test_rounding_in_the_first_blocks() -> None:
    """One rounding of all activations; nine runs, each with its layers in the same order."""
    content = json.loads((FOLDER / "first-blocks.json").read_text())
    moved = []
    for repeat in content["repeats"]:
        run = next(run for run in content["runs"] if run["run"] == repeat["run"])
        pairs = zip(run["layers"], repeat["layers"], strict=True)
        moved.append([math.log(b["error"] / a["error"]) for a, b in pairs])
        assert {block_of(layer["name"]) for layer in run["layers"]} == set(range(FIRST_BLOCKS))
    assert len(moved) == 9
    mean, layer = np.abs(np.mean(moved, axis=1)).max(), np.abs(moved).max()
    assert 0 < mean * ROOM < ROUNDING
    assert 0 < layer * ROOM < ROUNDING_OF_A_LAYER
    assert row("mean of the first three blocks", mean, ROUNDING) in PAGE
    assert row("one layer in them", layer, ROUNDING_OF_A_LAYER) in PAGE


def test_rounding_at_depth() -> None:
    """Two commits that round differently: SparseGPT in 2:4, and the runs of a quick benchmark."""
    old, new = (
        json.loads((FOLDER / f"{name}-code.json").read_text())["runs"][0] for name in ("old", "new")
    )
    pairs = zip(old["layers"], new["layers"], strict=True)
    by_block: dict[int, list[float]] = {}
    for a, b in pairs:
        assert a["name"] == b["name"]
        by_block.setdefault(block_of(a["name"]), []).append(math.log(b["error"] / a["error"]))
    assert len(by_block) == 30
    means = [abs(sum(each) / len(each)) for each in by_block.values()]
    thirds = [sum(means[start : start + 10]) for start in (0, 10, 20)]
    assert all(first < second for first, second in pairwise(thirds))
    first = max(abs(value) for value in by_block[0])
    assert f"{100 * first:.3f} % a layer in its first block" in PAGE

    before, after = (read_results(FOLDER / f"quick-{name}.json") for name in ("first", "again"))
    found = compare(before, after, {})
    assert not found.regressions
    moved: dict[str, list[float]] = {}
    for change in (change for pair in found.pairs if pair.pruned for change in pair.changes):
        assert change.before
        assert change.after
        moved.setdefault(change.measure, []).append(abs(math.log(change.after / change.before)))
    assert all(len(each) == 8 for each in moved.values())
    depth = max(abs(float(np.mean([*chain(*by_block.values())]))), *moved["layer error"])
    assert 0 < depth * ROOM_AT_DEPTH < ROUNDING_AT_DEPTH
    assert row("mean of all blocks", depth, ROUNDING_AT_DEPTH) in PAGE
    perplexity = max(moved["perplexity"])
    assert perplexity > abs(math.log(new["perplexity"] / old["perplexity"]))
    assert 0 < perplexity * ROOM_OF_PERPLEXITY < ROUNDING_OF_PERPLEXITY
    assert row("perplexity", perplexity, ROUNDING_OF_PERPLEXITY) in PAGE
