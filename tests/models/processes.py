"""Several ranks as forks of the test's process, which has imported all that they need."""

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from thanos_torch.runtime.ranks import Ranks, joined

TIMEOUT = 20.0


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def on_ranks(count: int, work: Callable[[Ranks], Any], folder: Path) -> list[Any]:
    """What `work` returns on every rank; the exception where it raises one.

    Only for processes with a single thread.
    """
    port = free_port()
    children = [
        _fork(work, environment(rank, count, port), folder / str(rank)) for rank in range(count)
    ]
    for child in children:
        os.waitpid(child, 0)
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(count)]


def _fork(work: Callable[[Ranks], Any], variables: dict[str, str], answer: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.environ.update(variables)
        with joined(TIMEOUT) as ranks:
            try:
                result = work(ranks)
            except ValueError as error:
                result = error
            answer.write_bytes(pickle.dumps(result))
    except BaseException:
        traceback.print_exc()
    os._exit(0)
