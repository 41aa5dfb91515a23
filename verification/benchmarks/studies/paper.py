"""The studies of `--paper`: one for every model of the paper, in its protocol."""

from collections.abc import Iterator

from verification.benchmarks.paper.models import PaperModel
from verification.benchmarks.paper.plan import PATTERNS, Protocol, matrix, paper_models
from verification.benchmarks.studies.plan import Calibration, Evaluation, Run
from verification.benchmarks.studies.study import Study

HOURS = 24  # a model, on a GPU that holds it; the largest take longer


def paper_studies() -> dict[str, Study]:
    """By the model's label, the smallest model first."""
    models = sorted(paper_models(), key=lambda model: model.parameters)
    return {
        model.label: Study(
            model.label,
            "paper",
            f"What do the methods do to {model.label}?",
            60 * HOURS,
            tuple(paper_runs(model, Protocol())),
        )
        for model in models
    }


def paper_runs(model: PaperModel, protocol: Protocol) -> Iterator[Run]:
    """Every method and pattern on one model; the dense one comes by itself."""
    draw = Calibration(protocol.dataset, protocol.nsamples, protocol.seqlen, protocol.seed)
    text = Evaluation(
        protocol.evaluation_dataset,
        protocol.evaluation_seqlen,
        windows=None,
        items=None,
        reference=protocol.dataset,
    )
    for pruning in matrix(PATTERNS):
        yield Run(
            pruning.method,
            pruning.pattern,
            draw,
            text,
            model.hub_id,
            pruning.refit_steps,
            protocol.sparsegpt_block_size if pruning.method == "sparsegpt" else protocol.block_size,
            protocol.damping,
        )
