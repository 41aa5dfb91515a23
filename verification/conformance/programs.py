"""Runs a program under test, `PROGRAM INPUT OUTPUT`, within limits. docs/vectors.md."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import Answer, Failed, Refused
from verification.conformance.outputs import MAX_MESSAGE, read_output
from verification.conformance.tensors import parse_json

REFUSED = 2  # the exit status of a refusal
MAX_WRITTEN = 2**26  # bytes that a program may write to one file


class Program:
    """A program under test: run without a shell, with a time limit, in a folder of its own.

    command  program and leading arguments, as typed in a shell
    timeout  seconds per case
    """

    def __init__(self, command: str, method: str, timeout: float = 10.0) -> None:
        self._command = shlex.split(command)
        if not self._command:
            raise ValueError(f"command must name a program, got {command!r}")
        program = shutil.which(self._command[0])
        if program is None:
            raise ValueError(f"command must name a program, found none called {self._command[0]!r}")
        self._command[0] = os.path.abspath(program)
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        self._timeout = timeout
        self.capabilities = read_capabilities(self._describe(), method, command)

    def answer(self, case: Case) -> Answer:
        """Run the program on a copy of the input file."""
        with tempfile.TemporaryDirectory(prefix="thanos-verify-") as name:
            folder = Path(name)
            given, wanted = folder / "input.safetensors", folder / "output.safetensors"
            case.write_input(given)
            before = given.read_bytes()
            status, _, errors = self._run([str(given), str(wanted)], folder)
            if status is None:
                return Failed("output", f"no end after {self._timeout:g} seconds")
            if not _holds(given, before):
                return Failed("input", "the input file was changed")
            if status == REFUSED:
                return Refused(errors)
            if status != 0:
                return Failed("output", f"exit status {status}: {errors[-500:].strip()}")
            if wanted.is_symlink():
                return Failed("output", "the output is a link")
            return read_output(case, wanted)

    def reproduce(self, case: Case) -> str:
        """The command line."""
        return f"{shlex.join(self._command)} {case.input_path} output.safetensors"

    def _describe(self) -> object:
        with tempfile.TemporaryDirectory(prefix="thanos-verify-") as folder:
            status, said, _ = self._run(["--describe"], Path(folder))
        if status != 0 or not said.strip():
            return {}
        try:
            return parse_json(said)
        except ValueError as error:
            raise ValueError(f"{self._command[0]} --describe printed {error}") from None

    def _run(self, arguments: list[str], folder: Path) -> tuple[int | None, str, str]:
        """Exit status (None if time ran out), and the start of standard output and error."""
        with (folder / "printed").open("w+b") as out, (folder / "errors").open("w+b") as errors:
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=folder,
                start_new_session=True,  # a process group, so that its children are killed too
                preexec_fn=_limit_files,
            )
            try:
                status: int | None = process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
            texts = []
            for file in (out, errors):
                file.seek(0)
                texts.append(file.read(MAX_MESSAGE).decode(errors="replace"))
        return status, texts[0], texts[1]


def _limit_files() -> None:
    """Limit the size of files; runs in the child process before the program starts."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_WRITTEN, MAX_WRITTEN))


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file has this content. Sizes come first, as a link may lead to an endless file."""
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):  # the program and its children have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
