"""The inference benchmark: its statistics, its smallest run, and the page made from the data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reference.patterns import Structured
from tests.models.packs import ROWS, pruned
from verification.benchmarks.inference import process, run
from verification.benchmarks.inference.layers import layers, refuse_different
from verification.benchmarks.inference.paired import alternate, compare
from verification.benchmarks.inference.plots import draw, draw_sizes
from verification.benchmarks.inference.report import answers, page
from verification.benchmarks.inference.size import page as size_page
from verification.benchmarks.inference.size import rows

TINY = replace(
    run.QUICK,
    prompt=8,
    tokens=3,
    rounds=6,
    shapes=((96, 64),),
    layer_rounds={"1": 6, "4": 6},
    turn_bytes=100_000,
    threads=1,
)


class InProcess:
    """Measures in the test's own process: importing everything again takes long."""

    def __init__(self, work: Path, threads: int, progress: run.Progress) -> None:
        self.work, self.threads = work, threads

    def run(self, kind: str, **asked: Any) -> Any:
        out = self.work / "result.json"
        process.main(json.dumps({"kind": kind, "threads": self.threads, **asked}), str(out))
        return json.loads(out.read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = pruned("Llama", ROWS, tmp_path_factory.mktemp("bench"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_Process", InProcess)
        return run.run_inference(str(folder), TINY, lambda *_: None, "thanos bench", "quick")


def test_a_run_has_all_forms_and_says_where_it_is_from(results: dict[str, Any]) -> None:
    assert [each["run"]["form"] for each in results["runs"]] == ["dense", "compact"]
    assert {"commit", "versions", "machine", "command", "wall_seconds"} <= results.keys()
    dense, compact = results["runs"]
    assert compact["memory"]["model_bytes"] < dense["memory"]["model_bytes"]
    assert dense["latency"]["prefill"]["ratio"]["median"] == 1.0
    assert all(each["latency"]["decode"]["median"] > 0 for each in results["runs"])
    assert [each["tokens"] for each in results["layers"]] == [1, 4]
    sizes = compact["sizes"]
    # The models' weights are float32: what is on the disk is what the formula says.
    assert sizes["disk"]["pruned"] == [
        sizes["formulas"][form]["4"] for form in ("dense", "compact")
    ]


def test_the_page_and_the_plot_need_nothing_but_the_data(
    results: dict[str, Any], tmp_path: Path
) -> None:
    again = json.loads(json.dumps(results, allow_nan=False))
    text = page(again)
    assert results["commit"] in text
    assert results["machine"] in text
    dense, compact = (run["memory"] for run in results["runs"])
    weights, peak = (compact[key] / dense[key] for key in ("model_bytes", "working_peak_bytes"))
    assert f"weights take {weights:.0%}, and the process at its peak {peak:.0%}, of" in text
    assert "certified when they were pruned: 0 of 2." in text  # this one had no judge
    assert "**Not measured**: 2:4 on the sparse units of a GPU" in text
    again["runs"][1]["verified"] = True
    assert "certified when they were pruned: 1 of 2." in page(again)
    draw(again, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    text = size_page(again)
    assert results["commit"] in text
    assert f"**{again['runs'][1]['run']['pattern']}**: packed as compact" in text
    draw_sizes(again, tmp_path / "size.png")
    assert (tmp_path / "size.png").stat().st_size > 5_000


def test_sizes_of_forms_that_were_written_have_their_folder(results: dict[str, Any]) -> None:
    by_form = {row[1]: row for row in rows(results)}
    assert set(by_form) == {"zeros in place", "compact", "bitmask"}
    assert by_form["zeros in place"][2:4] == ["100.00%", "100.00%"]
    disk = results["runs"][1]["sizes"]["disk"]
    dense = disk["total"][0] - disk["masks"][0]  # an ordinary checkpoint has no masks
    assert disk["masks"][0] > 0
    assert by_form["zeros in place"][4:6] == [f"{dense / 1e6:.1f}", "100.0%"]
    assert by_form["compact"][5] == f"{disk['total'][1] / dense:.1%}"
    assert not by_form["bitmask"][4]
    assert by_form["bitmask"][6] == "unpacked"


def test_layers_that_are_not_faster_are_named(results: dict[str, Any]) -> None:
    known = json.loads(json.dumps(results))
    known["layers"][0]["ratio"] = compare([0.5, 0.6] * 10, [1.0] * 20)
    known["layers"][1]["ratio"] = compare([1.5, 1.6] * 10, [1.0] * 20)
    said = answers(known)[0]
    assert "faster than nn.Linear in 1 of 2 cases, where it takes 0.55 to 0.55 of" in said
    slower = f"96 x 64 at 4 tokens, {known['layers'][1]['pattern']}: slower."
    assert f"**Not shown to be faster**: {slower}" in said


def test_patterns_that_run_as_dense_are_told_together(results: dict[str, Any]) -> None:
    known = json.loads(json.dumps(results))
    for pattern, factor in (("2:4", 0.9), ("4:8", 1.0)):
        run = json.loads(json.dumps(known["runs"][1]))
        run["run"] |= {"pattern": pattern, "form": "dense"}
        ratio = compare([factor - 0.2, factor + 0.2] * 10, [1.0] * 20)
        run["latency"] = {key: {"ratio": ratio} for key in ("prefill", "decode")}
        known["runs"].append(run)
    said = next(each for each in answers(known) if "zeros in place" in each)
    assert "prefill takes 0.90 to 1.00 and decoding takes 0.90 to 1.00 of the dense time" in said
    first = results["runs"][0]["run"]["pattern"]
    assert f"(**no difference**) in {first}, 2:4, 4:8; weights take " in said


def test_small_turns_are_not_said_to_come_from_memory(results: dict[str, Any]) -> None:
    assert "weights may not come from memory" in page(results)
    settings = {**results["settings"], "turn_bytes": run.STANDARD.turn_bytes}
    assert "1024 MiB of them, so that weights come from memory" in page(
        {**results, "settings": settings}
    )


def test_a_difference_is_called_one_only_when_it_is() -> None:
    ones = [1.0] * 20
    assert compare([0.9] * 20, ones)["verdict"] == "faster"
    assert compare([1.1] * 20, ones)["verdict"] == "slower"
    assert compare([0.9, 1.1] * 10, ones)["verdict"] == "no difference"
    assert compare([0.9] * 5, ones[:5])["verdict"] == "no verdict"  # too few to say


def test_runs_take_turns() -> None:
    order: list[str] = []
    seconds = alternate({name: lambda name=name: order.append(name) for name in "abc"}, 4)  # type: ignore[misc]
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys("abc", 4)
    rounds = [order[start : start + 3] for start in range(3, 15, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_no_time_without_the_right_answer() -> None:
    linear, compact = layers((16, 32), Structured(0.3, 0.1))
    refuse_different(linear, compact, torch.randn(4, 32))
    with torch.no_grad():
        compact.beside[0, 0] += 0.01
    with pytest.raises(RuntimeError, match="computes something else"):
        refuse_different(linear, compact, torch.randn(4, 32))
    with pytest.raises(RuntimeError, match="computes something else"):
        refuse_different(linear, nn.Linear(32, 16), torch.randn(4, 32))


def test_a_measurement_that_breaks_off_says_why(tmp_path: Path) -> None:
    broken = run._Process(tmp_path, 1, lambda *_: None)
    with pytest.raises(
        ChildProcessError, match=r"(?s)measuring nothing ended with status 1: .*KeyError"
    ):
        broken.run("nothing")
