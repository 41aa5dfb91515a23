"""Studies: their plans survive JSON, they resume after a stop, and stale records are made again."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from reference.patterns import Ablation
from tests.models import tiny
from verification.benchmarks import environment
from verification.benchmarks.quality import engine, records
from verification.benchmarks.quality.engine import Study, verified
from verification.benchmarks.quality.plan import Calibration, Evaluation, Run, dense_runs, label
from verification.benchmarks.quality.profiles import (
    HEADLINE,
    SWEEP,
    minutes_of,
    quick_study,
    standard_studies,
)
from verification.benchmarks.quality.records import Resources, RunRecords


def tiny_run(model: Path) -> Run:
    return Run("thanos", "2:4", Calibration("pydoc", 2, 32), Evaluation("pydoc", 32, 2), str(model))


def finish(run: Run, kept: RunRecords) -> None:
    """Write a record, as if the run had been made."""
    kept.write(run, {**run.as_dict(), records.ORIGIN: records.origin(run, kept.resources)})


def test_every_planned_run_survives_json_and_has_a_file_of_its_own() -> None:
    for study in (quick_study(), *standard_studies().values()):
        keys = [run.key for run in study.runs]
        assert len(set(keys)) == len(keys)
        for run in study.runs:
            assert Run.from_dict(json.loads(json.dumps(run.as_dict()))) == run
        assert study.minutes <= 90


def test_the_standard_profile_takes_ten_hours_at_most() -> None:
    studies = standard_studies().values()
    assert minutes_of(run for study in studies for run in study.runs) <= 600
    assert quick_study().minutes <= 15


def test_a_bar_never_goes_back() -> None:
    for run in (SWEEP, HEADLINE):
        told = [("decoder block 3", 0, 30), ("decoder block 30", 30, 30)]
        told += [(engine.EVALUATING, 1, 5), (engine.EVALUATING, 5, 5)]
        if run.evaluation.items:
            told += [(engine.TASKS, 1, 9), (engine.TASKS, 9, 9)]
        told += [(engine.FINISHED, 1, 1)]
        shares = [engine.share_done(run, *each) for each in told]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)


def test_one_dense_run_serves_all_draws_of_a_model() -> None:
    run = tiny_run(Path("a"))
    other_draw = replace(run, calibration=Calibration("c4", 64, 16, seed=3), damping=0.1)
    assert len(dense_runs([run, other_draw])) == 1
    assert len(dense_runs([run, replace(run, model="b")])) == 2
    assert dense_runs([run])[0].dense() == dense_runs([run])[0]


def test_labels_say_what_is_not_as_usual() -> None:
    run = tiny_run(Path("a"))
    assert label(run.what()) == "thanos"
    assert label(replace(run, refit_steps=10, damping=0.1).what()) == "thanos + refit, damping 0.1"
    changed = replace(run, pattern="2:4+outliers:0.1", ablation=Ablation(update="sequential"))
    assert label(changed.what()) == "thanos, outlier rows 0.1, update sequential"


def test_a_study_goes_on_where_it_or_another_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.save_checkpoint(tiny.random_model(tiny.llama_config()), tmp_path / "model")
    run = tiny_run(model)
    study = Study("tiny", "quick", "Does it go on?", 1, (run,))
    work = tmp_path / "work"
    begun: list[Run] = []

    def stop_at_pruning(begins: Run, note: str, done: int, of: int) -> None:
        begun.append(begins)
        if begins == run:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.measure(study.runs, work, stop_at_pruning, Resources(), jobs=1)
    assert set(begun) == {run.dense(), run}

    # Gram matrices are gone when a study ends: another one makes them again, and evaluates no more.
    (grams,) = work.glob("grams-*")
    shutil.rmtree(grams)
    notes: dict[Run, set[str]] = {}

    def measured() -> dict[str, Any]:
        notes.clear()
        return study.measure(
            work,
            lambda run, note, *_: notes.setdefault(run, set()).add(note),
            "test",
            Resources(),
        )

    results = measured()
    assert notes.keys() == {run.dense(), run}
    assert engine.EVALUATING in notes[run]
    assert engine.EVALUATING not in notes[run.dense()]
    dense, thanos = results["runs"]
    assert [dense["run"]["method"], thanos["run"]["method"]] == ["dense", "thanos"]
    assert verified(results)
    assert len(thanos["layers"]) == 21
    assert thanos["perplexity"] != dense["perplexity"]
    assert len(thanos["window_losses"]) == 2
    assert thanos["dense_error"] != thanos["error"]
    assert not list(work.glob("grams-*"))
    assert measured()["runs"] == results["runs"]
    only_told = {run.dense(): {engine.FINISHED}, run: {engine.FINISHED}}
    assert notes == only_told, "what is finished was made again"

    # Records of other code are made again.
    assert RunRecords(work, Resources()).finished(run)
    monkeypatch.setattr(records, "code_fingerprint", lambda: "other")
    assert not RunRecords(work, Resources()).finished(run)


def test_a_change_of_any_file_that_decides_numbers_changes_the_fingerprint(tmp_path: Path) -> None:
    for name in ("thanos_torch", "reference", "verification"):
        unneeded = shutil.ignore_patterns("__pycache__", "inputs", "expected", "pages")
        shutil.copytree(environment.ROOT / name, tmp_path / name, ignore=unneeded)
    package = tmp_path / "thanos_torch"
    files = [file for file in package.rglob("*.py") if package / "cli" not in file.parents]
    assert {file.relative_to(package).parts[0] for file in files} >= {
        folder.name for folder in package.iterdir() if folder.is_dir() and folder.name != "cli"
    }
    for name in ("certificate/updates.py", "thresholds.py", "benchmarks/quality/worker.py"):
        files.append(tmp_path / "verification" / name)
    before = records.code_fingerprint(tmp_path)
    for file in files:
        text = file.read_text(encoding="utf-8")
        file.write_text(text + "\n", encoding="utf-8")
        assert records.code_fingerprint(tmp_path) != before, file
        file.write_text(text, encoding="utf-8")
    (package / "cli" / "more.py").write_text("")
    assert records.code_fingerprint(tmp_path) == before == records.code_fingerprint()


def test_records_of_another_text_or_model_are_made_again(tmp_path: Path) -> None:
    text, model = (
        tmp_path / "data" / "mine" / "train.txt",
        tmp_path / "models" / "small" / "weights",
    )
    for file in (text, model):
        file.parent.mkdir(parents=True)
        file.write_text("one")
    run = Run("wanda", "2:4", Calibration("mine", 2, 32), Evaluation("mine", 32, 2), "small")
    there = Resources(tmp_path / "data", tmp_path / "models")
    finish(run, RunRecords(tmp_path, there))
    assert RunRecords(tmp_path, there).finished(run)
    assert not RunRecords(tmp_path, Resources(None, tmp_path / "models")).finished(run)
    for file in (text, model):
        file.write_text("two")
        records._content.cache_clear()
        assert not RunRecords(tmp_path, there).finished(run)
        with pytest.raises(RuntimeError, match="start again"):
            RunRecords(tmp_path, there).read(run)
        file.write_text("one")
        records._content.cache_clear()
        assert RunRecords(tmp_path, there).finished(run)


def test_the_end_of_a_failed_run_is_told(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "nowhere")
    with pytest.raises(ChildProcessError, match=r"run dense-\w+ broke off: .*nowhere"):
        engine.measure([run], tmp_path / "work", lambda *_: None, Resources())


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "it was killed, as Linux does where memory is short"),
        ("sys.exit(3)", "it ended with status 3 and said nothing"),
    ],
)
def test_a_run_that_ends_without_a_word_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, reason: str
) -> None:
    """A real process, which dies before it imports anything."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport os, sys\n{ending}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ChildProcessError, match=f"broke off: {reason}"):
        engine.measure([tiny_run(tmp_path)], tmp_path / "work", lambda *_: None, Resources())


