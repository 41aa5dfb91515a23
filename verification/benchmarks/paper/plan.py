"""The paper's measurements as plain data: models, methods, patterns, protocol.

Read in the published code (construct_tables.py, main.py, lib/data.py): 128 sequences of C4, seed 0;
blocks of 512 columns for Thanos and of 128 for SparseGPT; damping 0.01; unstructured, 4:8 and 2:4
at 50 %, structured at 30 %; outlier rows 0 and 0.1; seven zero-shot tasks. The code measures
perplexity in windows as long as the model can read (max_position_embeddings); here they are 2048
tokens for every model.
"""

from collections.abc import Iterable, Iterator
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


def prunings() -> Iterator[Pruning]:
    """What the paper does to a model, dense first; and refits, which are not of the paper."""
    yield Pruning("dense", "")
    yield from matrix(PATTERNS)


def matrix(patterns: Iterable[str]) -> Iterator[Pruning]:
    """Method x pattern, with outlier rows where a pattern may have them, and refits."""
    for pattern in patterns:
        for method in METHODS:
            yield Pruning(method, pattern)
        if not pattern.startswith("unstructured"):
            yield Pruning("thanos", pattern + OUTLIERS)
        for method in REFITTED:
            # Structured Thanos is one block, and so at its optimum already: spec T6.
            if not (method == "thanos" and pattern.startswith("structured")):
                yield Pruning(method, pattern, REFIT_STEPS)


def paper_models() -> tuple[PaperModel, ...]:
    """The models of the paper's tables."""
    return tuple(model for model in MODELS if model.evidence is Evidence.TABLES)
