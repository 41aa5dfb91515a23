"""Talks to a supervised command over its standard input and output, within limits."""

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from verification.conformance.implementation import MAX_MESSAGE
from verification.conformance.supervised import POSIX, Limits, Supervisor, readable

if POSIX:  # the supervisor's module needs `resource`, and no command runs elsewhere
    from verification.conformance.supervisor import KEPT, too_much_printed


class Died(Exception):  # noqa: N818 - what happened to a process
    """A process under test ended, or must be ended, without an answer."""


class Conversation:
    """A supervised command that is told and asked things, one after another.

    folder       the folder in which it runs, or None for the current one
    limits       without `seconds`: `send` says how long each answer may take
    with_errors  whether standard error leads here too. `limits.printed` then counts what the
                 command prints after each `send`, instead of being ignored
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path | None,
        limits: Limits,
        environment: Mapping[str, str],
        with_errors: bool = False,
    ) -> None:
        theirs, self._to = os.pipe()
        self._from, ours = os.pipe()
        self._errors, errors = os.pipe() if with_errors else (-1, -1)
        ends = [end for end in (theirs, ours, errors) if end >= 0]
        self._supervisor = Supervisor(ends)
        for end in ends:
            os.close(end)
        os.set_blocking(self._to, False)
        self._printed, self._said = 0, b""
        self._limit = limits.printed if with_errors else None
        self._seconds, self._deadline = 0.0, 0.0
        self._supervisor.start(command, folder, replace(limits, printed=None), environment)

    def send(self, content: bytes, seconds: float) -> None:
        """Write to its standard input; it must read this and answer within `seconds`.

        Raises Died if it does not read, or has ended.
        """
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._printed, self._said = 0, b""
        poll = select.poll()
        poll.register(self._to, select.POLLOUT)
        left = memoryview(content)
        while left:
            if not poll.poll(self._milliseconds()):
                raise Died("it reads no calls")
            try:
                left = left[os.write(self._to, left) :]
            except BrokenPipeError:
                raise Died(self._end()) from None

    def receive(self, most: int) -> bytes:
        """Wait for what it prints on standard output, and return 1 to `most` bytes of it.

        Raises Died if it ends, prints too much, or takes longer than `send` allowed.
        """
        while self._readable() != self._from:
            self._read_errors()
        part = os.read(self._from, most)
        if not part:
            raise Died(self._end())
        self._count(part)
        return part

    def printed_unasked(self) -> bool:
        """Whether it has printed more than was received."""
        return readable(self._from, 0.0)

    @property
    def last_line(self) -> str:
        """The last line that it printed on standard error since `send`, if that leads here."""
        return _last_line(self._said.decode(errors="replace"))

    def leave(self, seconds: float) -> None:
        """End its standard input, and wait for it to end by itself; then end it."""
        os.close(self._to)
        self._to = -1
        self._limit, self._deadline = None, time.monotonic() + seconds
        try:
            while True:
                self.receive(KEPT)
        except Died:
            self.close()

    def close(self) -> None:
        """End it and its children."""
        self._supervisor.close()
        for end in (self._to, self._from, self._errors):
            if end >= 0:
                os.close(end)
        self._to = self._from = self._errors = -1

    def _readable(self) -> int:
        """The descriptor that can be read; standard error comes first, as it may explain."""
        poll = select.poll()
        for descriptor in (self._from, self._errors):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        found = [descriptor for descriptor, _ in poll.poll(self._milliseconds())]
        if not found:
            raise Died(f"no end after {self._seconds:g} seconds")
        return self._errors if self._errors in found else self._from

    def _read_errors(self) -> None:
        part = os.read(self._errors, KEPT)
        if not part:  # it has closed its standard error
            os.close(self._errors)
            self._errors = -1
        self._said = (self._said + part)[-KEPT:]
        self._count(part)

    def _count(self, part: bytes) -> None:
        self._printed += len(part)
        if why := too_much_printed(self._printed, self._limit):
            raise Died(why)

    def _milliseconds(self) -> float:
        return max(0.0, self._deadline - time.monotonic()) * 1000

    def _end(self) -> str:
        """How the process ended, with the last line that it printed."""
        ended = self._supervisor.result(0.0)
        last = _last_line(ended.errors) or self.last_line
        return one_line(": ".join(filter(None, [f"the process ended: {ended}", last])))


def one_line(text: object) -> str:
    """The text in one line that is not too long."""
    return " ".join(str(text)[:MAX_MESSAGE].split())[:500]


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
