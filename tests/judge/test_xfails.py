"""Expected failures run, are counted apart, and are reported when they begin to pass."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference
from verification.conformance import load_cases
from verification.conformance.callables import PythonFunction, load_callable
from verification.conformance.command import main
from verification.fresh import fresh_ids, possible_ids

FEW = ["--method", "magnitude", "--only", "magnitude-float64-03", "--seed", "1"]  # three patterns
NM = "magnitude-float64-03-nm"


def right(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    pruned = reference.magnitude(weight, gram, reference.parse_pattern(pattern))
    return pruned.weight, pruned.mask


def wrong_groups(weight: Any, gram: Any, pattern: str, *rest: Any) -> Any:
    """Wrong for n:m alone."""
    pruned, mask = right(weight, gram, pattern, *rest)
    return (np.where(mask, -0.0, pruned) if ":" in pattern[:3] else pruned), mask


def nothing(*call: Any) -> Any:
    raise RuntimeError("never")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own for every function would take most of the time."""

    def function(name: str, method: str, timeout: float) -> PythonFunction:
        return PythonFunction(load_callable(name), method, name)

    monkeypatch.setattr("verification.conformance.command.python_function", function)


@pytest.fixture
def judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Judges a function of this module with a list; returns the status, the report and the JSON."""

    def run(function: Any, text: str, *more: str) -> tuple[int, str, Any]:
        file, report = tmp_path / "known.txt", tmp_path / "report.json"
        file.write_text(text)
        name = f"{__name__}:{function.__name__}"
        status = main([name, *FEW, "--xfails", str(file), "--json", str(report), *more])
        return status, capsys.readouterr().out, json.loads(report.read_text())

    return run


@pytest.mark.parametrize("entry", [NM, "*-nm", "magnitude-float64-??-n*", f"  {NM} # why\r"])
def test_an_expected_failure_does_not_fail_the_run(entry: str, judged: Any) -> None:
    status, text, report = judged(wrong_groups, f"# zeros, issue 7\n\n{entry}\n")
    assert status == 0
    assert "3 cases: 2 passed, 0 failed, 0 not supported" in text
    assert re.search(r"\n  1 expected failures, listed in .*known\.txt\n", text)
    assert "What failed" not in text
    assert "explanations" not in text
    assert text.endswith("\nPASSED, with 1 expected failures\n")
    assert report["passed"] is True
    assert report["counts"]["expected failures"] == 1
    assert report["xfails"]["failed"] == [NM]
    assert report["xfails"]["passed"] == report["failures"] == report["explanations"] == []


def test_another_failure_still_fails_the_run(judged: Any) -> None:
    status, text, report = judged(wrong_groups, "magnitude-float64-03-structured")
    assert status == 1
    assert text.endswith("\nFAILED\n")
    assert [failure["case"] for failure in report["failures"]] == [NM]
    assert report["counts"]["expected failures"] == 0


def test_what_begins_to_pass_is_reported_and_changes_no_status(judged: Any) -> None:
    listed = f"{NM}\nmagnitude-float64-03-*\n"
    status, text, report = judged(right, listed)
    assert status == 0
    assert "Begin to pass: remove them from " in text
    assert f"  line 1, {NM}: 1 of 1 cases passed\n" in text
    assert "  line 2, magnitude-float64-03-*: 3 of 3 cases passed\n" in text
    assert text.endswith("\nPASSED\n")
    assert len(report["xfails"]["passed"]) == 3
    status, text, report = judged(wrong_groups, listed)
    assert status == 0
    assert "line 1," not in text
    assert "  line 2, magnitude-float64-03-*: 2 of 3 cases passed\n" in text
    assert len(report["xfails"]["passed"]) == 2


def test_markdown_counts_them_and_lists_what_begins_to_pass(judged: Any) -> None:
    listed = f"{NM}\nmagnitude-float64-03-structured"
    status, text, _ = judged(wrong_groups, listed, "--format", "markdown")
    assert status == 0
    assert re.match(r"## thanos verify: .* passed, with 1 expected failures\n", text)
    assert "| passed | failed | expected failures | not decidable | not supported |" in text
    assert "| magnitude | n:m | 0 | 0 | 1 | 0 | 0 |" in text
    assert "begin to pass" in text
    assert "| 2 | magnitude-float64-03-structured | 1 of 1 |" in text


def test_a_run_without_a_pass_has_not_passed(judged: Any) -> None:
    status, text, report = judged(nothing, "*")
    assert status == 1
    assert text.endswith("\nFAILED: no case passed\n")
    assert report["passed"] is False


def test_what_is_not_supported_stays_so(judged: Any) -> None:
    status, text, report = judged(only_columns, f"{NM}\n")
    assert status == 0
    assert "1 passed, 0 failed, 2 not supported" in text
    assert "Begin to pass" not in text
    assert report["xfails"]["failed"] == report["xfails"]["passed"] == []


def only_columns(*call: Any) -> Any:
    return right(*call)


only_columns.patterns = ["structured"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("entry", ["# nothing", "", "wanda-float32-03-nm", "refusal-damping-0",
                                   "fresh-thanos-*", f"moved-{NM}"])  # fmt: skip
def test_entries_of_cases_that_are_not_selected_are_fine(entry: str, judged: Any) -> None:
    assert judged(right, entry)[0] == 0


@pytest.mark.parametrize("entry", ["magnitude-float64-03", "MAGNITUDE-*", f"{NM} {NM}", "moved-no"])
def test_an_entry_that_names_no_case_is_an_error(
    entry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "known.txt"
    file.write_text(f"# comment\n{NM}\n{entry}  # gone\n")
    assert main([f"{__name__}:right", *FEW, "--xfails", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"none is called {entry!r}: {file}, line 3" in said


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "UTF-8"), (None, "directory")])
def test_what_is_no_list_is_an_error(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "known.txt"
    assert main(["reference", "--xfails", str(file)]) == 2
    assert f"xfails cannot be read: [Errno 2] No such file or directory: {str(file)!r}" in (
        capsys.readouterr().err
    )
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert main(["reference", "--xfails", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert str(file) in error


def test_all_ids_of_any_seed_are_possible() -> None:
    possible = possible_ids()
    for seed in (1, 2):
        assert possible.issuperset(fresh_ids(seed))
    assert not possible.intersection(case.id for case in load_cases())
