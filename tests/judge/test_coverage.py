"""Each rule of the pages is judged: docs/coverage.md is complete, and what it says is so."""

import pytest

from tests.judge.coverage.broken import BROKEN, FIX_NOTHING
from tests.judge.coverage.marks import rules, sentences, unmarked
from tests.judge.coverage.page import DOCS, PAGE, coverage_page
from tests.judge.test_wrong import function
from tests.judge.wrong import WRONG, Wrong
from tests.judge.wrong.right import Right
from verification.conformance import judge, load_cases

CASES = {case.id: case for case in load_cases()}
BY_NAME = {wrong.bug: wrong for wrong in WRONG}
FAILING = sorted(
    {(each.bug, case) for entries in BROKEN.values() for each in entries for case in each.cases}
)


@pytest.mark.parametrize(("bug", "case"), FAILING)
def test_the_case_rejects_the_wrong_implementation(bug: str, case: str) -> None:
    verdict = judge(CASES[case], function(BY_NAME[bug]))
    assert not verdict.unsupported
    assert verdict.failures


@pytest.mark.parametrize("case", sorted({case for _, case in FAILING}))
def test_right_code_passes_the_case(case: str) -> None:
    right = Wrong("none", Right, "", None, CASES[case].method)
    verdict = judge(CASES[case], function(right))
    assert verdict.passed, verdict.failures


def test_every_marked_rule_is_broken_by_something() -> None:
    names = [rule.name for rule in rules(DOCS)]
    assert len(set(names)) == len(names)
    assert set(names) == set(BROKEN)


def test_every_sentence_with_a_telling_word_is_marked_or_fixes_nothing() -> None:
    left = [sentence for _, sentence in unmarked(DOCS)]
    assert [s for s in left if not any(s.startswith(begin) for begin in FIX_NOTHING)] == []
    for begin in FIX_NOTHING:
        assert sum(s.startswith(begin) for s in left) == 1, begin


def test_every_row_of_the_table_of_refusals_is_marked() -> None:
    names = {rule.name for rule in rules(DOCS)}
    assert {f"row-{row}" for row in range(1, 22)} - names == {"row-7"}  # switches: not in files


def test_sentences_of_a_small_page() -> None:
    prose = "One must. Two of\n$a. B$ `c. D` three.\n\n    x = y. Z\n\n- Four: five (six.) Seven"
    page = f"{prose}\n\n| a |\n|---|\n| b |\n"
    assert list(sentences(page)) == [
        "One must.", "Two of $a. B$ `c. D` three.", "- Four: five (six.)", "Seven", "| a |", "| b |"
    ]  # fmt: skip


def test_the_page_is_up_to_date() -> None:
    written = (DOCS / PAGE).read_text(encoding="utf-8")
    assert written == coverage_page(DOCS), "run python -m tests.judge.coverage"


def test_pages_say_how_many_cases_there_are() -> None:
    assert f"The vectors are {len(CASES)} cases" in (DOCS / "vectors.md").read_text()
