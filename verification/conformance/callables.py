"""Python functions: `prune(weight, gram, pattern, block_size, damping) -> (weight, mask)`."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from verification.conformance.calling import Call
from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import Answer

BUILT_IN = {
    "reference": "verification.conformance.builtin:reference",
    "torch": "thanos_torch.conformance:prune",
}
TORCH = "PyTorch: pip install 'thanos-pruning[torch]'"
DECLARED = ("methods", "patterns", "dtypes", "storage", "refusals", "arithmetic")


def load_callable(name: str) -> Callable[..., Any]:
    """Import the function that `pkg.module:function` names, also from the working folder.

    Raises ValueError that names the module or function that was not found.
    """
    target = BUILT_IN.get(name, name)
    module, _, function = target.partition(":")
    if not module or not function:
        raise ValueError(f"implementation must look like pkg.module:function, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit is no Exception
        if name == "torch" and isinstance(error, ModuleNotFoundError):
            raise ValueError(f"implementation 'torch' needs {TORCH}") from error
        raise ValueError(f"implementation {name!r} cannot be imported: {error}") from error
    for part in function.split("."):
        if not hasattr(found, part):
            raise ValueError(f"implementation {name!r}: {module} has no {function}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"implementation {name!r} is no function but {type(found).__name__}")
    return found


def declarations(function: Callable[..., Any]) -> dict[str, Any]:
    """What the attributes of a function declare, see docs/conformance.md."""
    return {key: getattr(function, key) for key in DECLARED if hasattr(function, key)}


class NamedFunction:
    """What all ways to run a function share: declarations, calls, and how to repeat a call."""

    plain_check = ("layout", "wrong for matrices with gaps in memory, right for plain ones")

    def __init__(self, declared: Mapping[str, Any], method: str, name: str) -> None:
        self._name = name
        self.capabilities = read_capabilities(declared, method, name)

    def answer(self, case: Case) -> Answer:
        """Call the function on matrices that are not contiguous in memory.

        If this answer is wrong and `plain_answer` is right, the function ignores strides.
        """
        return self._run(self._call(case, gaps=True))

    def plain_answer(self, case: Case) -> Answer:
        """Call the function on contiguous row-major matrices."""
        return self._run(self._call(case, gaps=False))

    def reproduce(self, case: Case) -> str:
        """Python code that shows the answer to a case."""
        module, _, function = BUILT_IN.get(self._name, self._name).partition(":")
        options = self._options(case)
        more = "".join(f", {key}={value!r}" for key, value in options.items())
        return (
            f"from {module} import {function.split('.')[0]}\n"
            f"{case.as_python()}\n"
            f"weight, mask, *_ = {function}(case.weight, case.gram, {case.pattern!r}, "
            f"{case.block_size!r}, {case.damping!r}{more})"
        )

    def close(self) -> None:
        """End the processes that it keeps; it may still be called."""

    def _call(self, case: Case, gaps: bool) -> Call:
        return Call(
            case.weight,
            case.gram,
            case.pattern,
            case.block_size,
            case.damping,
            self._options(case),
            gaps,
        )

    def _options(self, case: Case) -> dict[str, str]:
        """Keyword arguments for the options that the function declared."""
        options = {"method": case.method} if self.capabilities.by_method else {}
        return {**options, **({"storage": case.storage} if case.storage else {})}

    def _run(self, call: Call) -> Answer:
        raise NotImplementedError


class PythonFunction(NamedFunction):
    """A function that is trusted, in this process. `thanos verify` runs functions in their own."""

    def __init__(self, function: Callable[..., Any], method: str, name: str) -> None:
        super().__init__(declarations(function), method, name)
        self._function = function

    def _run(self, call: Call) -> Answer:
        return call.answer(self._function)
