"""A pytest plugin: `pytest --thanos-impl pkg.module:function` judges an implementation.

It adds one test for every property, method, kind of pattern and precision; docs/conformance.md.
Every pytest run of the environment imports this module, so that it imports nothing heavy.
"""

import pytest

OPTIONS = "thanos"
PROFILES = ("quick", "normal", "nightly")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup(OPTIONS, "judging an implementation of Thanos pruning")
    group.addoption("--thanos-impl", metavar="MODULE:FUNCTION",
                    help="the function to judge; reference and torch are built in")  # fmt: skip
    group.addoption("--thanos-method", default="thanos",
                    choices=("thanos", "magnitude", "wanda", "sparsegpt"),
                    help="what it is judged for, if it does not say itself")  # fmt: skip
    group.addoption("--thanos-profile", default="quick", choices=PROFILES,
                    help="how many examples: quick takes seconds, nightly hours")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Load what does the work, if it was asked for."""
    config.addinivalue_line("markers", "thanos: properties of the function of --thanos-impl")
    if config.getoption("thanos_impl") is None:
        return
    from verification.plugin.session import Judging

    config.pluginmanager.register(Judging(config), "thanos-judging")
