"""What is left out of a test run is named at its end, also where workers collect the tests."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests import conftest

TESTS = """
import pytest

def test_short():
    pass

@pytest.mark.long
@pytest.mark.parametrize("case", [1, 2])
def test_long(case):
    raise AssertionError("left out")
"""


def test_long_tests_are_named(tmp_path: Path) -> None:
    shutil.copy(conftest.__file__, tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    long\n    cuda\n    triton\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT RUN: long, part of `make verify`" in done.stdout
    assert "test_it.py::test_long (2)" in done.stdout
    assert "1 passed" in done.stdout
