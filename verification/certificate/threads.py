"""Work that several threads share while NumPy leaves the interpreter."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from reference.threads import thread_count

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Part], Result], parts: Sequence[Part], on_device: bool = False
) -> list[Result]:
    """The results of all parts, in order, on as many threads as `thread_count` says.

    Whoever judges several layers at one time has given every core its work already. On a device
    one thread is enough.
    """
    threads = thread_count()
    alone = threading.current_thread() is threading.main_thread()
    if on_device or threads == 1 or len(parts) < 2 or not alone:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))