def is_worker(process: psutil.Process) -> bool:
    try:
        return any(part.endswith("quality.worker") for part in process.cmdline())
    except psutil.NoSuchProcess:  # it ended meanwhile, or nobody has waited for it yet
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux")
def test_a_run_that_is_killed_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    config = tiny.llama_config(num_hidden_layers=12)  # else it may have ended when it is killed
    run = tiny_run(tiny.save_checkpoint(tiny.random_model(config), tmp_path / "model"))
    workers: set[psutil.Process] = set()

    def kill_at_pruning(begins: Run, *_: object) -> None:
        if begins == run:
            (worker,) = workers
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), signal.SIGKILL)
        else:
            workers.update(each for each in psutil.Process().children() if is_worker(each))

    with pytest.raises(ChildProcessError, match="it was killed"):
        engine.measure([run], tmp_path / "work", kill_at_pruning, Resources(), jobs=1)
    assert len(workers) == 1, "the dense run and the other one have one parent"
    assert not any(worker.is_running() for worker in workers)
    assert not list((tmp_path / "work").glob("*.err"))


def test_two_studies_at_once_in_one_folder_are_refused_and_the_rest_of_killed_ones_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".grams-dense-0.1234.partial"
    left.mkdir()
    (left / "a").write_text("half")

    def beside(run: Run, kept: RunRecords, *_: object, **__: object) -> None:
        assert not left.exists()
        with pytest.raises(ValueError, match=f"another run is at work in {tmp_path}"):
            engine.measure([run], tmp_path, lambda *_: None, Resources())
        finish(run, kept)

    monkeypatch.setattr(engine, "_run", beside)
    assert len(engine.measure([tiny_run(tmp_path)], tmp_path, lambda *_: None, Resources())) == 2


