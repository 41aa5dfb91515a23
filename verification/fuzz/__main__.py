"""`python -m verification.fuzz`: gives damaged files to every reader, on all cores.

Exit status 1 if a reader crashed, hung or took too much memory. `--only TARGET --number N` shows
one input and the result of its reader.
"""

import argparse
import math
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import inf
from pathlib import Path

from reference.threads import cores
from verification.benchmarks.environment import commit, machine
from verification.benchmarks.results import write_results
from verification.fuzz.targets import find, targets, value_targets
from verification.fuzz.trial import CHUNK_LIMIT, FuzzTally, made_input, run, run_chunk
from verification.processes import DIED, TIMED_OUT, run_each

OUT = Path(__file__).parents[2] / "docs" / "results" / "fuzz.json"
CHUNK = 5000
SHOWN = 20  # findings that are printed and kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _options(given)
    if options.number is not None:
        return _again(options.only, options.seed, options.number)
    known = value_targets() if options.values else targets()
    names = [options.only] if options.only else list(known)
    shares = {name: find(name).share for name in names}
    origin: dict[str, object] = {  # before the run, as files may change meanwhile
        "command": " ".join(["python -m verification.fuzz", *given]),
        "commit": commit(),
        "machine": machine(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "seed": options.seed,
    }
    start = time.perf_counter()
    tallies, peak = _all(_jobs(shares, options.count, options.seed), start + options.seconds)
    record = origin | _results(tallies, peak, time.perf_counter() - start)
    for line in _lines(record):
        print(line)
    if options.out:
        write_results(options.out, record, indent=1)
    return 1 if record["findings"] else 0


def _jobs(shares: Mapping[str, float], count: int, seed: int) -> list[tuple[str, int, range]]:
    """The numbers of all inputs in chunks, with the targets taking turns.

    A reader with a smaller share is slower, and has smaller chunks.
    """
    whole, most = sum(shares.values()), max(shares.values())
    jobs = []
    for name, share in shares.items():
        own, chunk = math.ceil(count * share / whole), max(1, int(CHUNK * share / most))
        jobs += [
            (place / own, (name, seed, range(place, min(place + chunk, own))))
            for place in range(0, own, chunk)
        ]
    return [job for _, job in sorted(jobs, key=lambda each: each[0])]


def _all(
    jobs: Sequence[tuple[str, int, range]], deadline: float
) -> tuple[dict[str, FuzzTally], float]:
    """Tallies of all targets until the deadline, and the largest growth of memory in MiB."""
    tallies = {name: FuzzTally() for name, _, _ in jobs}
    peak = 0.0
    ended = run_each(run_chunk, jobs, cores(), CHUNK_LIMIT)
    for done, ((name, _, numbers), result) in enumerate(ended, start=1):
        if result in (TIMED_OUT, DIED):
            what = f"{result} of the process of {numbers.start} to {numbers.stop - 1} of {name}"
            found = {"target": name, "number": numbers.start, "what": what}
            tallies[name].findings.append(found)
        else:
            tally, grown = result
            tallies[name].add(tally)
            peak = max(peak, grown)
        print(f"\r{done / len(jobs):.0%}", end="", file=sys.stderr, flush=True)
        if time.perf_counter() > deadline:
            break
    print(file=sys.stderr)
    return tallies, peak


def _again(name: str, seed: int, number: int) -> int:
    """Show one input and the result of its reader."""
    target = find(name)
    print(made_input(name, target, seed, number))
    tally = run(name, target, seed, range(number, number + 1))
    for found in tally.findings:
        print(found["what"])
    print(f"accepted {tally.accepted}, refused {tally.refused}, findings {len(tally.findings)}")
    return 1 if tally.findings else 0


def _results(tallies: dict[str, FuzzTally], peak: float, seconds: float) -> dict[str, object]:
    return {
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
            f"--only {one['target']!r} --number {one['number']}"
        )
    return lines


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m verification.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="total number of inputs")
    parser.add_argument("--seconds", type=float, default=inf, help="begin nothing after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--values", action="store_true", help="change values of well-formed files, not bytes"
    )
    parser.add_argument("--only", help="fuzz only this reader")
    parser.add_argument("--number", type=int, help="show this input of --only")
    parser.add_argument("--out", type=Path, help=f"write a record, like docs/results/{OUT.name}")
    options = parser.parse_args(arguments)
    if options.only:
        try:
            find(options.only)
        except KeyError:
            parser.error(f"--only must name a reader, got {options.only!r}")
    if options.number is not None and not options.only:
        parser.error("--number needs --only")
    if options.count < 1 or not options.seconds > 0:
        parser.error("--count and --seconds must be positive")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
