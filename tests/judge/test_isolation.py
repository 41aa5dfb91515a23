"""A Python function gets no answers, and whatever it does fails its own case and no other."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.judge import cheats
from verification.conformance import Case, Failed, Output, judge, load_case
from verification.conformance.command import main
from verification.conformance.isolated import IsolatedFunction, python_function
from verification.conformance.made import made_case
from verification.conformance.supervised import Limits
from verification.conformance.verify import verify

HERE = "tests.judge.cheats"
CASE = "thanos-float64-13-unstructured"


KNOWN = load_case(CASE)


def numbered(name: str, names: Iterable[str] = cheats.NAMES) -> Case:
    """A case whose damping tells `cheats.by_number` what to do."""
    number = float(list(names).index(name) + 1)
    return made_case(KNOWN.weight, KNOWN.gram, KNOWN.pattern, block_size=8, damping=number)


def right() -> Case:
    return made_case(KNOWN.weight, KNOWN.gram, KNOWN.pattern, block_size=8, damping=0.5)


@pytest.fixture(scope="module")
def function() -> Iterator[IsolatedFunction]:
    made = python_function(f"{HERE}:by_number", "thanos", 0.5)
    assert isinstance(made, IsolatedFunction)
    yield made
    made.close()


@pytest.mark.parametrize("name", cheats.ODD)
def test_an_odd_answer_fails_and_the_judge_says_what_it_got(
    name: str, function: IsolatedFunction
) -> None:
    answer = function.answer(numbered(name))
    assert isinstance(answer, Failed), answer
    assert cheats.ODD[name][1] in answer.message
    assert len(answer.message) < 1000
    assert isinstance(function.answer(right()), Output)


@pytest.mark.long
def test_tensors_are_taken_if_numpy_can_read_them() -> None:
    made = python_function(f"{HERE}:tensors_by_number", "thanos", 60.0)
    for name, (_, said) in cheats.TENSORS.items():
        answer = made.answer(numbered(name, cheats.TENSORS))
        assert isinstance(answer, Failed if said else Output), name
        assert said in str(answer)
    made.close()


@pytest.mark.parametrize("name", cheats.FINE)
def test_other_kinds_of_arrays_are_taken(name: str, function: IsolatedFunction) -> None:
    answer = function.answer(numbered(name))
    assert isinstance(answer, Output), answer
    assert type(answer.weight) is np.ndarray
    assert answer.weight.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exits", "the process ended: exit status 0"),
        ("hangs", "no end after 0.5 seconds"),
        *(
            pytest.param(name, said, marks=pytest.mark.long)
            for name, said in (
                ("kills itself", "ended by SIGKILL"),
                ("crashes", "ended by SIGSEGV"),
                ("floods", "no end after 0.5 seconds"),
                ("closes everything", "ended"),
                ("ends the supervisor", "ended"),
                ("stops", "no end after 0.5 seconds"),
                ("stops the supervisor", "no end after 0.5 seconds"),
            )
        ),
    ],
)
def test_a_process_that_ends_or_hangs_fails_one_case(
    name: str, said: str, function: IsolatedFunction
) -> None:
    report = verify(function, [right(), numbered(name), right()], seed=0)
    assert report.counts["passed"] == 2
    (failure,) = report.failures
    (check,) = failure.verdict.failures
    assert check.name == "output"
    assert said in check.note


@pytest.mark.parametrize("name", ["peeking", pytest.param("patching", marks=pytest.mark.long)])
def test_no_answer_is_to_be_found(name: str) -> None:
    made = python_function(f"{HERE}:{name}", "thanos")
    report = verify(made, [KNOWN, load_case("thanos-float64-04-unstructured")], seed=0)
    made.close()
    assert report.counts["failed"] == 2
    assert not report.passed
    assert {"updates", "vector weights"} & {c.name for c in report.failures[0].verdict.failures}


def test_processes_in_other_sessions_end_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / "pid"
    monkeypatch.setenv("THANOS_TEST_PID", str(pid))
    made = python_function(f"{HERE}:leaving_a_process", "thanos")
    assert judge(KNOWN, made).passed
    deadline = time.monotonic() + 5
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.long
def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    from verification.conformance import isolated

    limits = Limits(memory=2**30)
    monkeypatch.setattr(isolated, "Limits", lambda: limits)
    made = python_function(f"{HERE}:hoarding", "thanos")
    answer = made.answer(KNOWN)
    made.close()
    assert isinstance(answer, Failed)
    assert "it used more than 1 GiB of memory" in answer.message


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os._exit(3)", "the process ended: exit status 3"),
        *(
            pytest.param(source, said, marks=pytest.mark.long)
            for source, said in (
                ("raise RuntimeError('line\\nline')", "cannot be imported: line line"),
                ("raise SystemExit(0)", "cannot be imported"),
                ("1 +", "invalid syntax"),
                ("def __getattr__(name): raise OSError(name)", "OSError"),
                ("prune = 7", "is no function but int"),
                ("import time; time.sleep(60)", "no end after 1 seconds"),
            )
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported_in_one_line(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    limit = 1.0 if "sleep" in source else 30.0
    monkeypatch.setattr("verification.conformance.isolated.IMPORT_TIMEOUT", limit)
    (tmp_path / "spoiled_module.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert main(["spoiled_module:prune"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert said in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.long
def test_the_module_is_found_in_the_working_folder_but_hides_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reference.py").write_text("raise RuntimeError")
    (tmp_path / "mine.py").write_text("def prune(*_): raise ValueError('here')")
    monkeypatch.chdir(tmp_path)
    made = python_function("mine:prune", "thanos")
    answer = made.answer(KNOWN)
    made.close()
    assert "here" in str(answer)
