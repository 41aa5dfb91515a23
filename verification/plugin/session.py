"""Adds the tests of an implementation to a pytest session, and reports on them."""

from collections.abc import Iterator

import pytest

from verification.conformance.isolated import python_function
from verification.plugin.broken import Broken
from verification.plugin.properties import PROFILES, Properties, Property


class Judging:
    """The plugin object of a session with --thanos-impl."""

    def __init__(self, config: pytest.Config) -> None:
        self.name = str(config.getoption("thanos_impl"))
        self.profile = str(config.getoption("thanos_profile"))
        try:
            method = str(config.getoption("thanos_method"))
            self.implementation = python_function(self.name, method)
        except ValueError as error:
            raise pytest.UsageError(f"--thanos-impl: {error}") from error
        self.outcomes: list[str] = []

    def pytest_report_header(self) -> str:
        """The implementation under test, what it supports, and the profile."""
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
        """Add the tests before other plugins select among them."""
        collector = _Properties.from_parent(
            session, name="thanos", path=session.config.rootpath, nodeid="thanos"
        )
        collector.judging = self
        items.extend(collector.collect())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the outcomes of the added tests."""
        if report.nodeid.startswith("thanos::") and (report.when == "call" or report.skipped):
            self.outcomes.append(report.outcome)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a session in which every added test was skipped, since nothing was judged."""
        if exitstatus == pytest.ExitCode.OK and self._nothing_judged():
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_unconfigure(self) -> None:
        """End the process of the implementation."""
        self.implementation.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Report a session in which nothing was judged."""
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
        """One test per property."""
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
        """Look for a counterexample; skip the test if the property is not supported."""
        if self.tested.missing:
            pytest.skip(f"not supported: {self.tested.missing}")
        self.tested.run(PROFILES[self.profile])

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        """The diagnosis instead of a stack trace."""
        if isinstance(excinfo.value, Broken):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[object, None, str]:  # type: ignore[override]
        """The name of the test in reports."""
        return self.path, None, f"thanos: {self.name}"
