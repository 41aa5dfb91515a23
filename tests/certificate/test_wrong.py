"""The judge is judged: every bug is caught by the check that names it, every check catches one."""

import json

import pytest

from tests.certificate.wrong import BLOCK, DAMPING, GRAM, HALF, WEIGHT, WRONG, Wrong, right
from verification import Certificate, certify

# Everything that can make a certificate fail; `excess` and `optimum` are reported only.
DECIDING = {
    "finite", "storage", "outliers", "counts", "masks", "zeros", "replay", "updates", "kept",
    "losses", "support", "refit",
}  # fmt: skip
# Without the mask a zero too many is a kept weight with the wrong value, and a removed weight that
# is not 0 is one too few.
WITHOUT_MASK = {
    "nearly zero": "counts",
    "one weight too many": "updates",
    "dead column extra": "kept",
}
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
    named = WITHOUT_MASK.get(wrong.bug, wrong.check)
    assert not certificate[named].passed, certificate


@BY_BUG
def test_verdict_is_json(wrong: Wrong) -> None:
    verdict = judge(wrong, True, "float64").as_dict()
    assert json.loads(json.dumps(verdict, allow_nan=False))["passed"] is False


def test_every_check_catches_a_bug() -> None:
    assert {wrong.check for wrong in WRONG} == DECIDING


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
