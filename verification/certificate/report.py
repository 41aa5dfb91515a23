"""What a certificate says: its checks, and the verdict that follows from them."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PASSED, FAILED, NOT_DECIDABLE = "passed", "failed", "not decidable"


@dataclass(frozen=True)
class Check:
    """One check: it passed if `value` is at most `threshold`; NaN fails.

    name       finite, counts, masks, zeros, replay, updates, losses...; docs/certificate.md
    rule       theorem or equation of docs/specification.md
    value      the measured ratio or number of violations
    threshold  its bound, or None for what is reported only
    where      the worst place, empty if there is none
    note       what else there is to know
    decides    False if a value above the threshold only means that nobody can tell
    """

    name: str
    rule: str
    value: float
    threshold: float | None
    where: str = ""
    note: str = ""
    decides: bool = True

    @property
    def passed(self) -> bool:
        """NaN compares as false and so fails."""
        return self.threshold is None or bool(self.value <= self.threshold)

    @property
    def verdict(self) -> str:
        """One of PASSED, FAILED and NOT_DECIDABLE."""
        return PASSED if self.passed else FAILED if self.decides else NOT_DECIDABLE

    def __str__(self) -> str:
        bound = "reported" if self.threshold is None else f"<= {self.threshold:.3g}"
        mark = {PASSED: "ok", FAILED: "FAILED", NOT_DECIDABLE: "OPEN"}[self.verdict]
        details = "  ".join(text for text in (self.where, self.note) if text)
        return f"{mark:6} {self.name:9} {self.value:<10.3g} {bound:10} {self.rule:18} {details}"


@dataclass(frozen=True)
class Certificate:
    """The verdict on one pruned layer.

    seconds  what the judge took
    """

    method: str
    pattern: str
    checks: tuple[Check, ...]
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """FAILED if a check failed, else NOT_DECIDABLE if one stays open, else PASSED."""
        found = {check.verdict for check in self.checks}
        if FAILED in found or not found:
            return FAILED
        return NOT_DECIDABLE if NOT_DECIDABLE in found else PASSED

    @property
    def passed(self) -> bool:
        """True if every check passed, and there was one."""
        return self.verdict == PASSED

    def __getitem__(self, name: str) -> Check:
        """The check of that name; KeyError if it was not made."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def as_dict(self) -> dict[str, object]:
        """JSON-able: no NaN and no infinity, which JSON has no words for."""
        checks = [{**asdict(check), "verdict": check.verdict} for check in self.checks]
        for check in checks:
            if not math.isfinite(check["value"]):
                check["value"] = str(check["value"])
        return {
            "method": self.method,
            "pattern": self.pattern,
            "passed": self.passed,
            "verdict": self.verdict,
            "seconds": self.seconds,
            "checks": checks,
        }

    def __str__(self) -> str:
        verdict = self.verdict if self.passed else self.verdict.upper()
        lines = [f"certificate {verdict}: {self.method}, {self.pattern}, {self.seconds:.2f} s"]
        return "\n".join([*lines, *(f"  {check}" for check in self.checks)])


def failed(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks that failed; those that stay open did not."""
    return tuple(check for check in checks if check.verdict == FAILED)


def first_place(wrong: NDArray[Any]) -> str:
    """Row and column of the first violation, for people."""
    if not wrong.any():
        return ""
    row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"first at row {row}, column {column}"
