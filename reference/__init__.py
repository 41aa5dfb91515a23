"""Thanos pruning, executable specification: NumPy, SciPy, float64, as plain as the mathematics.

Read in the order of docs/specification.md:

    patterns.py   section 2: what is removed, counted exactly
    inputs.py     section 2: what is refused
    problem.py    section 1: the objective (1)
    masks.py      sections 2 and 3: which weights go
    update.py     section 4: how the kept weights make up for them, (6)
    losses.py     section 4: the loss of every block
    thanos.py     sections 3, 4 and 7: the algorithm
    baselines.py  section 6: magnitude, Wanda, SparseGPT
    refit.py      section 7: better kept weights for a final mask

    threads.py    of the libraries: they sleep while they wait

Implementations will apply optimisations that this one deliberately omits.
"""

import reference.threads  # noqa: F401 - before NumPy, which reads its variables on loading

# isort: split
from reference.arrays import Pruned
from reference.baselines import magnitude, sparsegpt, wanda
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured, parse_pattern
from reference.problem import Gram, objective
from reference.refit import refit
from reference.thanos import thanos

SPECIFICATION = "1.0"
"""Version of docs/specification.md, which this package follows; docs/specification-changes.md."""

__all__ = [
    "SPECIFICATION",
    "Gram",
    "Pattern",
    "Pruned",
    "SemiStructured",
    "Structured",
    "Unstructured",
    "magnitude",
    "objective",
    "parse_pattern",
    "refit",
    "sparsegpt",
    "thanos",
    "wanda",
]
