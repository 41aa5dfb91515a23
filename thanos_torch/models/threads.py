"""NumPy's threads beside torch's."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController

# Fewer columns than this, and a second thread saves less than it takes away from torch, by
# waiting busily for the next product long after the last one.
FEW_COLUMNS = 2048


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """Where a judge works in NumPy: one thread for a small layer, all of them for a large one."""
    if columns >= FEW_COLUMNS:
        return nullcontext()
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """Made once, when the libraries are loaded: looking for them takes some milliseconds."""
    return ThreadpoolController()
