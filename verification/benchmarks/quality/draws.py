"""How much the calibration draw alone moves layer errors: a recorded spread.

`python -m verification.benchmarks.quality.draws`, half an hour on one core at most; with the
calibration of `thanos bench --standard`, an hour:

    ... --dataset c4 --data data --nsamples 32 --seqlen 1024 --out docs/results/draws-standard.json

The first decoder blocks of a model are pruned by every method with several seeds for the choice
of calibration windows, all else equal. `thanos bench compare` judges two results with different
seeds by that spread. Each run of the first seed is made once more with activations that are moved
by about one rounding: what another machine's order of summation would do.

The file is a results file like a study's. It is written after every run, and a run that was
interrupted goes on where it stopped.
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
    ModelReport,
    calibration_windows,
    evaluation_windows,
    load_model,
    perplexity,
    prune_model,
)
from thanos_torch.network.layers import decoder_blocks
from thanos_torch.runtime.files import write_json
from verification import certify
from verification.benchmarks.environment import environment
from verification.benchmarks.quality.records import Resources, code_fingerprint

RESULTS = Path("docs/results/draws.json")
HEADER = ("commit", "code", "python", "versions", "machine", "settings")


@dataclass(frozen=True)
class DrawSettings:
    """What is measured; by default with the calibration of `thanos bench --quick`.

    blocks   how many decoder blocks, the first ones; 0 for all
    windows  of the evaluation text to take the perplexity on, 0 for none
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
    """Measure, or go on measuring, into a file."""
    parser = argparse.ArgumentParser(prog="python -m verification.benchmarks.quality.draws")
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name, default in asdict(DrawSettings()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--data", type=Path, help="folder with a folder for some data sets")
    options = vars(parser.parse_args())
    out, resources = options.pop("out"), Resources(options.pop("data"))
    command = " ".join([parser.prog, *sys.argv[1:]])
    try:
        measure(DrawSettings(**options), out, command, resources)
    except ValueError as error:
        sys.exit(f"draws: {error}")


def measure(settings: DrawSettings, out: Path, command: str, resources: Resources) -> None:
    """Make the runs that `out` lacks; ValueError if those in it had another origin or settings."""
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
    """(where it is recorded, the run, its seed) of every run, seed by seed."""
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
    """One run's record. nudged: with activations moved by about one rounding."""
    dense = loaded_once(settings.model, settings.blocks)
    loaded = replace(dense, model=deepcopy(dense.model))
    if nudged:
        nudge(loaded)
    windows = calibration_windows(
        loaded.tokenizer,
        resources.dataset(settings.dataset),
        nsamples=settings.nsamples,
        seqlen=settings.seqlen,
        seed=seed,
    )
    pattern = parse_pattern(run["pattern"])
    report = prune_model(loaded.model, windows.ids, pattern, judge=certify, method=run["method"])
    calibration = {key: getattr(settings, key) for key in ("dataset", "nsamples", "seqlen")}
    return {
        "run": run,
        "model": settings.model,
        "calibration": {**calibration, "seed": seed},
        **record(report),
        **(scored(loaded, settings, resources) if settings.windows else {}),
    }


def scored(loaded: LoadedModel, settings: DrawSettings, resources: Resources) -> dict[str, Any]:
    """The perplexity of a model, as a results file holds it."""
    text = evaluation_windows(
        loaded.tokenizer,
        resources.dataset(settings.dataset),
        seqlen=settings.seqlen,
        limit=settings.windows,
    )
    return perplexity(loaded.model, text.ids).as_dict()


def record(report: ModelReport) -> dict[str, Any]:
    """What a results file holds of a pruned model, as far as it is compared here."""
    return {
        "layers": [
            {
                "name": layer.name,
                "shape": layer.shape,
                "removed": layer.removed,
                "error": layer.relative_error,
                "passed": layer.verified,
            }
            for layer in report.layers
        ],
        "seconds": dict(report.seconds),
        "verified": report.verified,
        "sparsity": report.sparsity,
        "error": report.relative_error,
    }


@cache
def loaded_once(name: str, blocks: int) -> LoadedModel:
    """The dense model: loading it takes longer than pruning a block."""
    loaded = load_model(name)
    if blocks:
        keep_first_blocks(loaded, blocks)
    return loaded


def keep_first_blocks(loaded: LoadedModel, count: int) -> None:
    """Leave out a model's later decoder blocks: what the first ones are given does not change."""
    del decoder_blocks(loaded.model)[1][count:]


@torch.no_grad()
def nudge(loaded: LoadedModel) -> None:
    """Move every embedding, and so all activations, by a unit roundoff of float32, up or down.

    Not the weights that are pruned: a dequantised model has many equal ones, and which of them go
    is decided by their place, on every machine alike.
    """
    generator = torch.Generator().manual_seed(0)
    embeddings = loaded.model.get_input_embeddings().weight
    signs = torch.randint(0, 2, embeddings.shape, generator=generator) * 2 - 1
    embeddings.mul_(1 + signs * 2.0**-23)


if __name__ == "__main__":
    main()
