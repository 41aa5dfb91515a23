"""How far a run is, from what its process reports."""

from verification.benchmarks.studies.plan import Run

EVALUATING = "evaluating"
TASKS = "zero-shot tasks"
FINISHED = "finished"  # also of runs that need not be made again; any other report is of pruning
# Where each phase begins, as a share of the run's time: rough, as a bar that never goes back needs
# no more. On a short text; and on the whole test set with tasks, as Thanos in 2:4 took 43 minutes.
SHORT = {EVALUATING: 2 / 3}
LONG = {EVALUATING: 0.13, TASKS: 0.74}


def share_done(run: Run, note: str, done: int, of: int) -> float:
    """From 0 to 1. note, done, of: what `engine.measure` tells its `progress`."""
    if note == FINISHED:
        return 1.0
    begins = SHORT if run.evaluation.items == 0 else LONG
    starts = [0.0, *begins.values(), 1.0]
    phase = [*begins].index(note) + 1 if note in begins else 0
    start, end = starts[phase : phase + 2]
    return start + (end - start) * done / of
