"""Judges implementations: cases, ways to run an implementation, verdicts. docs/conformance.md."""

import reference  # noqa: F401 - before NumPy: reference/threads.py
from verification.conformance.cases import Case, load_case, load_cases
from verification.conformance.implementation import Failed, Output, Refused
from verification.conformance.judge import Verdict, judge

__all__ = ["Case", "Failed", "Output", "Refused", "Verdict", "judge", "load_case", "load_cases"]
