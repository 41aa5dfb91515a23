"""`python -m verification.fuzz`: spoiled files for every reader, on all cores, with a record.

Exit status 1 if a reader crashed, hung or took too much memory. `--only TARGET --number N` shows
one input again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from verification.benchmarks.environment import commit, cores, machine
from verification.fuzz.targets import targets
from verification.fuzz.trial import Tally, made_input, run_chunk

OUT = Path(__file__).parents[2] / "docs" / "results" / "fuzz.json"
CHUNK = 5000
SHOWN = 20  # findings that are printed and kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; returns the exit status."""
    options = _options(arguments)
    known = targets()
    if options.number is not None:
        print(made_input(options.only, known[options.only], options.seed, options.number))
        return 0
    names = [options.only] if options.only else list(known)
    share = -(-options.count // len(names))
    chunks = [
        (name, range(start, min(start + CHUNK, share)))
        for start in range(0, share, CHUNK)
        for name in names
    ]
    start = time.perf_counter()
    tallies = {name: Tally() for name in names}
    peak = 0.0
    jobs = [(name, options.seed, numbers) for name, numbers in chunks]
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        for done, (name, tally, grown) in enumerate(pool.map(run_chunk, jobs), start=1):
            tallies[name].add(tally)
            peak = max(peak, grown)
            print(f"\r{done / len(jobs):.0%}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    seconds = time.perf_counter() - start
    record = _record(options.seed, tallies, peak, seconds)
    for line in _lines(record):
        print(line)
    if options.out:
        temporary = options.out.with_name(options.out.name + ".part")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, options.out)
    return 1 if record["findings"] else 0


def _record(seed: int, tallies: dict[str, Tally], peak: float, seconds: float) -> dict[str, object]:
    return {
        "command": "python -m verification.fuzz",
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "inputs": sum(tally.accepted + tally.refused + len(tally.findings)
                      for tally in tallies.values()),
        "targets": {
            name: {
                "accepted": tally.accepted,
                "refused": tally.refused,
                "findings": len(tally.findings),
                "slowest_seconds": round(tally.slowest, 4),
            }
            for name, tally in tallies.items()
        },
        "findings": [found for tally in tallies.values() for found in tally.findings][:SHOWN],
        "memory_growth_mib": round(peak, 1),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def _lines(record: dict[str, object]) -> list[str]:
    found = record["findings"]
    assert isinstance(found, list)
    about = f"{record['inputs']} inputs in {record['seconds']} s, memory grew by "
    lines = [f"{about}{record['memory_growth_mib']} MiB, {len(found)} findings"]
    for one in found:
        lines.append(f"  {one['target']} {one['number']}: {one['what']}")
        lines.append(
            f"    see it: python -m verification.fuzz --seed {record['seed']} "
            f"--only {one['target']} --number {one['number']}"
        )
    return lines


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m verification.fuzz", description=__doc__)
    parser.add_argument("--count", type=_positive, default=1_000_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(targets()), help="one reader")
    parser.add_argument("--number", type=int, help="show this input of --only")
    parser.add_argument("--out", type=Path, help=f"write a record, {OUT.name} in docs/results")
    options = parser.parse_args(arguments)
    if options.number is not None and not options.only:
        parser.error("--number needs --only")
    return options


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
