"""How long studies take on two cores, for the plan that is shown before they run."""

from collections.abc import Iterable
from dataclasses import dataclass

from verification.benchmarks.small_models.families import PREFIX
from verification.benchmarks.studies.plan import Run, dense_runs


@dataclass(frozen=True)
class Minutes:
    """Of one run among others, two at a time, and of a dense run, which has all cores."""

    run: float
    dense: float


# SMALL and TRAINING were measured on two cores of a server. SHORT is a measured pair of runs less
# what faster Gram matrices save since; LONG adds 10 minutes to it for its windows and items, at the
# same speed. QUICK was measured on a slower machine, whose float32 products reach 115 Gflop/s: this
# profile is to end in time there too. The others took twice as long there as is said here.
SMALL = Minutes(0.12, 0.2)
QUICK = Minutes(1.6, 1.4)
SHORT = Minutes(2.25, 1.4)
LONG = Minutes(12.25, 9.5)
TRAINING = 7.0  # of a small model


def minutes_of(runs: Iterable[Run]) -> float:
    """Of runs, each once, with the dense ones that they need."""
    each = list(dict.fromkeys(runs))
    dense = dense_runs(each)
    trained = {run.model for run in each if run.model.startswith(PREFIX)}
    return (
        sum(_kind(run).run for run in each)
        + sum(_kind(run).dense for run in dense)
        + TRAINING * len(trained)
    )


def _kind(run: Run) -> Minutes:
    if run.model.startswith(PREFIX):
        return SMALL
    if run.evaluation.items != 0:
        return LONG
    return SHORT if run.evaluation.seqlen > 512 else QUICK
