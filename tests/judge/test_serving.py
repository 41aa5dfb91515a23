"""A served program gets the verdicts of single runs, and what it does wrong fails one case."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from verification.conformance import Case, Failed, Output, Refused, judge, load_case, served
from verification.conformance.capabilities import Capabilities
from verification.conformance.cases import FOLDER
from verification.conformance.command import main
from verification.conformance.implementation import Answer
from verification.conformance.made import remade
from verification.conformance.programs import LIMITS
from verification.conformance.served import ServedProgram
from verification.conformance.verify import verify

CASE = load_case("thanos-float64-13-unstructured")
OTHERS = tuple(load_case(f"thanos-float64-{n}-unstructured") for n in ("04", "05", "06", "13"))

# Knows the answers to a few cases. Every request runs the code in FAULT first; if that raises Told,
# it has given an answer itself.
SERVER = """
import hashlib, json, os, shutil, signal, subprocess, sys, time
ANSWERS = {answers!r}

class Told(Exception):
    pass

def right(given, wanted):
    with open(given, "rb") as file:
        shutil.copyfile(ANSWERS[hashlib.sha256(file.read()).hexdigest()], wanted)

def tell(**answer):
    print(json.dumps(answer), flush=True)

if sys.argv[1] == "--describe":
    raise SystemExit(1)
