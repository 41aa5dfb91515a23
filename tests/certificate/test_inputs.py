"""What the certificate refuses: what is no layer, and options that do not exist."""

from typing import Any

import numpy as np
import pytest

from reference import SemiStructured, Structured, Unstructured
from verification import certify

WEIGHT, GRAM = np.ones((2, 4)), np.eye(4)

# case, changed arguments, argument named, value named
REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    ("weight NaN", {"weight": WEIGHT * np.nan}, "weight", "nan"),
    ("weight a vector", {"weight": np.ones(4)}, "weight", "(4,)"),
    ("weight empty", {"weight": np.ones((0, 4))}, "weight", "(0, 4)"),
    ("weight of integers", {"weight": np.ones((2, 4), int)}, "weight", "int64"),
    ("pruned_weight of another shape", {"pruned_weight": GRAM}, "pruned_weight", "(4, 4)"),
    ("gram infinite", {"gram": GRAM + np.inf}, "gram", "inf"),
    ("gram of another shape", {"gram": np.eye(3)}, "gram", "(3, 3)"),
    ("gram negative", {"gram": -GRAM}, "gram", "-1"),
    ("gram asymmetric", {"gram": GRAM + np.triu(GRAM + 1e-4, 1)}, "gram", "0.0001"),
    ("gram of a dead column", {"gram": GRAM * [0, 1, 1, 1] + 0.1 * GRAM[::-1]}, "gram", "row 0"),
    ("gram indefinite", {"gram": np.ones((4, 4)) - 0.5 * GRAM}, "gram", "positive definite"),
    ("damping is 0", {"damping": 0.0}, "damping", "0"),
    ("B is 0", {"block_size": 0}, "block_size", "0"),
    ("B by m", {"block_size": 3, "pattern": SemiStructured(1, 2)}, "block_size", "3"),
    ("s above b", {"pattern": Structured(0.9, 0.5)}, "sparsity", "0.9"),
    ("mask of another shape", {"mask": np.ones((4, 2), bool)}, "mask", "(4, 2)"),
    ("refit of another shape", {"refitted_weight": GRAM}, "refitted_weight", "(4, 4)"),
    ("arithmetic", {"arithmetic": "float16"}, "arithmetic", "'float16'"),
    ("storage", {"storage": "int8"}, "storage", "'int8'"),
    ("method", {"method": "obd"}, "method", "'obd'"),
    ("residual", {"residual": "near"}, "residual", "'near'"),
    ("update", {"update": "half"}, "update", "'half'"),
    ("metric", {"metric": "l2"}, "metric", "'l2'"),
    ("outlier score", {"outlier_score": "l2"}, "outlier_score", "'l2'"),
    ("switches of a baseline", {"method": "wanda", "adaptive": False}, "adaptive", "wanda"),
    (
        "outlier rows of a baseline",
        {"method": "wanda", "pattern": SemiStructured(1, 2, 0.1)},
        "outlier_rows",
        "0.1",
    ),
]


@pytest.mark.parametrize(
    ("changed", "argument", "value"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS]
)
def test_refusal_names_argument_and_value(
    changed: dict[str, Any], argument: str, value: str
) -> None:
    arguments: dict[str, Any] = {
        "weight": WEIGHT, "gram": GRAM, "pruned_weight": WEIGHT, "pattern": Unstructured(0.5),
        **changed,
    }  # fmt: skip
    with pytest.raises(ValueError, match=argument) as raised:
        certify(**arguments)
    assert value in str(raised.value)


def test_matrices_of_torch_and_narrow_types_are_taken_exactly() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 4, generator=generator).bfloat16()
    for given in (weight, weight.float().requires_grad_(), weight.double().numpy()):
        found = certify(given, torch.eye(4), given, Unstructured(0), arithmetic="float32")
        assert found.passed, found
    narrow = weight.float().numpy().astype(np.float16)
    assert certify(narrow, np.eye(4), narrow, Unstructured(0), mask=np.zeros((2, 4), int)).passed


NO_MATRICES = [
    np.ones((2, 4), np.longdouble), np.ones((2, 4), complex), np.ones((2, 4), object),
    np.ones((2, 4), int), [[1.0], [1.0, 2.0]], "weight",
]  # fmt: skip


@pytest.mark.parametrize("argument", ["weight", "gram", "pruned_weight", "refitted_weight"])
@pytest.mark.parametrize("given", NO_MATRICES, ids=lambda given: type(given).__name__)
def test_what_is_no_matrix_of_numbers_is_refused_by_name(argument: str, given: Any) -> None:
    arguments: dict[str, Any] = {
        "weight": WEIGHT, "gram": GRAM, "pruned_weight": WEIGHT, "pattern": Unstructured(0.5),
        argument: given,
    }  # fmt: skip
    with pytest.raises(ValueError, match=argument):
        certify(**arguments)


@pytest.mark.parametrize("mask", [np.full((2, 4), 2), np.full((2, 4), np.nan), WEIGHT, "mask"])
def test_what_is_no_mask_is_refused(mask: Any) -> None:
    with pytest.raises(ValueError, match="mask"):
        certify(WEIGHT, GRAM, WEIGHT, Unstructured(0.5), mask=mask)


def test_losses_that_are_no_real_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="block_losses"):
        certify(WEIGHT, GRAM, WEIGHT, Unstructured(0.5), block_losses=np.ones(1, complex))
