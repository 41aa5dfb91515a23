"""Deliberately wrong implementations, one bug each, with which the judge is tested.

right.py      the right implementation, of which every wrong one is a subclass
bug.py        the description of a bug, and ways to change the right implementation
layers.py     layers and calls on which the bugs show
counts.py ... the bugs, by theme
"""

from tests.judge.wrong import (
    baselines,
    blocks,
    counts,
    damping,
    interface,
    masks,
    numerics,
    outliers,
    padding,
    reduced,
    refusals,
    triangles,
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
    *triangles.WRONG,
    *reduced.WRONG,
    *blocks.WRONG,
    *padding.WRONG,
]

__all__ = ["WRONG", "Wrong"]
