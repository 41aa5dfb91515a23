"""What all tests share: reproducible examples, one thread, and the word of what is not run."""

import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

# Hypothesis draws the same examples on every run, so that CI is stable; no deadline, no files.
# `make verify` draws more of them.
settings.register_profile(
    "project", derandomize=True, deadline=None, database=None, max_examples=20
)
settings.register_profile("thorough", settings.get_profile("project"), max_examples=100)
settings.load_profile("project")

# Tiny layers are faster on one thread, above all when something else keeps the cores busy: NumPy's
# threads wait for each other in loops, which made some tests 15 times slower. Processes that tests
# start, and pytest's workers, learn it from the environment, and these before they load NumPy.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
if not torch.cuda.is_available():
    # Triton reads it when it is imported itself, which parts of PyTorch do.
    os.environ.setdefault("TRITON_INTERPRET", "1")
torch.set_num_threads(1)
threadpool_limits(1, user_api="blas")

# Files that take longest begin first: a core that got one last would run it while the other waits.
LONGEST = (
    "judge/test_wrong.py", "models/pruning/test_resume.py", "judge/test_ways_in.py",
    "judge/test_plugin.py", "test_docs.py", "benchmarks/test_studies.py", "judge/test_mutants.py",
    "models/certifying/test_certify_sources.py", "models/pruning/test_streaming.py",
    "methods/test_kernels.py", "methods/test_device.py", "models/pruning/test_real_model.py",
    "models/pruning/test_ranks_cli.py", "models/pruning/test_planted_regression.py",
    "test_tutorials.py", "test_results.py", "test_imports.py", "models/cli/test_cli.py",
    "models/pruning/test_agreement.py", "certificate/attacks/test_attacks.py",
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def power_stays_on() -> Iterator[None]:
    """No test ends the power: waiting for the disk would take most of the time of killed runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


NOT_RUN = pytest.StashKey[dict[str, list[str]]]()  # names by the reason


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a device, and what is long unless asked for; named at the end."""
    left: dict[str, list[pytest.Item]] = {}
    if not torch.cuda.is_available():
        left["no CUDA device here"] = _marked(items, "cuda")
    if importlib.util.find_spec("triton") is None:
        left["no Triton here"] = _marked(items, "triton")
    if shutil.which("node") is None:
        left["no Node.js here"] = _marked(items, "node")
    if "long" not in config.option.markexpr:
        left["long, part of `make verify`"] = _marked(items, "long")
    config.hook.pytest_deselected(items=[item for some in left.values() for item in some])
    out = {id(item) for some in left.values() for item in some}
    files = {config.rootpath / "tests" / name: place for place, name in enumerate(LONGEST)}
    kept = (item for item in items if id(item) not in out)
    items[:] = sorted(kept, key=lambda item: files.get(item.path, len(files)))  # stable
    config.stash[NOT_RUN] = {
        reason: [item.nodeid for item in some] for reason, some in left.items()
    }


def _marked(items: list[pytest.Item], mark: str) -> list[pytest.Item]:
    return [item for item in items if item.get_closest_marker(mark)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """On several cores each worker collects for itself, and tells the process that reports."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["not_run"] = session.config.stash.get(NOT_RUN, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker is done: take its word, which is that of all; one that crashed has none."""
    told = getattr(node, "workeroutput", {}).get("not_run")
    if told is not None:
        node.config.stash[NOT_RUN] = told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what nobody has tested here."""
    for reason, names in terminalreporter.config.stash.get(NOT_RUN, {}).items():
        if names:
            terminalreporter.section(f"NOT RUN: {reason}")
        for name, count in Counter(name.partition("[")[0] for name in names).items():
            terminalreporter.write_line(f"{name} ({count})" if count > 1 else name)
