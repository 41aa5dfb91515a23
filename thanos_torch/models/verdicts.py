"""The three outcomes of a judge, for one layer and for many, from what certificates say."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The words of `verification.Certificate.verdict`.
PASSED, FAILED, NOT_DECIDABLE = "passed", "failed", "not decidable"
AS_ASKED = "dense, as asked"  # a layer that nobody has to judge
Stored = Mapping[str, Any]  # a certificate as a JSON file holds it


def verdict_of(certificate: Stored | None) -> str:
    """One of PASSED, FAILED and NOT_DECIDABLE; FAILED if nobody judged."""
    if certificate is None:
        return FAILED
    if certificate["passed"] is True:
        return PASSED
    return NOT_DECIDABLE if certificate.get("verdict") == NOT_DECIDABLE else FAILED


def recorded(entry: Mapping[str, Any]) -> str:
    """The verdict in `thanos.json`, on a layer or on all; FAILED for a word that is not known."""
    if entry.get("verified") is True:
        return PASSED
    return NOT_DECIDABLE if entry.get("verdict") == NOT_DECIDABLE else FAILED


def together(verdicts: Iterable[str]) -> str:
    """FAILED if one is, else NOT_DECIDABLE if one is, else PASSED."""
    found = set(verdicts)
    return next((word for word in (FAILED, NOT_DECIDABLE) if word in found), PASSED)


def counted(layers: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """`count_verdicts` of layers in `thanos.json`."""
    return count_verdicts([recorded(layer) for layer in layers])


def count_verdicts(verdicts: Sequence[str]) -> tuple[str, str]:
    """How many passed, "N of M", and ", K not decidable", which is empty if none is."""
    passed, undecided = verdicts.count(PASSED), verdicts.count(NOT_DECIDABLE)
    more = f", {undecided} {NOT_DECIDABLE}" if undecided else ""
    return f"{passed} of {len(verdicts)}", more


def reasons(certificate: Stored) -> str:
    """Why a certificate did not pass: its failed checks, or the open ones if none failed."""
    verdict = verdict_of(certificate)
    found = [check for check in certificate["checks"] if check.get("verdict") == verdict]
    return "; ".join(_reason(check, verdict) for check in found)


def _reason(check: Mapping[str, Any], verdict: str) -> str:
    value = float(check["value"])
    if verdict == NOT_DECIDABLE and not math.isfinite(value):
        return str(check["note"])
    more = check["note"] if verdict == NOT_DECIDABLE else check["where"] or check["note"]
    return f"{check['name']} {value:.3g} {more}".strip()


def worst(certificates: Iterable[Stored | None], check: str) -> float | None:
    """The largest value of a check in some certificates, NaN first; None if nobody made it."""
    values = [
        float(each["value"])
        for certificate in certificates
        if certificate
        for each in certificate["checks"]
        if each["name"] == check
    ]
    return max(values, key=lambda value: (math.isnan(value), value), default=None)
