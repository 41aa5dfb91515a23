"""Inputs are refused by name, or left unchanged."""

import re
from typing import Any

import numpy as np
import pytest

from reference import Pattern, SemiStructured, Structured, Unstructured
from tests.implementations import METHODS, Implementation, each_float64, each_implementation
from tests.reference.refusals import REFUSALS, Refusal


@each_float64
@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.case for refusal in REFUSALS])
def test_refusal_names_argument_and_value(refusal: Refusal, implementation: Implementation) -> None:
    with pytest.raises(ValueError, match=re.escape(refusal.argument)) as raised:
        refusal.call(implementation)
    assert refusal.value.lower() in str(raised.value).lower()


@each_float64
def test_rounding_asymmetry_is_taken_and_symmetrised(implementation: Implementation) -> None:
    weight, gram = np.array([[1.0, 2.0]]), np.array([[1.0, 0.5], [0.5 + 8e-6, 1.0]])
    half = Unstructured(0.5)
    mean = (gram + gram.T) / 2
    found = implementation.prune("thanos", weight, gram, half)
    expected = implementation.prune("thanos", weight, mean, half)
    assert found.weight.tobytes() == expected.weight.tobytes()


@each_implementation
@pytest.mark.parametrize(
    ("method", "switches"),
    [*((method, {}) for method in METHODS), ("thanos", {"update": "sequential"})],
)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "pattern", [Unstructured(0.5), SemiStructured(2, 4), Structured(0.5)], ids=str
)
@pytest.mark.parametrize("block_size", [4, 8])
def test_inputs_are_never_changed(
    block_size: int,
    pattern: Pattern,
    rows: int,
    method: str,
    switches: dict[str, str],
    implementation: Implementation,
) -> None:
    # One row: its transpose is contiguous, so that a "copy" of it may be a view of the weight.
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((rows, 8)).astype(implementation.dtype)
    X = rng.standard_normal((8, 12)).astype(implementation.dtype)
    gram = X @ X.T
    before = weight.tobytes(), gram.tobytes()
    options: dict[str, Any] = {"block_size": block_size, **switches}
    result = implementation.prune(method, weight, gram, pattern, **options)
    assert (weight.tobytes(), gram.tobytes()) == before
    kept = result.weight.tobytes(), result.mask.tobytes()
    refitted = implementation.refit(weight, gram, result, steps=3)
    implementation.objective(weight, gram, refitted.weight.astype(implementation.dtype))
    assert (weight.tobytes(), gram.tobytes()) == before
    assert (result.weight.tobytes(), result.mask.tobytes()) == kept
