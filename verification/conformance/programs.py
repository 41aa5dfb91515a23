"""Runs a program under test, `PROGRAM INPUT OUTPUT`, within limits. docs/vectors.md."""

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import Case
from verification.conformance.conversation import Died
from verification.conformance.implementation import MAX_MESSAGE, TIMEOUT, Answer, Failed, Refused
from verification.conformance.made import MadeCase
from verification.conformance.outputs import read_output
from verification.conformance.scratch import scratch_folder
from verification.conformance.supervised import POSIX, Ended, Limits, Supervisor
from verification.conformance.tensors import parse_json

REFUSED = 2  # the exit status of a refusal
MAX_SHOWN = 200  # characters of what --describe printed
LIMITS = Limits(written=2**26, printed=2**20)

Told: TypeAlias = Refused | Failed | None  # what a program says; None: the output is written


class Program:
    """A program under test: run without a shell, within limits, in a folder of its own.

    command  program and leading arguments, as typed in a shell; files among them get full paths
    timeout  seconds per case
    """

    def __init__(
        self, command: str, method: str, timeout: float = TIMEOUT, limits: Limits = LIMITS
    ) -> None:
        if not POSIX:
            raise ValueError(f"command needs Linux or macOS, got {command!r}")
        self.command = _words(command)
        self.limits = replace(limits, seconds=checked_timeout(timeout))
        self._supervisor: Supervisor | None = None
        self.capabilities = read_capabilities(self._describe(), method, command)

    def answer(self, case: Case) -> Answer:
        """Run the program on a copy of the input file."""
        with scratch_folder() as folder:
            return answered(case, folder, partial(self._prune, folder))

    def reproduce(self, case: Case) -> str:
        """The commands."""
        command = shlex.join(self.command)
        if not isinstance(case, MadeCase):
            return f"{command} {case.input_path} output.safetensors"
        return (
            f"python - <<END\n{case.as_python()}\ncase.write_input('input.safetensors')\nEND\n"
            f"{command} input.safetensors output.safetensors"
        )

    def close(self) -> None:
        """End the supervisor."""
        if self._supervisor:
            self._supervisor.close()

    def _prune(self, folder: Path, given: Path, wanted: Path) -> Told:
        ended = self._run([str(given), str(wanted)], folder)
        if ended.why or ended.status is None:
            raise Died(ended.why)
        if ended.status == REFUSED:
            return Refused(ended.errors[:MAX_MESSAGE])
        if ended.status != 0:
            return Failed("output", f"{ended}: {ended.errors[-500:].strip()}")
        return None

    def _describe(self) -> object:
        with scratch_folder() as folder:
            ended = self._run(["--describe"], folder)
        if ended.status != 0 or ended.why or not ended.out.strip():
            return {}
        try:
            return parse_json(ended.out[:MAX_MESSAGE])
        except ValueError as error:
            command = shlex.join([*self.command, "--describe"])
            raise ValueError(f"{command} printed {error}: {ended.out[:MAX_SHOWN]!r}") from None

    def _run(self, arguments: list[str], folder: Path) -> Ended:
        if self._supervisor is None or not self._supervisor.alive:
            self._supervisor = Supervisor()
        # Temporary files count as well, and are removed with the folder.
        environment = {"TMPDIR": str(folder)}
        self._supervisor.start([*self.command, *arguments], folder, self.limits, environment)
        assert self.limits.seconds
        return self._supervisor.result(self.limits.seconds)


def answered(case: Case, folder: Path, prune: Callable[[Path, Path], Told]) -> Answer:
    """The answer of a program to a case.

    folder  an empty folder for the input file and the output file
    prune   lets the program read one and write the other; raises Died if it exceeds a limit
    """
    given, wanted = folder / "input.safetensors", folder / "output.safetensors"
    case.write_input(given)
    before = given.read_bytes()
    try:
        told = prune(given, wanted)
    except Died as error:
        return Failed("output", str(error), ended=True)
    if not _holds(given, before):
        return Failed("input", "the input file was changed")
    if told is not None:
        return told
    if wanted.is_symlink():
        return Failed("output", "the output is a link")
    return read_output(case, wanted)


def _words(command: str) -> list[str]:
    """Program and arguments, with full paths, because it runs in another folder.

    Raises ValueError if there is no such program.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError(f"command must name a program, got {command!r}")
    program = shutil.which(words[0])
    if program is None:
        raise ValueError(f"command must name a program, found none called {words[0]!r}")
    files = [os.path.abspath(word) if os.path.isfile(word) else word for word in words[1:]]
    return [os.path.abspath(program), *files]


def checked_timeout(timeout: float) -> float:
    """The time limit. Raises ValueError unless it is positive and finite."""
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout must be positive, got {timeout}")
    return timeout


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file has this content. Sizes come first, as a link may lead to an endless file."""
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
