"""The paper's experiments: methods, patterns, protocol, and what they need in memory and on disk.

From the published code (construct_tables.py, main.py, lib/data.py): 128 sequences of C4, seed 0;
blocks of 512 columns for Thanos and of 128 for SparseGPT; damping 0.01; unstructured, 4:8 and 2:4
at 50 %, structured at 30 %; outlier rows 0 and 0.1; seven zero-shot tasks. One difference: that
code measures perplexity in windows of the model's longest context (max_position_embeddings), this
one in windows of 2048 tokens for every model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from thanos_torch.evaluation.zero_shot import TASKS
from verification.benchmarks.quality.paper_models import MODELS, PaperEvidence, PaperModel

METHODS = ("magnitude", "wanda", "sparsegpt", "thanos")
PATTERNS = ("unstructured:0.5", "4:8", "2:4", "structured:0.3")
OUTLIERS = "+outliers:0.1"  # for Thanos only: the other methods refuse outlier rows
REFIT_STEPS = 10
# Without magnitude, whose mask ignores the inputs: it would not show what a refit is worth.
REFITTED = ("wanda", "sparsegpt", "thanos")


@dataclass(frozen=True)
class Protocol:
    """Settings that all runs share."""

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
    """A method with a pattern in text form."""

    method: str
    pattern: str
    refit_steps: int = 0


def prunings() -> Iterator[Pruning]:
    """Every method with every pattern, outlier rows where they are possible, and refits.

    The refits are not part of the paper.
    """
    for pattern in PATTERNS:
        for method in METHODS:
            yield Pruning(method, pattern)
        if not pattern.startswith("unstructured"):
            yield Pruning("thanos", pattern + OUTLIERS)
        for method in REFITTED:
            # Structured Thanos is one block, so that a refit cannot improve it: spec T6.
            if not (method == "thanos" and pattern.startswith("structured")):
                yield Pruning(method, pattern, REFIT_STEPS)


def paper_models() -> tuple[PaperModel, ...]:
    """The models of the paper's tables."""
    return tuple(model for model in MODELS if model.evidence is PaperEvidence.TABLES)


HALF, SINGLE = 2, 4  # bytes of a number
HEADINGS = ["model", "hub id", "parameters", "runs", "GPU GiB", "disk GiB", "before the first run"]


def gpu_bytes(model: PaperModel, protocol: Protocol) -> int:
    """Estimated peak memory: evaluation of the whole model in 16 bits, or pruning of one block.

    Pruning holds one decoder block in 16 bits, and in float32 the Gram matrices of its distinct
    inputs and the solver's copies of W and G.
    """
    evaluating = evaluating_bytes(
        model.parameters, model.config["vocab_size"], protocol.evaluation_seqlen
    )
    block = HALF * sum(rows * columns for rows, columns in model.block)
    grams = SINGLE * sum(columns**2 for columns in model.gram_columns)
    solver = 2 * SINGLE * max(rows * columns + columns**2 for rows, columns in model.block)
    return max(evaluating, block + grams + solver)


def evaluating_bytes(parameters: int, vocabulary: int, seqlen: int) -> int:
    """Estimated memory of evaluation in 16 bits: the weights, and the logits of one window."""
    return HALF * parameters + seqlen * vocabulary * (HALF + SINGLE)


def disk_bytes(model: PaperModel) -> int:
    """Size of the download and of the dense model's Gram matrices; no pruned model is written."""
    downloads = 2 if model.pickled else 1  # pickled weights are converted first
    grams = model.layers * sum(columns**2 for _, columns in model.block)
    return downloads * HALF * model.parameters + SINGLE * grams


def plan_rows(protocol: Protocol, models: Iterable[PaperModel]) -> list[list[str]]:
    """The table of `thanos bench --paper --dry-run` below HEADINGS; the last row is the total."""
    runs = 1 + len(list(prunings()))  # and the dense model
    models = sorted(models, key=lambda model: model.parameters)
    rows = [
        [
            model.label,
            model.hub_id,
            f"{model.parameters / 1e9:.2f} B",
            str(runs),
            f"{gpu_bytes(model, protocol) / 2**30:.1f}",
            f"{disk_bytes(model) / 2**30:.1f}",
            preparation(model.gated, model.pickled),
        ]
        for model in models
    ]
    memory = max(gpu_bytes(model, protocol) for model in models)
    disk = max(disk_bytes(model) for model in models)
    count = f"{len(models)} models" if len(models) > 1 else "1 model"
    total = [count, "", "", str(runs * len(models))]
    return [*rows, [*total, f"{memory / 2**30:.1f}", f"{disk / 2**30:.1f}", "one after the other"]]


def plan_lines(protocol: Protocol) -> list[str]:
    """Sentences that describe the protocol, to be printed with the table."""
    return [
        f"Methods: {', '.join(METHODS)}. {REFIT_STEPS} steps of refit as well: "
        f"{', '.join(REFITTED)}; structured thanos excepted, which a refit cannot improve.",
        f"Patterns: {', '.join(PATTERNS)}; the last three also with {OUTLIERS} for thanos.",
        f"Settings: {', '.join(f'{name} {value}' for name, value in vars(protocol).items())}.",
    ]


def preparation(gated: bool, pickled: bool) -> str:
    """Steps that the user must take by hand before the first run."""
    steps = []
    if gated:
        steps.append("accept the licence")
    if pickled:
        steps.append("convert to safetensors")
    return ", ".join(steps)
