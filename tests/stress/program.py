"""The program in a process of its own, without the seconds that importing it takes."""

import os
import sys
from collections.abc import Mapping, Sequence

from thanos_torch.cli import main
from thanos_torch.runtime import files


def fork_program(arguments: Sequence[object], environment: Mapping[str, str]) -> int:
    """Start `thanos` with some arguments in a fork of this process; returns the fork's id.

    Only for processes with a single thread. Errors go to the error stream, as they always do.
    """
    child = os.fork()
    if child:
        return child
    os.environ.update(environment)
    files._begun.clear()  # counted from the start of a process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = ["thanos", *map(str, arguments)]
    status: object = None
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    except BaseException as error:
        status = repr(error)
    if status:
        print(status, file=sys.stderr, flush=True)
    os._exit(1 if status else 0)


def wait_for(child: int) -> int:
    """Exit status; minus the signal if one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
