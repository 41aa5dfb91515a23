"""Predicted and measured times of a GPU: counts, limits, and the script for a borrowed card."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import thanos_torch
from reference.patterns import SemiStructured, Unstructured
from tests.test_imports import ROOT
from thanos_torch.cli.app import app
from verification.benchmarks.pages.gpu import assumptions, layer_rows, measured_rows, model_rows
from verification.benchmarks.performance import counted, device_speed, gpu
from verification.benchmarks.performance.launches import counted as operations_of
from verification.benchmarks.performance.predict import LLAMAS
from verification.benchmarks.performance.published import published_thanos
from verification.benchmarks.performance.roofline import (
    CARDS,
    Card,
    Work,
    card_named,
    least_seconds,
    least_work,
)
from verification.benchmarks.performance.timing import random_layer

HALF, TWO = Unstructured(0.5), SemiStructured(2, 4)


def test_the_limits_are_those_of_a_card_of_60_teraflops_and_3_terabytes() -> None:
    card = Card("", 60e12, 60e12, 3e12, "")
    tasks = least_work("thanos", HALF, 4096, 4096)
    milliseconds = [round(1e3 * card.seconds(task), 1) for task in tasks.values()]
    assert milliseconds == [0.8, 1.1, 0.4, 1.1]
    assert 1e3 * least_seconds("thanos", HALF, 4096, 4096, card) == pytest.approx(3.4, abs=0.05)
    published = least_work("published sparsegpt", HALF, 4096, 4096)
    operations = sum((task.operations for task in published.values()), 0.0)
    assert operations == pytest.approx(1.6e11, rel=0.05)


def test_a_card_is_as_slow_as_its_slowest_part() -> None:
    card = Card("", 4.0, 2.0, 8.0, "")
    assert card.seconds(Work(float32=4, float64=4, bytes=8)) == 3
    assert card.seconds(Work(float32=4, bytes=80)) == 10
    with pytest.raises(ValueError, match="card must be one of H100 SXM, H200"):
        card_named("abacus")
    assert card_named("h200") in CARDS


@pytest.mark.triton
def test_counted_operations_are_those_of_the_formulas() -> None:
    rows, columns, B = 24, 64, 16
    found = operations_of("thanos", TWO, rows, columns, block_size=B).operations
    pushed = sum(each.work.float32 for each in found if each.name in ("addmm", "addmm_"))
    assert pushed == sum(2 * rows * B * (columns - j) for j in range(B, columns, B))
    (factor,) = [each.work.float64 for each in found if each.name == "linalg_cholesky_ex"]
    assert factor == pytest.approx(columns**3 / 3)
    shared = operations_of("thanos", TWO, rows, columns, block_size=B, shares_factor=True)
    assert "linalg_cholesky_ex" not in shared.counts
    assert shared.counts["joint_update"] == columns / B


@pytest.mark.triton
@pytest.mark.long
def test_a_whole_prediction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = replace(LLAMAS[0], hidden=16, intermediate=24, heads=4, key_heads=2, vocabulary=8)
    for name, value in (("SHAPES", ((16, 16),)), ("LLAMA", small), ("BLOCK", 8)):
        monkeypatch.setattr(counted, name, value)
    command = ["bench", "speed", "--device", "cuda", "--predict", "--card", "H200"]
    said = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert "PREDICTED, all 224 layers of Llama-3 8B" in said.output
    results = json.loads((tmp_path / counted.PREDICTED).read_text())
    assert [card["name"] for card in results["cards"]] == ["H200"]
    assert len([*layer_rows(results, "H200")]) == len(counted.CASES) == len([*model_rows(results)])
    assert "5 µs a launch" in assumptions(results)
    by_method = {(each["method"], each["pattern"]): each for each in results["models"]}
    ours, published = (by_method[name, "2:4"] for name in ("sparsegpt", "published sparsegpt"))
    assert ours["launches"] < published["launches"]


@pytest.mark.triton
@pytest.mark.parametrize(("method", "pattern"), counted.CASES[:4])
def test_the_recorded_prediction_is_what_is_counted(method: str, pattern: str) -> None:
    recorded = json.loads((ROOT / "docs" / "results" / "gpu" / "predicted.json").read_text())
    shape = (192, 576)
    (layer,) = [
        each
        for each in recorded["layers"]
        if (each["method"], each["pattern"], *each["shape"]) == (method, pattern, *shape)
    ]
    found = counted.count_layer(method, pattern, shape, CARDS)
    assert layer["launches"] == found.launches
    assert layer["seconds"] == pytest.approx(dict(found.seconds))


@pytest.mark.parametrize("pattern", [HALF, TWO], ids=str)
def test_the_published_thanos_loses_what_thanos_loses(pattern: Any) -> None:
    W, G = random_layer((40, 36), "correlated")
    theirs = published_thanos(W, G, pattern, block_size=16)
    ours = thanos_torch.thanos(W, G, pattern, block_size=16)
    assert torch.equal(theirs == 0, ours.mask)
    loss = thanos_torch.objective(W, G, theirs, damping=0.01)
    assert loss == pytest.approx(float(ours.block_losses.sum()), rel=1e-4)


@pytest.fixture(scope="module")
def measured() -> Mapping[str, Any]:
    """Layers of a CPU; what is right is judged, times mean nothing."""
    saved: list[int] = []
    results = device_speed.measure_layers(
        "cpu",
        ((16, 16),),
        "test",
        lambda *_: None,
        lambda found: saved.append(len(found["layers"])),
        yardstick=32,
    )
    count = len(device_speed.CASES)
    assert saved == [*range(1, count + 1), *[count] * count]
    return results


def test_layers_are_timed_and_judged(measured: Mapping[str, Any]) -> None:
    for each in measured["layers"]:
        published = each["method"] in device_speed.PUBLISHED
        assert each["seconds"] > 0
        assert each["limit"] > 0
        # The published SparseGPT removes a weight more, which matters in so small a layer.
        assert each["right"] or each["method"] == "published sparsegpt"
        assert (each["certificate_seconds"] is None) == published
    rows = [*measured_rows(measured)]
    unsure = {"layers": [{**measured["layers"][0], "right": None}]}
    assert rows[0][3] != "not certified"
    assert next(measured_rows(unsure))[3] == "not certified"


def made(**changes: Any) -> dict[str, Any]:
    """Results of one shape that keep every promise, with changes to the times of Thanos."""
    usual = {"pattern": "2:4", "shape": [4096, 4096], "limit": 1.0, "right": True}
    seconds = {"thanos": 4.0, "sparsegpt": 4.5, "published sparsegpt": 9.0}
    layers = [
        {**usual, "method": method, "seconds": each, "certificate_seconds": 11.0}
        for method, each in seconds.items()
    ]
    layers[0].update(changes)
    return {"layers": layers}


@pytest.mark.parametrize(
    ("broken", "changes"),
    [
        ([], {}),
        (["the card's limit"], {"limit": 0.7}),
        (["half of the published SparseGPT", "our SparseGPT"], {"seconds": 4.6}),
        (["certificates"], {"certificate_seconds": 13.0}),
        (["right results"], {"right": None}),
        (["right results"], {"right": False}),
    ],
)
def test_every_promise_can_fail(broken: list[str], changes: dict[str, Any]) -> None:
    found = device_speed.promises(made(**changes))
    assert [what for what, holds, _ in found if not holds] == broken


def test_nothing_measured_keeps_no_promise() -> None:
    found = device_speed.promises({"layers": []})
    assert not any(holds for what, holds, _ in found if what != "right results")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict"], "predict and card are for --device cuda"),
        (["--device", "cuda", "--card", "H200"], "card is for --predict"),
        (["--device", "cuda", "--predict", "--card", "x"], "card must be one of"),
        (["--device", "xpu"], "device must be cpu or cuda"),
    ],
)
def test_refusals_of_the_command(arguments: list[str], message: str) -> None:
    said = CliRunner().invoke(app, ["bench", "speed", *arguments])
    assert message in str(said.exception)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a card")
def test_the_script_wants_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "torch finds no CUDA device: nothing is measured\n"


def test_parts_of_the_script_save_what_they_measured(tmp_path: Path) -> None:
    for part in ("layers", "block"):
        run, _ = gpu.PARTS[part]
        run(gpu.Job(part, "cpu", tmp_path, 60.0))
    block = json.loads((tmp_path / "block.json").read_text())
    assert [run["pattern"] for run in block["runs"]] == ["unstructured:0.5", "2:4"]
    assert all(run["certified"] and len(run["layers"]) == 7 for run in block["runs"])
    layers = json.loads((tmp_path / "layers.json").read_text())
    assert len(layers["layers"]) == 2 * len(device_speed.CASES)
    assert layers["environment"]["machine"]


def test_a_part_that_takes_too_long_is_ended_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "PARTS", {name: gpu.PARTS[name] for name in ("block", "model")})
    summary = gpu.run_parts(0.2 / 60, "cpu", tmp_path)
    statuses = [part["status"] for part in summary["parts"].values()]
    assert all(status.startswith("out of time after 0 seconds") for status in statuses)
    assert json.loads((tmp_path / gpu.SUMMARY).read_text())["parts"] == summary["parts"]
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.long
@pytest.mark.triton
def test_a_rehearsal_of_the_whole_script(tmp_path: Path) -> None:
    """All parts in processes of their own: the model's too, and the interpreter's kernels."""
    assert gpu.main(["--device", "cpu", "--minutes", "20", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / gpu.SUMMARY).read_text())
    assert {part["status"] for part in summary["parts"].values()} == {"done"}
    assert {each.stem for each in tmp_path.iterdir()} == {"gpu", *gpu.PARTS}
    kernels = json.loads((tmp_path / "kernels.json").read_text())
    assert all(each["same_mask"] for each in kernels["layers"])


@pytest.mark.long
def test_a_failed_part_is_one_line(tmp_path: Path) -> None:
    """No part is for a machine without a card: its process says so."""
    if torch.cuda.is_available():
        pytest.skip("of machines without a card")
    status = gpu.run_part(gpu.Job("layers", "cuda", tmp_path, 60.0))
    assert status == "failed: torch finds no CUDA device: nothing is measured"
