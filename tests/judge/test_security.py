"""Untrusted files are never executed, and programs under test stay within limits."""

import ast
import json
import os
import shutil
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reference.patterns import parse_pattern
from verification.conformance import Failed, Output, Refused, load_case, load_cases
from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import FOLDER
from verification.conformance.command import main, shuffled_names
from verification.conformance.judge import judge_answer
from verification.conformance.outputs import OutputsFolder
from verification.conformance.programs import LIMITS, Program
from verification.conformance.scratch import remove_tree
from verification.conformance.tensors import parse_json, parse_tensors, read_tensors

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for part in ("reference", "thanos_torch", "verification")
    for path in (ROOT / part).rglob("*.py")
)
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
NAMES = {"eval", "exec", "compile", "system", "popen", "load_module"}  # imported by themselves too
CALLS = {
    *NAMES, *(f"{module}.{name}" for module in ("builtins", "os") for name in NAMES),
    "torch.load", "np.load", "numpy.load", "yaml.load", "subprocess.getoutput",
}  # fmt: skip
# The values that these arguments may have; only the user may ask for remote code.
KEYWORDS = {"shell": ["False"], "allow_pickle": ["False"],
            "trust_remote_code": ["False", *(f"{owner}trust_remote_code"
                                             for owner in ("", "self.", "how."))]}  # fmt: skip


def forbidden(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            yield from remote_by_default(node.args)
        elif isinstance(node, ast.Import):
            yield from MODULES & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from MODULES & {node.module.partition(".")[0]}
        elif isinstance(node, ast.Call):
            yield from CALLS & {ast.unparse(node.func)}
            for keyword in node.keywords:
                allowed = KEYWORDS.get(keyword.arg or "")
                if allowed and ast.unparse(keyword.value) not in allowed:
                    yield str(keyword.arg)


def remote_by_default(arguments: ast.arguments) -> Iterator[str]:
    named = [*zip(reversed(arguments.args), reversed(arguments.defaults), strict=False),
             *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]  # fmt: skip
    for argument, default in named:
        if argument.arg == "trust_remote_code" and default and ast.unparse(default) != "False":
            yield "trust_remote_code"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_executes_data_or_asks_for_remote_code(path: Path) -> None:
    assert list(forbidden(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from marshal import loads", "eval(x)", "os.system(x)", "torch.load(f)",
        "subprocess.run(x, shell=True)", "np.loadtxt(f, allow_pickle=flag)", "builtins.eval(x)",
        "from os import system; system(x)", "numpy.load(f)", "load(x, trust_remote_code=True)",
        "def load(trust_remote_code=True): pass",
    ],
)  # fmt: skip
def test_the_check_sees_what_it_looks_for(source: str) -> None:
    assert list(forbidden(source))


CASE = "thanos-float64-13-unstructured"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..", "a/../b", "a\0b", "a b", "$(id)", "a;b", "", 7],
)
def test_ids_are_no_paths(tmp_path: Path, name: object) -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    manifest |= {"cases": [manifest["cases"][0] | {"id": name}], "total": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="no id of a case"):
        load_cases(tmp_path)


def test_links_out_of_a_folder_of_outputs_are_refused(tmp_path: Path) -> None:
    right = FOLDER / "expected" / f"{CASE}.safetensors"
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    link = outputs / f"{CASE}.safetensors"
    case = load_case(CASE)
    link.symlink_to(right)
    answer = OutputsFolder(outputs, "thanos").answer(case)
    assert isinstance(answer, Failed)
    assert "leads out" in answer.message
    shutil.copyfile(right, outputs / "same.safetensors")
    link.unlink()
    link.symlink_to("same.safetensors")
    assert isinstance(OutputsFolder(outputs, "thanos").answer(case), Output)
    link.unlink()
    link.symlink_to(link)
    assert isinstance(OutputsFolder(outputs, "thanos").answer(case), Failed)
    (outputs / "describe.json").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="leads out"):
        OutputsFolder(outputs, "thanos")


def test_a_pipe_in_a_folder_of_outputs_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{CASE}.safetensors")
    answer = OutputsFolder(tmp_path, "thanos").answer(load_case(CASE))
    assert isinstance(answer, Failed)
    assert "no file" in answer.message


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [([2**40], [0, 2**43]), ([2**40, 2**15], [0, 8]), ([10**17] * 8, [0, 0]), ([2**62], [0, 8])],
)
def test_sizes_are_refused_before_anything_is_allocated(shape: object, offsets: object) -> None:
    header = json.dumps({"a": {"dtype": "F64", "shape": shape, "data_offsets": offsets}}).encode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"tensor|digits"):
            parse_tensors(len(header).to_bytes(8, "little") + header + bytes(8))
        with pytest.raises(ValueError, match="header of"):
            parse_tensors((2**63).to_bytes(8, "little") + header)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # a hole: no room on the disk
    with pytest.raises(ValueError, match=str(2**40)):
        read_tensors(tmp_path / "large")


@pytest.mark.parametrize(
    "text", ["1e-99999", "1e-9_9_9_9_9_9_9_9", "1e9_9999", "1E0_00_09_99_99_99", "1/" + "9" * 5000]
)
def test_no_share_takes_endless_digits(text: str) -> None:
    with pytest.raises(ValueError, match="sparsity"):
        parse_pattern(f"unstructured:{text}")


def test_no_json_takes_endless_digits() -> None:
    with pytest.raises(ValueError, match="digits"):
        parse_json("9" * 10**6)


