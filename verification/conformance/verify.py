"""Judges an implementation over many cases and explains its failures."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import SPECIFICATION
from verification.certificate import failed as failed_checks
from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import TIERS, Case
from verification.conformance.implementation import Implementation, Output
from verification.conformance.judge import Verdict, judge, judge_answer
from verification.conformance.storage import stored
from verification.conformance.xfails import NONE_EXPECTED, Entry, Xfails
from verification.diagnosis import Evidence, Explanation, explain
from verification.diagnosis.evidence import evidence_of
from verification.diagnosis.explain import Mistake
from verification.diagnosis.ranking import Ranked, ranked
from verification.vectors.version import VERSION

STATES = ("passed", "failed", "expected failures", "not decidable", "unsupported")
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

    seed      of the fresh cases
    failures  of cases that are not expected to fail
    ranked    the mistakes that explain its failures, the likeliest first
    xfails    the cases that are expected to fail
    tier      of the cases; only the last of TIERS makes a pass of the judge
    """

    name: str
    seed: int
    verdicts: tuple[Verdict, ...]
    failures: tuple[Failure, ...]
    ranked: tuple[Ranked, ...] = ()
    xfails: Xfails = NONE_EXPECTED
    tier: str = TIERS[-1]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many cases are in each of STATES."""
        found = Counter(self.state(verdict) for verdict in self.verdicts)
        return {state: found[state] for state in STATES}

    def state(self, verdict: Verdict) -> str:
        """One of STATES. The list of expected failures changes nothing but failures."""
        if verdict.unsupported:
            return "unsupported"
        if verdict.failures:
            return "expected failures" if self.xfails.name(verdict.case.id) else "failed"
        return "passed" if verdict.passed else "not decidable"

    @property
    def passed(self) -> bool:
        """True if a case of the tier passed, and none failed that is not expected to fail."""
        return self.counts["passed"] > 0 and self.counts["failed"] == 0

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        expected = self.counts["expected failures"]
        if self.passed:
            word = f"passed, with {expected} expected failures" if expected else "passed"
        else:
            word = "failed" if self.counts["failed"] else "failed: no case passed"
        if self.tier == TIERS[-1] or not self.passed:
            return word
        # Nobody shall take it for a pass of the judge.
        return f"{word} (tier {self.tier} only: a right implementation passes tier {TIERS[-1]})"

    @property
    def beginning_to_pass(self) -> list[tuple[Entry, int, int]]:
        """Each entry of `xfails` with passed cases, their number, and that of its judged cases."""
        found = []
        for entry in self.xfails.entries:
            named = [self.state(v) for v in self.verdicts if entry.names(v.case.id)]
            judged = [state for state in named if state in ("passed", "expected failures")]
            found.append((entry, judged.count("passed"), len(judged)))
        return [(entry, passed, of) for entry, passed, of in found if passed]

    @property
    def judged_by(self) -> str:
        """The versions that the verdicts rest on."""
        return f"specification {SPECIFICATION}, vectors {VERSION}"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "implementation": self.name,
            "specification": SPECIFICATION,
            "vectors": VERSION,
            "seed": self.seed,
            "tier": self.tier,
            "passed": self.passed,
            "counts": self.counts,
            "not_decidable": self._ids("not decidable"),
            "unsupported_because": dict(
                Counter(v.unsupported for v in self.verdicts if v.unsupported)
            ),
            "explanations": [
                {"key": r.example.key, "rule": r.example.rule, "text": r.example.text,
                 "failures": len(r.failures), "not_shown_in": r.against}
                for r in self.ranked
            ],
            "failures": [_as_dict(failure) for failure in self.failures],
            "xfails": {
                "file": self.xfails.file or None,
                "failed": self._ids("expected failures"),
                "passed": [v.case.id for v in self.verdicts
                           if v.passed and self.xfails.name(v.case.id)],
            },
        }  # fmt: skip

    def _ids(self, state: str) -> list[str]:
        return [verdict.case.id for verdict in self.verdicts if self.state(verdict) == state]


def verify(
    implementation: Implementation,
    cases: Sequence[Case],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    xfails: Xfails = NONE_EXPECTED,
) -> Report:
    """Judge all cases and explain the failures.

    The cases are judged in an order that the seed draws, so that what stays of one case in an
    implementation shows in one of another kind. The report has the order of `cases`.

    seed    by which the fresh ones among the cases are drawn again
    xfails  cases that are expected to fail; their failures are not explained
    """
    order = random.Random(f"{seed}/order").sample(range(len(cases)), len(cases))
    verdicts: dict[int, Verdict] = {}
    for done, place in enumerate(order):
        if progress:
            progress(done, len(cases))
        verdicts[place] = judge(cases[place], implementation)
    if progress:
        progress(len(cases), len(cases))
    in_order = [verdicts[place] for place in range(len(cases))]
    return explained(implementation, in_order, seed, xfails=xfails)


def explained(
    implementation: Implementation,
    verdicts: Sequence[Verdict],
    seed: int,
    search: bool = True,
    xfails: Xfails = NONE_EXPECTED,
) -> Report:
    """The report of some verdicts, with explanations of the failures that are not expected.

    search  whether explanations are looked for; they compare all checks of a verdict
    """
    capabilities = implementation.capabilities
    failed = [v for v in verdicts if v.failures and not xfails.name(v.case.id)]
    found = _explained(failed, capabilities) if search else [()] * len(failed)
    failures = tuple(
        Failure(verdict, of_one, implementation.reproduce(verdict.case))
        for verdict, of_one in zip(failed, found, strict=True)
    )
    evidence = [_evidence(verdict) for verdict in failed]
    best = ranked(found, evidence, _passed(verdicts, failed)) if search else ()
    return Report(capabilities.name, seed, tuple(verdicts), failures, tuple(best), xfails)


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
