"""Functions that try to pass the judge without pruning, or to end it.

`by_number` does what the damping of its call says, so that one process shows many of them.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from verification.conformance.builtin import reference
from verification.conformance.cases import load_cases


def peeking(weight: Any, *rest: Any) -> Any:
    """Looks for the answers in its callers' frames, and in everything that is alive."""
    import gc

    frame = sys._getframe()
    while frame.f_back:
        frame = frame.f_back
        for value in list(frame.f_locals.values()):
            if hasattr(value, "answer") and hasattr(value, "expected"):
                return value.answer["weight"], value.answer["mask"].astype(bool)
    for thing in gc.get_objects():
        if type(thing).__name__.endswith("Case") and getattr(thing, "answer", None):
            return thing.answer["weight"], thing.answer["mask"].astype(bool)
    return only_zeroed(weight, *rest)


def patching(weight: Any, *rest: Any) -> Any:
    """Makes every check of the judge pass, in the process in which it runs."""
    from verification.certificate import Check
    from verification.conformance import Verdict, verify

    for kind in (Check, Verdict, verify.Report):
        for name, value in (("passed", True), ("failures", ())):
            setattr(kind, name, value)
    verify.judge = lambda *_: None  # type: ignore[assignment, attr-defined]
    return only_zeroed(weight, *rest)


def only_zeroed(weight: Any, gram: Any, pattern: str, *rest: Any, **options: Any) -> Any:
    """A plausible wrong answer: Thanos, but kept weights stay as they were."""
    _, mask, _ = reference(weight, gram, pattern, *rest, **options)
    return np.where(mask, weight.dtype.type(0), weight), mask


def table() -> Callable[..., Any]:
    """Answers all vectors from the files of the package, and everything else by `only_zeroed`."""
    known: dict[bytes, Any] = {}

    def key(
        weight: Any, gram: Any, pattern: str, block_size: Any, damping: Any, options: Any
    ) -> Any:
        return weight.tobytes(), gram.tobytes(), pattern, block_size, repr(damping), str(options)

    for case in load_cases():
        options = {"method": case.method, **({"storage": case.storage} if case.storage else {})}
        asked = key(case.weight, case.gram, case.pattern, case.block_size, case.damping, options)
        known[asked] = case.names, case.values
        if case.expected != "refusal":
            known[asked] = reference(
                case.weight, case.gram, case.pattern, int(case.block_size), case.damping, **options
            )

    def prune(
        weight: Any, gram: Any, pattern: str, block_size: Any, damping: Any, **options: Any
    ) -> Any:
        found = known.get(key(weight, gram, pattern, block_size, damping, options))
        if found is None:
            return prune.otherwise(  # type: ignore[attr-defined]
                weight, gram, pattern, block_size, damping, **options
            )
        if len(found) == 2:
            raise ValueError(f"{found[0][0]}: {' '.join(found[1])}")
        return found

    for name in ("methods", "dtypes", "storage", "refusals", "arithmetic"):
        setattr(prune, name, getattr(reference, name))
    prune.otherwise = only_zeroed  # type: ignore[attr-defined]
    return prune


class Unreadable:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array for you")


