"""The number of threads of PyTorch and NumPy. How they wait is set in reference/threads.py."""

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

from reference.threads import number_variables

# For fewer columns NumPy's second thread costs more than it saves: the first one waits for it in a
# loop, which no variable ends.
FEW_COLUMNS = 2048


def use_threads(threads: int) -> None:
    """Compute with a number of threads from here on, also in processes started later.

    0 leaves everything as it is. Raises ValueError unless the number is from 0 to MOST_THREADS.
    """
    variables = number_variables(threads)
    if variables:
        os.environ.update(variables)  # the certificate's own threads follow them too
        torch.set_num_threads(threads)
        _controller().limit(limits=threads, user_api="blas")


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """Limit NumPy to one thread while a judge works on a small layer; use all for a large one."""
    if columns >= FEW_COLUMNS:
        return nullcontext()
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache
def _controller() -> ThreadpoolController:
    """The controller, made once: looking for the loaded libraries takes some milliseconds."""
    return ThreadpoolController()
