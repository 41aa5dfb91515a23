"""All layers of a real model: pruning them against the passes that calibrate them."""

from collections.abc import Callable
from typing import Any

import torch

from reference.patterns import Unstructured
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    calibration_windows,
    load_model,
    prune_model,
)
from verification import certify
from verification.benchmarks.speed.limits import MODEL_SHARE
from verification.benchmarks.speed.stages import stage_seconds

WINDOWS, LENGTH = 16, 1024  # 16 thousand tokens
Progress = Callable[[str, int, int], None]


def measure_model(
    every: int, progress: Progress | None = None, dataset: str = DEFAULT_DATASET
) -> dict[str, Any]:
    """Prune the layers of every so many-th decoder block of SmolLM2-135M, unstructured 50 %.

    Blocks that are left dense are passed once instead of twice: the time of calibration is scaled
    to two passes of every block, that of Gram matrices and of pruning to all layers, as if blocks
    were alike. The Gram matrices are part of calibrating: passes without them would be for nothing.
    """
    loaded = load_model(DEFAULT_MODEL)
    windows = calibration_windows(
        loaded.tokenizer, dataset, nsamples=WINDOWS, seqlen=LENGTH, seed=0
    ).ids
    with stage_seconds() as stages:
        report = prune_model(
            loaded.model,
            windows,
            Unstructured(0.5),
            judge=certify,
            progress=progress,
            only=lambda block: block % every == 0,
        )
    blocks = loaded.model.config.num_hidden_layers
    pruned = len(range(0, blocks, every))
    passes = report.seconds["calibration"] * 2 * blocks / (blocks + pruned)
    calibration = passes + report.seconds["gram"] * blocks / pruned
    pruning = report.seconds["pruning"] * blocks / pruned
    records = [each for each in report.layers if not each.left_dense]
    layers: list[dict[str, Any]] = [
        {
            "name": each.name,
            "shape": each.shape,
            "seconds": each.seconds,
            "certified": each.verified,
            **each.diagnostics,
        }
        for each in records
    ]
    return {
        "model": DEFAULT_MODEL,
        "dataset": dataset,
        "origin": loaded.origin,
        "tokens": WINDOWS * LENGTH,
        "threads": torch.get_num_threads(),
        "blocks": blocks,
        "pruned_blocks": pruned,
        "seconds": dict(report.seconds),
        "stages": {**stages, "update": report.seconds["pruning"] - sum(stages.values())},
        "passes_of_all": passes,
        "calibration_of_all": calibration,
        "pruning_of_all": pruning,
        "share": pruning / calibration,
        "limit": MODEL_SHARE,
        "certified": all(each.verified for each in records),
        "most_steps": max(max(each["solver_steps"]) for each in layers),
        "direct_rows": sum(each["direct_rows"] for each in layers),
        "layers": layers,
    }
