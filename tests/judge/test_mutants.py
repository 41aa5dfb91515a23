"""The mutants of the reference: how they are made, what kills them, and their results file."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from verification.conformance.cases import load_cases
from verification.mutants import Mutant, Outcome, mutants_of, run
from verification.mutants.__main__ import main
from verification.mutants.equivalent import KNOWN_SURVIVORS, known_survivor
from verification.mutants.package import sources
from verification.mutants.results import ROOT, MutantResults, fingerprint
from verification.mutants.scope import MODULES, selected
from verification.mutants.trials import Trial, ordered, trials

SOURCE = '''"""Words: 1 < 2."""

__all__ = ["f"]


def f(x: "Array | None", count: int = 3) -> Array:
    """Words: a - b."""
    if not x.any() or count < 0:
        raise ValueError(f"count must not be negative, got {count + 1}")
    x[1:count] += x.T  # λ before a change in the same line: y·z
    return np.abs(x) * 0.5
'''


def afters(kind: str) -> set[str]:
    return {mutant.after for mutant in mutants_of("m", SOURCE) if mutant.kind == kind}


def test_mutants_of_a_small_source() -> None:
    assert afters("comparison") == {
        "if not x.any() or count <= 0:",
        "if not x.any() or count >= 0:",
    }
    assert afters("logic") == {
        "if not x.any() and count < 0:",
        "if not x.any():",
        "if count < 0:",
    }
    assert afters("condition") == {
        "if not (not x.any() or count < 0):",
        "if x.any() or count < 0:",
    }
    assert afters("default") == {'def f(x: "Array | None", count: int = 4) -> Array:'}
    comment = "  # λ before a change in the same line: y·z"
    assert afters("border") == {
        f"x[{borders}] += x.T{comment}"
        for borders in ("2:count", "0:count", "1:count + 1", "1:count - 1")
    }
    assert afters("deletion") == {"pass", f"pass{comment}"}
    assert afters("arithmetic") == {f"x[1:count] -= x.T{comment}", "return np.abs(x) / 0.5"}
    assert afters("function") == {
        "if not x.all() or count < 0:",
        f"x[1:count] += x{comment}",
        "return x * 0.5",
    }
    single = "return np.float64(np.float32(np.abs(x) * 0.5))"
    assert afters("return") == {"return -(np.abs(x) * 0.5)", single}
    assert "return np.abs(x) * 0.25" in afters("constant")


def test_words_and_types_are_left_alone() -> None:
    found = list(mutants_of("m", SOURCE))
    assert len({mutant.id for mutant in found}) == len(found)
    for mutant in found:
        assert mutant.function == "f"
        assert mutant.source.startswith(SOURCE[: SOURCE.index(", count")])
        assert ("count + 1}" in mutant.source) or mutant.kind == "deletion"


@pytest.fixture(scope="module")
def mutants() -> list[Mutant]:
    return selected(MODULES)


@pytest.fixture(scope="module")
def cases() -> tuple[Trial, ...]:
    return trials()


# One of every kind: the line before and after, and a check that fails where it is killed.
KILLED = [
    ("arithmetic", "updated[i] -= mu @ R[q]", "updated[i] += mu @ R[q]", "updates"),
    ("deletion", "updated[i, q] = 0.0", "pass", "zeros"),
    ("function", "return np.sqrt(np.diag(gram))", "return np.diag(gram)", "masks"),
    ("border", "mask[order[:count]] = True", "mask[order[:count - 1]] = True", "counts"),
    ("constant", "updated[i, q] = 0.0", "updated[i, q] = 1.0", "zeros"),
    ("default", "adaptive: bool = True,", "adaptive: bool = False,", "masks"),
    ("comparison", "if not 0 < damping < np.inf:", "if not 0 <= damping < np.inf:", "refusals"),
    ("index", "blocks = column_blocks(W.shape[1], block_size)",
     "blocks = column_blocks(W.shape[0], block_size)", "losses"),
    ("return", "return np.sort(largest_first[outliers:])",
     "return np.sort(largest_first[outliers:])[1:]", "vector mask"),
    ("condition", "if not np.isfinite(matrix).all():", "if np.isfinite(matrix).all():", "output"),
    ("logic", "if given.ndim != 2 or given.size == 0:", "if given.ndim != 2:", "refusals"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "before", "after", "check"), KILLED)
def test_mutants_are_killed_by_a_check_that_names_them(
    kind: str,
    before: str,
    after: str,
    check: str,
    mutants: list[Mutant],
    cases: tuple[Trial, ...],
) -> None:
    (found,) = (m for m in mutants if (m.kind, m.before, m.after) == (kind, before, after))
    ((_, outcome),) = run([found], cases)
    assert outcome.status == "killed"
    assert check in outcome.checks


def test_an_equivalent_mutant_survives(mutants: list[Mutant], cases: tuple[Trial, ...]) -> None:
    (found,) = (m for m in mutants if m.after == "return -M")
    assert list(run([found], cases)) == [(found, Outcome("survived"))]
    known = known_survivor(found)
    assert known is not None
    assert known.why == "equivalent"


def test_every_explanation_is_of_a_mutant(mutants: list[Mutant]) -> None:
    found = [known for known in map(known_survivor, mutants) if known]
    assert sorted(found, key=str) == sorted(KNOWN_SURVIVORS, key=str)


def test_recorded_run_explains_every_survivor() -> None:
    record = json.loads((ROOT / "docs" / "results" / "mutants.json").read_text())
    assert record["source"] == fingerprint(), "judge or reference changed: run `make mutants`"
    assert record["unexplained"] == []
    counts = record["counts"]
    assert counts["mutants"] == len(selected(MODULES)) == counts["killed"] + counts["survived"]


def test_bytecode_is_no_change_of_the_judge_but_an_input_is(tmp_path: Path) -> None:
    vectors = tmp_path / "verification" / "vectors"
    for folder in ("inputs", "__pycache__"):
        (vectors / folder).mkdir(parents=True)
    (vectors / "inputs" / "a").write_text("one")
    before = fingerprint(tmp_path)
    (vectors / "__pycache__" / "make.pyc").write_text("compiled")
    assert fingerprint(tmp_path) == before
    (vectors / "inputs" / "a").write_text("two")
    assert fingerprint(tmp_path) != before


def changed(line: str, other: str) -> Mutant:
    text = sources()["update"]
    assert line in text
    return Mutant("update:1:0:test", "update", "test", "", line, other, text.replace(line, other))


@pytest.mark.parametrize(
    ("line", "status", "checks"),
    [
        ("    while True:\n        pass\n", "timed out", ()),
        ("    import os\n    os._exit(0)\n", "killed", ("death",)),
        ("    np.empty(2**50)\n", "killed", ("output",)),
        ("    raise SystemExit\n", "killed", ("output",)),
    ],
)
def test_what_mutants_may_do(
    line: str, status: str, checks: tuple[str, ...], cases: tuple[Trial, ...]
) -> None:
    place = "    R = inverse(H_JJ)\n"
    ((_, outcome),) = run([changed(place, line + place)], cases, limit=1.0)
    assert (outcome.status, outcome.checks) == (status, checks)


def test_a_mutant_that_cannot_be_imported_is_killed(cases: tuple[Trial, ...]) -> None:
    ((_, outcome),) = run([changed("import numpy as np", "import numpy as np\n1 / 0")], cases)
    assert outcome == Outcome("killed", "", ("import",))


def test_where_the_judge_itself_falls_the_mutant_is_not_killed() -> None:
    def fall(_: object) -> tuple[str, ...]:
        raise RuntimeError("oops")

    mutant = changed("import numpy as np", "import numpy as np  # the same")
    ((_, outcome),) = run([mutant], [Trial("bad", fall)])
    assert outcome == Outcome("crashed", "bad", ("RuntimeError: oops",))


def test_no_case_is_lost_in_the_order() -> None:
    cases = load_cases()
    first, others = ordered(cases)
    assert sorted(case.id for case in chain(first, others)) == sorted(case.id for case in cases)
    assert len({(case.method, case.expected) for case in first}) > 4


def test_a_second_run_skips_what_is_known(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    cases: tuple[Trial, ...],
) -> None:
    monkeypatch.setattr("verification.mutants.__main__.trials", lambda: cases[:60])  # enough
    out = tmp_path / "mutants.json"
    arguments = ["--modules", "losses", "--jobs", "1", "--out", str(out)]
    assert main(arguments) == 0
    number = len(selected(["losses"]))
    assert f"{number} mutants, 0 of them known" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["counts"] == {
        "mutants": number,
        "killed": number - 1,
        "survived": 1,
        "survived: equivalent": 1,
    }
    assert main(arguments) == 0
    assert f"{number} mutants, {number} of them known" in capsys.readouterr().out
    assert json.loads(out.read_text())["mutants"] == written["mutants"]


def test_an_unexplained_survivor_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def everything_survives(found: list[Mutant], *_: object, **__: object) -> Iterator[object]:
        return ((mutant, Outcome("survived")) for mutant in found)

    monkeypatch.setattr("verification.mutants.__main__.run", everything_survives)
    out = tmp_path / "mutants.json"
    assert main(["--modules", "losses", "--out", str(out)]) == 1
    assert "unexplained: losses:" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["unexplained"]) == len(selected(["losses"])) - 1


def test_results_of_another_source_are_forgotten(tmp_path: Path, mutants: list[Mutant]) -> None:
    path = tmp_path / "mutants.json"
    MutantResults(path, "", "one").add(mutants[0], Outcome("survived"))
    assert mutants[0] in MutantResults(path, "", "one")
    assert mutants[0] not in MutantResults(path, "", "two")
    assert mutants[0] not in MutantResults(path, "", "one", fresh=True)


def test_usage_errors(tmp_path: Path) -> None:
    assert main(["--jobs", "0", "--out", str(tmp_path / "mutants.json")]) == 2
    assert main(["--modules", "nothing", "--out", str(tmp_path / "mutants.json")]) == 2
    (tmp_path / "other.json").write_text("[]")
    assert main(["--modules", "losses", "--out", str(tmp_path / "other.json")]) == 2
