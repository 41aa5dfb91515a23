"""Timing one layer: product units, peak memory, and the certificate before any of them counts."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import thanos_torch
from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from verification import certify
from verification.benchmarks.clock import clock
from verification.benchmarks.speed.limits import Published
from verification.benchmarks.speed.published import published_sparsegpt

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
