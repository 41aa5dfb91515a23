"""Pruning in exact rational arithmetic: the answers that rounding can be measured against.

Everything is a fraction; every score is squared, which changes no order and needs no root. The
way is not the reference's: the moves come from the factor H = Lᵀ D L and theorem T9, and no
matrix is inverted.
"""

from verification.exact.pruning import ExactPruned, exact_prune

__all__ = ["ExactPruned", "exact_prune"]
