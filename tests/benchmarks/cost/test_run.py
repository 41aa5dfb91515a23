"""The whole path on a tiny plan: killed in between, gone on with, written, shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.benchmarks.cost.made import known, results, tiny
from thanos_torch.cli.app import app
from verification.benchmarks.pages.cost import COST
from verification.benchmarks.pages.studies import Results
from verification.benchmarks.performance import cases as plan
from verification.benchmarks.performance import cost
from verification.benchmarks.performance import measure as measuring

SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.benchmarks.cost.made import tiny
from verification.benchmarks.performance import cases as plan, cost

torch.set_num_threads(int(sys.argv[2]))
cost.PROFILES["quick"] = tiny
cost.run_cost(Path(sys.argv[1]), "quick", "test", lambda note, done, of: print(done, flush=True))
"""
KILLED_AT = 6


def run_until_killed(out: Path) -> list[Path]:
    """Begin the tiny plan in a process, kill that, and return the journal's entries."""
    command = [sys.executable, "-c", SCRIPT, str(out), str(torch.get_num_threads())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == str(KILLED_AT):
                process.kill()
                break
    return sorted(out.with_name(f"{out.name}.partial").glob("journal/*.json"))


@pytest.mark.long  # tests/benchmarks/test_studies.py kills a study in every run
def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "cost"
    kept = run_until_killed(out)
    done = len(kept)
    assert KILLED_AT <= done < len(tiny())
    assert not out.exists()
    before = [json.loads(file.read_text())["content"] for file in kept]

    honest, measured = measuring.measure, []

    def counting(cell: Any) -> dict[str, Any]:
        measured.append(cell)
        return honest(cell)

    monkeypatch.setattr(cost, "measure", counting)
    monkeypatch.setitem(plan.PROFILES, "quick", tiny)
    said = CliRunner().invoke(app, ["bench", "cost", "--quick", "--out", str(out)])
    assert measured == tiny()[done:], said.output
    stored = json.loads((out / "cost.json").read_text())
    assert not out.with_name("cost.partial").exists()
    layers = [layer for each in stored["runs"] for layer in each["layers"]]
    assert all(record in layers for record in before)
    assert len(layers) == 21

    page = (out / "cost.md").read_text()
    for table in COST.tables.values():
        assert table(Results(out)) in page
    assert (out / "cost.png").stat().st_size > 1000
    holds = all(kept for _, kept, _ in cost.promises(stored))
    assert said.exit_code == (0 if holds else 1), said.output
    assert "certificates" in said.output


def test_other_code_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plan.PROFILES, "quick", tiny)

    def stop(cell: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    def begin() -> None:
        cost.run_cost(tmp_path / "cost", "quick", "test", lambda note, done, of: None)

    with monkeypatch.context() as patch:
        patch.setattr(cost, "measure", stop)
        with pytest.raises(KeyboardInterrupt):
            begin()
        with pytest.raises(KeyboardInterrupt):  # the same run may go on
            begin()
    for name, value in (("code_fingerprint", lambda: "other"), ("INPUTS", "independent")):
        with monkeypatch.context() as patch:
            patch.setattr(cost, name, value)
            with pytest.raises(ValueError, match="holds an unfinished run that differs"):
                begin()


def test_the_stopwatch_is_where_its_fingerprint_looks() -> None:
    assert all(file.is_file() for file in cost._STOPWATCH)


@pytest.fixture(name="study", scope="module")
def made() -> dict[str, Any]:
    study = results(known())
    return {**study, "model": [], **cost.conclusions({**study, "model": []})}


def test_predictions_are_of_thanos_on_every_llama(study: dict[str, Any]) -> None:
    assert len(study["predictions"]) == 3 * 4
    assert {each["run"]["method"] for each in study["predictions"]} == {"thanos"}
    small, middle, large = (study["hours"][size]["all"] for size in ("8B", "70B", "405B"))
    assert 0 < small < middle < large
    for each in study["predictions"]:
        assert each["peak_with_certificates_bytes"] >= each["peak_bytes"] > 0


def test_ratios_are_of_the_largest_layers_that_both_have(study: dict[str, Any]) -> None:
    for each in study["runs"]:
        for layer in each["layers"]:
            own = each["run"]["method"] == "thanos"
            layer["seconds"] = (0.5 if layer["shape"] == [2048, 2048] else 2.0) if own else 1.0
            layer["repeats"] = [layer["seconds"], 1.5 * layer["seconds"]]
    found = cost.ratios(study)["semi"]
    assert found["layers"][0] == "4096 x 4096"
    assert len(found["layers"]) == cost.FEW
    assert found["seconds"] == {"least": 0.5, "median": 2.0, "greatest": 2.0}
    assert found["spread"] == pytest.approx(0.5)


@pytest.mark.parametrize("spoil", ["certificates", "steady machine", "model of"])
def test_each_promise_can_fail(study: dict[str, Any], spoil: str) -> None:
    study = json.loads(json.dumps(study))
    assert all(holds for _, holds, _ in cost.promises(study))
    if spoil == "certificates":
        study["runs"][0]["layers"][3]["passed"] = False
    elif spoil == "steady machine":
        study["unsteadiness"] = cost.unsteadiness([1.0] * 10 + [1.5] * 10)
    else:
        study["errors"]["pruning"]["worst"] = 60.0
    (failed,) = [what for what, holds, _ in cost.promises(study) if not holds]
    assert failed.startswith(spoil)
