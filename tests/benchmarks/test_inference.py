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
from verification.benchmarks.inference import run
from verification.benchmarks.inference.measure import (
    alternate,
    compare,
    layers,
    refuse_different,
    verdict,
)
from verification.benchmarks.inference.plots import draw_inference
from verification.benchmarks.pages.build import write_fresh
from verification.benchmarks.pages.inference import byte_rows, model_rows, size_rows

TINY = replace(
    run.QUICK,
    prompt=8,
    tokens=3,
    rounds=6,
    shapes=((96, 64),),
    layer_rounds={"1": 6, "4": 6},
    turn_bytes=100_000,
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


def test_the_tables_and_pictures_need_nothing_but_the_data(
    results: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "inference.json").write_text(json.dumps(results, allow_nan=False))
    write_fresh(tmp_path, tmp_path / "pages")
    for name in ("inference", "size"):
        text = (tmp_path / "pages" / f"{name}.md").read_text()
        assert results["commit"] in text
        assert results["machine"] in text
        assert (tmp_path / "pages" / f"{name}.png").stat().st_size > 5_000


def test_sizes_of_forms_that_were_written_have_their_folder(results: dict[str, Any]) -> None:
    by_form = {row[1]: row for row in size_rows(results)}
    assert set(by_form) == {"zeros in place", "compact", "bitmask"}
    assert by_form["zeros in place"][2:4] == ["100.0%", "100.0%"]
    disk = results["runs"][1]["sizes"]["disk"]
    dense = disk["total"][0] - disk["masks"][0]  # an ordinary checkpoint has no masks
    assert disk["masks"][0] > 0
    assert by_form["zeros in place"][4] == f"{dense / 1e6:.0f}"
    assert by_form["compact"][4] == f"{disk['total'][1] / 1e6:.0f}"
    assert by_form["bitmask"][4:] == ["", "unpacked"]
    exact = {row[1]: row for row in byte_rows(results)}
    assert exact["compact"][2] == exact["compact"][3] == f"{disk['pruned'][1]:,}"


def test_a_difference_is_called_one_only_when_it_is() -> None:
    ones = [1.0] * 20
    assert verdict(compare([0.9] * 20, ones)) == "faster"
    assert verdict(compare([1.1] * 20, ones)) == "slower"
    assert verdict(compare([0.9, 1.1] * 10, ones)) == "not shown to differ"
    assert verdict(compare([0.9] * 5, ones[:5])) == "not shown to differ"  # too few to say


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([0.8] * 20, "0.80 (0.80 to 0.80)"),
        ([0.9, 1.1] * 10, "1.00 (0.90 to 1.10)"),
        ([0.8] * 5, "0.80"),  # too few repeats for an interval
    ],
)
def test_a_time_is_shown_with_its_interval(
    results: dict[str, Any], times: list[float], said: str
) -> None:
    *_, compact = model_rows(with_decoding(results, times))
    assert compact[5] == said


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


def test_the_plot_shows_the_intervals_of_the_tables(results: dict[str, Any]) -> None:
    known = with_decoding(results, [0.7, 0.9, 1.0, 1.1, 1.3] * 4)
    known["layers"][0]["ratio"] = compare([0.5, 0.7, 0.8, 0.9, 1.5] * 4, [1.0] * 20)
    known["layers"][1]["ratio"] = compare([0.5] * 5, [1.0] * 5)  # too few for an interval
    figure = draw_inference(known)
    plt.close(figure)
    single, whole = figure.axes
    assert bars(single, 1) == [known["layers"][0]["ratio"]["interval"]]
    assert known["runs"][1]["latency"]["decode"]["ratio"]["interval"] in bars(whole, 0)
    assert "95 % interval" in single.get_ylabel()
    assert "95 % interval" in whole.get_xlabel()


def bars(axes: Any, direction: int) -> list[Any]:
    """From where to where the error bars reach, along x (0) or y (1)."""
    segments = [each for lines in axes.collections for each in lines.get_segments() if len(each)]
    return [pytest.approx(each[:, direction].tolist()) for each in segments]


@pytest.mark.parametrize("pattern", [Unstructured(0.3), SemiStructured(2, 4), Structured(0.3)])
def test_only_wanda_unstructured_removes_another_number(pattern: Pattern) -> None:
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