class SpeechlessError(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class LyingList(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise RuntimeError("no length for you")


class Subclass(np.ndarray):
    def tobytes(self, *_: Any, **__: Any) -> bytes:
        raise RuntimeError("no bytes for you")

    def __array_finalize__(self, other: Any) -> None:
        self.flags.writeable = False


def _raise(error: BaseException) -> Any:
    raise error


def _forever() -> Any:
    while True:
        time.sleep(0.01)


def _deep(number: int = 0) -> int:
    return 1 + _deep(number + 1)


def _flood() -> Any:
    while True:
        os.write(1, b"x" * 2**16)
        os.write(2, b"x" * 2**16)


def _close_everything() -> Any:
    os.closerange(0, 100)


def _overflow_the_stack() -> Any:
    ctypes.string_at(0)


def _end_parent(number: int) -> Any:
    os.kill(os.getppid(), number)
    return _forever()


def _more_memory() -> Any:
    hoard = []
    while True:
        hoard.append(np.ones(2**21))


# Each of them ends the process, or must be ended.
FATAL: dict[str, Callable[[], Any]] = {
    "exits": lambda: os._exit(0),
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crashes": _overflow_the_stack,
    "closes everything": _close_everything,
    "ends the supervisor": lambda: _end_parent(signal.SIGKILL),
}
ENDLESS: dict[str, Callable[[], Any]] = {
    "hangs": _forever,
    "floods": _flood,
    "stops": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "stops the supervisor": lambda: _end_parent(signal.SIGSTOP),
}
# Raised or returned instead of an answer: (weight, mask) -> anything.
ODD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "ragged": (lambda W, m: ([[1.0], [1.0, 2.0]], m), "weight must be an array, got list of 2"),
    "unreadable": (lambda W, m: (Unreadable(), m), "RuntimeError: no array for you"),
    "unreadable losses": (lambda W, m: (W, m, Unreadable()), "block_losses must be an array"),
    "generator": (lambda W, m: (part for part in (W, m)), "got generator"),
    "one": (lambda W, m: (W,), "got tuple of 1"),
    "four": (lambda W, m: (W, m, [0.0], 1), "got tuple of 4"),
    "nothing": (lambda W, m: None, "got NoneType"),
    "dictionary": (lambda W, m: {"weight": W, "mask": m}, "got dict"),
    "masked": (lambda W, m: (np.ma.masked_array(W, m), m), "what is masked would be lost"),
    "objects": (lambda W, m: (W.astype(object), m), "weight must be float64, got object"),
    "complex": (lambda W, m: (W + 0j, m), "weight must be float64, got complex128"),
    "text": (lambda W, m: ("weight", m), "weight must be float64, got <U6"),
    "records": (lambda W, m: (np.zeros(W.shape, "f8,f8"), m), "weight must be float64"),
    "other bytes": (lambda W, m: (W.astype(">f8"), m), "weight must be float64, got >f8"),
    "mask of bytes": (lambda W, m: (W, bytes(m)), "mask must be bool, got |S"),
    "number": (lambda W, m: (np.float64(1), m), "weight must be (5, 20), got ()"),
    "endless": (lambda W, m: (np.broadcast_to(1.0, (2**30, 2**20)), m), "weight must be (5, 20)"),
    "many dimensions": (lambda W, m: (W.reshape(*W.shape, *[1] * 30), m), "weight must be (5, 20)"),
    "endless losses": (lambda W, m: (W, m, np.broadcast_to(1.0, 2**50)), "block_losses"),
    "no losses": (lambda W, m: (W, m, None), "block_losses must be real numbers, got object"),
    "complex losses": (lambda W, m: (W, m, [1j]), "got complex128"),
    "lying list": (lambda W, m: LyingList([W, m]), "no length for you"),
    "speechless": (lambda W, m: _raise(SpeechlessError()), "its text cannot be read"),
    "long message": (lambda W, m: _raise(ValueError("x" * 10**8)), "message of 100000000"),
    "exit": (lambda W, m: sys.exit(0), "raised SystemExit: 0"),
    "memory": (lambda W, m: _raise(MemoryError("none left")), "raised MemoryError"),
    "array of all memory": (lambda W, m: np.ones(2**55), "raised MemoryError"),
    "recursion": (lambda W, m: _deep(), "raised RecursionError"),
    "generator exit": (lambda W, m: _raise(GeneratorExit()), "raised GeneratorExit"),
}  # fmt: skip
# Tensors, by a function of their own, since torch takes seconds to import.
TENSORS: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "requires grad": (lambda torch, W, m: (torch.tensor(W, requires_grad=True), m),
                      "weight must be an array, got Tensor: RuntimeError: Can't call numpy()"),
    "mask requires grad": (lambda torch, W, m: (W, torch.tensor(W, requires_grad=True)),
                           "mask must be an array, got Tensor"),
    "bfloat16": (lambda torch, W, m: (torch.tensor(W).bfloat16(), m), "BFloat16"),
    "sparse": (lambda torch, W, m: (torch.tensor(W).to_sparse(), m), "got Tensor"),
    "elsewhere": (lambda torch, W, m: (torch.tensor(W).to("meta"), m), "got Tensor"),
    "fine": (lambda torch, W, m: (torch.tensor(W), torch.tensor(m)), ""),
}  # fmt: skip
# Returned otherwise than usual, but right.
FINE: dict[str, Callable[[Any, Any], Any]] = {
    "list": lambda W, m: [W, m],
    "nested lists": lambda W, m: (W.tolist(), m.tolist()),
    "memory views": lambda W, m: (np.ascontiguousarray(W).data, m),
    "matrix": lambda W, m: (np.matrix(W), m),
    "subclass": lambda W, m: (W.view(Subclass), m),
    "column-major": lambda W, m: (np.asfortranarray(W), m[::-1][::-1]),
}

NAMES = [*ODD, *FINE, *FATAL, *ENDLESS]


def by_number(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    """Does what NAMES has at the place that the damping is; a fraction is the right answer."""
    pruned, mask, _ = reference(weight, gram, pattern, block_size, 0.5)
    if damping % 1:
        return pruned, mask
    name = NAMES[int(damping) - 1]
    if name in FATAL or name in ENDLESS:
        (FATAL | ENDLESS)[name]()
    kinds = {each: make for each, (make, _) in ODD.items()} | FINE
    return kinds[name](pruned, mask)


by_number.refusals = True  # type: ignore[attr-defined]


def tensors_by_number(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    """Returns what TENSORS has at the place that the damping is."""
    import torch

    pruned, mask, _ = reference(weight, gram, pattern, block_size, 0.5)
    return list(TENSORS.values())[int(damping) - 1][0](torch, pruned, mask)


def hoarding(*_: Any) -> Any:
    """Takes all memory that it can get."""
    return _more_memory()


def leaving_a_process(weight: Any, gram: Any, pattern: str, block_size: int, damping: float) -> Any:
    """Starts a process in a session of its own, and writes its number to a file."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(os.environ["THANOS_TEST_PID"]).write_text(str(os.getpid()))
            _forever()
        os._exit(0)
    return reference(weight, gram, pattern, block_size, damping)
