"""Measures how close our implementations come to each threshold of the judge.

`python -m verification.tolerances` writes docs/results/tolerances.json and the table of
docs/tolerances.md.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import reference  # before NumPy: reference/threads.py

# isort: split
import numpy as np

from reference.arrays import Array
from reference.patterns import SemiStructured, Structured, Unstructured
from reference.problem import damped
from reference.update import joint_update
from verification.benchmarks.environment import environment
from verification.certificate import certify
from verification.conformance import Case, Verdict, judge, load_cases
from verification.conformance.callables import PythonFunction, load_callable
from verification.conformance.made import made_case
from verification.conformance.storage import stored
from verification.thresholds import ROUNDINGS, THRESHOLDS, UNIT_ROUNDOFF

IMPLEMENTATIONS = ("reference", "torch")
PRECISIONS = ("float64", "float32", "float16", "bfloat16")
SEEDS = range(60)
Worst = dict[str, dict[str, float]]  # threshold, precision


def measure() -> Worst:
    """The worst ratio of every threshold, by the type in which weights are stored."""
    worst: Worst = {threshold.name: defaultdict(float) for threshold in THRESHOLDS}
    for name in IMPLEMENTATIONS:
        function = PythonFunction(load_callable(name), "thanos", name)
        for case in (*load_cases(), *close_calls()):
            if case.expected != "refusal":
                _note(worst, judge(case, function))
    for name, precision, ratio in (*refits(), *plain_outputs()):
        worst[name][precision] = max(worst[name][precision], ratio)
    return {name: dict(by_precision) for name, by_precision in worst.items()}


def _note(worst: Worst, verdict: Verdict) -> None:
    if verdict.failures:
        raise RuntimeError(f"{verdict.case.id} failed: {verdict.failures}")
    precision = verdict.case.storage or verdict.case.dtype
    for check in verdict.checks:
        if check.name in worst:
            worst[check.name][precision] = max(worst[check.name][precision], float(check.value))


def close_calls() -> Iterator[Case]:
    """Layers on which only rounding separates scores, or outputs of rows."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((48, 90)) * rng.lognormal(size=(48, 1))
        X[1::2] = X[0::2]  # neighbours have the same inputs
        swapped = rng.standard_normal((12, 48))
        swapped[6:, 0::2], swapped[6:, 1::2] = swapped[:6, 1::2], swapped[:6, 0::2]
        G = X @ X.T
        equal = np.repeat(rng.standard_normal((12, 24)), 2, axis=1)  # like inputs, like weights
        for pattern in (Unstructured(0.51), SemiStructured(1, 4), SemiStructured(3, 4)):
            yield made_case(equal, G, pattern, block_size=16)
        for dtype in ("float64", "float32"):
            for outliers in (SemiStructured(2, 4, 0.25), Structured(0.3, 0.25)):
                yield made_case(swapped.astype(dtype), G.astype(dtype), outliers, block_size=16)
        X = rng.standard_normal((48, 90)) * rng.lognormal(size=(48, 1))
        W = rng.standard_normal((12, 48))
        for pattern in (SemiStructured(1, 4), SemiStructured(3, 4)):
            yield from _level(W, X @ X.T, pattern)


def _level(W: Array, G: Array, pattern: SemiStructured) -> Iterator[Case]:
    """A layer whose second block is changed so that all scores of a group are equal there."""
    first, second = slice(0, 16), slice(16, 32)
    mask = reference.thanos(W, G, pattern, block_size=16).mask[:, first]
    moves = joint_update(W, mask, damped(G, 0.01)) - W  # later columns do not affect them
    norms = np.sqrt(np.diag(G))[second].reshape(4, 4)
    current = (W + moves)[:, second].reshape(-1, 4, 4)  # (c, groups, 4)
    scores = np.abs(current[:, :, :1]) * norms[:, :1]
    level = np.sign(current) * scores / norms
    W = W.copy()
    W[:, second] = level.reshape(len(W), -1) - moves[:, second]
    for precision in PRECISIONS:
        storage = precision if precision.endswith("16") else None
        dtype = "float32" if storage else precision
        yield made_case(
            stored(W, precision), G.astype(dtype), pattern, block_size=16, storage=storage
        )


def refits() -> Iterator[tuple[str, str, float]]:
    """Refit ratios where a refit cannot gain anything, because B > b."""
    for seed, pattern in product(SEEDS, (Unstructured(0.5), Unstructured(0.9))):
        rng = np.random.default_rng(seed)
        W, X = rng.standard_normal((8, 24)), rng.standard_normal((24, 50))
        G = X @ X.T
        pruned = reference.thanos(W, G, pattern)
        refitted = reference.refit(W, G, pruned, steps=10)
        certificate = certify(W, G, pruned.weight, pattern, refitted_weight=refitted.weight)
        yield "refit", "float64", certificate["refit"].value


def plain_outputs() -> Iterator[tuple[str, str, float]]:
    """Outlier ratios of h in float32, which our implementations compute in float64."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        W = rng.standard_normal((12, 48)).astype(np.float32)
        X = rng.standard_normal((48, 90))
        G = (X @ X.T).astype(np.float32)
        exact = np.einsum("ij,jk,ik->i", *(part.astype(float) for part in (W, G, W)))
        sizes = np.einsum("ij,jk,ik->i", *(np.abs(part.astype(float)) for part in (W, G, W)))
        h = np.cumsum((W @ G) * W, axis=1)[:, -1]  # one after another, as a loop adds up
        allowed = ROUNDINGS * UNIT_ROUNDOFF["float32"] * sizes
        yield "outlier margin", "float32", float(np.max(np.abs(h - exact) / allowed))


def table(worst: Worst) -> str:
    """The table of docs/tolerances.md."""
    lines = [
        f"| ratio | check | {' | '.join(PRECISIONS)} |",
        "|---|---|" + "---:|" * len(PRECISIONS),
    ]
    for threshold in THRESHOLDS:
        seen = (worst[threshold.name].get(precision) for precision in PRECISIONS)
        cells = ("" if value is None else f"{value:.2g}" for value in seen)
        lines.append(f"| {threshold.name} | {threshold.check} | {' | '.join(cells)} |")
    return "\n".join(lines)


def publish(root: Path) -> dict[str, Any]:
    """Measure, and write both files below `root`."""
    origin = environment()  # before the run, as files may change meanwhile
    worst = measure()
    record: dict[str, Any] = {
        "command": "python -m verification.tolerances",
        **origin,
        "implementations": list(IMPLEMENTATIONS),
        "worst": worst,
    }
    results, page = root / "results" / "tolerances.json", root / "tolerances.md"
    results.write_text(json.dumps(record, indent=1) + "\n")
    text = re.sub(
        r"(<!-- table -->\n).*?(<!-- end of table -->)",
        lambda found: found[1] + "\n" + table(worst) + "\n\n" + found[2],
        page.read_text(),
        flags=re.DOTALL,
    )
    page.write_text(text)
    return record


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs")
    for name, seen in publish(folder)["worst"].items():
        print(name, {precision: f"{value:.2g}" for precision, value in seen.items()})
