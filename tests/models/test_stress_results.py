"""What docs/long-runs.md promises is what was recorded."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent.parent / "docs" / "results"


def recorded(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_a_hundred_kills_changed_nothing() -> None:
    kills = recorded("kills")
    assert kills["passed"]
    assert len(kills["kills"]) >= 100
    count = Counter(kill["stage"] for kill in kills["kills"])
    assert {stage: n for stage, n in kills["kills_by_stage"].items() if n} == count
    assert {"calibration", "solve", "shard write", "rename"} <= set(count)
    assert kills["results_compared"] > 0
    assert kills["results_that_differ"] == []


def test_a_full_disk_was_survived() -> None:
    full = recorded("full-disk")
    assert full["passed"]
    assert len(full["failures"]) >= 3
    assert all("No space left" in each["error"] for each in full["failures"])


def test_a_lost_rank_changed_nothing() -> None:
    lost = recorded("lost-rank")
    assert lost["passed"]
    assert lost["lost"]["status"] != 0
    assert lost["statuses_afterwards"] == [0, 0]
    assert lost["results_that_differ"] == []
    assert len(lost["shares"]) == 3


def test_a_checkpoint_larger_than_the_memory_was_pruned() -> None:
    big = recorded("big-checkpoint")
    assert big["passed"]
    few, many = big["runs"]
    assert many["blocks"] >= 24
    assert many["checkpoint_bytes"] >= 8e9 > big["limit_bytes"]
    assert many["peak_rss_bytes"] <= big["growth_allowed"] * few["peak_rss_bytes"]
    for run in big["runs"]:
        assert "memory control group" in run["enforced_by"]
        assert run["peak_rss_bytes"] < big["limit_bytes"]
        assert run["certified"]
        assert run["layers"] == 7 * run["blocks"]
        assert run["written_bytes"] >= run["checkpoint_bytes"]
    said = (RESULTS.parent / "long-runs.md").read_text()
    sizes, peaks = (
        [f"{run[key] / 1e9:.1f}" for run in big["runs"]]
        for key in ("checkpoint_bytes", "peak_rss_bytes")
    )
    assert f"({sizes[0]} and {sizes[1]} GB on disk) took {peaks[0]} and {peaks[1]} GB" in said
