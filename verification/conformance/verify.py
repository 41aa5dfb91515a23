"""Judges an implementation over many cases and explains its failures."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verification.certificate import failed as failed_checks
from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import Implementation, Output
from verification.conformance.judge import Verdict, judge, judge_answer
from verification.conformance.storage import stored
from verification.diagnosis import Evidence, Explanation, explain
from verification.diagnosis.evidence import evidence_of
from verification.diagnosis.explain import Mistake
from verification.diagnosis.ranking import Ranked, ranked

# Number of failures for which all mistakes are tried; for others only those that explain these.
MAX_EXPLAINED = 40
MAX_LIKELY = 3
# Number of passed cases with which the likeliest explanations are refuted.
MAX_REFUTING = 24


@dataclass(frozen=True)
class Failure:
    """A failed case with its explanations, the likeliest first, and how to reproduce it."""

    verdict: Verdict
    explanations: tuple[Explanation, ...]
    reproduce: str


@dataclass(frozen=True)
class Report:
    """All verdicts on one implementation.

    seed    of the fresh cases
    ranked  the mistakes that explain its failures, the likeliest first
    """

    name: str
    seed: int
    verdicts: tuple[Verdict, ...]
    failures: tuple[Failure, ...]
    ranked: tuple[Ranked, ...] = ()

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many cases passed, failed, could not be decided, and were not supported."""
        judged = [verdict for verdict in self.verdicts if not verdict.unsupported]
        return {
            "passed": sum(verdict.passed for verdict in judged),
            "failed": sum(bool(verdict.failures) for verdict in judged),
            "not decidable": sum(verdict.not_decidable for verdict in judged),
            "unsupported": len(self.verdicts) - len(judged),
        }

    @property
    def passed(self) -> bool:
        """True if a case passed and none failed."""
        return self.counts["passed"] > 0 and self.counts["failed"] == 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "implementation": self.name,
            "seed": self.seed,
            "passed": self.passed,
            "counts": self.counts,
            "not_decidable": [v.case.id for v in self.verdicts if v.not_decidable],
            "unsupported_because": dict(
                Counter(v.unsupported for v in self.verdicts if v.unsupported)
            ),
            "explanations": [
                {"key": r.example.key, "rule": r.example.rule, "text": r.example.text,
                 "failures": len(r.failures), "not_shown_in": r.against}
                for r in self.ranked
            ],
            "failures": [_as_dict(failure) for failure in self.failures],
        }  # fmt: skip


def verify(
    implementation: Implementation,
    cases: Sequence[Case],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Judge all cases and explain the failures.

    The cases are judged in an order that the seed draws, so that what stays of one case in an
    implementation shows in one of another kind. The report has the order of `cases`.

    seed  by which the fresh ones among the cases are drawn again
    """
    order = random.Random(f"{seed}/order").sample(range(len(cases)), len(cases))
    verdicts: dict[int, Verdict] = {}
    for done, place in enumerate(order):
        if progress:
            progress(done, len(cases))
        verdicts[place] = judge(cases[place], implementation)
    if progress:
        progress(len(cases), len(cases))
    return explained(implementation, [verdicts[place] for place in range(len(cases))], seed)


def explained(
    implementation: Implementation, verdicts: Sequence[Verdict], seed: int, search: bool = True
) -> Report:
    """The report of some verdicts, with explanations of the failures.

    search  whether explanations are looked for; they compare all checks of a verdict
    """
    capabilities = implementation.capabilities
    failed = [verdict for verdict in verdicts if verdict.failures]
    found = _explained(failed, capabilities) if search else [()] * len(failed)
    failures = tuple(
        Failure(verdict, of_one, implementation.reproduce(verdict.case))
        for verdict, of_one in zip(failed, found, strict=True)
    )
    evidence = [_evidence(verdict) for verdict in failed]
    best = ranked(found, evidence, _passed(verdicts, failed)) if search else ()
    return Report(capabilities.name, seed, tuple(verdicts), failures, tuple(best))


def _explained(
    failed: Sequence[Verdict], capabilities: Capabilities
) -> list[tuple[Explanation, ...]]:
    """Explanations of every failure."""
    first = {id(v): tuple(explanations(v, capabilities)) for v in _spread(failed, MAX_EXPLAINED)}
    likely = [one.example.mistake for one in ranked(list(first.values()))[:MAX_LIKELY]]
    return [
        first[id(v)] if id(v) in first else tuple(explanations(v, capabilities, likely))
        for v in failed
    ]


def _spread(verdicts: Sequence[Verdict], most: int) -> Iterable[Verdict]:
    """At most `most` verdicts, evenly spread."""
    step = max(1, -(-len(verdicts) // most))
    return verdicts[::step]


def _passed(verdicts: Sequence[Verdict], failed: Sequence[Verdict]) -> list[Evidence]:
    """Passed cases of the kinds that failed, which a wrong explanation would fail."""
    kinds = {_kind(verdict.case) for verdict in failed}
    alike = [v for v in verdicts if v.passed and _kind(v.case) in kinds]
    return [e for verdict in _spread(alike, MAX_REFUTING) if (e := _evidence(verdict))]


def _evidence(verdict: Verdict) -> Evidence | None:
    """What explanations look at, if there is an output to look at."""
    case, answer = verdict.case, verdict.answer
    if not isinstance(answer, Output) or case.expected == "refusal":
        return None
    return evidence_of(case, answer) if np.isfinite(answer.weight).all() else None


def _kind(case: Case) -> tuple[object, ...]:
    outliers = "+outliers" in case.pattern
    return case.method, case.pattern.partition(":")[0], outliers, case.dtype, case.storage


def explanations(
    verdict: Verdict, capabilities: Capabilities, only: Collection[Mistake] | None = None
) -> list[Explanation]:
    """Known mistakes that reproduce an output, the likeliest first.

    only  mistakes to try, if not all
    """
    case, evidence = verdict.case, _evidence(verdict)
    if evidence is None:
        return []

    def judged(weight: NDArray[np.float64], mask: NDArray[np.bool_]) -> Collection[str]:
        typed = stored(weight, case.storage or case.dtype)
        return _names(judge_answer(case, Output(typed, mask), capabilities))

    return explain(evidence, _names(verdict.checks), judged, only)


def _names(checks: Any) -> frozenset[str]:
    return frozenset(check.name for check in failed_checks(checks))


def _as_dict(failure: Failure) -> dict[str, Any]:
    verdict = failure.verdict
    return {
        "case": verdict.case.id,
        "flags": list(verdict.case.flags),
        "checks": [
            {"check": c.name, "rule": c.rule, "value": str(c.value), "threshold": c.threshold,
             "where": c.where, "note": c.note}
            for c in verdict.failures
        ],
        "explanations": [
            {"key": e.key, "rule": e.rule, "text": e.text} for e in failure.explanations
        ],
        "reproduce": failure.reproduce,
    }  # fmt: skip
