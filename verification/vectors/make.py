"""Makes the vectors: inputs, exact answers, the manifest. docs/vectors.md."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reference import SPECIFICATION
from reference.patterns import parse_pattern
from verification.conformance.cases import FORMAT, metadata_of
from verification.conformance.tensors import TYPES, write_tensors
from verification.exact import ExactPruned, exact_prune
from verification.vectors.expected import condition_of, is_certain, rounded_once
from verification.vectors.flags import FLAGS
from verification.vectors.layers import VectorLayer, layers
from verification.vectors.refusals import Refusal, refusals
from verification.vectors.tiers import tier_of
from verification.vectors.version import VERSION


def make_vectors(folder: Path) -> int:
    """Write all files, with the same bytes on every machine; returns the number of cases."""
    for name in ("inputs", "expected"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cases = [*_prune_cases(folder), *(_refusal_case(folder, each) for each in refusals())]
    for case in cases:
        case["tier"] = tier_of(case)
    manifest = {
        "format": FORMAT,
        "specification": SPECIFICATION,
        "version": VERSION,
        "total": len(cases),
        "flags": FLAGS,
        "cases": cases,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return len(cases)


def _prune_cases(folder: Path) -> Iterator[dict[str, Any]]:
    known: dict[tuple[Any, ...], ExactPruned] = {}  # many layers are the same in both arithmetics
    for layer in layers():
        write_tensors(
            folder / "inputs" / f"{layer.id}.safetensors",
            {"weight": layer.weight, "gram": layer.gram},
            metadata_of(layer.method, layer.pattern, layer.block_size, layer.damping, layer.dtype,
                        layer.storage),
            {"weight": TYPES[layer.storage or layer.dtype]},
        )  # fmt: skip
        key = (
            layer.weight.astype(float).tobytes(),
            layer.gram.astype(float).tobytes(),
            layer.method,
            layer.pattern,
            layer.block_size,
            layer.damping,
        )
        if key not in known:
            known[key] = exact_prune(
                layer.weight,
                layer.gram,
                parse_pattern(layer.pattern),
                method=layer.method,
                block_size=layer.block_size,
                damping=layer.damping,
            )
        yield _prune_case(folder, layer, known[key])


def _prune_case(folder: Path, layer: VectorLayer, exact: ExactPruned) -> dict[str, Any]:
    condition = condition_of(layer.gram, layer.damping)
    expected = "certificate"
    if is_certain(exact, layer.method, layer.dtype, condition):
        expected = "mask" if "large" in layer.flags else "weights"
    answer = {}
    if expected == "weights":
        answer["weight"] = rounded_once(exact)
    if expected != "certificate":
        answer["mask"] = np.array(exact.mask, dtype=np.uint8)
        write_tensors(folder / "expected" / f"{layer.id}.safetensors", answer, {"id": layer.id})
    return {
        "id": layer.id,
        "expected": expected,
        "method": layer.method,
        "pattern": layer.pattern,
        "dtype": layer.dtype,
        "storage": layer.storage,
        "condition": condition,
        "flags": list(layer.flags),
        "names": [],
        "values": [],
    }


def _refusal_case(folder: Path, refusal: Refusal) -> dict[str, Any]:
    write_tensors(
        folder / "inputs" / f"{refusal.id}.safetensors",
        {"weight": refusal.weight, "gram": refusal.gram},
        metadata_of(
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
