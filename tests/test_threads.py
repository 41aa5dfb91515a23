"""Threads of the numeric libraries: they sleep while they wait, and --threads says how many."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from reference import threads
from thanos_torch.runtime.threads import use_threads
from verification.benchmarks.environment import environment
from verification.benchmarks.results import read_results

ROOT = Path(__file__).parent.parent
THREADS = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_")

# Ends the process where NumPy, SciPy or PyTorch would be loaded, which read the variables then.
WATCHED = """
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "scipy", "torch"):
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""
MODULE = "runpy.run_module({!r}, run_name='__main__')".format
STARTS = [
    "import reference",
    "import thanos_torch",
    "import thanos_torch.models",
    "from thanos_torch.cli import main; main()",  # the program `thanos`
    MODULE("thanos_torch"),
    "from verification import certify",
    "from verification.catalogue import catalogue",
    "from verification.strategies import problems",
    "import verification.diagnosis",
    "import verification.exact",
    "import verification.fresh",
    *map(MODULE, ("verification", "verification.conformance.worker", "verification.tolerances")),
    *map(MODULE, ("verification.fuzz", "verification.mutants", "verification.vectors")),
    MODULE("verification.benchmarks.quality.worker"),
    MODULE("verification.benchmarks.inference.measure"),
    "import pytest; pytest.main(['--thanos-impl', 'reference', '-p', 'no:cacheprovider'])",
]


def plain() -> dict[str, str]:
    """The variables of this process, but for those of threads, which conftest.py sets."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(THREADS)}
    return {**found, "PYTHONPATH": str(ROOT)}


def started(code: str, folder: Path, **variables: str) -> str:
    """What a fresh process prints, on both streams."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder,
        env={**plain(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("start", STARTS)
def test_every_way_in_lets_threads_sleep_before_a_library_is_loaded(
    start: str, tmp_path: Path
) -> None:
    assert started(WATCHED + start, tmp_path).splitlines()[-1] == "passive 4"


def test_the_users_own_variables_win(tmp_path: Path) -> None:
    own = {"OMP_WAIT_POLICY": "active", "OPENBLAS_THREAD_TIMEOUT": "20"}
    assert started(WATCHED + "import thanos_torch", tmp_path, **own) == "active 20\n"


def test_a_pytest_run_that_judges_nothing_is_left_alone(tmp_path: Path) -> None:
    code = "import os, pytest; pytest.main(['--co', '-q', '-p', 'no:cacheprovider']); "
    printed = started(code + "print(os.environ.get('OMP_WAIT_POLICY'))", tmp_path)
    assert printed.splitlines()[-1] == "None"


def test_openmp_has_read_that_its_threads_sleep(tmp_path: Path) -> None:
    """GNU's OpenMP, which PyTorch's wheels for Linux bring, prints what it read when it loads."""
    printed = started("import thanos_torch", tmp_path, OMP_DISPLAY_ENV="verbose")
    if "GOMP_SPINCOUNT" not in printed:
        pytest.skip("another OpenMP")
    assert "GOMP_SPINCOUNT = '0'" in printed


@pytest.mark.parametrize(
    ("given", "count"), [("3", 3), ("3,2", 3), (" 3 ", 3), ("", 0), ("0", 0), ("-2", 0), ("x", 0)]
)
def test_work_is_shared_among_the_threads_of_the_variable(
    monkeypatch: pytest.MonkeyPatch, given: str, count: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads.thread_count() == (count or threads.cores())


def test_a_number_of_threads_holds_for_torch_numpy_the_certificate_and_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in threads.NUMBERS:  # given back by the fixture
        monkeypatch.setenv(name, "1")
    before = torch.get_num_threads()
    try:
        with threadpool_limits(1, user_api="blas"):
            use_threads(2)
            assert torch.get_num_threads() == threads.thread_count() == 2
            limits = {each["num_threads"] for each in threadpool_info() if "blas" in each.values()}
            assert limits == {2}
            assert {os.environ[name] for name in threads.NUMBERS} == {"2"}
            use_threads(0)
            assert torch.get_num_threads() == threads.thread_count() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("number", [-1, threads.MOST_THREADS + 1])
def test_numbers_of_threads_that_cannot_be_are_refused(number: int) -> None:
    before = dict(os.environ)
    with pytest.raises(ValueError, match=f"threads must be from 0 to 1024, got {number}"):
        use_threads(number)
    assert dict(os.environ) == before


def test_records_say_how_threads_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "4")
    monkeypatch.setenv("GOMP_SPINCOUNT", "100")
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    words = "OMP_WAIT_POLICY=passive OPENBLAS_THREAD_TIMEOUT=4 GOMP_SPINCOUNT=100"
    assert environment()["waiting"] == words


def test_older_records_are_read_and_do_not_say_it() -> None:
    found = read_results(ROOT / "docs" / "results" / "quick").records
    assert all("waiting" not in run.conditions for run in found)
