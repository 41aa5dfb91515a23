"""The example in C is built and judged with the commands on its page."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from verification.conformance import load_cases
from verification.conformance.command import main
from verification.fresh import fresh_ids

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "examples" / "c" / "README.md").read_text()


@pytest.mark.parametrize("only", ["-01", pytest.param("", marks=pytest.mark.long)])
def test_it_passes_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str], only: str) -> None:
    (build,) = re.findall(r"^    (cc .*)$", PAGE, re.MULTILINE)
    assert "    thanos verify --command docs/examples/c/thanos\n" in PAGE
    assert shutil.which("cc"), "a C compiler is needed: cc was not found"
    program = tmp_path / "thanos"
    sources = [str(path) for path in sorted((ROOT / "docs" / "examples" / "c").glob("*.c"))]
    line = build.replace("docs/examples/c/*.c", shlex.join(sources))
    line = line.replace("docs/examples/c/thanos ", f"{shlex.quote(str(program))} ")
    subprocess.run(shlex.split(line), check=True, cwd=tmp_path)
    assert main(["--command", str(program), "--only", only, "--seed", "1"]) == 0
    known = (*(case.id for case in load_cases()), *fresh_ids(1))
    ids = [name for name in known if only in name]
    # Of this layer, float64 cannot judge methods that move weights, and no answer is certain.
    hard = [each for each in ids if "-float64-08-" in each and each.startswith(("thanos", "spars"))]
    total, passed = len(ids), len(ids) - len(hard)
    assert f"{total} cases: {passed} passed, 0 failed" in capsys.readouterr().out
