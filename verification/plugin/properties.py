"""Properties of the specification that Hypothesis tests on any implementation.

A property draws a call, lets the implementation answer, and raises `Broken` with a diagnosis if
the answer violates the specification. Rotations of the inputs, part of T7, cannot be tested here,
because they do not change G.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from verification.catalogue import HardInput, catalogue
from verification.certificate import Check, failed
from verification.conformance.cases import Case
from verification.conformance.implementation import Implementation, Output
from verification.conformance.judge import Verdict, judge, judge_answer
from verification.plugin.broken import Broken
from verification.plugin.calls import (
    KINDS,
    PRECISIONS,
    Precision,
    SizeLimits,
    calls,
    exact_case,
    hard_cases,
    removing_nothing,
    representative,
    spoiled,
    transformed,
)

TINY = SizeLimits(4, 8)  # exact arithmetic takes its time


@dataclass(frozen=True)
class Profile:
    """How thoroughly properties are tested.

    examples     number of examples per property
    sizes        largest layer
    derandomize  whether every run has the same examples, which keeps CI stable
    """

    examples: int
    sizes: SizeLimits
    derandomize: bool = True

    @property
    def settings(self) -> settings:
        """Settings of Hypothesis: no deadline, no files, the smallest counterexample."""
        return settings(
            max_examples=self.examples,
            derandomize=self.derandomize,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
        )


PROFILES = {
    "quick": Profile(20, SizeLimits(6, 12)),
    "normal": Profile(150, SizeLimits(8, 24)),
    "nightly": Profile(2000, SizeLimits(24, 48), derandomize=False),
}


@dataclass(frozen=True)
class Property:
    """One property for one method, kind of pattern and precision.

    missing  why it is not supported, or None
    run      tests it; raises Broken if it does not hold
    """

    name: str
    missing: str | None
    run: Callable[[Profile], None]


class Properties:
    """All properties of one implementation."""

    def __init__(self, implementation: Implementation) -> None:
        self._implementation = implementation
        self._capabilities = implementation.capabilities

    def __iter__(self) -> Iterator[Property]:
        for method in self._capabilities.methods:
            yield from self._of_method(method)

    def _of_method(self, method: str) -> Iterator[Property]:
        kinds = tuple(kind for kind in KINDS if method == "thanos" or "+" not in kind)
        for kind, precision in product(kinds, PRECISIONS):
            yield self._drawn("certificate", method, kind, (precision,), self._certified)
        for kind in kinds:
            full = tuple(each for each in PRECISIONS if not each.storage)
            yield self._drawn("exact-answer", method, kind, full, self._exact, TINY)
            yield self._drawn("nothing-removed", method, kind, PRECISIONS, self._untouched)
            yield self._drawn("invariance", method, kind, PRECISIONS, self._invariant)
        yield self._refusals(method)
        for dtype in ("float64", "float32"):
            for hard in catalogue(dtype):
                yield self._hard(hard, method, kinds, Precision(dtype))

    def _missing(self, method: str, kind: str, precision: Precision) -> str | None:
        return self._capabilities.missing(representative(method, kind, precision))

    def _drawn(
        self,
        name: str,
        method: str,
        kind: str,
        precisions: tuple[Precision, ...],
        check: Callable[[st.DataObject, st.SearchStrategy[Case]], None],
        sizes: SizeLimits | None = None,
    ) -> Property:
        """A property of drawn calls, in the supported ones of some precisions."""
        reasons = {each: self._missing(method, kind, each) for each in precisions}
        supported = [each for each, reason in reasons.items() if reason is None]
        one = f"-{precisions[0]}" if len(precisions) == 1 else ""
        ties = check != self._invariant

        def run(profile: Profile) -> None:
            @profile.settings
            @given(st.data())
            def holds(data: st.DataObject) -> None:
                precision = data.draw(st.sampled_from(supported), label="precision")
                drawn = calls(method, kind, precision, sizes or profile.sizes, ties=ties)
                check(data, drawn)

            holds()

        missing = None if supported else next(iter(reasons.values()))
        return Property(f"{name}[{method}-{kind}{one}]", missing, run)

    def _refusals(self, method: str) -> Property:
        missing = None if self._capabilities.refusals else "refusals"
        precision = Precision("float64")

        def run(profile: Profile) -> None:
            @profile.settings
            @given(spoiled(calls(method, "unstructured", precision, profile.sizes)))
            def holds(case: Case) -> None:
                self._judged(case)

            holds()

        return Property(f"refusals[{method}]", missing, run)

    def _hard(
        self, hard: HardInput, method: str, kinds: tuple[str, ...], precision: Precision
    ) -> Property:
        reasons = {kind: self._missing(method, kind, precision) for kind in kinds}
        supported = tuple(kind for kind, reason in reasons.items() if reason is None)

        def run(profile: Profile) -> None:
            for case in hard_cases(hard, method, supported):
                self._judged(case)

        missing = None if supported else next(iter(reasons.values()))
        return Property(f"hard-input[{hard}-{method}-{precision}]", missing, run)

    # The properties ------------------------------------------------------------------------

    def _judged(self, case: Case) -> Verdict:
        """Judge a case; raises Broken if a check fails."""
        verdict = judge(case, self._implementation)
        if verdict.failures:
            raise Broken(verdict, verdict.failures, self._implementation)
        return verdict

    def _certified(self, data: st.DataObject, drawn: st.SearchStrategy[Case]) -> None:
        """Sections 2 to 4 by the certificate of section 5."""
        self._judged(data.draw(drawn))

    def _exact(self, data: st.DataObject, drawn: st.SearchStrategy[Case]) -> None:
        """The answer is that of exact arithmetic, unless rounding may lead to another one."""
        self._judged(exact_case(data.draw(drawn)))

    def _untouched(self, data: st.DataObject, drawn: st.SearchStrategy[Case]) -> None:
        """Nothing removed: every weight stays, bit for bit."""
        verdict = self._judged(removing_nothing(data.draw(drawn)))
        assert isinstance(verdict.answer, Output)
        changed = verdict.answer.weight != verdict.case.weight
        if changed.any():
            check = Check("kept", "section 2", int(changed.sum()), 0, "", "changed, none removed")
            raise Broken(verdict, [check], self._implementation)

    def _invariant(self, data: st.DataObject, drawn: st.SearchStrategy[Case]) -> None:
        """T7: the answer to a transformed layer, transformed back, is right for the layer."""
        plain, other, back = data.draw(transformed(drawn))
        verdict = self._judged(other)
        assert isinstance(verdict.answer, Output)
        checks = judge_answer(plain, back(verdict.answer), self._capabilities)
        if failed(checks):
            raise Broken(verdict, failed(checks), self._implementation)
