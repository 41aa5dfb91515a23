"""Runs a Python function under test in a process of its own, which never holds the answers."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verification.conformance.callables import NamedFunction, PythonFunction, load_callable
from verification.conformance.calling import Call, answer_from_bytes
from verification.conformance.conversation import Conversation, Died, one_line
from verification.conformance.implementation import TIMEOUT, Answer, Failed
from verification.conformance.programs import checked_timeout
from verification.conformance.supervised import POSIX, Limits
from verification.conformance.tensors import parse_json
from verification.conformance.worker import LENGTH

IMPORT_TIMEOUT = 60.0  # seconds; torch takes ten on a slow disk
MAX_ANSWER = 2**24  # bytes


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs a function under test: the judge's own, or that of another environment.

    executable      its program
    path            folders in which it looks for modules before its own
    variables       further environment variables
    import_timeout  seconds in which the function must be imported
    """

    executable: str = sys.executable
    path: Sequence[str] = field(default_factory=lambda: [each for each in sys.path if each])
    variables: Mapping[str, str] = field(default_factory=dict)
    import_timeout: float = field(default_factory=lambda: IMPORT_TIMEOUT)


def python_function(name: str, method: str, timeout: float = TIMEOUT) -> NamedFunction:
    """The function `pkg.module:function` to be judged. Raises ValueError if there is none.

    On Windows it runs in this process, without a time limit.
    """
    checked_timeout(timeout)
    if not POSIX:
        return PythonFunction(load_callable(name), method, name)
    return IsolatedFunction(name, method, timeout)


class IsolatedFunction(NamedFunction):
    """A function under test; a process that ends in a call fails that case alone."""

    def __init__(
        self, name: str, method: str, timeout: float, interpreter: Interpreter | None = None
    ) -> None:
        self._timeout = timeout
        self._interpreter = interpreter or Interpreter()
        self._worker: Worker | None = Worker(name, self._interpreter)
        super().__init__(self._worker.declared, method, name)

    def close(self) -> None:
        """End the function's process; another call starts a new one."""
        if self._worker:
            self._worker.close()
        self._worker = None

    def _run(self, call: Call) -> Answer:
        try:
            self._worker = self._worker or Worker(self._name, self._interpreter)
            content = self._worker.ask(call.to_bytes(), self._timeout)
            return answer_from_bytes(call, content)
        except (Died, ValueError) as error:
            self.close()
            return Failed("output", str(error), ended=True)


class Worker:
    """The process of one function.

    declared  what the attributes of the function declare
    Raises ValueError if the function cannot be imported.
    """

    def __init__(self, name: str, interpreter: Interpreter) -> None:
        # -P: the working folder may hold modules that are named like ours.
        command = [interpreter.executable, "-P", "-m", "verification.conformance.worker", name]
        variables = {**interpreter.variables, "PYTHONPATH": os.pathsep.join(interpreter.path)}
        self._talk = Conversation(command, None, Limits(), variables)
        try:
            told = parse_json(self._exchange(b"", interpreter.import_timeout))
        except (Died, ValueError) as error:
            self.close()
            raise ValueError(f"implementation {name!r} cannot be imported: {error}") from None
        if not isinstance(told, dict) or "declared" not in told:
            self.close()
            raise ValueError(one_line(told.get("error") if isinstance(told, dict) else told))
        self.declared: dict[str, Any] = told["declared"]

    def ask(self, content: bytes, seconds: float) -> bytes:
        """Send a call and wait for the answer. Raises Died if there is none in time."""
        return self._exchange(len(content).to_bytes(LENGTH, "little") + content, seconds)

    def close(self) -> None:
        """End the process and its children."""
        self._talk.close()

    def _exchange(self, content: bytes, seconds: float) -> bytes:
        self._talk.send(content, seconds)
        length = int.from_bytes(self._read(LENGTH), "little")
        if length > MAX_ANSWER:
            raise Died(f"an answer of {length} bytes")
        return self._read(length)

    def _read(self, length: int) -> bytes:
        got = bytearray()
        while len(got) < length:
            got += self._talk.receive(length - len(got))
        return bytes(got)
