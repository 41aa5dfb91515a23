"""Runs mutants, each in a process of its own that is forked with all cases in memory."""

import os
import resource
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from verification.mutants.mutant import Mutant
from verification.mutants.package import load, sources
from verification.mutants.trials import Trial
from verification.processes import DIED, TIMED_OUT, run_each

LIMIT = 30.0  # seconds; the reference takes two to three on an idle core
MEMORY = 4 * 2**30  # bytes, so that no mutant exhausts the machine


@dataclass(frozen=True)
class Outcome:
    """The fate of a mutant.

    status  "killed", "survived", "timed out", or "crashed" if the judge itself raised
    trial   the trial in which it ended
    checks  the checks that failed there
    """

    status: str
    trial: str = ""
    checks: tuple[str, ...] = ()


def run(
    mutants: Iterable[Mutant], trials: Sequence[Trial], jobs: int = 1, limit: float = LIMIT
) -> Iterator[tuple[Mutant, Outcome]]:
    """Judge each mutant until its first failure, `jobs` at a time; yield in order of completion."""

    def judged(mutant: Mutant) -> Outcome:
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        return _outcome(mutant, trials)

    lost = {TIMED_OUT: Outcome("timed out"), DIED: Outcome("killed", "", ("death",))}
    for mutant, found in run_each(judged, mutants, jobs, limit):
        yield mutant, lost.get(found, found)


def _outcome(mutant: Mutant, trials: Sequence[Trial]) -> Outcome:
    try:
        package = load({**sources(), mutant.module: mutant.source})
    except Exception:
        return Outcome("killed", "", ("import",))
    for trial in trials:
        try:
            failed = trial.run(package)
        except Exception as error:
            return Outcome("crashed", trial.name, (f"{type(error).__name__}: {error}",))
        if failed:
            return Outcome("killed", trial.name, failed)
    return Outcome("survived")
