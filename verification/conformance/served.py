"""Asks a program that starts once and answers many cases, `PROGRAM --serve`. docs/vectors.md."""

import contextlib
import json
import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from verification.conformance.cases import Case
from verification.conformance.conversation import Conversation, Died
from verification.conformance.implementation import MAX_MESSAGE, TIMEOUT, Answer, Failed, Refused
from verification.conformance.programs import LIMITS, Program, Told, answered
from verification.conformance.scratch import scratch_folder
from verification.conformance.supervised import POSIX, Limits
from verification.conformance.tensors import parse_json

if POSIX:  # its module needs `resource`, and no program runs elsewhere
    from verification.conformance.supervisor import too_much_written

READY = {"status": "ready"}
START_TIMEOUT = 60.0  # seconds until the program is ready; some compile themselves first
LEAVING = 1.0  # seconds in which it has to end by itself after the end of its input
MAX_PLAIN = 8  # failed cases that are asked again in a run of their own, which may start slowly
STATUSES = ("done", "refused", "failed")


class ServedProgram:
    """A program under test that is started once. If it ends or breaks the protocol, one case fails.

    command  as for `Program`; it is run for `--describe` and to look into failures
    timeout  seconds per case
    """

    plain_check = ("state", "wrong with --serve, right in a run of its own: an earlier case shows")

    def __init__(
        self, command: str, method: str, timeout: float = TIMEOUT, limits: Limits = LIMITS
    ) -> None:
        self._plain = Program(command, method, timeout, limits)
        self._plain_left = MAX_PLAIN
        self.capabilities = self._plain.capabilities
        self._server: Server | None = None
        try:
            self._server = Server(self._plain)
        except Died as error:
            self.close()
            raise ValueError(
                f"command must support --serve, see docs/vectors.md: {error}"
            ) from None

    def answer(self, case: Case) -> Answer:
        """Send the case to the program, with a copy of the input file in a folder of its own."""
        try:
            if self._server is None or not self._server.usable:
                self._end()
                self._server = Server(self._plain)
            with scratch_folder(self._server.home) as folder:
                answer = answered(case, folder, self._server.ask)
            if not (isinstance(answer, Failed) and answer.ended):
                self._server.check_silence()
        except Died as error:
            answer = Failed("output", str(error), ended=True)
        if isinstance(answer, Failed) and answer.ended:
            self._end()
        return answer

    def plain_answer(self, case: Case) -> Answer | None:
        """The answer of a run for this case alone, for the first few failures."""
        if not self._plain_left:
            return None
        self._plain_left -= 1
        return self._plain.answer(case)

    def reproduce(self, case: Case) -> str:
        """The commands for a run of its own; a mistake in serving needs --serve."""
        hint = "if that is right: docs/vectors.md says what to send to it with --serve"
        return f"{self._plain.reproduce(case)}\n# {hint}"

    def close(self) -> None:
        """End the program; another case starts it again."""
        if self._server:
            self._server.leave()
        self._server = None
        self._plain.close()

    def _end(self) -> None:
        if self._server:
            self._server.close()
        self._server = None


class Server:
    """A program that has been started with `--serve` and is ready.

    home  the folder in which it runs
    Raises Died if it does not get ready.
    """

    def __init__(self, program: Program) -> None:
        assert program.limits.seconds
        self._seconds = program.limits.seconds
        with contextlib.ExitStack() as started:
            self.home = started.enter_context(scratch_folder())
            self._limits = replace(program.limits, seconds=None)
            command, environment = [*program.command, "--serve"], {"TMPDIR": str(self.home)}
            self._talk = Conversation(command, self.home, self._limits, environment, True)
            started.callback(self._talk.close)
            self._talk.send(b"", START_TIMEOUT)
            if (line := self._line()) != READY:
                raise Died(f"its first line must be {json.dumps(READY)}, got {_short(line)}")
            self._started = started.pop_all()

    def ask(self, given: Path, wanted: Path) -> Told:
        """Let it prune one file. Raises Died if it breaks the protocol or exceeds a limit."""
        self.check_silence()
        key = secrets.token_hex(8)  # says nothing about the case
        request = {"id": key, "input": str(given), "output": str(wanted)}
        self._talk.send(json.dumps(request).encode() + b"\n", self._seconds)
        told = _told(self._line(), key)
        if why := too_much_written({**asdict(self._limits), "folder": str(self.home)}):
            raise Died(why)
        return told

    def check_silence(self) -> None:
        """Raise Died if it has printed more than it was asked for."""
        if self._talk.printed_unasked():
            raise Died(
                f"it printed more than its answer: {_short(self._talk.receive(MAX_MESSAGE))}"
            )

    @property
    def usable(self) -> bool:
        """Whether its folder is still there."""
        return self.home.is_dir() and not self.home.is_symlink()

    def leave(self) -> None:
        """End its input, so that it can end by itself, and then `close`."""
        self._talk.leave(LEAVING)
        self.close()

    def close(self) -> None:
        """End it, and remove its folder."""
        self._started.close()

    def _line(self) -> Any:
        """The line of JSON that it prints. Raises Died if it prints something else."""
        got = b""
        while b"\n" not in got:
            got += self._talk.receive(MAX_MESSAGE)
        line, _, more = got.partition(b"\n")
        try:
            told = parse_json(line)
        except ValueError as error:
            raise Died(
                f"its answer must be one line of JSON, got {_short(line)}: {error}"
            ) from None
        if more:
            raise Died(f"it printed more than its answer: {_short(more)}")
        return told


def _told(answer: Any, key: str) -> Told:
    """What an answer says. Raises Died unless it is one to the request with the id `key`."""
    if not isinstance(answer, dict) or not set(answer) <= {"id", "status", "message"}:
        raise Died(f"its answer must have id, status and message alone, got {_short(answer)}")
    if answer.get("id") != key:
        raise Died(f"its answer must have the request's id {key!r}, got {_short(answer.get('id'))}")
    status, message = answer.get("status"), answer.get("message", "")
    if status not in STATUSES:
        raise Died(f"its status must be one of {', '.join(STATUSES)}, got {_short(status)}")
    if not isinstance(message, str):
        raise Died(f"its message must be text, got {_short(message)}")
    if status == "refused":
        return Refused(message[:MAX_MESSAGE])
    return Failed("output", f"it failed: {message[:500].strip()}") if status == "failed" else None


def _short(found: object) -> str:
    text = found.decode(errors="replace") if isinstance(found, bytes) else found
    return repr(text)[:200]
