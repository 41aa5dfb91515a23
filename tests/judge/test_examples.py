"""The examples in C and JavaScript are built and judged with the commands on their pages."""

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
EXAMPLES = ROOT / "docs" / "examples"
JAVASCRIPT = "node docs/examples/javascript/thanos.mjs"


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the program that the page builds."""
    page = (EXAMPLES / "c" / "README.md").read_text()
    (build,) = re.findall(r"^    (cc .*)$", page, re.MULTILINE)
    for end in ("", " --serve"):
        assert f"    thanos verify --command docs/examples/c/thanos{end}\n" in page
    assert shutil.which("cc"), "a C compiler is needed: cc was not found"
    program = tmp_path_factory.mktemp("c") / "thanos"
    sources = [str(path) for path in sorted((EXAMPLES / "c").glob("*.c"))]
    line = build.replace("docs/examples/c/*.c", shlex.join(sources))
    line = line.replace("docs/examples/c/thanos ", f"{shlex.quote(str(program))} ")
    subprocess.run(shlex.split(line), check=True, cwd=program.parent)
    return str(program)


@pytest.fixture
def in_javascript(monkeypatch: pytest.MonkeyPatch) -> str:
    """The command on the page, which names a file relative to the project's root."""
    page = (EXAMPLES / "javascript" / "README.md").read_text()
    assert f'    thanos verify --command "{JAVASCRIPT}" --serve\n' in page
    monkeypatch.chdir(ROOT)
    return JAVASCRIPT


def passes(only: str, said: str) -> None:
    """The report says that all cases with `only` in their ids pass, if anything can decide them."""
    known = (*(case.id for case in load_cases()), *fresh_ids(1))
    ids = [name for name in known if only in name]
    # Of this layer, float64 cannot judge methods that move weights, and no answer is certain.
    hard = [each for each in ids if "-float64-08-" in each and each.startswith(("thanos", "spars"))]
    total, passed = len(ids), len(ids) - len(hard)
    assert total > 0
    assert f"{total} cases: {passed} passed, 0 failed" in said


WAYS = [("-01", []), ("-01", ["--serve"]),
        pytest.param("", [], marks=pytest.mark.long),
        pytest.param("", ["--serve"], marks=pytest.mark.long)]  # fmt: skip


@pytest.mark.parametrize(("only", "more"), WAYS)
def test_c_passes_vectors(
    only: str, more: list[str], in_c: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--command", in_c, "--only", only, "--seed", "1", *more]) == 0
    passes(only, capsys.readouterr().out)


# Node starts slowly: of single runs a few must do.
@pytest.mark.node
@pytest.mark.parametrize(("only", "more"), [("thanos-float64-03", []), *WAYS[1::2]])
def test_javascript_passes_vectors(
    only: str, more: list[str], in_javascript: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--command", in_javascript, "--only", only, "--seed", "1", *more]) == 0
    passes(only, capsys.readouterr().out)


SPOILED = {
    "no file": None,
    "empty": b"",
    "no safetensors": b"a text that is no tensor",
    "no metadata": b"\x02" + bytes(7) + b"{}",
}


def malformed(command: str, folder: Path) -> None:
    """A malformed file is a failure, and no refusal. docs/vectors.md."""
    for name, content in SPOILED.items():
        path = folder / name
        if content is not None:
            path.write_bytes(content)
        line = [*shlex.split(command), str(path), str(folder / "output")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 1, name
        assert done.stderr.strip(), name


def test_c_fails_at_malformed_files(in_c: str, tmp_path: Path) -> None:
    malformed(in_c, tmp_path)


@pytest.mark.node
def test_javascript_fails_at_malformed_files(in_javascript: str, tmp_path: Path) -> None:
    malformed(in_javascript, tmp_path)
