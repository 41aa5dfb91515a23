"""Tiers: what they hold, that `core` sees every rule of Thanos, and that none is a pass."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from reference import SPECIFICATION
from tests.judge.coverage.broken import BROKEN
from tests.judge.coverage.page import DOCS
from tests.judge.test_wrong import function
from tests.judge.wrong import WRONG
from verification.conformance import judge, load_cases
from verification.conformance.cases import TIERS
from verification.conformance.command import main
from verification.vectors import tiers
from verification.vectors.first import first_five
from verification.vectors.version import VERSION

CASES = {case.id: case for case in load_cases()}
SIZES = {tier: sum(case.is_in(tier) for case in CASES.values()) for tier in TIERS}
CORE = {case.id for case in CASES.values() if case.is_in("core")}
# Rules that no case of `core` judges: those of the baselines, and of narrow storage.
OUTSIDE = {
    "row-6", "magnitude", "wanda", "sparsegpt", "baselines-zero", "sparsegpt-scores",
    "baselines-refuse", "storage",
}  # fmt: skip


def of_thanos_in_float64(name: str) -> bool:
    case = CASES[name]
    return (case.method, case.dtype, case.storage) == ("thanos", "float64", None)


def test_core_judges_every_rule_of_thanos() -> None:
    outside = set()
    for rule, entries in BROKEN.items():
        judged = [each for each in entries if CORE.intersection(each.cases)]
        left = [each for each in entries if each not in judged]
        for each in left:  # nothing that a Thanos in float64 could get wrong
            assert not any(of_thanos_in_float64(case) for case in each.cases), (rule, each.bug)
        if not judged:
            outside.add(rule)
    assert outside == OUTSIDE


@pytest.mark.long
def test_core_rejects_what_all_vectors_in_float64_reject() -> None:
    """And docs/vectors.md has the numbers."""
    thanos = [wrong for wrong in WRONG if wrong.method == "thanos"]
    rejected: dict[str, set[str]] = {tier: set() for tier in TIERS}
    for wrong in thanos:
        implementation = function(wrong)
        for tier, found in rejected.items():
            others = (c for c in CASES.values() if of_thanos_in_float64(c.id) and c.is_in(tier))
            if any(judge(case, implementation).failures for case in others):
                found.add(wrong.bug)
    assert rejected["core"] == rejected["all"]
    said = f"Of the {len(thanos)} [wrong implementations](../tests/judge/wrong/__init__.py)"
    page = (DOCS / "vectors.md").read_text()
    number, first = len(rejected["all"]), len(rejected["first-five"])
    assert f"{said} of Thanos, vectors in float64 reject {number}, `core` rejects" in page
    assert f"the same {number}, and `first-five` rejects {first}." in page


def test_core_is_thanos_in_float64() -> None:
    assert all(of_thanos_in_float64(name) for name in CORE)
    largest = max(CASES[name].weight.size for name in CORE if CASES[name].weight.ndim == 2)
    assert largest == 5 * 20  # as docs/vectors.md says


def test_every_name_that_chooses_core_is_that_of_a_case() -> None:
    for name in tiers._REFUSALS:
        assert CASES[f"refusal-{name}"].tier == "core"
    for number in tiers._CATALOGUE:
        assert any(name.startswith(f"thanos-float64-{number}-") for name in CORE)
    flags = {flag for case in CASES.values() for flag in case.flags}
    assert flags >= tiers._ONE_RULE


def test_the_first_five_are_in_order() -> None:
    names = [case.id for case in CASES.values() if case.is_in("first-five")]
    assert [name.rpartition("-")[0] for name in names] == [
        f"thanos-float64-first-{number}" for number in range(1, 6)
    ]
    assert len(list(first_five())) == 5


def test_pages_have_their_sizes() -> None:
    page = (DOCS / "vectors.md").read_text()
    for tier, size in SIZES.items():
        assert f"| `{tier}` | {size} | " in page
    changes = (DOCS / "specification-changes.md").read_text()
    core, five = SIZES["core"], SIZES["first-five"]
    assert f"{len(CASES)}, of which {core} are in the tier `core` and {five} in " in changes


@pytest.mark.parametrize("tier", TIERS[:-1])
def test_a_tier_is_judged_without_fresh_cases_and_is_no_pass(
    tier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert main(["reference", "--tier", tier, "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    size = SIZES[tier]
    assert f"\n{size} cases: {size} passed, 0 failed, 0 not supported\n" in printed
    assert "drawn for this run" not in printed
    verdict = f"(tier {tier} only: a right implementation passes tier all)"
    assert printed.endswith(f"\nPASSED {verdict}\n")
    said = json.loads(report.read_text())
    assert (said["tier"], said["specification"], said["vectors"]) == (tier, SPECIFICATION, VERSION)
    assert main(["reference", "--tier", tier, "--only", "first-1", "--format", "markdown"]) == 0
    assert f"passed {verdict}" in capsys.readouterr().out.splitlines()[0]


def test_all_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert main(["reference", "--only", "first-5", "--json", str(report)]) == 0
    assert capsys.readouterr().out.endswith("\nPASSED\n")
    assert json.loads(report.read_text())["tier"] == "all"


def test_a_tier_can_be_taken_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = tmp_path / "inputs"
    assert main(["--export", str(inputs), "--tier", "first-five", "--seed", "3"]) == 0
    assert len(list(inputs.iterdir())) == 5
    judged = ["--outputs", str(inputs), "--seed", "3", "--tier", "first-five"]
    assert main(judged) == 1  # inputs are no outputs
    assert "5 cases: 0 passed, 5 failed" in capsys.readouterr().out


def test_a_case_outside_of_the_tier_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--tier", "core", "--only", "wanda"]) == 2
    assert "in tier core, got 'wanda'" in capsys.readouterr().err


def test_a_wrong_tier_is_refused(tmp_path: Path) -> None:
    manifest = {"format": 1, "total": 1, "cases": [
        {"id": "a", "expected": "mask", "method": "thanos", "pattern": "2:4", "dtype": "float64",
         "storage": None, "condition": 1.0, "flags": [], "names": [], "values": [], "tier": "odd"}
    ]}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"tier of case a must be in .*, got 'odd'"):
        load_cases(tmp_path)


PAGE = (DOCS / "first-five.md").read_text()
# From each heading of a step to the next one.
STEPS = re.split(r"^## Step \d: ", PAGE, flags=re.MULTILINE)[1:]


def numbers(text: str, name: str) -> list[float]:
    """The numbers of a matrix that stands in an indented block, from its name to the next one."""
    found = re.search(rf"^    {name} +((?:[-\d. ]+\n)+)", text, re.MULTILINE)
    assert found, name
    return [float(number) for number in found[1].split()]


@pytest.mark.parametrize("step", range(1, 6))
def test_the_page_of_the_first_five_has_their_numbers(step: int) -> None:
    (case,) = (c for c in CASES.values() if f"-first-{step}-" in c.id)
    shown = STEPS[step - 1]
    assert numbers(shown, "mask") == case.answer["mask"].ravel().tolist()
    exact = case.answer["weight"].ravel().tolist()
    assert numbers(shown, "weight") == [float(f"{value:.6f}") for value in exact]
    assert f"| {step} | `{case.id}` | `{case.pattern}` | {case.block_size} |" in PAGE


def test_the_page_of_the_first_five_has_their_layer() -> None:
    layer = re.search(r"^    W (.*) G (.*)\n {9}(.{19}) (.*)\n(.*)\n(.*)\n", PAGE, re.MULTILINE)
    assert layer
    w, g, more_of_w, *more_of_g = layer.groups()
    for case in (c for c in CASES.values() if c.is_in("first-five")):
        assert [float(n) for n in f"{w} {more_of_w}".split()] == case.weight.ravel().tolist()
        gram = np.array([float(n) for n in " ".join([g, *more_of_g]).split()]).reshape(4, 4)
        if "-first-2-" in case.id:
            gram = np.diag(np.diag(gram))
        assert (case.gram == gram).all()
        assert case.damping == 0.25
