"""Why an output is wrong: known mistakes, tried out one by one. docs/conformance.md.

Inputs and outputs are all that is looked at. Every suspect is an algorithm with one mistake; the
likeliest explanation is the mistake that reproduces the output.
"""

from verification.diagnosis.evidence import Evidence
from verification.diagnosis.explain import Explanation, explain

__all__ = ["Evidence", "Explanation", "explain"]
