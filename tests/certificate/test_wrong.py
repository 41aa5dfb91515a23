"""The judge is judged: every bug is caught by the check that names it, every check catches one."""

import json
from typing import Any

import pytest

from reference import parse_pattern
from tests.certificate.wrong import BLOCK, DAMPING, GRAM, HALF, WEIGHT, WRONG, Wrong, right
from tests.judge.wrong import WRONG as IMPLEMENTED
from tests.judge.wrong import Wrong as Implemented
from tests.judge.wrong.layers import layer, showcases
from verification import Certificate, certify

# Everything that can make a certificate fail; `excess` and `optimum` are reported only.
DECIDING = {
    "finite", "storage", "outliers", "counts", "masks", "zeros", "replay", "updates", "kept",
    "losses", "support", "refit",
}  # fmt: skip
IMPLEMENTATIONS = [wrong for wrong in IMPLEMENTED if wrong.check in DECIDING]
# For arithmetic in float32; scores that differ in float64 alone are tied in it.
PRECISE_ENOUGH = {
    "float32 solver in float64",
    *(wrong.bug for wrong in IMPLEMENTED if "close-scores" in wrong.features),
}
RIGHT_WEIGHTS = {"mask inverted", "outlier rows in the mask"}  # right where the mask is inferred
BY_BUG = pytest.mark.parametrize("wrong", WRONG, ids=[wrong.bug for wrong in WRONG])


def judge(wrong: Wrong, with_mask: bool, arithmetic: str) -> Certificate:
    pruned = wrong.run()
    return certify(
        WEIGHT,
        GRAM,
        pruned.weight,
        wrong.pattern,
        method=wrong.method,
        block_size=BLOCK,
        damping=DAMPING,
        mask=pruned.mask if with_mask else None,
        arithmetic=arithmetic,
        **wrong.judge,
    )


@BY_BUG
@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_bug_fails_the_check_that_names_it(arithmetic: str, wrong: Wrong) -> None:
    certificate = judge(wrong, True, arithmetic)
    assert not certificate.passed
    assert not certificate[wrong.check].passed, certificate


@BY_BUG
def test_bug_fails_without_the_mask(wrong: Wrong) -> None:
    certificate = judge(wrong, False, "float64")
    assert not certificate.passed
    assert not certificate[wrong.check].passed, certificate


@pytest.mark.parametrize("wrong", IMPLEMENTATIONS, ids=[wrong.bug for wrong in IMPLEMENTATIONS])
def test_bug_of_an_implementation_fails_in_float32_and_without_the_mask(wrong: Implemented) -> None:
    shown = showcases(wrong, 9, 40, 8)[0]
    W, G = layer(102, 9, 40, features=shown.features)
    options: dict[str, Any] = {"block_size": shown.block_size, "damping": shown.damping}
    weight, mask = wrong.run(W.copy(order="K"), G.copy(), shown.pattern, *options.values())
    options |= {"pattern": parse_pattern(shown.pattern), "method": wrong.method}
    with_mask = certify(W, G, weight, mask=mask, arithmetic="float32", **options)
    without = certify(W, G, weight, **options)
    assert with_mask[wrong.check].passed == (wrong.bug in PRECISE_ENOUGH), with_mask
    assert without.passed == (wrong.bug in RIGHT_WEIGHTS), without


@BY_BUG
def test_verdict_is_json(wrong: Wrong) -> None:
    verdict = judge(wrong, True, "float64").as_dict()
    assert json.loads(json.dumps(verdict, allow_nan=False))["passed"] is False


def test_every_check_catches_a_bug() -> None:
    of_implementations = {wrong.check for wrong in IMPLEMENTATIONS}
    assert {wrong.check for wrong in WRONG} | of_implementations == DECIDING


def test_checks_that_decide_are_all_known() -> None:
    made = set()
    for method in ("thanos", "magnitude"):
        pruned = right(method)
        certificate = certify(
            WEIGHT,
            GRAM,
            pruned.weight,
            HALF,
            method=method,
            block_size=BLOCK,
            block_losses=pruned.block_losses,
            refitted_weight=pruned.weight,
        )
        assert certificate.passed, certificate
        made |= {
            check.name
            for check in certificate.checks
            if check.threshold is not None and check.decides
        }
    assert made | {"outliers", "storage"} == DECIDING
