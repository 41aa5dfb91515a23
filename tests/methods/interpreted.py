"""Kernels without a GPU: Triton's interpreter, on CPU tensors that pretend to be a device's.

With a GPU the same tests run the compiled kernels.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def on_a_device() -> Iterator[None]:
    """CPU tensors are worked on as a device's are: by kernels, and never waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thanos_torch.methods.devices.HOSTS", frozenset())
        if DEVICE == "cpu":
            quickly(patch)
        yield


def quickly(patch: pytest.MonkeyPatch) -> None:
    """Let the interpreter prepare Triton's language once a kernel, not once a function's call."""
    import triton.runtime.interpreter as interpreter

    prepare = interpreter._patch_lang
    active: dict[int, Any] = {}

    class Scope:
        def __init__(self, key: int | None) -> None:
            self.key = key

        def restore(self) -> None:
            if self.key is not None:  # the kernel's own: all that its functions added goes with it
                for scope in reversed(active.values()):
                    scope.restore()
                active.clear()

    def once(function: Any) -> Scope:
        key, outermost = id(function.__globals__), not active
        if key not in active:
            active[key] = prepare(function)
        return Scope(key if outermost else None)

    patch.setattr(interpreter, "_patch_lang", once)


def planted(name: str, old: str, new: str, folder: Path) -> ModuleType:
    """The kernel file `name` with one bug: the one place that reads `old` reads `new`."""
    import thanos_torch.methods.kernels as kernels

    text = (Path(kernels.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {name}.py"
    file = folder / f"{name}.py"
    file.write_text(text.replace(old, new).replace('"thanos::', f'"planted_{name}::'))
    spec = importlib.util.spec_from_file_location(f"planted_{name}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
