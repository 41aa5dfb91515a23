"""Bugs in H: λ is not what the specification says."""

import numpy as np

from tests.judge.wrong.bug import Wrong, with_step
from tests.judge.wrong.right import Right

OFF = "damping-off"

WRONG = [
    # H is G: the damping is forgotten, or added to a copy that nobody uses.
    Wrong("no damping", with_step(added=lambda self, diagonal: 0.0), "updates", "no-damping"),
    # H is 2 X Xᵀ as in the literature, while λ comes from X Xᵀ.
    Wrong("damping halved", with_step(hessian=lambda self: self.G + Right.hessian(self)),
        "updates", OFF),
    # λ comes from 2 X Xᵀ as in the literature, while H is X Xᵀ.
    Wrong("damping doubled",
        with_step(added=lambda self, diagonal: Right.added(self, 2 * diagonal)),
        "updates", OFF),
    # λ is 1 % too large, as when the mean runs over one column too few in a hundred.
    Wrong("damping 1 % larger",
        with_step(added=lambda self, diagonal: 1.01 * Right.added(self, diagonal)),
        "updates", OFF),
    # λ is γ times the trace: the division by b is forgotten.
    Wrong("damping by the sum",
        with_step(added=lambda self, diagonal: len(diagonal) * Right.added(self, diagonal)),
        "updates", OFF),
    # λ is γ times the largest entry of the diagonal instead of their mean.
    Wrong("damping by the largest",
        with_step(added=lambda self, diagonal: self.damping * float(diagonal.max())),
        "updates", OFF),
    # λ is γ itself, whatever the inputs: their scale now changes the result, against T7.
    Wrong("damping not scaled", with_step(added=lambda self, diagonal: self.damping),
        "updates", OFF),
    # The mean of λ leaves out dead columns, which were dropped before it is taken.
    Wrong("damping by the mean of live columns",
        with_step(added=lambda self, diagonal: Right.added(self, diagonal[diagonal > 0])),
        "updates", "damping-mean-of-live-columns", features=("dead-columns",)),
    # Dead columns get H_jj = 1 before the mean is taken, as in the published code.
    Wrong("damping with dead columns of 1",
        with_step(added=lambda self, diagonal: Right.added(
            self, np.where(diagonal == 0, 1.0, diagonal))),
        "updates", OFF, features=("dead-columns", "quiet-inputs")),
    # λ is γ times the mean even where G is zero: H is then singular.
    Wrong("no damping for zero inputs",
        with_step(added=lambda self, diagonal: self.damping * float(diagonal.mean())),
        "output", None, features=("zero-gram",)),
]  # fmt: skip
