"""What docs/long-runs.md promises is what was recorded."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from reference.patterns import parse_pattern
from tests.stress.big_checkpoint import PATTERN
from tests.stress.synthetic import llama_config
from thanos_torch.models import LayerOptions, Rules
from thanos_torch.pruning.cost import PlannedLayer
from thanos_torch.pruning.dry_run import memory_parts, meta_model, planned_layers
from verification.benchmarks.performance.cost import THANOS
from verification.benchmarks.performance.cost_model import BOUNDS
from verification.benchmarks.performance.predict import predicted_runs

OF_THE_PROGRAM = 0.42e9  # bytes of a process that has imported torch and Transformers, no more
RESULTS = Path(__file__).parents[3] / "docs" / "results"


def recorded(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def long_runs() -> str:
    """The page, its lines joined."""
    return " ".join((RESULTS.parent / "long-runs.md").read_text(encoding="utf-8").split())


def test_a_hundred_kills_changed_nothing() -> None:
    kills = recorded("kills")
    assert kills["passed"]
    assert len(kills["kills"]) >= 100
    count = Counter(kill["stage"] for kill in kills["kills"])
    assert {stage: n for stage, n in kills["kills_by_stage"].items() if n} == count
    assert {"calibration", "solve", "shard write", "rename", "join", "drop"} <= set(count)
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
    sizes, peaks = (
        [f"{run[key] / 1e9:.1f}" for run in big["runs"]]
        for key in ("checkpoint_bytes", "peak_rss_bytes")
    )
    assert (
        f"({sizes[0]} and {sizes[1]} GB on disk) took {peaks[0]} and {peaks[1]} GB" in long_runs()
    )


def planned(run: dict[str, Any], folder: Path) -> tuple[Any, list[PlannedLayer]]:
    """The recorded checkpoint and its layers, without its weights."""
    shape = {name: run[name] for name in ("blocks", "hidden", "intermediate", "vocabulary")}
    llama_config(**shape).save_pretrained(folder)
    model = meta_model(str(folder))
    return model, planned_layers(model, Rules(LayerOptions(parse_pattern(PATTERN))))


def test_the_memory_of_a_dry_run_is_near_what_was_taken(tmp_path: Path) -> None:
    for run in recorded("big-checkpoint")["runs"]:
        parts = memory_parts(*planned(run, tmp_path), run["calibration_tokens"])
        parts["program and libraries"] = OF_THE_PROGRAM  # that of the tests is not known here
        estimate = sum(parts.values())
        # Promised is a factor of two; to run out of memory by surprise is worse than a warning.
        assert run["peak_rss_bytes"] < estimate < 1.5 * run["peak_rss_bytes"]
        assert f"`--dry-run` estimates {estimate / 1e9:.1f} GB for either" in long_runs()


def test_the_memory_of_the_cost_model_is_near_what_was_taken(tmp_path: Path) -> None:
    fitted = recorded("cost/results")["model_fitted"]
    for run in recorded("big-checkpoint")["runs"]:
        model, _ = planned(run, tmp_path)
        tokens = run["calibration_tokens"]
        (found,) = predicted_runs(fitted, model, [{**THANOS, "pattern": PATTERN}], tokens, tokens)
        predicted = found["peak_with_certificates_bytes"] + OF_THE_PROGRAM
        # As far off as the memory of a held-out layer may be: see `BOUNDS` of the cost model.
        assert abs(predicted / run["peak_rss_bytes"] - 1) < BOUNDS["memory"][1] / 100
        assert f"is {predicted / 1e9:.1f} GB with the program" in long_runs()
