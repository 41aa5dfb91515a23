"""What all tests share: reproducible examples, one thread, and what is not run without a GPU."""

import pytest
import torch
from hypothesis import settings

# Hypothesis draws the same examples on every run, so that CI is stable; no deadline, no files.
settings.register_profile(
    "project", derandomize=True, deadline=None, database=None, max_examples=40
)
settings.load_profile("project")

# Tiny layers are faster on one thread, above all when something else keeps the cores busy.
torch.set_num_threads(1)

NOT_RUN = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `cuda` need a device: without one they are not run, and named at the end."""
    if torch.cuda.is_available():
        return
    needy = [item for item in items if item.get_closest_marker("cuda")]
    items[:] = [item for item in items if item not in needy]
    config.hook.pytest_deselected(items=needy)
    config.stash[NOT_RUN] = [item.nodeid for item in needy]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what nobody has tested here."""
    names = terminalreporter.config.stash.get(NOT_RUN, [])
    if names:
        terminalreporter.section("NOT RUN: no CUDA device here")
        for name in names:
            terminalreporter.write_line(name)