def test_runs_with_tasks_are_made_again_with_another_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path)
    with_tasks = replace(run, evaluation=replace(run.evaluation, items=2))
    before = [records.origin(each, Resources()) for each in (run, with_tasks)]
    monkeypatch.setattr(records, "_harness", lambda: {"lm_eval": "0"})
    after = [records.origin(each, Resources()) for each in (run, with_tasks)]
    assert [first == second for first, second in zip(before, after, strict=True)] == [True, False]


def test_a_folder_beside_the_texts_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c4").mkdir()
    (tmp_path / "c4" / "train.txt").write_text("one")
    before = records._content(str(tmp_path / "c4"))
    (tmp_path / "c4" / ".cache").mkdir()
    records._content.cache_clear()
    assert records._content(str(tmp_path / "c4")) == before


def test_the_commit_of_another_project_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.commit() == "unknown"


def test_refits_begin_first_and_the_records_keep_the_order_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_run(tmp_path)
    refit = replace(plain, refit_steps=10)
    begun: list[Run] = []

    def finish_at_once(run: Run, kept: RunRecords, *_: object, **__: object) -> None:
        begun.append(run)
        finish(run, kept)

    monkeypatch.setattr(engine, "_run", finish_at_once)
    found = engine.measure([plain, refit], tmp_path, lambda *_: None, Resources(), jobs=1)
    assert begun == [plain.dense(), refit, plain]
    assert [Run.from_dict(record) for record in found] == [plain.dense(), plain, refit]

    # Finished runs are taken as they are, whatever study is to have them.
    other = replace(plain, method="wanda")
    begun.clear()
    RunRecords(tmp_path, Resources()).grams(plain.dense()).mkdir()
    found = engine.measure([plain, other], tmp_path, lambda *_: None, Resources(), jobs=1)
    assert begun == [other]
    assert [Run.from_dict(record) for record in found] == [plain.dense(), plain, other]
