"""Judges the answer to one case. docs/vectors.md, **Condition**."""

import re
from dataclasses import dataclass
from math import isclose, isnan

import numpy as np

from reference.patterns import parse_pattern
from verification.certificate import NOT_DECIDABLE, Check, certify, failed
from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import (
    Answer,
    AskedPlainly,
    Failed,
    Implementation,
    Output,
    Refused,
)
from verification.thresholds import ROUNDINGS, UNIT_ROUNDOFF, VECTOR_WEIGHTS

MAX_NAMED = 300  # characters of a message that a verdict quotes
SHOWN = 1e-5  # relative error of a number in a message: C prints six digits
# Numbers inside of words do not count: "finite" holds no "inf", and "float64" no 64. Digits match
# in only one way, as a long message of digits would take minutes otherwise.
NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?)(?!\w)", re.I
)


@dataclass(frozen=True)
class Verdict:
    """The verdict on the answer to one case.

    unsupported  why the case was not judged, or None
    checks       all checks; empty if the case was not judged
    answer       the answer; None if the case was not judged
    """

    case: Case
    unsupported: str | None
    checks: tuple[Check, ...]
    answer: Answer | None

    @property
    def passed(self) -> bool:
        """True if the case was judged, no check failed, and the verdict was decidable."""
        return bool(self.checks) and not self.failures and not self.not_decidable

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return failed(self.checks)

    @property
    def not_decidable(self) -> bool:
        """True if no check failed, the certificate stays open, and no exact answer is known."""
        opened = any(check.verdict == NOT_DECIDABLE for check in self.checks)
        return opened and not self.failures and not self.case.answer


def judge(case: Case, implementation: Implementation) -> Verdict:
    """Let an implementation prune a case, and judge its answer."""
    capabilities = implementation.capabilities
    missing = capabilities.missing(case)
    if missing:
        return Verdict(case, missing, (), None)
    answer = implementation.answer(case)
    checks = judge_answer(case, answer, capabilities)
    ended = isinstance(answer, Failed) and answer.ended
    if isinstance(implementation, AskedPlainly) and failed(checks) and not ended:
        again = implementation.plain_answer(case)
        if again is not None and not failed(judge_answer(case, again, capabilities)):
            name, note = implementation.plain_check
            checks = (*checks, Check(name, "interface", 1, 0, "", note))
    return Verdict(case, None, checks, answer)


def judge_answer(case: Case, answer: Answer, capabilities: Capabilities) -> tuple[Check, ...]:
    """Make all checks of one answer."""
    if isinstance(answer, Failed):
        return (Check(answer.check, "interface", 1, 0, "", answer.message),)
    if case.expected == "refusal":
        return (_refusal(case, answer),)
    if isinstance(answer, Refused):
        note = f"refused, but it is legal: {answer.message[:MAX_NAMED] or 'without a reason'}"
        return (Check("output", "section 2", 1, 0, "", note),)
    arithmetic = capabilities.judged_arithmetic(case.dtype)
    certificate = certify(
        case.weight,
        case.gram,
        answer.weight,
        parse_pattern(case.pattern),
        method=case.method,
        block_size=int(case.block_size),
        damping=case.damping,
        mask=answer.mask,
        arithmetic=arithmetic,
        storage=case.storage or (case.dtype if arithmetic != case.dtype else None),
        block_losses=answer.block_losses,
    )
    return (*_against_vector(case, answer), *certificate.checks)


def _refusal(case: Case, answer: Output | Refused) -> Check:
    """The check that the input was refused with a message that names the argument and its value."""
    wanted = " or ".join(case.names)
    if isinstance(answer, Output):
        return Check("refusals", "section 2", 1, 0, "", f"not refused; {wanted} is wrong")
    note = ""
    if not any(re.search(rf"\b{re.escape(name)}\b", answer.message) for name in case.names):
        note = f"the message names no {wanted}"
    elif case.values and not any(_holds(answer.message, value) for value in case.values):
        note = f"the message names {wanted}, but not its value {' or '.join(case.values)}"
    if note:
        note = f"{note}: {answer.message[:MAX_NAMED].strip()!r}"
    return Check("refusals", "section 2", int(bool(note)), 0, "", note)


def _holds(message: str, value: str) -> bool:
    """Whether a message holds a value as text, or a number equal to it."""
    try:
        number = float(value)
    except ValueError:
        return value in message
    found = (float(text) for text in NUMBER.findall(message))
    return any(
        isclose(other, number, rel_tol=SHOWN) or (isnan(other) and isnan(number)) for other in found
    )


def _against_vector(case: Case, output: Output) -> list[Check]:
    """The checks against an expected mask, bit for bit, and expected weights, up to rounding."""
    checks = []
    if "mask" in case.answer:
        wrong = output.mask != case.answer["mask"].astype(bool)
        where = ""
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            done = "removed" if output.mask[row, column] else "kept"
            where = f"first at row {row}, column {column}: {done}"
        checks.append(Check("vector mask", "sections 2, 3", int(wrong.sum()), 0, where))
    if "weight" in case.answer and not any(check.value for check in checks):
        ratio, where = weight_ratio(case, output)
        checks.append(Check("vector weights", "section 4", ratio, VECTOR_WEIGHTS.value, where))
    return checks


def weight_ratio(case: Case, output: Output) -> tuple[float, str]:
    """The largest difference from the exact weights, over u (κ + 8) max|W_i| plus the storage's.

    Returns the ratio, and its place with both weights.
    """
    exact = case.answer["weight"]
    assert case.condition is not None
    u = UNIT_ROUNDOFF[case.dtype]
    largest = np.abs(np.asarray(case.weight, dtype=float)).max(axis=1, keepdims=True)
    allowed = u * (case.condition + ROUNDINGS) * np.maximum(largest, np.abs(exact))
    if case.storage:
        smallest = np.finfo(np.float32).smallest_subnormal
        steps = {"float16": 2.0**-24, "bfloat16": 2.0**-133}.get(case.storage, float(smallest))
        allowed = allowed + UNIT_ROUNDOFF[case.storage] * np.abs(exact) + steps / 2
    difference = np.abs(np.asarray(output.weight, dtype=float) - exact)
    ratio = np.divide(
        difference, allowed, out=np.where(difference > 0, np.inf, 0.0), where=allowed > 0
    )
    ratio = np.where(np.isfinite(difference), ratio, np.inf)
    row, column = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    found, right = float(output.weight[row, column]), float(exact[row, column])
    place = f"row {row}, column {column}: {found!r}, exactly {right!r}, κ = {case.condition:g}"
    return float(ratio[row, column]), f"worst at {place}"
