"""A rank is lost under torchrun: `python -m tests.stress.lost_rank`.

Three ranks prune the first blocks of SmolLM2-135M. One of them is killed when some blocks are done;
the same command must go on there, to the result of three ranks that nobody disturbed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.models.processes import free_port
from tests.stress.program import differing_files, write_results
from thanos_torch.models import RECORD

RANKS, LOST, BLOCKS = 3, 1, 6
RESULT = Path("docs/results/lost-rank.json")
OPTIONS = ["--pattern", "2:4", "--nsamples", "6", "--seqlen", "128"]


def command(out: Path) -> list[str]:
    """`torchrun --nproc-per-node 3 -m thanos_torch prune ...`."""
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(RANKS)]
    run += ["--master-port", str(free_port()), "-m", "thanos_torch", "prune", *OPTIONS]
    for block in range(BLOCKS):
        run += ["--include", f"model.layers.{block}.*"]
    return [*run, "--out", str(out)]


def run_and_kill(out: Path) -> dict[str, Any]:
    """Start the ranks, kill one when three blocks are done, and see how the others end."""
    journal = out.with_name(f"{out.name}.partial") / "journal"
    process = subprocess.Popen(command(out), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(list(journal.glob("*.json"))) < 4:
        time.sleep(0.05)
    os.kill(process_of_rank(process.pid, LOST), signal.SIGKILL)
    killed = time.perf_counter()
    said = process.communicate()[1]
    return {
        "status": process.returncode,
        "seconds_until_all_ended": time.perf_counter() - killed,
        "entries_in_the_journal": len(list(journal.glob("*.json"))),
        "named_by_torchrun": f"(local_rank: {LOST})" in said and "SIGKILL" in said,
        "nothing_under_the_name_of_the_result": not out.exists(),
    }


def process_of_rank(parent: int, rank: int) -> int:
    """The child of torchrun with that rank."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise ValueError(f"no process of rank {rank}")


def stress() -> int:
    """Exit status 0: the run ended, went on, and gave the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        reference, out = Path(folder) / "reference", Path(folder) / "out"
        lost = run_and_kill(out)
        start = time.perf_counter()
        resumed = subprocess.run(command(out), check=False).returncode
        lost["seconds_of_the_next_run"] = time.perf_counter() - start
        undisturbed = subprocess.run(command(reference), check=False).returncode
        wrong = differing_files(reference, out)
        shares = json.loads((out / RECORD).read_text())["ranks"]
    passed = lost["status"] != 0 and lost["named_by_torchrun"] and not wrong
    passed = passed and lost["nothing_under_the_name_of_the_result"] and resumed == undisturbed == 0
    print(lost, wrong or "the same bits")
    return write_results(
        RESULT,
        "lost_rank",
        passed,
        lost=lost,
        statuses_afterwards=[resumed, undisturbed],
        results_that_differ=wrong,
        shares=[{key: share[key] for key in share if key != "host"} for share in shares],
    )


if __name__ == "__main__":
    sys.exit(stress())
