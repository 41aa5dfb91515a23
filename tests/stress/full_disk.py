"""A disk that is really full, again and again: `python -m tests.stress.full_disk`, as root.

The run writes to a file system in memory that is too small at first and grows a little after
every failure. Exit status 0: every failure was one clear line, and the result is the same.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.models import tiny
from tests.stress.program import THANOS, differing_files, write_results

OPTIONS = ["--pattern", "2:4", "--nsamples", "70", "--seqlen", "64", "--block-size", "8"]
FIRST, STEP = 256, 256  # KiB
RESULT = Path("docs/results/full-disk.json")


def main() -> int:
    """Grow the disk until the run ends well."""
    failures: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "disk") as disk:
        folder = Path(name)
        model = tiny.random_model(tiny.llama_config(hidden_size=64, intermediate_size=96))
        tiny.save_checkpoint(model, folder / "dense")
        status, error = prune(folder / "dense", folder / "reference")
        assert status == 0, error
        size, status = FIRST, 1
        while status and size < 100 * STEP:
            resize(disk, size)
            status, error = prune(folder / "dense", disk / "out")
            if status:
                failures.append({"disk_kib": size, "error": error.replace(name, "")})
            size += STEP
        differing = differing_files(folder / "reference", disk / "out") if not status else ["all"]
    clear = all("No space left" in str(each["error"]) for each in failures)
    passed = bool(failures) and clear and not differing
    print(f"{len(failures)} times full; differing files: {differing}")
    return write_results(
        RESULT,
        "full_disk",
        passed,
        disk="tmpfs, grown after every failure",
        failures=failures,
        files_that_differ=differing,
    )


def prune(dense: Path, out: Path) -> tuple[int, str]:
    """Exit status and what was said on the error stream."""
    command = [*THANOS, "prune", str(dense), "--out", str(out), *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """A file system in memory."""
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FIRST}k", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def resize(disk: Path, size: int) -> None:
    """Give it so many KiB."""
    subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)


if __name__ == "__main__":
    sys.exit(main())
