"""The inference benchmark: its statistics, its smallest run, and the page made from the data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from tests.models.checkpoint.packs import ROWS, pruned
from thanos_torch.pruning.plan import METHODS
from verification.benchmarks.inference import measure as process
from verification.benchmarks.inference import plots, run
from verification.benchmarks.inference.measure import (
    alternate,
    compare,
    layers,
    refuse_different,
    verdict,
)
from verification.benchmarks.inference.plots import draw_inference, draw_sizes
from verification.benchmarks.pages.inference import answers, page
from verification.benchmarks.pages.size import page as size_page
from verification.benchmarks.pages.size import rows

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

    def __init__(self, work: Path, threads: int, progress: object) -> None:
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
    draw_inference(again, tmp_path / "plot.png")
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
    assert "prefill takes 0.90 to 1.00 and decoding takes 0.90 to 1.00 times" in said
    first = results["runs"][0]["run"]["pattern"]
    assert f"dense time in {first}, 2:4, 4:8: not shown to differ; weights take " in said


def test_small_turns_are_not_said_to_come_from_memory(results: dict[str, Any]) -> None:
    assert "weights may not come from memory" in page(results)
    settings = {**results["settings"], "turn_bytes": run.STANDARD.turn_bytes}
    assert "1024 MiB of them, so that weights come from memory" in page(
        {**results, "settings": settings}
    )


def test_a_difference_is_called_one_only_when_it_is() -> None:
    ones = [1.0] * 20
    assert verdict(compare([0.9] * 20, ones)) == "faster"
    assert verdict(compare([1.1] * 20, ones)) == "slower"
    assert verdict(compare([0.9, 1.1] * 10, ones)) == "not shown to differ"
    assert verdict(compare([0.9] * 5, ones[:5])) == "not shown to differ"  # too few to say


def test_what_a_file_calls_a_difference_is_not_repeated(results: dict[str, Any]) -> None:
    """Older files hold verdicts in words of their own."""
    known = with_decoding(results, [0.9, 1.1] * 10)
    for each in (*known["layers"], known["runs"][1]["latency"]["decode"]):
        each["ratio"]["verdict"] = "no difference"
    assert "no difference" not in page(known) + size_page(known)


@pytest.mark.parametrize(
    ("times", "median", "interval", "said"),
    [
        ([0.8] * 20, "0.80", "0.80 to 0.80", "faster"),
        ([1.2] * 20, "1.20", "1.20 to 1.20", "slower"),
        ([0.9, 1.1] * 10, "1.00", "0.90 to 1.10", "not shown to differ"),
        ([0.8] * 5, "0.80", "too few repeats", "not shown to differ"),
    ],
)
def test_a_time_is_said_with_its_interval_and_verdict(
    results: dict[str, Any], times: list[float], median: str, interval: str, said: str
) -> None:
    known = with_decoding(results, times)
    sentence = f"decoding takes {median} times the dense time ({interval}): {said}"
    assert f"; {sentence}; weights take" in page(known)
    assert f"(1.00 to 1.00): not shown to differ; {sentence}.\n" in page(known)  # the control
    assert f"and {sentence}.\n" in size_page(known)
    compact = next(row for row in rows(known) if row[1] == "compact")
    assert compact[-1] == f"{median} ({said})"


def with_decoding(results: dict[str, Any], times: list[float]) -> dict[str, Any]:
    """The same, where the compact model and the control decode in these shares of dense times."""
    known: dict[str, Any] = json.loads(json.dumps(results))
    ratio = compare(times, [1.0] * len(times))
    known["runs"][1]["latency"]["decode"]["ratio"] = ratio
    known["control"] = {
        "prefill": {"ratio": compare([1.0] * 20, [1.0] * 20)},
        "decode": {"ratio": ratio},
    }
    return known


def test_the_plot_shows_the_intervals_of_the_tables(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = with_decoding(results, [0.7, 0.9, 1.0, 1.1, 1.3] * 4)
    known["layers"][0]["ratio"] = compare([0.5, 0.7, 0.8, 0.9, 1.5] * 4, [1.0] * 20)
    known["layers"][1]["ratio"] = compare([0.5] * 5, [1.0] * 5)  # too few for an interval
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, _: figures.append(figure))
    draw_inference(known, Path("unused"))
    plt.close(figures[0])
    single, whole = figures[0].axes
    assert bars(single, 1) == [known["layers"][0]["ratio"]["interval"]]
    assert known["runs"][1]["latency"]["decode"]["ratio"]["interval"] in bars(whole, 0)
    assert "95 % interval" in single.get_ylabel()
    assert "95 % interval" in whole.get_xlabel()


def bars(axes: Any, direction: int) -> list[Any]:
    """From where to where the error bars reach, along x (0) or y (1)."""
    segments = [each for lines in axes.collections for each in lines.get_segments() if len(each)]
    return [pytest.approx(each[:, direction].tolist()) for each in segments]


@pytest.mark.parametrize("pattern", [Unstructured(0.3), SemiStructured(2, 4), Structured(0.3)])
def test_only_wanda_unstructured_removes_another_number(
    results: dict[str, Any], pattern: Pattern
) -> None:
    """As the page on bytes says of files and methods."""
    gram = torch.eye(16) + 0.1
    weight = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    removed = {
        name: int(prune(weight, gram, pattern).mask.sum()) for name, prune in METHODS.items()
    }
    wanda = removed.pop("wanda")
    others = set(removed.values())
    assert len(others) == 1
    if isinstance(pattern, Unstructured):
        assert wanda < others.pop()
    else:
        assert {wanda} == others
    assert "except Wanda in\n  unstructured pruning" in size_page(results)


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
