"""Making the vectors: inputs, exact answers, the manifest. docs/vectors.md."""

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from verification.conformance.cases import FORMAT
from verification.conformance.tensors import write_tensors
from verification.exact import ExactPruned, exact_prune
from verification.vectors.flags import FLAGS
from verification.vectors.layers import Layer, layers
from verification.vectors.refusals import Refusal, refusals

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# A choice is taken for sure if scores differ by this many times their rounding error: u for
# scores of given weights, u κ once they have moved.
CLEAR_ORIGINAL = 128
CLEAR_MOVED = 16
# Above this u κ a weight of right code has less than two correct digits: nothing to compare.
NO_DIGITS = 0.01


def make_vectors(folder: Path) -> int:
    """Write all files; returns the number of cases. The same bytes on every machine."""
    for name in ("inputs", "expected"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cases = [*_prune_cases(folder), *(_refusal_case(folder, each) for each in refusals())]
    manifest = {"format": FORMAT, "total": len(cases), "flags": FLAGS, "cases": cases}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return len(cases)


def _prune_cases(folder: Path) -> Iterator[dict[str, Any]]:
    known: dict[tuple[Any, ...], ExactPruned] = {}  # many layers are the same in both arithmetics
    for layer in layers():
        write_tensors(
            folder / "inputs" / f"{layer.id}.safetensors",
            {"weight": layer.weight, "gram": layer.gram},
            _metadata(layer.id, layer.method, str(layer.pattern), layer.block_size, layer.damping,
                      layer.dtype, layer.storage),
            {"weight": TYPES[layer.storage or layer.dtype]},
        )  # fmt: skip
        key = (
            layer.weight.astype(float).tobytes(),
            layer.gram.astype(float).tobytes(),
            layer.method,
            str(layer.pattern),
            layer.block_size,
            layer.damping,
        )
        if key not in known:
            known[key] = exact_prune(
                layer.weight,
                layer.gram,
                layer.pattern,
                method=layer.method,
                block_size=layer.block_size,
                damping=layer.damping,
            )
        yield _prune_case(folder, layer, known[key])


def _prune_case(folder: Path, layer: Layer, exact: ExactPruned) -> dict[str, Any]:
    condition = _condition(layer)
    expected = _expected(layer, exact, condition)
    answer = {}
    if expected == "weights":
        # Fraction to float rounds once, to nearest.
        answer["weight"] = np.array([[float(value) for value in row] for row in exact.weight])
    if expected != "certificate":
        answer["mask"] = np.array(exact.mask, dtype=np.uint8)
        write_tensors(folder / "expected" / f"{layer.id}.safetensors", answer, {"id": layer.id})
    return {
        "id": layer.id,
        "expected": expected,
        "method": layer.method,
        "pattern": str(layer.pattern),
        "dtype": layer.dtype,
        "storage": layer.storage,
        "condition": condition,
        "flags": list(layer.flags),
        "names": [],
        "values": [],
    }


def _expected(layer: Layer, exact: ExactPruned, condition: float) -> str:
    """What can be told for sure of right code that rounds."""
    u = UNIT_ROUNDOFF[layer.dtype]
    if exact.closeness.original < CLEAR_ORIGINAL * Fraction(u):
        return "certificate"
    if layer.method in ("thanos", "sparsegpt"):  # the others move nothing
        if exact.closeness.moved < CLEAR_MOVED * Fraction(u * condition):
            return "certificate"
        if u * condition > NO_DIGITS:
            return "certificate"
    return "mask" if "large" in layer.flags else "weights"


def _condition(layer: Layer) -> float:
    """The condition number of H, rounded up to a power of two: the same on every machine."""
    G = layer.gram.astype(np.float64)
    G = (G + G.T) / 2
    mean = float(np.mean(np.diag(G) / (np.max(G) or 1.0)))
    G = G / (np.max(G) or 1.0)
    H = G + (layer.damping * mean if mean else 1.0) * np.eye(len(G))
    smallest = layer.damping * mean if mean else 1.0  # G is semidefinite
    eigenvalues = np.linalg.eigvalsh(H)
    ratio = eigenvalues[-1] / max(eigenvalues[0], smallest)
    return float(2.0 ** math.ceil(math.log2(ratio) - 1e-9))


def _refusal_case(folder: Path, refusal: Refusal) -> dict[str, Any]:
    write_tensors(
        folder / "inputs" / f"{refusal.id}.safetensors",
        {"weight": refusal.weight, "gram": refusal.gram},
        _metadata(
            refusal.id,
            refusal.method,
            refusal.pattern,
            refusal.block_size,
            refusal.damping,
            "float64",
            None,
        ),
    )
    return {
        "id": refusal.id,
        "expected": "refusal",
        "method": refusal.method,
        "pattern": refusal.pattern,
        "dtype": "float64",
        "storage": None,
        "condition": None,
        "flags": [],
        "names": list(refusal.names),
        "values": list(refusal.values),
    }


def _metadata(
    name: str,
    method: str,
    pattern: str,
    block_size: float,
    damping: float,
    dtype: str,
    storage: str | None,
) -> dict[str, str]:
    return {
        "id": name,
        "method": method,
        "pattern": pattern,
        "block_size": str(block_size),
        "damping": repr(damping),
        "dtype": dtype,
        "storage": storage or "none",
    }