if sys.argv[1] != "--serve":
    right(*sys.argv[1:])
    raise SystemExit
{start}
tell(status="ready")
for line in sys.stdin:
    asked = json.loads(line)
    key, given, wanted = asked["id"], asked["input"], asked["output"]
    try:
        exec(open({fault!r}).read())
    except Told:
        continue
    right(given, wanted)
    tell(id=key, status="done")
{end}
"""


class Written:
    """The program; `fault` is the code that its next requests run."""

    def __init__(self, folder: Path) -> None:
        self._fault, self._script = folder / "fault.py", folder / "server.py"
        self.fault("")

    def fault(self, code: str) -> None:
        self._fault.write_text(code)

    def command(self, start: str = "", end: str = "") -> str:
        answers = {
            hashlib.sha256(case.input_path.read_bytes()).hexdigest(): str(
                FOLDER / "expected" / f"{case.id}.safetensors"
            )
            for case in OTHERS
        }
        code = SERVER.format(answers=answers, fault=str(self._fault), start=start, end=end)
        self._script.write_text(code)
        return f"{sys.executable} -I -S {self._script}"


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Written, ServedProgram]]:
    """A program that is started once for many tests, and again after each that ends it."""
    written = Written(tmp_path_factory.mktemp("serving"))
    program = ServedProgram(written.command(), "thanos")
    yield written, program
    program.close()


def right_wrong_right(program: ServedProgram, written: Written, fault: str) -> Answer:
    """The answer with a fault, between two that are right."""
    assert isinstance(program.answer(CASE), Output)
    written.fault(fault)
    answer = program.answer(CASE)
    written.fault("")
    again = program.answer(CASE)
    assert isinstance(again, Output), again
    return answer


FAULTS = {
    "other id": ("tell(id='no', status='done'); raise Told", "must have the request's id '"),
    "no id": ("tell(status='done'); raise Told", "got None"),
    "no JSON": ("print('finished', flush=True); raise Told", "one line of JSON, got 'finished'"),
    "no UTF-8": ("os.write(1, b'\\xff\\n'); raise Told", "must be one line of JSON"),
    "no object": (
        "print('[1]', flush=True); raise Told",
        "must have id, status and message alone, got [1]",
    ),
    "a key twice": ("""print('{"id": "a", "id": "b"}', flush=True); raise Told""", "stands twice"),
    "other status": (
        "tell(id=key, status='ok'); raise Told",
        "status must be one of done, refused",
    ),
    "unknown key": (
        "tell(id=key, status='done', loss=1); raise Told",
        "id, status and message alone",
    ),
    "number as message": ("tell(id=key, status='failed', message=1); raise Told", "must be text"),
    "text before the answer": ("print('progress: 50 %')", "must be one line of JSON"),
    "two lines": (
        "right(given, wanted); print(json.dumps({'id': key, 'status': 'done'}) + '\\nbye')",
        "printed more than its answer: 'bye",
    ),
    "nothing written": ("tell(id=key, status='done'); raise Told", "cannot be read"),
    "a link": (
        "os.symlink('/etc/hostname', wanted); tell(id=key, status='done'); raise Told",
        "link",
    ),
    "failure": (
        "tell(id=key, status='failed', message='singular'); raise Told",
        "failed: singular",
    ),
    "crash": ("os.kill(os.getpid(), signal.SIGSEGV)", "the process ended: ended by SIGSEGV"),
    "exit": ("sys.exit('no more')", "the process ended: exit status 1: no more"),
    "flood": ("[os.write(1, b'x' * 4096) for _ in range(10**6)]", "printed more than 1 MiB"),
    "flood of errors": ("[os.write(2, b'x' * 4096) for _ in range(10**6)]", "more than 1 MiB"),
    "big files": (
        "[open(f'{given}{n}', 'wb').write(bytes(10**6)) for n in range(68)]",
        "it wrote more than 64 MiB",
    ),
    "big files elsewhere in its folder": (
        "[open(f'{n}', 'wb').write(bytes(10**6)) for n in range(68)]",
        "it wrote more than 64 MiB",
    ),
    "its folder": (
        "os.chdir('/'); home = os.path.dirname(os.path.dirname(given)); shutil.rmtree(home); "
        "os.symlink('/usr', home); tell(id=key, status='done'); raise Told",
        "its folder was replaced",
    ),
    "the case's folder": (
        "shutil.rmtree(os.path.dirname(given)); tell(id=key, status='done'); raise Told",
        "the input file was changed",
    ),
    "its supervisor": ("os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)", "ended"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_one_case(name: str, serving: tuple[Written, ServedProgram]) -> None:
    written, program = serving
    fault, said = FAULTS[name]
    answer = right_wrong_right(program, written, fault)
    assert isinstance(answer, Failed), answer
    assert said in answer.message
    assert len(answer.message) < 1000


@pytest.mark.parametrize(
    "printed", ["", pytest.param("""os.write(1, b'{"id": "')""", marks=pytest.mark.long)]
)
def test_a_hanging_case_fails_and_the_next_one_goes_on(printed: str, written: Written) -> None:
    program = ServedProgram(written.command(), "thanos", timeout=1.5)
    answer = right_wrong_right(program, written, f"{printed}; time.sleep(60)".lstrip("; "))
    program.close()
    assert answer == Failed("output", "no end after 1.5 seconds", ended=True)


@pytest.mark.parametrize(
    ("limits", "fault", "said"),
    [
        ({"memory": 2**27}, "x = bytes([1]) * 2**28; time.sleep(60)", "than 128 MiB of memory"),
        ({"processes": 8}, "[subprocess.Popen(['sleep', '60']) for _ in range(20)]; time.sleep(60)",
         "more than 8 processes"),
        ({"entries": 50}, "[open(f'{given}{n}', 'wb') for n in range(60)]", "more than 50 files"),
    ],
)  # fmt: skip
def test_memory_processes_and_files_are_limited(
    limits: dict[str, int], fault: str, said: str, written: Written
) -> None:
    program = ServedProgram(written.command(), "thanos", limits=replace(LIMITS, **limits))
    answer = right_wrong_right(program, written, fault)
    program.close()
    assert isinstance(answer, Failed)
    assert said in answer.message


def test_the_input_must_stay(serving: tuple[Written, ServedProgram]) -> None:
    written, program = serving
    changed = "right(given, wanted); open(given, 'ab').write(b' ')\n"
    answer = right_wrong_right(
        program, written, f"{changed}tell(id=key, status='done'); raise Told"
    )
    assert answer == Failed("input", "the input file was changed")


def test_a_refusal_is_told(serving: tuple[Written, ServedProgram]) -> None:
    written, program = serving
    refusal = "tell(id=key, status='refused', message='damping is nan'); raise Told"
    assert right_wrong_right(program, written, refusal) == Refused("damping is nan")


def test_errors_are_counted_for_each_case(serving: tuple[Written, ServedProgram]) -> None:
    written, program = serving
    written.fault("sys.stderr.write('x' * (2**20 - 200)); sys.stderr.flush()")
    assert [type(program.answer(CASE)) for _ in range(3)] == [Output] * 3
    written.fault("")


def test_text_that_comes_late_fails_the_next_case(
    serving: tuple[Written, ServedProgram],
) -> None:
    written, program = serving
    late = "right(given, wanted); tell(id=key, status='done'); time.sleep(0.6)"
    written.fault(f"{late}; print('done!', flush=True); raise Told")
    assert isinstance(program.answer(CASE), Output)
    written.fault("")
    time.sleep(0.9)
    answer = program.answer(CASE)
    assert isinstance(answer, Failed)
    assert "printed more than its answer: 'done!" in answer.message
    assert isinstance(program.answer(CASE), Output)


def test_a_request_says_nothing_about_its_case(written: Written, tmp_path: Path) -> None:
    log = tmp_path / "log"
    known = "line, os.getcwd(), os.listdir(os.path.dirname(given)), dict(os.environ), sys.argv"
    written.fault(f"print({known}, file=open({str(log)!r}, 'a'))")
    program = ServedProgram(written.command(), "thanos")
    for case in OTHERS:
        assert judge(case, program).passed
    program.close()
    told = log.read_text()
    assert told.count("['input.safetensors']") == len(OTHERS)
    requests = [json.loads(line) for line in told.splitlines() if line.startswith('{"id"')]
    assert len({request["id"] for request in requests}) == len(OTHERS)
    folders = {Path(request[key]).parent for request in requests for key in ("input", "output")}
    assert len(folders) == len(OTHERS)
    assert not any(folder.exists() or folder.parent.exists() for folder in folders)
    for case in OTHERS:
        assert case.id not in told
        assert case.pattern not in told


# Every further request gets the answer of the first.
STALE = """
if os.path.exists("kept"):
    shutil.copyfile("kept", wanted); tell(id=key, status="done"); raise Told
