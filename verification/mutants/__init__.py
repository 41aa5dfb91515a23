"""Tests the judge with mutants of the reference, each with one small mistake.

    python -m verification.mutants

sites.py, tables.py, mutators.py    where code may be mutated, and how
mutant.py                           the mutants of a module
package.py                          imports a mutant beside the right reference
trials.py, running.py               judges a mutant, in a process of its own
scope.py                            the mutants that are judged
equivalent.py                       why some mutants survive
results.py                          the results file

A mutant that passes every check is equivalent to the right code, or shows a gap in the judge.
"""

from verification.mutants.mutant import Mutant, mutants_of
from verification.mutants.running import Outcome, run

__all__ = ["Mutant", "Outcome", "mutants_of", "run"]