def test_a_message_of_digits_is_judged_in_time() -> None:
    message = "block_size " + "1" * 60000 + "a"
    start = time.monotonic()
    judge_answer(
        load_case("refusal-block-size-negative"), Refused(message), Capabilities("", ("thanos",))
    )
    assert time.monotonic() - start < 2


def test_names_and_messages_cannot_write_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "mine\x1b[2J\ud800\r\nPASSED\n"
    (tmp_path / "describe.json").write_text(json.dumps({"name": forged}))
    number = shuffled_names(7)[CASE]
    (tmp_path / f"{number}.json").write_text(json.dumps({"refused": forged}))
    assert main(["--outputs", str(tmp_path), "--only", CASE, "--seed", "7"]) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "PASSED" not in printed.splitlines()
    assert printed.endswith("FAILED\n")


def script(tmp_path: Path, lines: str) -> str:
    """The command of a program that does not support --describe."""
    path = tmp_path / "program.sh"
    path.write_text(f'[ "$1" = --describe ] && exit 1\n{lines}\n')
    return f"bash {path}"


def failure(command: str, timeout: float = 10.0) -> str:
    answer = Program(command, "thanos", timeout).answer(load_case(CASE))
    assert isinstance(answer, Failed)
    return answer.message


def test_a_command_is_no_shell_line(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(ValueError, match="true;"):
        Program(f"true; touch {witness}", "thanos")
    failure(f"true $(touch {witness}) `touch {witness}` | touch {witness} > {witness}")
    assert not witness.exists()


@pytest.mark.parametrize(
    "child",
    [
        "sleep 60 & echo $! > {pid}; sleep 60",
        "setsid bash -c 'echo $$ > {pid}; exec sleep 60' & sleep 60",
        # It leaves its session, its parent ends, it ignores what can be ignored.
        """setsid bash -c "trap '' TERM HUP; bash -c 'echo \\$\\$ > {pid}; sleep 60; :' & exit" &
        while [ ! -s {pid} ]; do sleep 0.01; done; exit 1""",
    ],
)
def test_children_end_with_the_program(tmp_path: Path, child: str) -> None:
    pid = tmp_path / "pid"
    start = time.monotonic()
    failure(script(tmp_path, child.format(pid=pid)), timeout=0.5)
    assert time.monotonic() - start < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_what_a_program_leaves_running_does_not_spoil_its_answer(tmp_path: Path) -> None:
    right = FOLDER / "expected" / f"{CASE}.safetensors"
    command = script(tmp_path, f'setsid sleep 60 & cp {right} "$2"')
    answer = Program(command, "thanos").answer(load_case(CASE))
    assert isinstance(answer, Output)


@pytest.mark.parametrize(
    ("limits", "lines", "said"),
    [
        ({"processes": 20}, "for i in $(seq 60); do sleep 60 & done; wait",
         "more than 20 processes"),
        ({"memory": 2**26}, f"{sys.executable} -c 'x = bytes([1]) * 2**28; input()' < <(sleep 60)",
         "more than 64 MiB of memory"),
    ],
)  # fmt: skip
def test_processes_and_memory_are_limited(
    tmp_path: Path, limits: dict[str, int], lines: str, said: str
) -> None:
    program = Program(script(tmp_path, lines), "thanos", limits=replace(LIMITS, **limits))
    answer = program.answer(load_case(CASE))
    assert isinstance(answer, Failed)
    assert said in answer.message


def test_nothing_is_left_of_a_deep_folder_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    folder = str(tmp_path / "deep")
    os.mkdir(folder)
    os.symlink(outside, f"{folder}/link")
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1100):  # deeper than Python may recurse, and longer than a path may be
        os.mkdir("inside", dir_fd=here)
        inner = os.open("inside", os.O_RDONLY, dir_fd=here)
        os.symlink(outside, "link", dir_fd=inner)
        os.chmod("inside", 0o100, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove_tree(folder)
    assert not os.path.lexists(folder)
    assert (outside / "file").exists()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("exec yes", "it printed more than 1 MiB"),
        ("exec yes >&2", "it printed more than 1 MiB"),
        ('exec cat /dev/zero > "$2"', "it wrote more than 64 MiB"),
        ('for i in 1 2 3 4 5 6; do head -c 60000000 /dev/zero > "$i"; done', "more than 64 MiB"),
        ("head -c 100000000 /dev/zero >&2; exit 2", "it printed more than 1 MiB"),
        ("for i in $(seq 1500); do mkdir d && cd d; done", "it nested more than 64 folders"),
        ("for i in $(seq 1500); do mkdir d && cd d; done; exit 2", "more than 64 folders"),
        ("for i in $(seq 5000); do : > $i; done", "it made more than 4096 files"),
        ('mkdir "$2"', "no file"),
        ("cd ..; rm -r $(dirname $1)", "changed"),
        ("cd ..; rm -r $(dirname $1); ln -s /usr $(dirname $1)", "its folder was replaced"),
        ("kill -9 $$", "ended by SIGKILL"),
        ("kill -9 $PPID; sleep 60", "the process that supervises it was ended"),
        ('mkfifo "$2"', "no file"),
        ('ln -s /etc/hostname "$2"', "link"),
        *((f'rm "$1"; ln -s {by} "$1"', "changed") for by in ("/dev/zero", "/proc/kcore", ".")),
    ],
)
def test_what_a_program_may_not_do(tmp_path: Path, lines: str, said: str) -> None:
    message = failure(script(tmp_path, lines))
    assert said in message
    assert len(message) < 1000
