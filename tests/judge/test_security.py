"""Files from others are data, and programs under test are kept within limits."""

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from verification.conformance import Failed, load_case
from verification.conformance.programs import Program

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for part in ("reference", "thanos_torch", "verification")
    for path in (ROOT / part).rglob("*.py")
)
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "torch.load", "np.load"}


def forbidden(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from MODULES & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from MODULES & {node.module.partition(".")[0]}
        elif isinstance(node, ast.Call):
            yield from CALLS & {ast.unparse(node.func)}
            for keyword in node.keywords:
                if (
                    keyword.arg in ("shell", "allow_pickle")
                    and ast.unparse(keyword.value) != "False"
                ):
                    yield keyword.arg


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_executes_data(path: Path) -> None:
    assert list(forbidden(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from marshal import loads", "eval(x)", "os.system(x)", "torch.load(f)",
        "subprocess.run(x, shell=True)", "np.loadtxt(f, allow_pickle=flag)",
    ],
)  # fmt: skip
def test_the_check_sees_what_it_looks_for(source: str) -> None:
    assert list(forbidden(source))


def script(tmp_path: Path, lines: str) -> str:
    """A program; it has nothing to say of itself."""
    path = tmp_path / "program.sh"
    path.write_text(f'[ "$1" = --describe ] && exit 1\n{lines}\n')
    return f"bash {path}"


def failure(command: str, timeout: float = 10.0) -> str:
    answer = Program(command, "thanos", timeout).answer(load_case("thanos-float64-13-unstructured"))
    assert isinstance(answer, Failed)
    return answer.message


def test_a_command_is_no_shell_line(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(ValueError, match="true;"):
        Program(f"true; touch {witness}", "thanos")
    failure(f"true $(touch {witness}) `touch {witness}` | touch {witness} > {witness}")
    assert not witness.exists()


def test_children_end_with_the_program_that_takes_too_long(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = script(tmp_path, f"sleep 60 & echo $! > {pid}; sleep 60")
    start = time.monotonic()
    assert "no end after 1 seconds" in failure(command, timeout=1.0)
    assert time.monotonic() - start < 10
    status = Path(f"/proc/{int(pid.read_text())}/status")
    deadline = time.monotonic() + 5
    while status.exists() and "Z (zombie)" not in status.read_text():
        assert time.monotonic() < deadline, "the child lives"
        time.sleep(0.05)


def test_what_is_printed_without_end_is_cut(tmp_path: Path) -> None:
    message = failure(script(tmp_path, "exec yes"))
    assert "exit status" in message
    assert len(message) < 1000


def test_an_output_without_end_is_cut(tmp_path: Path) -> None:
    assert "exit status" in failure(script(tmp_path, 'exec cat /dev/zero > "$2"'))


def test_a_link_is_no_output(tmp_path: Path) -> None:
    assert "link" in failure(script(tmp_path, 'ln -s /etc/hostname "$2"'))
