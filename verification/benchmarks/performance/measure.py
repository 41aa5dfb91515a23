"""Timing one layer: product units, peak memory, and the certificate before any of them counts."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import thanos_torch
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from thanos_torch import Gram, Pruned
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    calibration_windows,
    load_model,
    prune_model,
)
from thanos_torch.pruning.plan import LayerOptions
from thanos_torch.runtime.clock import blas_threads
from verification import certify
from verification.benchmarks.environment import clock
from verification.benchmarks.performance.cases import (
    MODEL_SHARE,
    Cell,
    GramCell,
    LayerCell,
    ModelCell,
    PassCell,
    PeakCell,
    Published,
)
from verification.benchmarks.performance.laws import stages_of
from verification.benchmarks.performance.predict import decoder_block
from verification.benchmarks.performance.published import published_sparsegpt
from verification.benchmarks.performance.stages import Stages, stage_seconds, yardstick

DAMPING = 0.01
SEED = 0
SAME_LOSS = 0.01  # its ties and counts differ a little from the specification's


@dataclass(frozen=True)
class Timing:
    """One method on one layer.

    units     median of the time over that of the product just before it
    seconds   median
    peak      share of the machine's float32 matrix-product speed that useful operations reach
    memory    most bytes of tensors at one time, beyond input and result
    operations  floating-point operations that the algorithm cannot do without
    steps     most conjugate-gradient steps in a block, and their mean over blocks
    """

    method: str
    pattern: str
    shape: tuple[int, int]
    block_size: int
    inputs: str
    units: float
    seconds: float
    peak: float
    memory: int
    steps: tuple[int, float]
    operations: float
    factor: str
    direct_rows: int
    certified: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def layer(shape: tuple[int, int], inputs: str, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """W and G for `independent` inputs, or `correlated` ones: loud shared directions."""
    rows, columns = shape
    generator = torch.Generator().manual_seed(SEED)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    X = normal(columns, 2 * columns)
    if inputs == "correlated":
        X *= torch.rand(columns, 1, generator=generator).add(0.1)
        X += normal(columns, 8) @ normal(8, 2 * columns)
    W = normal(rows, columns)
    return W.to(device), (X @ X.T).to(device)


def time_layer(
    method: str,
    pattern: Pattern,
    shape: tuple[int, int],
    *,
    block_size: int = 128,
    inputs: str = "independent",
    repeats: int = 3,
    device: str = "cpu",
    made: tuple[Tensor, Tensor] | None = None,
) -> Timing:
    """Prune a layer some times; see Timing. `made` is its W and G, if they are at hand."""
    W, G = made or layer(shape, inputs, device)
    prune = getattr(thanos_torch, method)

    def run() -> Any:
        return prune(W, G, pattern, block_size=block_size, damping=DAMPING)

    memory, pruned = peak_memory(run, device)
    certified = certify(
        W.cpu().numpy(),
        G.cpu().numpy(),
        pruned.weight.cpu().numpy(),
        pattern,
        method=method,
        block_size=block_size,
        damping=DAMPING,
        arithmetic="float32",
        mask=pruned.mask.cpu().numpy(),
        block_losses=pruned.block_losses.cpu().numpy(),
    ).passed
    units, seconds = timed(run, G, repeats, device)
    steps = pruned.diagnostics.solver_steps
    needed = operations(method, pattern, shape, block_size, steps)
    result_bytes = pruned.weight.nbytes + pruned.mask.nbytes
    return Timing(
        method,
        str(pattern),
        shape,
        block_size,
        inputs,
        units,
        seconds,
        needed / (2 * shape[1] ** 3) / units,
        max(0, memory - result_bytes),
        (max(steps, default=0), sum(steps) / max(1, len(steps))),
        needed,
        pruned.diagnostics.factor,
        pruned.diagnostics.direct_rows,
        certified,
    )


def time_published(shape: tuple[int, int], repeats: int, made: tuple[Tensor, Tensor]) -> Published:
    """Product units of the published SparseGPT; RuntimeError if its loss is not SparseGPT's."""
    W, G = made
    units = []
    for pattern in (Unstructured(0.5), SemiStructured(2, 4)):
        theirs = thanos_torch.objective(W, G, published_sparsegpt(W, G, pattern), damping=DAMPING)
        ours = float(thanos_torch.sparsegpt(W, G, pattern).block_losses.sum())
        if not abs(theirs - ours) <= SAME_LOSS * ours:
            raise RuntimeError(f"the published procedure loses {theirs}, SparseGPT {ours}")

        def run(pattern: Pattern = pattern) -> Any:
            return published_sparsegpt(W, G, pattern)

        units.append(timed(run, G, repeats, W.device.type)[0])
    return Published(*units)


