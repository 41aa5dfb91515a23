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
from verification.benchmarks.pages.cost import page, verdicts
from verification.benchmarks.pages.cost_between import between_methods
from verification.benchmarks.pages.cost_sections import growth, hours, needed
from verification.benchmarks.pages.cost_stages import by_size, stages
from verification.benchmarks.performance import cases as plan
from verification.benchmarks.performance import cost
from verification.benchmarks.performance import measure as measuring
from verification.benchmarks.performance.growth import last_step, sides

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


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "cost"
    kept = run_until_killed(out)
    done = len(kept)
    assert KILLED_AT <= done < len(tiny())
    assert not out.exists()
    before = [json.loads(file.read_text()) for file in kept]

    honest, measured = measuring.measure, []

    def counting(cell: Any) -> dict[str, Any]:
        measured.append(cell)
        return honest(cell)

    monkeypatch.setattr(cost, "measure", counting)
    monkeypatch.setattr(cost, "slowed", lambda yardsticks: [])
    monkeypatch.setitem(plan.PROFILES, "quick", tiny)
    said = CliRunner().invoke(app, ["bench", "cost", "--quick", "--out", str(out)])
    assert measured == tiny()[done:], said.output
    stored = json.loads((out / "cost.json").read_text())
    assert not out.with_name("cost.partial").exists()
    assert {*before[0]} <= {*stored["peak"][0]}
    assert stored["peak"][0]["operations_per_second"] == before[0]["operations_per_second"]
    layers = [layer for each in stored["runs"] for layer in each["layers"]]
    assert all(record in layers for record in before[1:])
    assert len(layers) == 15

    assert (out / "cost.md").read_text() == page(stored)
    for name in ("time", "stages", "growth", "memory"):
        assert (out / f"{name}.png").stat().st_size > 1000
    holds = all(kept for _, kept, _ in verdicts(stored))
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


def test_the_page_says_what_the_file_says() -> None:
    study = results(known())
    study |= cost.conclusions(study)
    stored = json.loads(json.dumps(study, allow_nan=False))
    shown = page(stored)
    assert shown == page(study)
    assert all(holds for _, holds, _ in verdicts(stored))
    assert "do NOT hold" not in shown
    assert len(stored["predictions"]) == 3 * (13 + 2)
    for each in stored["predictions"]:
        assert f"| {hours(needed(each['seconds']))} |" in shown
    for line in stored["growth"]:
        for side in sides(line):
            step = f"{last_step(side):.2f} (from {side['values'][-2]})"
            assert f"| {side['time']:.2f} | {step} |" in shown
    for section in (between_methods(stored), stages(stored), by_size(stored), growth(stored)):
        assert "\n".join(section) in shown
    stored["wall_seconds"] *= 2
    assert page(stored) != shown


def test_the_stopwatch_is_where_its_fingerprint_looks() -> None:
    assert all(file.is_file() for file in cost._STOPWATCH)


def test_a_model_that_fails_is_not_called_checked() -> None:
    study = results(known(), held_out_factor=3.0)
    study |= cost.conclusions(study)
    failed = [what for what, kept, _ in verdicts(study) if not kept]
    assert failed
    assert f"promises, {len(failed)} do NOT hold**: {'; '.join(failed)}." in page(study)


def test_what_a_slow_machine_adds_is_no_error_of_the_model() -> None:
    study = results(known())
    usual = cost.conclusions(study)
    told = _times_told(page({**study, **usual}))
    layers = [layer for each in study["runs"] for layer in each["layers"]]
    for number, each in enumerate((*layers, *study["gram"], *study["pass"])):
        if number % 3 == 0:  # a third of the cells; the median stays where it was
            # Twice as long, exactly: times that are told do not round to another digit.
            each["yardstick_seconds"] *= 2.0
            for name in {"seconds", "certificate_seconds"} & each.keys():
                each[name] *= 2.0
            if "stages" in each:
                each["stages"] = {name: 2.0 * spent for name, spent in each["stages"].items()}
    slow = cost.conclusions(study)
    assert _times_told(page({**study, **slow})) == told
    for quantity, found in slow["errors"].items():
        assert found["held out"]["worst"] == pytest.approx(
            usual["errors"][quantity]["held out"]["worst"], abs=1e-6
        )


def _times_told(text: str) -> tuple[str, str]:
    """Methods against each other and predictions, stages and growth: not the errors, all 0 here."""
    answer, _, rest = text.partition("- yes:")
    stages, _, _ = rest.partition("## Where the time goes")[2].partition("## How good")
    assert "times the seconds of SparseGPT" in answer
    assert "Gram matrix" in stages
    return answer, stages


def test_methods_are_held_against_each_other_on_large_layers_that_both_have() -> None:
    study = results(known())
    study |= cost.conclusions(study)
    for each in study["runs"]:
        for layer in each["layers"]:
            layer["seconds"] = 1.0
            if each["run"]["method"] == "thanos" and each["run"]["block_size"] == 128:
                refit = 8.0 if each["run"]["refit_steps"] else 1.0
                layer["seconds"] = refit * (0.5 if layer["shape"] == [2048, 2048] else 2.0)
    text = page(study)
    assert "- **2:4**: 0.50 to 2.00 times the seconds of SparseGPT, " in text
    assert "- **unstructured:0.5, refit**: 8.00 times the seconds of plain Thanos, " in text
    alone = [each for each in study["runs"] if each["run"]["method"] != "sparsegpt"]
    assert "times the seconds of SparseGPT" not in page({**study, "runs": alone})


@pytest.mark.parametrize("spoil", ["certificate", "steadiness"])
def test_other_verdicts_fail_too(spoil: str) -> None:
    study = results(known())
    if spoil == "certificate":
        study["runs"][0]["layers"][3]["passed"] = False
    else:
        study["yardstick_seconds"] = [1.0] * 10 + [1.5] * 10
    study |= cost.conclusions(study)
    failed = [what for what, holds, _ in verdicts(study) if not holds]
    assert failed == [{"certificate": "certificates", "steadiness": "steady machine"}[spoil]]
