"""The study of architectures: small models of four families, trained here, then pruned."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from verification.benchmarks.environment import cores
from verification.benchmarks.paper.plan import PATTERNS, matrix
from verification.benchmarks.small_models.corpus import read_texts
from verification.benchmarks.small_models.families import FAMILIES, PREFIX
from verification.benchmarks.small_models.run import train_family
from verification.benchmarks.small_models.training import Schedule
from verification.benchmarks.studies.plan import Calibration, Evaluation, Run
from verification.benchmarks.studies.resources import Resources

# Windows as long as those that the models learned from: OPT has no other positions.
WINDOW = Schedule.seqlen
CALIBRATION = Calibration("c4", 64, WINDOW)
EVALUATION = Evaluation("wikitext2", WINDOW, 256, reference="c4")


def architecture_runs() -> Iterator[Run]:
    """Family x method x pattern as in the paper, and refits."""
    for family in FAMILIES:
        for pruning in matrix(PATTERNS):
            yield Run(
                pruning.method,
                pruning.pattern,
                CALIBRATION,
                EVALUATION,
                PREFIX + family,
                pruning.refit_steps,
            )


def train_models(
    resources: Resources, progress: Callable[[str, int, int], None], command: str
) -> dict[str, Any]:
    """Train what is not there yet; the records of all trainings, by the model's name.

    Raises ValueError if a model did not learn: its pruning would say nothing.
    """
    assert resources.models is not None
    torch.set_num_threads(cores())
    texts = read_texts([resources.dataset("c4")], resources.dataset(EVALUATION.dataset))
    records = {}
    for family in FAMILIES:
        name = PREFIX + family
        record = train_family(
            family, texts, Schedule(), resources.models / name, command, _named(name, progress)
        )
        if not record["well_below_unigram"]:
            raise ValueError(f"{name} has not learned enough: {record['ratio']:.2f} of a unigram's")
        records[name] = record
    return {"trainings": records}


def _named(name: str, progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    return lambda note, done, of: progress(f"{name}: {note}", done, of)
