"""Pruning in exact rational arithmetic, against which rounding errors are measured.

All numbers are fractions. Scores are squared, which keeps their order and needs no roots. The
algorithm differs from the reference's: the moves come from the factor H = Lᵀ D L and theorem T9,
without inverting a matrix.
"""

import reference  # noqa: F401 - before NumPy: reference/threads.py
from verification.exact.pruning import ExactPruned, exact_prune

__all__ = ["ExactPruned", "exact_prune"]
