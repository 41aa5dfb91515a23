"""Right implementations pass, with and without the mask, and the verdict is JSON."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import reference
from reference import Pattern, SemiStructured, Structured, Unstructured
from tests.certificate.wrong import BLOCK, DAMPING, GRAM, SEMI, WEIGHT
from tests.implementations import (
    SWITCHES,
    Implementation,
    each_implementation,
    each_method,
    each_switch,
)
from tests.ratios import check_certified
from thanos_torch.pruning.plan import LayerOptions
from verification import Certificate, certify
from verification.certificate.case import make_case
from verification.strategies import Problem, problems


@each_implementation
@each_method
@pytest.mark.parametrize("with_mask", [True, False])
@settings(max_examples=15)
@given(problem=problems(outlier_rows=False, dampings=(0.01, 1.0)))  # cond(H) for float32
def test_every_method(
    with_mask: bool, method: str, implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem, method)
    mask = pruned.mask if with_mask else None
    certificate = implementation.certificate(problem, pruned, method=method, mask=mask)
    check_certified(certificate)
    written = json.loads(json.dumps(certificate.as_dict(), allow_nan=False))
    assert written["passed"] is certificate.passed


@each_implementation
@given(problem=problems(kinds=("semi-structured", "structured"), dampings=(0.01, 1.0)))
def test_outlier_rows_without_the_mask(implementation: Implementation, problem: Problem) -> None:
    check_certified(implementation.certificate(problem, implementation.prune_problem(problem)))


@each_implementation
@each_switch
@given(problem=problems(dampings=(0.01, 1.0)))
def test_switches(
    switches: dict[str, Any], implementation: Implementation, problem: Problem
) -> None:
    pruned = implementation.prune_problem(problem, **switches)
    check_certified(implementation.certificate(problem, pruned, mask=pruned.mask, **switches))


@each_implementation
@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("switches", [{}, *SWITCHES], ids=str)
@pytest.mark.parametrize("pattern", [Unstructured(0.5), SEMI, Structured(0.3, 0.2)], ids=str)
def test_a_layer_as_models_have_it_with_losses_and_refit(
    pattern: Pattern, switches: dict[str, Any], with_mask: bool, implementation: Implementation
) -> None:
    W, G = WEIGHT.astype(implementation.dtype), GRAM.astype(implementation.dtype)
    options: dict[str, Any] = {"block_size": BLOCK, "damping": DAMPING, **switches}
    pruned = implementation.prune("thanos", W, G, pattern, **options)
    refitted = implementation.refit(W, G, pruned, steps=10, damping=DAMPING)
    certificate = certify(
        W,
        G,
        pruned.weight,
        pattern,
        mask=pruned.mask if with_mask else None,
        arithmetic=implementation.arithmetic,
        block_losses=pruned.block_losses,
        refitted_weight=refitted.weight,
        **options,
    )
    assert certificate.passed, certificate


def test_sparsegpt_on_blocks_of_one_column() -> None:
    """A row that loses nothing in a block of one column has only noise to be divided by noise."""
    rng = np.random.default_rng(0)
    for c in (1, 4, 9):
        weight = rng.standard_normal((c, 72))
        inputs = rng.standard_normal((72, 60)) * rng.lognormal(size=(72, 1))
        gram = inputs @ inputs.T
        pruned = reference.sparsegpt(weight, gram, Structured(0.3), block_size=1)
        certificate = certify(
            weight,
            gram,
            pruned.weight,
            Structured(0.3),
            method="sparsegpt",
            block_size=1,
            mask=pruned.mask,
        )
        assert certificate.passed, certificate


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "float32"])
def test_stored_in_a_narrower_type(storage: str) -> None:
    import torch

    pruned = reference.thanos(WEIGHT, GRAM, SemiStructured(2, 4), block_size=BLOCK)
    stored = torch.from_numpy(pruned.weight).to(getattr(torch, storage)).double().numpy()
    options: dict[str, Any] = {"block_size": BLOCK, "mask": pruned.mask}
    with_storage = certify(WEIGHT, GRAM, stored, SemiStructured(2, 4), storage=storage, **options)
    assert with_storage.passed, with_storage
    assert not certify(WEIGHT, GRAM, stored, SemiStructured(2, 4), **options).passed


FULL_PRECISION: dict[str, tuple[str, Pattern]] = {
    "thanos": ("thanos", Unstructured(0.5)),
    "outlier rows": ("thanos", SemiStructured(2, 4, 0.2)),
    "columns": ("thanos", Structured(0.25, 0.1)),
    "magnitude": ("magnitude", Unstructured(0.5)),
    "wanda": ("wanda", SemiStructured(2, 4)),
    "sparsegpt": ("sparsegpt", Unstructured(0.5)),
}


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", FULL_PRECISION)
def test_weights_of_full_precision_are_rounded_when_stored(case: str, storage: str) -> None:
    """Kept weights too: what is not moved is rounded as well, and in float16 some become 0."""
    import torch

    method, pattern = FULL_PRECISION[case]
    kind = getattr(torch, storage)
    torch.manual_seed(0)
    W, X = torch.randn(24, 32) * 0.02, torch.randn(32, 200) * torch.randn(32, 1).exp()
    W[3] *= 1e-6  # smaller than what float16 has
    pruned, refitted = LayerOptions(pattern, method, 8, refit_steps=5).prune(W, X @ X.T)

    def verdict(weight: torch.Tensor, **more: Any) -> Certificate:
        options = {"method": method, "block_size": 8, "arithmetic": "float32", **more}
        before, gram, after = (each.float().numpy() for each in (W, X @ X.T, weight))
        return certify(before, gram, after, pattern, storage=storage, **options)

    stored = pruned.weight.to(kind)
    assert verdict(stored).passed
    assert verdict(pruned.weight, refitted_weight=refitted.weight.to(kind).float().numpy()).passed
    if storage == "float16" and isinstance(pattern, SemiStructured):
        assert ((stored == 0) & ~pruned.mask).any()
    # One step of the type away, in each row of which nothing is moved.
    moves = method in ("thanos", "sparsegpt") and pruned.mask.any(dim=1)
    for row in (~torch.as_tensor(moves) & (stored != 0).any(dim=1)).nonzero().flatten():
        wrong = stored.clone()
        wrong[row].view(torch.int16)[stored[row].abs().argmax()] += 1
        failed = {check.name for check in verdict(wrong).checks if not check.passed}
        assert failed & {"kept", "outliers"}


@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("earlier", [True, False])
def test_one_weight_more_in_a_block_that_rounding_alone_decides(
    earlier: bool, with_mask: bool
) -> None:
    """The residual mask has no count for a block: one of two near ties goes, in either block."""
    W = np.ones((1, 8))
    W[0, [1, 6]] = 0.5, 0.5 * (1 - 1e-8)  # the second one is smaller by less than float32 sees
    mask = np.zeros((1, 8), dtype=bool)
    mask[0, 1 if earlier else 6] = True
    pruned = np.where(mask, 0.0, W)
    options: dict[str, Any] = {"block_size": 4, "mask": mask if with_mask else None}
    found = certify(W, np.eye(8), pruned, Unstructured(0.125), arithmetic="float32", **options)
    assert found.passed, found
    assert ("choices" in {check.name for check in found.checks}) == earlier
    assert certify(W, np.eye(8), pruned, Unstructured(0.125), **options).passed != earlier


def test_the_condition_number_sees_two_equal_columns() -> None:
    # LAPACK's estimate alone is too low by a factor of ten and more.
    rng = np.random.default_rng(0)
    for _ in range(50):
        X = rng.choice([-1.0, 1.0], (8, 12))
        X[4] = X[2]
        G = X @ X.T
        case = make_case(np.ones((1, 8)), G, np.ones((1, 8)), 0.01, "float64", None)
        H = case.G + case.lam * np.eye(8)
        true = np.linalg.cond(H, 1)
        assert true / 3 <= case.condition <= true * (1 + 1e-9)