right(given, "kept")
"""


def test_what_stays_of_an_earlier_case_is_found_and_named(written: Written) -> None:
    written.fault(STALE)
    program = ServedProgram(written.command(), "thanos")
    report = verify(program, OTHERS[:2], seed=1)
    program.close()
    (failure,) = report.failures
    assert [check.name for check in failure.verdict.failures][-1] == "state"
    assert "right in a run of its own" in failure.verdict.failures[-1].note
    assert failure.explanations == ()
    assert f"server.py {failure.verdict.case.input_path} output.safetensors" in failure.reproduce


def test_only_the_first_failures_are_asked_again(written: Written) -> None:
    written.fault("tell(id=key, status='refused', message='never'); raise Told")
    program = ServedProgram(written.command(), "thanos")
    found = [[check.name for check in judge(CASE, program).failures] for _ in range(10)]
    program.close()
    assert found == [["output", "state"]] * 8 + [["output"]] * 2


def test_what_is_wrong_in_a_run_of_its_own_too_is_no_state(written: Written) -> None:
    program = ServedProgram(written.command(), "thanos")
    unknown = remade(CASE, damping=0.5)  # it has no answer to this
    verdict = judge(unknown, program)
    program.close()
    assert [check.name for check in verdict.failures] == ["output"]


class Noting:
    """An implementation that notes what it is asked."""

    capabilities = Capabilities("noting", ("thanos",))

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, case: Case) -> Answer:
        self.asked.append(case.id)
        return Failed("output", "")

    def reproduce(self, case: Case) -> str:
        return ""

    def close(self) -> None:
        """Nothing is open."""


def test_cases_are_judged_in_an_order_that_the_seed_draws() -> None:
    def order(seed: int) -> list[str]:
        noting = Noting()
        report = verify(noting, OTHERS, seed)
        assert [verdict.case for verdict in report.verdicts] == list(OTHERS)
        return noting.asked

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("sys.exit('usage: server.py INPUT OUTPUT')",
         "the process ended: exit status 1: usage: server.py INPUT OUTPUT"),
        ("print('Loading ...')", "must be one line of JSON, got 'Loading ...'"),
        ("tell(status='done'); sys.exit()", "must be {\"status\": \"ready\"}, got {'status'"),
        ("print('{\"status\": \"ready\"}\\nhello')", "printed more than its answer: 'hello"),
        ("time.sleep(60)", "no end after 0.5 seconds"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_serve_is_an_error(
    start: str, said: str, written: Written, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(served, "START_TIMEOUT", 0.5 if "no end" in said else 30.0)
    assert main(["--command", written.command(start=start), "--serve", "--only", CASE.id]) == 2
    error = capsys.readouterr().err
    assert "command must support --serve, see docs/vectors.md: " in error
    assert said in error


def test_serve_needs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--serve"]) == 2
    assert "serve needs --command" in capsys.readouterr().err


def test_it_ends_by_itself_or_is_ended(written: Written, tmp_path: Path) -> None:
    witness, pid = tmp_path / "witness", tmp_path / "pid"
    polite = f"open({str(witness)!r}, 'w')"
    child = "child = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    known = f"print(child.pid, file=open({str(pid)!r}, 'w'), flush=True)"
    stubborn = f"{polite}; {child}; {known}; time.sleep(60)"
    for end in (polite, stubborn):
        program = ServedProgram(written.command(end=end), "thanos")
        assert isinstance(program.answer(CASE), Output)
        start = time.monotonic()
        program.close()
        assert time.monotonic() - start < 8
        assert witness.exists()
        witness.unlink()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_closed_program_can_be_asked_again(written: Written) -> None:
    program = ServedProgram(written.command(), "thanos")
    for _ in range(2):
        assert isinstance(program.answer(CASE), Output)
        program.close()