def timed(run: Callable[[], Any], G: Tensor, repeats: int, device: str) -> tuple[float, float]:
    """Medians of some runs: product units, seconds."""
    A, B = torch.randn_like(G), torch.randn_like(G)
    clock(lambda: A @ B, device)
    seconds, units = [], []
    for _ in range(repeats):
        # A product is short: the mean of some, before and after what is measured.
        before = product_seconds(A, B, device)
        seconds.append(clock(run, device))
        units.append(seconds[-1] / ((before + product_seconds(A, B, device)) / 2))
    return median(units), median(seconds)


def product_seconds(A: Tensor, B: Tensor, device: str) -> float:
    """The mean of as many products as take a tenth of a second, three at most, one at least."""
    times = [clock(lambda: A @ B, device)]
    while sum(times) < 0.1 and len(times) < 3:
        times.append(clock(lambda: A @ B, device))
    return sum(times) / len(times)


def operations(
    method: str, pattern: Pattern, shape: tuple[int, int], block_size: int, steps: list[int]
) -> float:
    """Floating-point operations that the algorithm cannot do without, in matrix products."""
    rows, columns = shape
    if isinstance(pattern, Structured):
        kept = columns - pattern.removed(columns)
        return columns**3 / 3 + rows * kept**2 + 2 * rows * kept * (columns - kept)
    factor = 2 * columns**3 / 3  # Cholesky, and the inverse of a triangle
    update = rows * columns**2
    width = min(block_size, columns)
    if method == "sparsegpt":
        return factor + update + rows * columns * width
    # Two products a step, one before the first, two for E_k and the block's new weights.
    solver = sum(2 * rows * width**2 * (2 * taken + 3) for taken in steps)
    return factor + update + solver


def peak_memory(run: Callable[[], Any], device: str = "cpu") -> tuple[int, Any]:
    """Most bytes of tensors that a call has in use at one time, and what it returns.

    As PyTorch's allocators count them, which repeats to the byte. The memory of the process would
    also move with what malloc, libraries and the system keep, by a tenth of a gigabyte here.
    """
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = run()
        return torch.cuda.max_memory_allocated() - before, result
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    events = [event for event in recorded.profiler.kineto_results.events()
              if event.name() == "[memory]"]  # fmt: skip
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0)), result


WINDOWS, LENGTH = 16, 1024  # 16 thousand tokens
Progress = Callable[[str, int, int], None]


def measure_model(
    every: int, progress: Progress | None = None, dataset: str = DEFAULT_DATASET
) -> dict[str, Any]:
    """Prune the layers of every so many-th decoder block of SmolLM2-135M, unstructured 50 %.

    Blocks that are left dense are passed once instead of twice: the time of calibration is scaled
    to two passes of every block, that of Gram matrices and of pruning to all layers, as if blocks
    were alike. The Gram matrices are part of calibrating: passes without them would be for nothing.
    """
    loaded = load_model(DEFAULT_MODEL)
    windows = calibration_windows(
        loaded.tokenizer, dataset, nsamples=WINDOWS, seqlen=LENGTH, seed=0
    ).ids
    with stage_seconds() as stages:
        report = prune_model(
            loaded.model,
            windows,
            Unstructured(0.5),
            judge=certify,
            progress=progress,
            only=lambda block: block % every == 0,
        )
    blocks = loaded.model.config.num_hidden_layers
    pruned = len(range(0, blocks, every))
    passes = report.seconds["calibration"] * 2 * blocks / (blocks + pruned)
    calibration = passes + report.seconds["gram"] * blocks / pruned
    pruning = report.seconds["pruning"] * blocks / pruned
    records = [each for each in report.layers if not each.left_dense]
    layers: list[dict[str, Any]] = [
        {
            "name": each.name,
            "shape": each.shape,
            "seconds": each.seconds,
            "certified": each.verified,
            **each.diagnostics,
        }
        for each in records
    ]
    return {
        "model": DEFAULT_MODEL,
        "dataset": dataset,
        "origin": loaded.origin,
        "tokens": WINDOWS * LENGTH,
        "threads": torch.get_num_threads(),
        "blocks": blocks,
        "pruned_blocks": pruned,
        "seconds": dict(report.seconds),
        "stages": {**stages, "update": report.seconds["pruning"] - sum(stages.values())},
        "passes_of_all": passes,
        "calibration_of_all": calibration,
        "pruning_of_all": pruning,
        "share": pruning / calibration,
        "limit": MODEL_SHARE,
        "certified": all(each.verified for each in records),
        "most_steps": max(max(each["solver_steps"]) for each in layers),
        "direct_rows": sum(each["direct_rows"] for each in layers),
        "layers": layers,
    }


