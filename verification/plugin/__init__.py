"""A pytest plugin: `pytest --thanos-impl pkg.module:function` judges an implementation.

It adds one test for every property, method, kind of pattern and precision; docs/conformance.md.
Every pytest run in the environment imports this module, so it imports nothing heavy.
"""

import pytest

OPTIONS = "thanos"
PROFILES = ("quick", "normal", "nightly")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup(OPTIONS, "judging an implementation of Thanos pruning")
    group.addoption("--thanos-impl", metavar="MODULE:FUNCTION",
                    help="the function to judge; reference and torch are built in")  # fmt: skip
    group.addoption("--thanos-method", default="thanos",
                    choices=("thanos", "magnitude", "wanda", "sparsegpt"),
                    help="the method to judge, if the function declares none")  # fmt: skip
    group.addoption("--thanos-profile", default="quick", choices=PROFILES,
                    help="how many examples: quick takes seconds, nightly hours")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Load the rest of the plugin if --thanos-impl is given."""
    config.addinivalue_line("markers", "thanos: properties of the function of --thanos-impl")
    if config.getoption("thanos_impl") is None:
        return
    from verification.plugin.session import Judging

    config.pluginmanager.register(Judging(config), "thanos-judging")
