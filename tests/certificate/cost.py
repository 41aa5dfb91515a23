"""What a certificate costs beside the pruning that it judges: `python -m tests.certificate.cost`.

Prunes random layers in float32 with `thanos_torch`, on all cores, and judges each: medians of
several runs. Writes docs/results/certificate-cost.json, of which docs/certificate.md has a table.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import thanos_torch
from reference import Pattern, parse_pattern
from verification import certify
from verification.benchmarks.environment import environment

RECORD = Path("docs/results/certificate-cost.json")
SHAPES = ((576, 576), (1536, 576), (576, 1536), (4096, 4096))
PATTERNS = ("unstructured:0.5", "2:4", "structured:0.3")


def measure(shape: tuple[int, int], pattern: Pattern, repeats: int) -> dict[str, Any]:
    """Median seconds of pruning and of judging, in turn, after one run of both."""
    c, b = shape
    generator = torch.Generator().manual_seed(0)
    scales = torch.exp(torch.randn(b, 1, generator=generator))
    X = scales * torch.randn(b, 2 * b, generator=generator)
    W, G = torch.randn(c, b, generator=generator), X @ X.T
    pruning, judging = [], []
    for _ in range(repeats + 1):
        pruned, seconds = timed(lambda: thanos_torch.thanos(W, G, pattern))
        pruning.append(seconds)
        arguments = {"mask": pruned.mask, "block_losses": pruned.block_losses}
        certificate = certify(W, G, pruned.weight, pattern, arithmetic="float32", **arguments)
        assert certificate.passed, certificate
        judging.append(certificate.seconds)
    spent = {"pruning": pruning[1:], "judging": judging[1:]}
    ratio = statistics.median(np.divide(judging[1:], pruning[1:]))
    medians = {name: statistics.median(each) for name, each in spent.items()}
    return {"shape": [c, b], "pattern": str(pattern), **medians, "ratio": ratio, "seconds": spent}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of some work, and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def table(record: dict[str, Any]) -> str:
    """Markdown: a layer and pattern a row."""
    lines = ["| layer | pattern | pruning s | certificate s | times |", "|---|---|---:|---:|---:|"]
    for each in record["layers"]:
        rows, columns = each["shape"]
        lines.append(
            f"| {rows} x {columns} | {each['pattern']} | {each['pruning']:.2f} "
            f"| {each['judging']:.2f} | {each['ratio']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    command = f"python -m tests.certificate.cost --repeats {options.repeats}"
    record: dict[str, Any] = {"command": command, **environment(), "layers": []}
    for shape in SHAPES:
        for pattern in PATTERNS:
            record["layers"].append(measure(shape, parse_pattern(pattern), options.repeats))
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))


if __name__ == "__main__":
    main()
