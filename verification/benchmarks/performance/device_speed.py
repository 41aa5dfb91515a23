"""`thanos bench speed --device cuda`: pruning and certifying layers beside the limits of a card."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import thanos_torch
from reference.patterns import parse_pattern
from verification import certify
from verification.benchmarks.environment import Progress, clock, environment
from verification.benchmarks.performance.cases import SEMI, UNSTRUCTURED, LayerCell, Shape
from verification.benchmarks.performance.measure import INPUTS
from verification.benchmarks.performance.published import published_sparsegpt, published_thanos
from verification.benchmarks.performance.roofline import Card, least_seconds
from verification.benchmarks.performance.timing import peak_memory, random_layer, repeated

LAYERS = "layers.json"
PUBLISHED = {"published sparsegpt": published_sparsegpt, "published thanos": published_thanos}
CASES = tuple(
    (method, pattern)
    for method in ("thanos", "sparsegpt", *PUBLISHED)
    for pattern in (UNSTRUCTURED, SEMI)
)
SAME_LOSS = 0.01  # the published procedures break ties and count slightly differently
YARDSTICK = 8192  # rows and columns of the products whose rate is the card's
FEW = 4096  # columns up to which a published procedure's launches are counted: minutes otherwise
# Promises: the most time as a multiple of the card's limit, by the number of columns; the most time
# of Thanos over the published SparseGPT's, and of a certificate over pruning.
OF_LIMIT = {4096: 5.0, 14336: 3.0}
OF_PUBLISHED, OF_PRUNING = 0.5, 3.0
Record = dict[str, Any]


def measure_layers(
    device: str,
    shapes: Sequence[Shape],
    command: str,
    progress: Progress,
    save: Callable[[Mapping[str, Any]], None],
    yardstick: int = YARDSTICK,
) -> dict[str, Any]:
    """Time CASES on layers of some shapes, then judge what they made; the content of LAYERS.

    save  called with all that is measured whenever there is more of it

    No time counts before its layer is judged. That comes last, because it takes longest.
    """
    card = measured_card(device, yardstick)
    results: dict[str, Any] = {
        "command": command,
        "environment": environment(device),
        "device": device,
        "card": asdict(card),
        "layers": [],
    }
    cells = [(method, pattern, shape) for shape in shapes for method, pattern in CASES]
    for number, (method, pattern, shape) in enumerate(cells):
        progress(f"{method}, {pattern}, {shape[0]} x {shape[1]}", number, 2 * len(cells))
        results["layers"].append(time_case(method, pattern, shape, card, device))
        save(results)
    for number, record in enumerate(results["layers"], len(cells)):
        progress(f"judging {record['method']}, {record['pattern']}", number, 2 * len(cells))
        judge_case(record, device)
        save(results)
    return results


def measured_card(device: str, yardstick: int) -> Card:
    """The rates of products and of a copy on this machine.

    yardstick  rows and columns of the products, and of the float32 matrix that is copied
    """
    A = torch.randn(yardstick, yardstick, device=device)
    B, A64 = torch.empty_like(A), A.double()
    products = _best(lambda: A @ A, device), _best(lambda: A64 @ A64, device)
    float32, float64 = (2 * yardstick**3 / seconds for seconds in products)
    bandwidth = 2 * 4 * yardstick**2 / _best(lambda: B.copy_(A), device)
    name = "this CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return Card(name, float32, float64, bandwidth, "measured here")


def _best(run: Callable[[], object], device: str) -> float:
    run()
    return min(repeated(run, device))


def time_case(method: str, pattern: str, shape: Shape, card: Card, device: str) -> Record:
    """Time a method on a layer. `right` is None until the result is judged."""
    layer = random_layer(shape, INPUTS, device)

    def run() -> object:
        return _prune(method, pattern, shape, *layer)

    run()  # compiles the kernels
    memory = launches = None
    if device != "cpu":
        memory, _ = peak_memory(run, device)
        if method not in PUBLISHED or shape[1] <= FEW:
            launches = profiled_launches(run)
    repeats = repeated(run, device)
    # The published Thanos does what Thanos does.
    limit_of = "thanos" if method == "published thanos" else method
    return {
        "method": method,
        "pattern": pattern,
        "shape": shape,
        "seconds": median(repeats),
        "repeats": repeats,
        "memory": memory,
        "launches": launches,
        "limit": least_seconds(limit_of, parse_pattern(pattern), *shape, card),
        "right": None,
        "certificate_seconds": None,
    }


def _prune(method: str, pattern: str, shape: Shape, W: Tensor, G: Tensor) -> Any:
    """The layer and what is kept of it, as of `LayerOptions.prune`; published: the weight."""
    if method in PUBLISHED:
        return PUBLISHED[method](W, G, parse_pattern(pattern))
    return LayerCell(*shape, method, pattern).options.prune(W, G)


def judge_case(record: Record, device: str) -> None:
    """Certify a result; hold a published procedure's loss against ours. Fills `right`."""
    method, pattern, (rows, columns) = record["method"], record["pattern"], record["shape"]
    shape = rows, columns
    W, G = random_layer(shape, INPUTS, device)
    found = _prune(method, pattern, shape, W, G)
    if method in PUBLISHED:
        _, ours = _prune(method.removeprefix("published "), pattern, shape, W, G)
        theirs = thanos_torch.objective(W, G, found, damping=0.01)
        loss = float(ours.block_losses.sum())
        record["right"] = bool(abs(theirs - loss) <= SAME_LOSS * loss)
        return
    verdicts: list[Any] = []
    options = LayerCell(rows, columns, method, pattern).options
    record["certificate_seconds"] = clock(
        lambda: verdicts.append(options.verdict(certify, W, G, *found)), device
    )
    record["right"] = verdicts[0].passed is True


def profiled_launches(run: Callable[[], object]) -> int:
    """Kernels that a call launches on a GPU, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        run()
        torch.cuda.synchronize()
    return sum(each.count for each in recorded.key_averages() if "LaunchKernel" in each.key)


def promises(results: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """What issue-sized layers promise on a data-centre card, whether it holds, the numbers."""
    found = {(each["method"], each["pattern"], *each["shape"]): each for each in results["layers"]}
    own = [each for each in found.values() if each["method"] == "thanos"]
    large = [each for each in own if max(each["shape"]) >= min(OF_LIMIT)]
    limits, published, ours = [], [], []
    for each in large:
        seconds, key = each["seconds"], (each["pattern"], *each["shape"])
        most = OF_LIMIT.get(each["shape"][1])
        limits += [seconds / each["limit"] / most] if most else []
        if other := found.get(("published sparsegpt", *key)):
            published.append(seconds / other["seconds"] / OF_PUBLISHED)
        if other := found.get(("sparsegpt", *key)):
            ours.append(seconds / other["seconds"])
    certified = [each for each in large if each["certificate_seconds"] is not None]
    shares = [each["certificate_seconds"] / each["seconds"] / OF_PRUNING for each in certified]
    right = [each["right"] is True for each in found.values()]
    return [
        _promise("the card's limit", limits),
        _promise("half of the published SparseGPT", published),
        _promise("our SparseGPT", ours),
        _promise("certificates", shares),
        ("right results", all(right), f"{sum(right)} of {len(right)} times"),
    ]


def _promise(what: str, ratios: Iterable[float]) -> tuple[str, bool, str]:
    """A bound that holds if no ratio exceeds 1. Nothing measured keeps no promise."""
    worst = max(ratios, default=float("inf"))
    return what, worst <= 1, f"at most {worst:.2f} of what is allowed"
