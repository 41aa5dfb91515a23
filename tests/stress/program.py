"""What the stress scripts share: start the program, compare results, record what came of it."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thanos_torch.cli import main
from thanos_torch.runtime import files
from verification.benchmarks.environment import environment

THANOS = [sys.executable, "-c", "from thanos_torch.cli import main; main()"]
TIMES = ("seconds",)


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


def differing_files(one: Path, other: Path) -> list[str]:
    """Names of files that differ or are in one folder only; of thanos.json, all but the times."""
    names = {file.name for folder in (one, other) for file in folder.iterdir()}
    return sorted(name for name in names if not _same(one / name, other / name))


def _same(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()):
        return False
    if one.name != "thanos.json":
        return one.read_bytes() == other.read_bytes()
    return bool(_timeless(json.loads(one.read_text())) == _timeless(json.loads(other.read_text())))


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in TIMES}
    if isinstance(content, list):
        return [_timeless(value) for value in content]
    return content


def write_results(file: Path, script: str, passed: bool, **found: object) -> int:
    """Write what a script found, with its command and this machine; returns its exit status."""
    command = " ".join([f"python -m tests.stress.{script}", *sys.argv[1:]])
    results = {"command": command, **environment(), "passed": passed, **found}
    file.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if passed else 1
