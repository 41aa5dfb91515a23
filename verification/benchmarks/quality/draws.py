"""Measures how much the calibration draw alone changes layer errors.

`python -m verification.benchmarks.quality.draws`, half an hour on one core at most; with the
calibration of `thanos bench --standard`, an hour:

    ... --dataset c4 --data data --nsamples 32 --seqlen 1024 --out docs/results/draws-standard.json

Every method prunes the first decoder blocks of a model with several calibration draws, all else
equal. `thanos bench compare` judges two results with different seeds by that spread. Each run of
the first seed is repeated with activations moved by about one rounding error, as another order of
summation on another machine would move them.

This is not a study of the engine: its runs take seconds, so that they share one process and one
dense model. The file is a results file like a study's. It is written after every run, and an
interrupted measurement resumes after the last run in it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from reference.patterns import parse_pattern
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    METHODS,
    LoadedModel,
    evaluation_windows,
    load_model,
    perplexity,
    prune_model,
)
from thanos_torch.network.layers import block_lists
from thanos_torch.runtime.files import write_json
from verification import certify
from verification.benchmarks.environment import environment
from verification.benchmarks.quality.plan import Calibration
from verification.benchmarks.quality.records import Resources, code_fingerprint
from verification.benchmarks.quality.worker import drawn_windows, layer_record, model_record

RESULTS = Path("docs/results/draws.json")
HEADER = ("commit", "code", "python", "versions", "machine", "settings")


@dataclass(frozen=True)
class DrawSettings:
    """What is measured. The default calibration is that of `thanos bench --quick`.

    blocks   number of decoder blocks that are pruned, the first ones; 0 for all
    windows  number of evaluation windows for perplexity; 0 for no perplexity
    """

    model: str = DEFAULT_MODEL
    dataset: str = DEFAULT_DATASET
    nsamples: int = 8
    seqlen: int = 512
    seeds: int = 6
    blocks: int = 3
    windows: int = 0
    methods: str = ",".join(METHODS)
    patterns: str = "unstructured:0.5,2:4,structured:0.3"


def main() -> None:
    """Measure into a file, or resume the measurement that it holds."""
    parser = argparse.ArgumentParser(prog="python -m verification.benchmarks.quality.draws")
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name, default in asdict(DrawSettings()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--data", type=Path, help="folder with a subfolder per data set")
    options = vars(parser.parse_args())
    out, resources = options.pop("out"), Resources(options.pop("data"))
    command = " ".join([parser.prog, *sys.argv[1:]])
    try:
        measure(DrawSettings(**options), out, command, resources)
    except ValueError as error:
        sys.exit(f"draws: {error}")


def measure(settings: DrawSettings, out: Path, command: str, resources: Resources) -> None:
    """Make the runs that `out` lacks.

    Raises ValueError if the runs in it have another origin or other settings.
    """
    results: dict[str, Any] = {
        "study": "draws",
        "command": command,
        "code": code_fingerprint(),
        **environment(),
        "settings": asdict(settings),
        "wall_seconds": 0.0,
        "runs": [],
        "repeats": [],
    }
    if out.exists():
        earlier = json.loads(out.read_text())
        for key in HEADER:
            if earlier.get(key) != results[key]:
                raise ValueError(f"{out} was begun with another {key}: {earlier.get(key)}")
        results = earlier
    for kind, run, seed in planned(settings):
        made = [(done["run"], done["calibration"]["seed"]) for done in results[kind]]
        if (run, seed) not in made:
            start = time.perf_counter()
            nudged = kind == "repeats"
            results[kind].append(pruned(settings, run, seed, nudged=nudged, resources=resources))
            results["wall_seconds"] += time.perf_counter() - start
            write_json(out, results)
            print(kind, seed, *run.values(), f"{results['wall_seconds']:.0f} s", flush=True)


def planned(settings: DrawSettings) -> Iterator[tuple[str, dict[str, str], int]]:
    """Every run as (key of the list that records it, run, seed), seed by seed."""
    for seed in range(settings.seeds):
        for kind in ("runs", "repeats") if seed == 0 else ("runs",):
            for pattern in settings.patterns.split(","):
                for method in settings.methods.split(","):
                    yield kind, {"method": method, "pattern": pattern}, seed


def pruned(
    settings: DrawSettings,
    run: dict[str, str],
    seed: int,
    nudged: bool,
    resources: Resources,
) -> dict[str, Any]:
    """The record of one run; nudged  whether activations are moved by about one rounding error."""
    dense = loaded_once(settings.model, settings.blocks)
    loaded = replace(dense, model=deepcopy(dense.model))
    if nudged:
        nudge(loaded)
    draw = Calibration(settings.dataset, settings.nsamples, settings.seqlen, seed)
    windows = drawn_windows(loaded, draw, resources)
    pattern = parse_pattern(run["pattern"])
    report = prune_model(loaded.model, windows.ids, pattern, judge=certify, method=run["method"])
    return {
        "run": run,
        "model": settings.model,
        "calibration": vars(draw),
        "calibration_text": {"bos": windows.origin["bos"]},
        **model_record(report),
        "layers": [layer_record(layer) for layer in report.layers],
        **(scored(loaded, settings, resources) if settings.windows else {}),
    }


def scored(loaded: LoadedModel, settings: DrawSettings, resources: Resources) -> dict[str, Any]:
    """The perplexity of a model, as results files hold it."""
    text = evaluation_windows(
        loaded.tokenizer,
        resources.dataset(settings.dataset),
        seqlen=settings.seqlen,
        limit=settings.windows,
    )
    measured = perplexity(loaded.model, text.ids, stride=text.origin["stride"])
    return {**measured.as_dict(), "evaluation_text": {"bos": text.origin["bos"]}}


@cache
def loaded_once(name: str, blocks: int) -> LoadedModel:
    """Load the dense model once, as that takes longer than pruning a block."""
    loaded = load_model(name)
    if blocks:
        keep_first_blocks(loaded, blocks)
    return loaded


def keep_first_blocks(loaded: LoadedModel, count: int) -> None:
    """Remove a model's later decoder blocks; the inputs of the first ones do not change."""
    for blocks in block_lists(loaded.model).values():
        del blocks[count:]


@torch.no_grad()
def nudge(loaded: LoadedModel) -> None:
    """Move every embedding, and so all activations, up or down by a unit roundoff of float32.

    The weights that are pruned are not moved. A dequantised model has many equal weights, and
    their position decides which of them go, which is the same on every machine.
    """
    generator = torch.Generator().manual_seed(0)
    embeddings = loaded.model.get_input_embeddings().weight
    signs = torch.randint(0, 2, embeddings.shape, generator=generator) * 2 - 1
    embeddings.mul_(1 + signs * 2.0**-23)


if __name__ == "__main__":
    main()
