"""Writes docs/coverage.md: `python -m tests.judge.coverage`."""

from tests.judge.coverage.page import DOCS, PAGE, coverage_page

(DOCS / PAGE).write_text(coverage_page(DOCS), encoding="utf-8")
