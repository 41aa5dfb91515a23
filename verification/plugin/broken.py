"""The exception of a property that does not hold, with its diagnosis."""

from collections.abc import Iterator, Sequence

from verification.certificate import Check
from verification.conformance.implementation import Implementation
from verification.conformance.judge import Verdict
from verification.conformance.text import printable
from verification.conformance.verify import explanations


class Broken(AssertionError):  # noqa: N818 - a verdict about an implementation
    """A property does not hold. The text has the failure, its likely cause and how to see it again.

    The text is made on demand, because the search for a small counterexample raises many of these.
    """

    def __init__(
        self, verdict: Verdict, failures: Sequence[Check], implementation: Implementation
    ) -> None:
        super().__init__(verdict.case.id)
        self.verdict, self.failures, self._implementation = verdict, failures, implementation

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        case = self.verdict.case
        rows, columns = case.weight.shape
        stored = f" stored as {case.storage}" if case.storage else ""
        yield (
            f"{case.method} {case.pattern} on a layer of {rows} x {columns}, "
            f"{case.dtype}{stored}, block size {case.block_size}, damping {case.damping}"
        )
        for check in self.failures:
            yield f"  {check}"
        capabilities = self._implementation.capabilities
        for explanation in explanations(self.verdict, capabilities)[:1]:
            yield f"likeliest: {explanation.key}, {explanation.rule}: {explanation.text}"
        yield "to see it again:"
        for line in self._implementation.reproduce(case).splitlines():
            yield f"  {line}"
