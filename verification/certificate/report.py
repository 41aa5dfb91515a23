"""What a certificate says."""

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Check:
    """One check: it passed if `value` is at most `threshold`; NaN fails.

    name       finite, outliers, counts, masks, zeros, updates, excess, kept, losses, refit...
    rule       theorem or equation of docs/specification.md
    value      the measured ratio or number of violations
    threshold  its bound, or None for what is reported only
    where      the worst place, empty if there is none
    note       what else there is to know
    """

    name: str
    rule: str
    value: float
    threshold: float | None
    where: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """NaN compares as false and so fails."""
        return self.threshold is None or bool(self.value <= self.threshold)

    def __str__(self) -> str:
        bound = "reported" if self.threshold is None else f"<= {self.threshold:.3g}"
        verdict = "ok    " if self.passed else "FAILED"
        details = "  ".join(text for text in (self.where, self.note) if text)
        return f"{verdict} {self.name:9} {self.value:<10.3g} {bound:10} {self.rule:18} {details}"


@dataclass(frozen=True)
class Certificate:
    """The verdict on one pruned layer: passed if every check did."""

    method: str
    pattern: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check of that name; KeyError if it was not made."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def as_dict(self) -> dict[str, object]:
        """JSON-able: no NaN and no infinity, which JSON has no words for."""
        checks = [{**asdict(check), "passed": check.passed} for check in self.checks]
        for check in checks:
            if not math.isfinite(check["value"]):
                check["value"] = str(check["value"])
        return {
            "method": self.method,
            "pattern": self.pattern,
            "passed": self.passed,
            "checks": checks,
        }

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        lines = [f"certificate {verdict}: {self.method}, {self.pattern}"]
        return "\n".join([*lines, *(f"  {check}" for check in self.checks)])
