"""The judge is judged by slips that a program makes: mutants of the reference.

    python -m verification.mutants

sites.py, tables.py, mutators.py    slips, and where they may happen
mutant.py                           the mutants of a module
package.py                          a mutant beside the right reference
trials.py, running.py               what it has to survive, in a process of its own
scope.py                            which ones there are to judge
equivalent.py                       why some survive
results.py                          the results file

A mutant that no check kills is equivalent to the right code, or a hole in the judge.
"""

from verification.mutants.mutant import Mutant, mutants_of
from verification.mutants.running import Outcome, run

__all__ = ["Mutant", "Outcome", "mutants_of", "run"]
