"""How many threads the numeric libraries use, and how those threads wait: they sleep.

NumPy, SciPy and PyTorch read these environment variables when they are loaded. `reference` imports
this module first of all, so whatever imports `reference` before NumPy and PyTorch is in time. A
variable that is set already keeps its value.
"""

import os

# A thread that waits in a loop keeps a core from the threads that have work, also from the one that
# it waits for. Beside other processes, small layers then take many times as long.
WAITING = {
    "OMP_WAIT_POLICY": "passive",  # OpenMP, in PyTorch: GNU's and LLVM's read it
    "OPENBLAS_THREAD_TIMEOUT": "4",  # OpenBLAS, in NumPy and SciPy: 2⁴ clock ticks, its least
}
for _name, _value in WAITING.items():
    os.environ.setdefault(_name, _value)

# They go before the ones of WAITING in the libraries that know them.
STRONGER = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
NUMBERS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MOST_THREADS = 1024  # OpenMP ends a process whose threads the machine cannot start


def waiting() -> str:
    """The variables that say how threads wait, for records of timings: `NAME=value NAME=value`."""
    names = (name for name in (*WAITING, *STRONGER) if name in os.environ)
    return " ".join(f"{name}={os.environ[name]}" for name in names)


def number_variables(threads: int) -> dict[str, str]:
    """The variables that give a new process a number of threads; none for 0, the default.

    Raises ValueError unless the number is from 0 to MOST_THREADS.
    """
    if not 0 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be from 0 to {MOST_THREADS}, got {threads}")
    return dict.fromkeys(NUMBERS, str(threads)) if threads else {}


def thread_count() -> int:
    """The number of threads to share work among: OMP_NUM_THREADS, or the usable cores."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # of nested levels
    return int(first) if first.isdecimal() and int(first) else cores()


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
