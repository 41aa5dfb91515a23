"""Judges an implementation over many cases and explains its failures."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification.conformance.cases import Case
from verification.conformance.implementation import Implementation, Output
from verification.conformance.judge import Verdict, judge
from verification.diagnosis import Explanation, explain
from verification.diagnosis.evidence import evidence_of

# Number of failures that are explained; further ones take time and add little.
MAX_EXPLAINED = 40


@dataclass(frozen=True)
class Failure:
    """A failed case with its explanations, the likeliest first, and how to reproduce it."""

    verdict: Verdict
    explanations: tuple[Explanation, ...]
    reproduce: str


@dataclass(frozen=True)
class Report:
    """All verdicts on one implementation; `seed` is that of the fresh cases."""

    name: str
    seed: int
    verdicts: tuple[Verdict, ...]
    failures: tuple[Failure, ...]

    @property
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

    def explanations(self) -> list[tuple[Explanation, int, Failure]]:
        """The likeliest explanations by frequency: (explanation, number of failures, example)."""
        likeliest = [f for f in self.failures if f.explanations]
        often = Counter(failure.explanations[0].key for failure in likeliest)
        first = {f.explanations[0].key: f for f in reversed(likeliest)}
        return [(first[key].explanations[0], n, first[key]) for key, n in often.most_common()]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "implementation": self.name,
            "seed": self.seed,
            "passed": self.passed,
            "counts": self.counts,
            "unsupported_because": dict(
                Counter(v.unsupported for v in self.verdicts if v.unsupported)
            ),
            "failures": [_as_dict(failure) for failure in self.failures],
        }


def verify(
    implementation: Implementation,
    cases: Sequence[Case],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Judge all cases and explain the failures.

    seed  by which the fresh ones among the cases are drawn again
    """
    verdicts = []
    for done, case in enumerate(cases):
        if progress:
            progress(done, len(cases))
        verdicts.append(judge(case, implementation))
    if progress:
        progress(len(cases), len(cases))
    failed = [verdict for verdict in verdicts if verdict.failures]
    explained = {id(verdict) for verdict in _spread(failed, MAX_EXPLAINED)}
    failures = tuple(
        Failure(
            verdict,
            tuple(explanations(verdict)) if id(verdict) in explained else (),
            implementation.reproduce(verdict.case),
        )
        for verdict in failed
    )
    return Report(implementation.capabilities.name, seed, tuple(verdicts), failures)


def _spread(verdicts: Sequence[Verdict], most: int) -> Iterable[Verdict]:
    """At most `most` verdicts, evenly spread."""
    step = max(1, -(-len(verdicts) // most))
    return verdicts[::step]


def explanations(verdict: Verdict) -> list[Explanation]:
    """Known mistakes that reproduce an output, the likeliest first."""
    answer = verdict.answer
    if not isinstance(answer, Output) or not np.isfinite(answer.weight).all():
        return []
    if verdict.case.expected == "refusal":
        return []
    if {check.name for check in verdict.failures} == {"losses"}:
        return []  # the weights are right
    return explain(evidence_of(verdict.case, answer))


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
