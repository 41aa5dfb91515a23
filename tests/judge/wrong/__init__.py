"""Deliberately wrong implementations of the interface that the judge takes, one bug each.

right.py      the right one that all start from, and refusing.py, what it refuses
bug.py        what a bug says about itself
layers.py     layers, and the calls, on which the bugs show
counts.py ... the bugs, by theme
"""

from tests.judge.wrong import (
    baselines,
    counts,
    damping,
    interface,
    masks,
    numerics,
    outliers,
    refusals,
    updates,
)
from tests.judge.wrong.bug import Wrong

WRONG: list[Wrong] = [
    *counts.WRONG,
    *masks.WRONG,
    *updates.WRONG,
    *damping.WRONG,
    *outliers.WRONG,
    *numerics.WRONG,
    *interface.WRONG,
    *refusals.WRONG,
    *baselines.WRONG,
]

__all__ = ["WRONG", "Wrong"]