# Repeats go on until both are reached, or there are MOST of them.
LEAST, SECONDS, MOST = 3, 0.3, 15
SLOW = 5.0  # seconds, from which on two repeats do
AGREE = 1.2  # if neither takes so many times the other: then one of them was held up
SLOW_VERDICT = 6.0  # seconds, from which on a certificate is timed no further
INPUTS = "correlated"  # loud shared directions, as in real activations

_PREPARE = [
    ("thanos_torch.methods.baselines", "prepare"),
    ("thanos_torch.methods.thanos", "prepare"),
    ("thanos_torch.methods.problem", "ScaledLayer.scaled_weight"),
]
_ZEROING: Stages = {
    "prepare": _PREPARE,
    "factor": [("thanos_torch.methods.factor", "reversed_cholesky")],
    "masks": [("thanos_torch.methods.baselines", "_mask")],
}
# What is none of these is the stage "update".
STAGES: dict[str, Stages] = {
    "magnitude": _ZEROING,
    "wanda": _ZEROING,
    "sparsegpt": {
        "prepare": _PREPARE,
        "factor": [("thanos_torch.methods.factor", "inverse_factor")],
        "masks": [
            ("thanos_torch.methods.baselines", "smallest"),
            ("thanos_torch.methods.baselines", "whole_columns"),
        ],
        "solve": [
            ("thanos_torch.methods.baselines", "sequential_update"),
            ("thanos_torch.methods.baselines", "choosing_sequential_update"),
        ],
    },
    "thanos": {
        "prepare": _PREPARE,
        "factor": [
            ("thanos_torch.methods.factor", "inverse_factor"),
            ("thanos_torch.methods.structured", "reversed_cholesky"),
        ],
        "masks": [
            ("thanos_torch.methods.thanos", "MaskRule.choose"),
            ("thanos_torch.methods.structured", "_column_scores"),
            ("thanos_torch.methods.structured", "smallest"),
        ],
        "solve": [
            ("thanos_torch.methods.thanos", "joint_update"),
            ("thanos_torch.methods.structured", "_joint"),
        ],
        "refit": [("thanos_torch.pruning.plan", "refit")],
    },
}


def measure(cell: Cell) -> dict[str, Any]:
    """The record of a cell, JSON-able; `passed` tells whether its times may be counted."""
    start, before = time.perf_counter(), yardstick()
    if isinstance(cell, LayerCell):
        record = measure_layer(cell)
    elif isinstance(cell, GramCell):
        record = _gram(cell)
    elif isinstance(cell, PassCell):
        record = _pass(cell)
    elif isinstance(cell, PeakCell):
        record = _peak(cell)
    else:
        record = _model(cell)
    slower = max(before, yardstick())
    wall = time.perf_counter() - start
    return {**record, "wall_seconds": wall, "yardstick_seconds": slower}


def measure_layer(cell: LayerCell) -> dict[str, Any]:
    """Prune and certify one layer, then time it: every repeat must return the certified result."""
    W, G = _inputs(cell.rows, cell.columns)
    options = cell.options
    memory, (pruned, kept) = peak_memory(lambda: options.prune(W, G))
    verdict, judging = _judged(options, W, G, pruned, kept)
    totals: list[float] = []
    stages: list[dict[str, float]] = []
    passed = verdict["passed"] is True
    while not _enough(totals):
        spent, again, whole = _staged(options, W, G)
        totals.append(whole)
        stages.append({**spent, "update": whole - sum(spent.values())})
        passed = passed and _same(again, kept)
    taken = kept.diagnostics.solver_steps
    names = stages_of(cell.method, cell.pattern, cell.refit_steps)
    return {
        "name": f"{cell.rows} x {cell.columns}",
        "shape": [cell.rows, cell.columns],
        "held_out": cell.held_out,
        **_times(totals),
        "stages": {name: median(each[name] for each in stages) for name in names},
        "certificate_seconds": median(judging),
        "peak_memory_bytes": memory,
        "passed": passed,
        "checks": {check["name"]: check["value"] for check in verdict["checks"]},
        "steps": _steps([taken]),
        "direct_rows": kept.diagnostics.direct_rows,
        "factor": kept.diagnostics.factor,
    }


