"""Bugs in H: λ is not what the specification says."""

import numpy as np

from tests.judge.wrong.arrays import Array
from tests.judge.wrong.bug import bug
from tests.judge.wrong.right import Right


class NoDamping(Right):
    """H is G: the damping is forgotten, or added to a copy that nobody uses."""

    def added(self, diagonal: Array) -> float:
        return 0.0


class Halved(Right):
    """H is 2 X Xᵀ as in the literature, while λ comes from X Xᵀ."""

    def hessian(self) -> Array:
        return self.G + super().hessian()


class Doubled(Right):
    """λ comes from 2 X Xᵀ as in the literature, while H is X Xᵀ."""

    def added(self, diagonal: Array) -> float:
        return super().added(2 * diagonal)


class OnePercentLarger(Right):
    """λ is 1 % too large, as when the mean runs over one column too few in a hundred."""

    def added(self, diagonal: Array) -> float:
        return 1.01 * super().added(diagonal)


class SumForMean(Right):
    """λ is γ times the trace: the division by b is forgotten."""

    def added(self, diagonal: Array) -> float:
        return len(diagonal) * super().added(diagonal)


class LargestForMean(Right):
    """λ is γ times the largest entry of the diagonal instead of their mean."""

    def added(self, diagonal: Array) -> float:
        return self.damping * float(diagonal.max())


class NotScaled(Right):
    """λ is γ itself, whatever the inputs: their scale now changes the result, against T7."""

    def added(self, diagonal: Array) -> float:
        return self.damping


class MeanOfLive(Right):
    """The mean of λ leaves out dead columns, which were dropped before it is taken."""

    def added(self, diagonal: Array) -> float:
        return super().added(diagonal[diagonal > 0])


class DeadInMean(Right):
    """Dead columns get H_jj = 1 before the mean is taken, as in the published code."""

    def added(self, diagonal: Array) -> float:
        return super().added(np.where(diagonal == 0, 1.0, diagonal))


class NoneForZero(Right):
    """λ is γ times the mean even where G is zero: H is then singular."""

    def added(self, diagonal: Array) -> float:
        return self.damping * float(diagonal.mean())


OFF = "damping-off"

WRONG = [
    bug("no damping", NoDamping, "updates", "no-damping"),
    bug("damping halved", Halved, "updates", OFF),
    bug("damping doubled", Doubled, "updates", OFF),
    bug("damping 1 % larger", OnePercentLarger, "updates", OFF),
    bug("damping by the sum", SumForMean, "updates", OFF),
    bug("damping by the largest", LargestForMean, "updates", OFF),
    bug("damping not scaled", NotScaled, "updates", OFF),
    bug("damping by the mean of live columns", MeanOfLive, "updates",
        "damping-mean-of-live-columns", features=("dead-columns",)),
    bug("damping with dead columns of 1", DeadInMean, "updates", OFF,
        features=("dead-columns", "quiet-inputs")),
    bug("no damping for zero inputs", NoneForZero, "output", None, features=("zero-gram",)),
]  # fmt: skip
