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