@lru_cache(maxsize=1)
def _inputs(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """W and G of a shape, which the plan's next cells ask for again."""
    return layer((rows, columns), INPUTS)


def _judged(
    options: LayerOptions, W: Tensor, G: Tensor, pruned: Pruned, kept: Pruned
) -> tuple[Any, list[float]]:
    """The verdict as data, and the seconds that it took: a few times, or once where that is slow.

    The first time is not counted, as in pruning: it asks the system for memory, which of a large
    layer takes several times as long as the certificate; those of a model's layers share it.
    """
    with blas_threads(len(G)):
        verdict: Any = options.verdict(certify, W, G, pruned, kept)
        seconds: list[float] = []
        while len(seconds) < (LEAST if sum(seconds) < SLOW_VERDICT else 1):
            seconds.append(clock(lambda: options.verdict(certify, W, G, pruned, kept)))
    return verdict.as_dict(), seconds


def _staged(options: LayerOptions, W: Tensor, G: Tensor) -> tuple[dict[str, float], Pruned, float]:
    """Seconds by stage, the result, seconds in all."""
    kept: list[Pruned] = []
    with stage_seconds(STAGES[options.method]) as spent:
        whole = clock(lambda: kept.append(options.prune(W, G)[1]))
    return spent, kept[0], whole


def _steps(layers: list[list[int]]) -> dict[str, float]:
    """Means over layers: of all blocks before their last, and of their last."""
    before = [taken for each in layers for taken in each[:-1]]
    last = [each[-1] for each in layers if each]
    return {"before": mean(before or [0.0]), "last": mean(last or [0.0])}


def _same(one: Pruned, other: Pruned) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.mask, other.mask)


def _enough(totals: list[float]) -> bool:
    agree = len(totals) > 1 and max(totals) <= AGREE * min(totals)
    least = 2 if sum(totals) > SLOW and agree else LEAST
    return len(totals) >= least and (sum(totals) >= SECONDS or len(totals) >= MOST)


def _times(totals: list[float]) -> dict[str, Any]:
    """Median, and the distance of the farthest repeats relative to it."""
    middle = median(totals)
    return {
        "seconds": middle,
        "repeats": totals,
        "spread": (max(totals) - min(totals)) / middle,
    }


def _timed(run: Callable[[], Any]) -> dict[str, Any]:
    run()
    totals: list[float] = []
    while not _enough(totals):
        totals.append(clock(run))
    return _times(totals)


def _gram(cell: GramCell) -> dict[str, Any]:
    """One batch added; right if no entry is off by more than rounding in any order explains."""
    X = torch.randn(cell.tokens, cell.columns, generator=torch.Generator().manual_seed(0))
    gram = Gram(cell.columns)
    gram.add(X)
    exact = X.double().T @ X.double()
    norms = exact.diagonal().sqrt()
    bound = cell.tokens * 2.0**-24 * norms * norms[:, None]
    passed = bool(((gram.matrix() - exact).abs() <= bound).all())
    return {"held_out": cell.held_out, **_timed(lambda: gram.add(X)), "passed": passed}


def _pass(cell: PassCell) -> dict[str, Any]:
    """The model's own code runs, nothing of this project: right if every output is finite."""
    block = decoder_block(cell.hidden, cell.intermediate)
    X = torch.randn(1, cell.tokens, cell.hidden, generator=torch.Generator().manual_seed(0))
    passed = bool(block.run(X).isfinite().all())
    facts = {"weights": block.weights, "widths": block.widths}
    return {
        "held_out": cell.held_out,
        **facts,
        **_timed(lambda: block.run(X)),
        "passed": passed,
    }


def _peak(cell: PeakCell) -> dict[str, Any]:
    """Operations a second of float32 products, the best of a few; they are PyTorch's own."""
    A = torch.randn(cell.size, cell.size, generator=torch.Generator().manual_seed(0))
    B = A.T.contiguous()
    product_seconds(A, B, "cpu")
    fastest = min(product_seconds(A, B, "cpu") for _ in range(5))
    return {"operations_per_second": 2 * cell.size**3 / fastest, "passed": True}


def _model(cell: ModelCell) -> dict[str, Any]:
    """See `measure_model`: times are scaled to all blocks."""
    measured = measure_model(cell.every)
    pruned = measured["blocks"] / measured["pruned_blocks"]
    seconds = measured["seconds"]
    return {
        "model": measured["model"],
        "tokens": measured["tokens"],
        "length": LENGTH,
        "steps": _steps([each["solver_steps"] for each in measured["layers"]]),
        "seconds": {
            "calibration": measured["passes_of_all"],
            "gram": seconds["gram"] * pruned,
            "pruning": measured["pruning_of_all"],
            "certificates": seconds["certificates"] * pruned,
        },
        "passed": measured["certified"],
    }
