"""The part of the plugin that works: the tests of a session, and what is said about them."""

from collections.abc import Iterator

import pytest

from verification.conformance.callables import PythonFunction, load_callable
from verification.plugin.broken import Broken
from verification.plugin.properties import PROFILES, Properties, Property


class Judging:
    """Registered with pytest if there is something to judge."""

    def __init__(self, config: pytest.Config) -> None:
        self.name = str(config.getoption("thanos_impl"))
        self.profile = str(config.getoption("thanos_profile"))
        try:
            function = load_callable(self.name)
            method = str(config.getoption("thanos_method"))
            self.implementation = PythonFunction(function, method, self.name)
        except ValueError as error:
            raise pytest.UsageError(f"--thanos-impl: {error}") from error
        self.outcomes: list[str] = []

    def pytest_report_header(self) -> str:
        """What is under test."""
        capabilities = self.implementation.capabilities
        precisions = ", ".join((*capabilities.dtypes, *capabilities.storage))
        return (
            f"thanos: {capabilities.name} judged for {', '.join(capabilities.methods)} "
            f"({', '.join(capabilities.patterns)}; {precisions}), "
            f"profile {self.profile} with {PROFILES[self.profile].examples} examples a test"
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Add the tests before anything selects among them."""
        collector = _Properties.from_parent(
            session, name="thanos", path=session.config.rootpath, nodeid="thanos"
        )
        collector.judging = self
        items.extend(collector.collect())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what became of ours."""
        if report.nodeid.startswith("thanos::") and (report.when == "call" or report.skipped):
            self.outcomes.append(report.outcome)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Unsupported is no pass: a run in which all of ours were skipped judged nothing."""
        if exitstatus == pytest.ExitCode.OK and self._nothing_judged():
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say so."""
        if self._nothing_judged():
            terminalreporter.write_line(
                f"thanos: no test is supported by {self.name}: nothing was judged", red=True
            )

    def _nothing_judged(self) -> bool:
        return bool(self.outcomes) and set(self.outcomes) == {"skipped"}


class _Properties(pytest.Collector):
    """All properties of one implementation."""

    judging: Judging

    def collect(self) -> Iterator[pytest.Item]:
        """One test of each."""
        for tested in Properties(self.judging.implementation):
            item = _Test.from_parent(self, name=tested.name)
            item.tested, item.profile = tested, self.judging.profile
            item.add_marker("thanos")
            yield item


class _Test(pytest.Item):
    """One property, for one method, kind of pattern and precision."""

    tested: Property
    profile: str

    def runtest(self) -> None:
        """Skip what is not supported; look for a counterexample otherwise."""
        if self.tested.missing:
            pytest.skip(f"not supported: {self.tested.missing}")
        self.tested.run(PROFILES[self.profile])

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        """A diagnosis in the place of a stack."""
        if isinstance(excinfo.value, Broken):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[object, None, str]:  # type: ignore[override]
        """Where it comes from."""
        return self.path, None, f"thanos: {self.name}"
