"""Every wrong implementation on layers of other seeds and sizes: rejected, and how it is named.

`python -m tests.judge.named` records in docs/results/wrong-implementations.json how often each is
rejected, by the check that names it, and which known mistake explains it first.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.judge.test_wrong import Size, case_of, function, verdict_on_right_code
from tests.judge.wrong import WRONG, Wrong
from tests.judge.wrong.layers import showcases
from verification.benchmarks.environment import environment
from verification.conformance import judge
from verification.conformance.implementation import Output
from verification.conformance.verify import explanations

RECORD = Path("docs/results/wrong-implementations.json")
SEEDS = (2001, 2002, 2003)  # of layers that no test has
SHAPES = ((7, 32, 8), (10, 44, 12))  # rows, columns and B; those of the tests are others


def measured(wrong: Wrong, size: Size) -> Counter[str]:
    """What became of one wrong implementation's cases on layers of one size."""
    seed, rows, columns, block_size = size
    found: Counter[str] = Counter()
    for shown in showcases(wrong, rows, columns, block_size):
        case = case_of(wrong.method, shown, seed, rows, columns)
        if not verdict_on_right_code(wrong.method, shown, seed, rows, columns).passed:
            found["right code does not pass"] += 1
        wrongly = function(wrong)
        verdict = judge(case, wrongly)
        if isinstance(verdict.answer, Output) and verdict.passed:
            found["the bug does not show"] += 1
            continue
        failed = {check.name for check in verdict.failures}
        found["rejected"] += bool(failed)
        found["rejected by its check"] += wrong.check in failed
        named = [each.key for each in explanations(verdict, wrongly.capabilities)][:1]
        found["unnamed" if not named else f"named {named[0]}"] += 1
    return found


def record(sizes: Sequence[Size]) -> dict[str, Any]:
    """What became of all of them, one by one and added up."""
    bugs: dict[str, Any] = {}
    total: Counter[str] = Counter()
    for wrong in WRONG:
        found: Counter[str] = Counter()
        for size in sizes:
            found += measured(wrong, size)
        bugs[wrong.bug] = {"check": wrong.check, "diagnosis": wrong.diagnosis, **found}
        right = f"named {wrong.diagnosis}"
        for word, count in found.items():
            if word.startswith("named "):
                word = "named right" if word == right else "named otherwise"
            total[word] += count
    return {
        "bugs": len(WRONG),
        "sizes": [list(size) for size in sizes],
        "total": total,
        "each": bugs,
    }


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    found = record([(seed, *shape) for seed in SEEDS for shape in SHAPES])
    about = {"command": "python -m tests.judge.named", **environment()}
    options.out.write_text(json.dumps({**about, **found}, indent=1) + "\n")
    print(json.dumps(found["total"], indent=1))


if __name__ == "__main__":
    main()
