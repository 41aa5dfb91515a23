"""How much memory and disk the paper's measurements take, rough, from the sizes alone."""

from collections.abc import Iterable

from verification.benchmarks.paper.models import PaperModel
from verification.benchmarks.paper.plan import (
    METHODS,
    OUTLIERS,
    PATTERNS,
    REFIT_STEPS,
    REFITTED,
    Protocol,
    prunings,
)

HALF, SINGLE = 2, 4  # bytes of a number
HEADINGS = ["model", "hub id", "parameters", "runs", "GPU GiB", "disk GiB", "before the first run"]


def gpu_bytes(model: PaperModel, protocol: Protocol) -> int:
    """At the worst moment: the whole model evaluated in 16 bits, or its largest layer pruned.

    Pruning holds one decoder block, the Gram matrices of its distinct inputs, and a solver's
    copies of W and G, all but the block in float32.
    """
    sizes = model.sizes
    logits = protocol.evaluation_seqlen * sizes.vocabulary * (HALF + SINGLE)
    evaluating = HALF * model.parameters + logits
    layers = list(sizes.block.values())
    block = HALF * sum(rows * columns for rows, columns in layers)
    grams = SINGLE * sum(columns**2 for columns in sizes.gram_columns)
    solver = 2 * SINGLE * max(rows * columns + columns**2 for rows, columns in layers)
    return max(evaluating, block + grams + solver)


def disk_bytes(model: PaperModel) -> int:
    """The download, and the dense model's Gram matrices; no pruned model is written."""
    downloads = 2 if model.pickled else 1  # pickled weights are converted first
    columns = [columns for _, columns in model.sizes.block.values()]
    grams = model.sizes.layers * sum(width**2 for width in columns)
    return downloads * HALF * model.parameters + SINGLE * grams


def plan_rows(protocol: Protocol, models: Iterable[PaperModel]) -> list[list[str]]:
    """The rows of `thanos bench --paper --dry-run`, under `HEADINGS`; the last one sums up."""
    runs = len(list(prunings()))
    models = sorted(models, key=lambda model: model.parameters)
    rows = [
        [
            model.label,
            model.hub_id,
            f"{model.parameters / 1e9:.2f} B",
            str(runs),
            f"{gpu_bytes(model, protocol) / 2**30:.1f}",
            f"{disk_bytes(model) / 2**30:.1f}",
            preparation(model),
        ]
        for model in models
    ]
    memory = max(gpu_bytes(model, protocol) for model in models)
    disk = max(disk_bytes(model) for model in models)
    count = f"{len(models)} models" if len(models) > 1 else "1 model"
    total = [count, "", "", str(runs * len(models))]
    return [*rows, [*total, f"{memory / 2**30:.1f}", f"{disk / 2**30:.1f}", "one after the other"]]


def plan_lines(protocol: Protocol) -> list[str]:
    """The protocol, in sentences to stand beside the table."""
    return [
        f"Methods: {', '.join(METHODS)}; {', '.join(REFITTED)} also with {REFIT_STEPS} steps of "
        "refit, but for structured Thanos, which is its own.",
        f"Patterns: {', '.join(PATTERNS)}; n:m and structured ones by Thanos also with "
        f"{OUTLIERS.removeprefix('+')}.",
        f"Calibration: {protocol.nsamples} sequences of {protocol.seqlen} tokens of "
        f"{protocol.dataset}, seed {protocol.seed}.",
        f"Perplexity: {protocol.evaluation_dataset}, windows of {protocol.evaluation_seqlen}.",
        f"Tasks: {', '.join(protocol.tasks)}.",
        f"Blocks of {protocol.block_size} columns, {protocol.sparsegpt_block_size} for SparseGPT; "
        f"damping {protocol.damping}.",
    ]


def preparation(model: PaperModel) -> str:
    """What a user must do by hand."""
    steps = []
    if model.gated:
        steps.append("accept the licence")
    if model.pickled:
        steps.append("convert to safetensors")
    return ", ".join(steps)
