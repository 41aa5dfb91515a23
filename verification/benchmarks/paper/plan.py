"""The paper's measurements as plain data: models, methods, patterns, protocol.

Read in the published code (construct_tables.py, main.py, lib/data.py): 128 sequences of C4, seed 0;
blocks of 512 columns for Thanos and of 128 for SparseGPT; damping 0.01; unstructured, 4:8 and 2:4
at 50 %, structured at 30 %; outlier rows 0 and 0.1; seven zero-shot tasks. The code measures
perplexity in windows as long as the model can read (max_position_embeddings); here they are 2048
tokens for every model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from thanos_torch.evaluation.zero_shot import TASKS
from verification.benchmarks.paper.models import MODELS, Evidence, PaperModel

METHODS = ("magnitude", "wanda", "sparsegpt", "thanos")
PATTERNS = ("unstructured:0.5", "4:8", "2:4", "structured:0.3")
OUTLIERS = "+outliers:0.1"  # for Thanos alone: the other methods refuse outlier rows
REFIT_STEPS = 10
# Magnitude's mask knows nothing of the inputs: no control for what a refit is worth.
REFITTED = ("wanda", "sparsegpt", "thanos")


@dataclass(frozen=True)
class Protocol:
    """What all runs share."""

    dataset: str = "c4"
    nsamples: int = 128
    seqlen: int = 2048
    seed: int = 0
    evaluation_dataset: str = "wikitext2"
    evaluation_seqlen: int = 2048
    block_size: int = 512
    sparsegpt_block_size: int = 128
    damping: float = 0.01
    tasks: tuple[str, ...] = TASKS


@dataclass(frozen=True)
class Pruning:
    """A method with its pattern in text form; "dense" has none."""

    method: str
    pattern: str
    refit_steps: int = 0


@dataclass(frozen=True)
class PaperRun:
    """One pruned model: its label in `MODELS`, and what is done to it."""

    model: str
    pruning: Pruning


def prunings(refits: bool = True) -> Iterator[Pruning]:
    """Dense first, then method x pattern, outlier rows, and refits, which are not of the paper."""
    yield Pruning("dense", "")
    for pattern in PATTERNS:
        for method in METHODS:
            yield Pruning(method, pattern)
        if not pattern.startswith("unstructured"):
            yield Pruning("thanos", pattern + OUTLIERS)
        for method in REFITTED if refits else ():
            # Structured Thanos is one block, and so at its optimum already: spec T6.
            if (method, pattern) != ("thanos", "structured:0.3"):
                yield Pruning(method, pattern, REFIT_STEPS)


def paper_models() -> tuple[PaperModel, ...]:
    """The models of the paper's tables."""
    return tuple(model for model in MODELS if model.evidence is Evidence.TABLES)


def paper_runs(refits: bool = True) -> Iterator[PaperRun]:
    """Everything that `thanos bench --paper` does, the smallest model first."""
    for model in sorted(paper_models(), key=lambda model: model.parameters):
        for pruning in prunings(refits):
            yield PaperRun(model.label, pruning)
