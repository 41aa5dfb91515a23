"""Try all registered names, each in a process of its own; exit status 1 if one of them failed."""

import argparse
import importlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from reference.threads import cores
from tests.models.sweep import __doc__ as usage
from tests.models.sweep.trial import FAILED, PATTERN, Trial, try_name
from verification.benchmarks.environment import environment
from verification.benchmarks.results import write_results
from verification.processes import DIED, TIMED_OUT, run_each

LIMIT = 900.0  # seconds of one name; the slowest took a tenth of that
# Imported once before the processes fork: models import them late.
LATE = ("accelerate", "scipy.optimize", "transformers.models.llama.modeling_llama")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m tests.models.sweep", description=usage)
    parser.add_argument("names", nargs="*", help="registered names; all if none is given")
    parser.add_argument("--out", type=Path, help="write the results, as JSON")
    options = parser.parse_args(given)
    names = options.names or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    origin, begun = environment(), time.perf_counter()  # files may change during the run
    trials: dict[str, Trial] = {}
    quiet()
    for module in LATE:
        importlib.import_module(module)
    for name, result in run_each(try_name, names, cores(), LIMIT):
        ended = result in (TIMED_OUT, DIED)
        trial = Trial(name, problems=[f"{result} of its process"]) if ended else result
        trials[name] = trial
        print(f"{len(trials)} of {len(names)}: {described(trial)}", flush=True)
    counts = Counter(trial.outcome for trial in trials.values())
    results = {
        "command": " ".join(["python -m tests.models.sweep", *given]),
        "environment": origin,
        "pattern": PATTERN,
        "counts": {"names": len(names), **counts},
        "seconds": round(time.perf_counter() - begun, 1),
        "trials": [asdict(trials[name]) for name in names],
    }
    if options.out:
        write_results(options.out, results, indent=1)
    print(", ".join(f"{number} {outcome}" for outcome, number in counts.most_common()))
    return int(counts[FAILED] > 0)


def quiet() -> None:
    """Keep bars and advice of libraries off the output."""
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def described(trial: Trial) -> str:
    """A line on a trial."""
    numbers = f"{trial.share:.1%} removed, {trial.left_alone:.1%} left alone"
    about = trial.reason or numbers
    return "\n    ".join([f"{trial.name} {trial.outcome}: {about}", *trial.problems])


if __name__ == "__main__":
    raise SystemExit(main())
