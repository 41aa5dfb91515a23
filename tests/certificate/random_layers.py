"""Right results on random layers: no false alarm, and nothing left undecided at γ = 0.01.

`python -m tests.certificate.random_layers` prunes 10,000 layers in each precision with
`thanos_torch` and records what the certificate says in docs/results/right-layers.json.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import thanos_torch
from reference import Pattern, SemiStructured, Structured, Unstructured
from verification import Certificate, certify
from verification.benchmarks.environment import environment

PRECISIONS = ("float64", "float32", "float16", "bfloat16")
DAMPING = 0.01
RECORD = Path("docs/results/right-layers.json")
Floats = NDArray[np.float64]


def random_layer(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A weight and a Gram matrix: heavy tails, few tokens, loud, dead and nearly equal columns."""
    c, b = int(rng.integers(1, 25)), 4 * int(rng.integers(1, 17))
    W = rng.standard_normal((c, b)) if rng.random() < 0.5 else rng.standard_t(2.5, (c, b))
    W *= rng.lognormal(sigma=0.5, size=(c, 1))
    X = rng.standard_normal((b, int(rng.integers(b // 4 + 1, 3 * b))))
    X *= rng.lognormal(size=(b, 1))
    if rng.random() < 0.3:  # inputs that are much alike
        X += rng.lognormal() * rng.standard_normal((1, X.shape[1]))
    if rng.random() < 0.2:
        X[rng.integers(b)] *= 64.0
    if rng.random() < 0.2:
        X[rng.random(b) < 0.1] = 0.0
    if rng.random() < 0.2:
        first, second = rng.choice(b, 2, replace=False)
        X[first] = X[second] * (1 + 1e-3 * rng.standard_normal())
    return W, X @ X.T


def random_pattern(rng: np.random.Generator, method: str) -> Pattern:
    alpha = float(rng.choice([0.0, 0.1, 0.25])) if method == "thanos" else 0.0
    kind = rng.integers(3)
    if kind == 0:
        return Unstructured(float(rng.choice([0.1, 0.3, 0.5, 0.7, 0.9])))
    if kind == 1:
        return SemiStructured(int(rng.integers(1, 4)), 4, alpha)
    return Structured(float(rng.choice([0.1, 0.3, 0.5])), alpha)


def judged(seed: int, precision: str) -> Certificate:
    """The certificate of a right result: thanos_torch, stored in `precision`."""
    rng = np.random.default_rng([seed, PRECISIONS.index(precision)])
    W, G = random_layer(rng)
    method = str(rng.choice(["thanos", "thanos", "thanos", "sparsegpt", "wanda", "magnitude"]))
    pattern = random_pattern(rng, method)
    block_size = int(rng.choice([4, 8, 16, 128]))
    dtype, arithmetic = getattr(torch, precision), torch.float32
    if precision == "float64":
        arithmetic = torch.float64
    weight = torch.from_numpy(W).to(dtype).to(arithmetic)
    gram = torch.from_numpy(G).to(arithmetic)
    pruned = getattr(thanos_torch, method)(weight, gram, pattern, block_size=block_size)
    return certify(
        weight,
        gram,
        pruned.weight.to(dtype),
        pattern,
        method=method,
        block_size=block_size,
        mask=pruned.mask,
        arithmetic=str(arithmetic).rpartition(".")[2],
        storage=precision if precision.endswith("16") else None,
        block_losses=pruned.block_losses,
    )


def measure(layers: int) -> dict[str, Any]:
    """Verdicts and the worst ratios, by precision."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        verdicts: Counter[str] = Counter()
        worst: dict[str, float] = {}
        others: list[dict[str, Any]] = []
        for seed in range(layers):
            certificate = judged(seed, precision)
            verdicts[certificate.verdict] += 1
            for check in certificate.checks:
                if check.threshold is not None:
                    share = check.value / check.threshold if check.threshold else check.value
                    worst[check.name] = float(np.maximum(worst.get(check.name, 0.0), share))
            if not certificate.passed:
                open_or_failed = [str(check) for check in certificate.checks if not check.passed]
                others.append({"seed": seed, "checks": open_or_failed})
        found[precision] = {
            "layers": layers,
            "verdicts": dict(verdicts),
            "worst share of what is allowed": worst,
            "not passed": others,
        }
        print(precision, dict(verdicts), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    command = f"python -m tests.certificate.random_layers --layers {options.layers}"
    record = {"command": command, **environment(), "damping": DAMPING}
    record["precisions"] = measure(options.layers)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
