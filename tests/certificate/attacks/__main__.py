"""Search for results that the certificate should not accept, and the table of what was found.

python -m tests.certificate.attacks --minutes 60 --out docs/results/soundness.json
python -m tests.certificate.attacks --table docs/results/soundness.json
"""

import argparse
import json
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.certificate.attacks import ATTACKS, play
from tests.certificate.attacks.outcome import Outcome
from verification.benchmarks.environment import environment

APART = 10**6  # seeds from one process to the next
COUNTED = (
    "tries", "accepted", "undecided", "far_off", "right", "right_refused", "right_undecided",
    "unsolved",
)  # fmt: skip
COLUMNS = {
    "attack": "name", "tries": "tries", "accepted": "accepted", "far off": "far_off",
    "f(P)/f(T)": "exact", "f(Ŵ)/f(T)": "stored", "f(P)/f(T*)": "choices",
    "of the bound": "over_exact", "of 1.05 f(T*)": "over_choices",
}  # fmt: skip


def main() -> int:
    """Search, or print the table; 1 if something accepted is above its bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="of every process")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with its own seeds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=1000, help="of the first round")
    parser.add_argument("--table", type=Path, help="print the table of these results")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return 0
    seeds = [arguments.seed + APART * job for job in range(arguments.jobs)]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        found = pool.map(search, [arguments.minutes] * arguments.jobs, seeds)
        outcomes = [together(each) for each in zip(*found, strict=True)]
    results = {
        "command": f"python -m tests.certificate.attacks --minutes {arguments.minutes:g}"
        f" --jobs {arguments.jobs} --seed {arguments.seed}",
        "environment": environment(),
        "attacks": [as_json(asdict(each)) for each in outcomes],
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    print(table(results))
    return int(not all(each.sound and not each.right_refused for each in outcomes))


def search(minutes: float, first_seed: int) -> list[Outcome]:
    """Rounds of all attacks in turn, each with a seed of its own, until the time is over."""
    outcomes = {name: Outcome(name) for name in ATTACKS}
    end, seed = time.monotonic() + 60 * minutes, first_seed
    while time.monotonic() < end or seed == first_seed:
        for name, outcome in outcomes.items():
            play(name, outcome, seed)
        seed += 1
    return list(outcomes.values())


def together(outcomes: tuple[Outcome, ...]) -> Outcome:
    """What one attack got in several processes."""
    merged = Outcome(outcomes[0].name)
    for each in outcomes:
        for name in COUNTED:
            setattr(merged, name, getattr(merged, name) + getattr(each, name))
        for name, worst in each.worst.items():
            if not getattr(each, name) <= getattr(merged, name):
                setattr(merged, name, getattr(each, name))
                merged.worst[name] = worst
        merged.notes += each.notes
    return merged


def as_json(value: Any) -> Any:
    """The value with text for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def table(results: dict[str, Any]) -> str:
    """The results in Markdown, one attack a row."""
    rows = [list(COLUMNS), ["---"] + ["---:"] * (len(COLUMNS) - 1)]
    for each in results["attacks"]:
        rows.append([_text(each[key]) for key in COLUMNS.values()])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}" if 0.5 < value < 2 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
