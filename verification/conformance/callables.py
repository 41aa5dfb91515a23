"""Python functions: `prune(weight, gram, pattern, block_size, damping) -> (weight, mask)`."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from verification.conformance.capabilities import read_capabilities
from verification.conformance.cases import Case
from verification.conformance.implementation import Answer, Failed, Output, Refused
from verification.conformance.outputs import check_shapes
from verification.conformance.tensors import Tensor

BUILT_IN = {
    "reference": "verification.conformance.builtin:reference",
    "torch": "thanos_torch.conformance:prune",
}
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
    except (Exception, SystemExit) as error:
        raise ValueError(f"implementation {name!r} cannot be imported: {error}") from error
    for part in function.split("."):
        if not hasattr(found, part):
            raise ValueError(f"implementation {name!r}: {module} has no {function}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"implementation {name!r} is no function but {type(found).__name__}")
    return found


class PythonFunction:
    """A function under test; its attributes declare what it supports, see docs/conformance.md."""

    def __init__(self, function: Callable[..., Any], method: str, name: str) -> None:
        self._function, self._name = function, name
        declared = {key: getattr(function, key) for key in DECLARED if hasattr(function, key)}
        self.capabilities = read_capabilities(declared, method, name)

    def answer(self, case: Case) -> Answer:
        """Call the function on matrices that are not contiguous in memory.

        If this answer is wrong and `plain_answer` is right, the function ignores strides.
        """
        return self._call(case, with_gaps(case.weight), with_gaps(case.gram))

    def plain_answer(self, case: Case) -> Answer:
        """Call the function on contiguous row-major matrices."""
        return self._call(case, case.weight.copy(), case.gram.copy())

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

    def _options(self, case: Case) -> dict[str, str]:
        """Keyword arguments for the options that the function declared."""
        options = {"method": case.method} if self.capabilities.by_method else {}
        return {**options, **({"storage": case.storage} if case.storage else {})}

    def _call(self, case: Case, weight: Tensor, gram: Tensor) -> Answer:
        try:
            with np.errstate(all="ignore"):
                returned = self._function(
                    weight,
                    gram,
                    case.pattern,
                    case.block_size,
                    case.damping,
                    **self._options(case),
                )
        except ValueError as error:
            return Refused(str(error))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too must not end the judge
            return Failed("output", f"raised {type(error).__name__}: {error}")
        if not (_same(weight, case.weight) and _same(gram, case.gram)):
            return Failed("input", "the arrays that it was given were changed")
        return _read(case, returned)


def with_gaps(matrix: Tensor) -> Tensor:
    """The same matrix in column-major order with an unused entry after every one."""
    roomy = np.zeros(tuple(2 * size for size in reversed(matrix.shape)), dtype=matrix.dtype)
    view = roomy[tuple(slice(None, None, 2) for _ in matrix.shape)].T
    view[...] = matrix
    return view


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def _read(case: Case, returned: object) -> Answer:
    """Check the types and shapes of what a function returned."""
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        what = type(returned).__name__
        return Failed("output", f"it must return (weight, mask) or these and losses, got {what}")
    weight, mask = (np.asarray(part) for part in returned[:2])
    losses = np.asarray(returned[2], dtype=float) if len(returned) == 3 else None
    if weight.dtype != case.weight.dtype:
        return Failed("output", f"weight must be {case.weight.dtype}, got {weight.dtype}")
    if mask.dtype != np.bool_:
        return Failed("output", f"mask must be bool, got {mask.dtype}")
    if case.storage == "bfloat16" and (weight.view(np.uint32) & 0xFFFF).any():
        return Failed("output", "weight must be rounded to bfloat16, got more bits")
    return check_shapes(case, Output(weight, mask, losses))
