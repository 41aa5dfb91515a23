"""`pytest --thanos-impl`: its tests, its messages, and that every property can fail."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.judge.wrong import WRONG
from verification.conformance import Output
from verification.conformance.builtin import reference
from verification.conformance.callables import PythonFunction
from verification.plugin.broken import Broken
from verification.plugin.properties import PROFILES, Properties

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "conformance"
NOTHING_RAN, WRONG_OPTION = 5, 4


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does, in a folder without tests of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_the_reference_passes_everything_in_less_than_a_minute(tmp_path: Path) -> None:
    start = time.monotonic()
    done = run(tmp_path, "--thanos-impl", "reference")
    took = time.monotonic() - start
    assert done.returncode == 0, done.stdout
    assert "thanos: reference judged for thanos, magnitude, wanda, sparsegpt" in done.stdout
    assert "profile quick with 20 examples" in done.stdout
    assert re.search(r"\n=+ 238 passed in ", done.stdout)  # none skipped
    assert took < 60


@pytest.mark.long
def test_the_fast_version_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "--thanos-impl", "torch", "-k", "certificate and n:m and float32")
    assert done.returncode == 0, done.stdout


def test_a_failure_is_explained_and_its_lines_show_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = run(EXAMPLES, "--thanos-impl", "mine:prune")
    assert done.returncode == 1
    assert "likeliest: mask-of-original-weights, (3), (4)" in done.stdout
    assert re.search(r"SKIPPED \[\d+\] .*not supported: dtype float32", done.stdout)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    shown = re.findall(r"to see it again:\n((?:  .*\n)+)", done.stdout)
    assert len(shown) > 5
    for lines in shown:
        names: dict[str, Any] = {}
        exec(re.sub("^  ", "", lines, flags=re.M), names)
        right = reference(
            names["case"].weight,
            names["case"].gram,
            names["case"].pattern,
            int(names["case"].block_size),
            names["case"].damping,
        )
        assert (names["mask"] != right[1]).any()


def test_the_corrected_example_passes_what_it_supports() -> None:
    done = run(EXAMPLES, "--thanos-impl", "mine:fixed")
    assert done.returncode == 0, done.stdout
    assert "skipped" in done.stdout


def test_a_run_in_which_nothing_was_judged_is_no_success() -> None:
    done = run(EXAMPLES, "--thanos-impl", "mine:fixed", "-k", "float32 and certificate")
    assert done.returncode == NOTHING_RAN
    assert "no test is supported by mine:fixed: nothing was judged" in done.stdout


def test_an_implementation_that_is_not_there_is_an_error_of_use(tmp_path: Path) -> None:
    done = run(tmp_path, "--thanos-impl", "mime:prune")
    assert done.returncode == WRONG_OPTION
    assert "implementation 'mime:prune' cannot be imported" in done.stderr


def test_own_tests_run_as_well(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    done = run(tmp_path, "--thanos-impl", "reference", "-k", "own or refusals", "-v")
    assert done.returncode == 0
    assert "test_own.py::test_own PASSED" in done.stdout
    assert "thanos::refusals[wanda] PASSED" in done.stdout


def test_who_does_not_ask_for_it_pays_nothing() -> None:
    script = (
        "import sys, verification.plugin; assert not {'numpy', 'hypothesis'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# One bug for every property, which must find it; other properties may find it too.
BUGS = {wrong.bug: wrong.run for wrong in WRONG}


def wrongly(run: Callable[..., Any]) -> PythonFunction:
    """An implementation that claims to support everything."""

    def prune(*arguments: Any) -> Any:
        return run(*arguments)

    prune.refusals = True  # type: ignore[attr-defined]
    return PythonFunction(prune, "thanos", "wrong")


def last_bit(*arguments: Any) -> tuple[Any, Any]:
    pruned, mask, _ = reference(*arguments)
    return np.nextafter(pruned, np.where(mask, 0, 2 * pruned)), mask


def afraid_of_large_numbers(weight: Any, gram: Any, *arguments: Any) -> Any:
    if np.abs(weight).max() > 32:
        weight = weight * np.float64(1 + 2.0**-30)
    return reference(weight, gram, *arguments)[:2]


def underflowing(weight: Any, gram: Any, *arguments: Any) -> Any:
    if np.abs(weight).max() < 1e-80:
        return weight * 0, np.ones(weight.shape, dtype=bool)
    return reference(weight, gram, *arguments)[:2]


@pytest.mark.parametrize(
    ("name", "wrong", "check"),
    [
        ("certificate[thanos-unstructured-float64]", BUGS["half the step"], "updates"),
        ("certificate[thanos-n:m-float64]", BUGS["damping not scaled"], "updates"),
        ("exact-answer[thanos-unstructured]", BUGS["ties to the higher index"], "vector mask"),
        ("certificate[thanos-n:m-float64]", BUGS["scores in float32"], "masks"),
        ("nothing-removed[thanos-structured]", last_bit, "kept"),
        ("invariance[thanos-unstructured]", afraid_of_large_numbers, "updates"),
        ("refusals[thanos]", BUGS["unpruned instead of refused"], "refusals"),
        ("hard-input[09-near-underflow-thanos-float64]", underflowing, "counts"),
    ],
)
def test_every_property_can_fail(name: str, wrong: Callable[..., Any], check: str) -> None:
    (tested,) = (each for each in Properties(wrongly(wrong)) if each.name == name)
    with pytest.raises(Broken) as broken:
        tested.run(PROFILES["quick"])
    assert check in {failure.name for failure in broken.value.failures}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("certificate[thanos-unstructured-float64]", "count in binary floating point"),
        ("certificate[thanos-unstructured-float64]", "scores in float32"),
        ("certificate[thanos-structured-float64]", "count of columns in binary floating point"),
        (
            "certificate[thanos-n:m+outliers-float64]",
            "outlier rows counted in binary floating point",
        ),
    ],
)
def test_more_examples_find_rare_mistakes(name: str, bug: str) -> None:
    (tested,) = (each for each in Properties(wrongly(BUGS[bug])) if each.name == name)
    with pytest.raises(Broken):
        tested.run(PROFILES["normal"])


def test_counterexamples_are_small() -> None:
    tested = next(iter(Properties(wrongly(BUGS["half the step"]))))
    with pytest.raises(Broken) as broken:
        tested.run(PROFILES["quick"])
    answer = broken.value.verdict.answer
    assert isinstance(answer, Output)
    assert answer.weight.size <= 4
    assert "1 x 2" in str(broken.value)
