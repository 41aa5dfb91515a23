"""Explains wrong outputs by known mistakes. docs/conformance.md.

Only input and output are examined, never the code. Every suspect is an algorithm with one mistake;
a mistake that reproduces the output, and fails the same checks, explains it.
"""

import reference  # noqa: F401 - before NumPy: reference/threads.py
from verification.diagnosis.evidence import Evidence
from verification.diagnosis.explain import Explanation, explain

__all__ = ["Evidence", "Explanation", "explain"]
