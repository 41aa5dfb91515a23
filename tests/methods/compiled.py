"""Compile the kernels for GPUs that are not here: `python -m tests.methods.compiled`.

Prints shared memory, registers, and spilled bytes of each kernel, type, width and GPU.
Fails if a kernel needs more shared memory than a consumer's card has.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from thanos_torch.methods.kernels import groups, smallest, sweep, systems

CAPABILITIES = (80, 90)  # A100 and its consumer cards; H100 and H200
SHARED = 99 * 1024  # bytes that every GPU since capability 8.0 has for a program
ROWS, COLUMNS = 64, 512


class PretendedDriver:
    """As much of a driver as compiling needs."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compiled(width: int, dtype: torch.dtype) -> list[tuple[str, Any]]:
    """The kernels that all operations would launch on blocks of some width."""
    found: list[tuple[str, Any]] = []

    def only_compile(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found.append((self.fn.__name__, run(self, *arguments, grid=grid, warmup=True, **options)))

    run, JITFunction.run = JITFunction.run, only_compile
    try:
        call_all(width, dtype)
    finally:
        JITFunction.run = run
    return found


def call_all(width: int, dtype: torch.dtype) -> None:
    """Call every operation once."""
    W, picks = torch.ones(ROWS, COLUMNS, dtype=dtype), torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    factors, removed = torch.ones(COLUMNS, dtype=dtype), torch.zeros(1, dtype=torch.int64)
    work = torch.zeros(smallest.workspace_size(dtype), dtype=torch.int32)
    U = torch.ones(COLUMNS, COLUMNS, dtype=dtype)[:width, :width]
    exact = torch.ones(width, width, dtype=torch.float64)
    part, chosen = W[:, :width], picks[:, :width]
    smallest.smallest(W, factors, 1, 10, removed, work, chosen)
    groups.smallest_of_groups(part, factors[:width], 1, 2, 4, picks[:, 0].contiguous(), chosen)
    steps = torch.zeros(1, dtype=torch.int32)
    shared = (exact[0], exact, exact.to(dtype), exact.to(dtype))
    systems.joint_update(part, chosen, U, *shared, 1e-8, removed, steps)
    sweep.sweep(part, chosen, U, 2, 4)


def registers(ptx: str, capability: int) -> tuple[int, int]:
    """Registers of a thread, and bytes of them that are spilled to memory."""
    folder = Path(triton.backends.nvidia.__file__).parent
    assembler = next(file for file in folder.rglob("ptxas*") if file.is_file())
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        architecture = f"-arch=sm_{capability}{'a' if capability == 90 else ''}"
        done = subprocess.run(
            [assembler, "-v", architecture, file.name, "-o", "/dev/null"],
            capture_output=True,
            text=True,
            check=True,
        )
    numbers = (r"Used (\d+) registers", r"(\d+) bytes spill stores")
    used, spilled = (int(found[1]) if (found := re.search(n, done.stderr)) else 0 for n in numbers)
    return used, spilled


def main() -> int:
    """All kernels for all GPUs; 1 if one needs too much shared memory."""
    worst = 0
    for capability in CAPABILITIES:
        driver.set_active(PretendedDriver(capability))
        for dtype in (torch.float32, torch.float64):
            for width in (128, 256):
                for name, kernel in compiled(width, dtype):
                    used, spilled = registers(kernel.asm["ptx"], capability)
                    shared = kernel.metadata.shared
                    worst = max(worst, shared)
                    print(
                        f"sm_{capability} {dtype} B = {width} {name}: {shared} bytes shared, "
                        f"{used} registers, {spilled} bytes spilled",
                        flush=True,
                    )
    return int(worst > SHARED)


if __name__ == "__main__":
    sys.exit(main())
