"""What deviations cost: public implementations on some layers of a real model.

`python -m verification.scoreboard.layers FOLDER` prunes each layer with every adapter and with
`thanos_torch`, and records zeros and losses in docs/results/scoreboard-layers.json.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import thanos_torch
from reference.patterns import parse_pattern
from thanos_torch.models import DEFAULT_DATASET, DEFAULT_MODEL, calibration_windows, load_model
from thanos_torch.network.layers import decoder_blocks, prunable_layers
from verification.benchmarks.environment import environment
from verification.conformance.cases import Case
from verification.conformance.implementation import Output
from verification.conformance.made import made_case
from verification.conformance.text import printable
from verification.scoreboard.implementations import Listed, read_list
from verification.scoreboard.judging import function_of
from verification.scoreboard.record import write_record
from verification.scoreboard.sources import Folder

RESULTS = Path("docs/results/scoreboard-layers.json")
BLOCK, ENDINGS = 10, ("k_proj", "q_proj", "up_proj")  # layers of 576 columns
NSAMPLES, SEQLEN, DRAW = 8, 512, 0
BLOCK_SIZE, DAMPING = 128, 0.01
PATTERNS = ("unstructured:0.5", "2:4", "structured:0.3", "2:4+outliers:0.1",
            "structured:0.3+outliers:0.1")  # fmt: skip
TIMEOUT = 300.0  # seconds a layer

Matrix = NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all that FOLDER holds; exit status 2 if it holds nothing of the list."""
    parser = argparse.ArgumentParser(prog="python -m verification.scoreboard.layers")
    parser.add_argument("folder", type=Path, help="sources and environments of the scoreboard")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    options = parser.parse_args(arguments)
    try:
        folder = Folder(options.folder)
        rows = [row for row in read_list() if row.source and not folder.lacks([row])]
        if not rows:
            raise ValueError("folder holds no source of the list; make scoreboard says what to get")
        layers, origin = model_layers()
        runs = [run for row in rows for run in _runs(row, folder, layers)]
    except (ValueError, OSError) as error:
        print(printable(f"layers: {error}"), file=sys.stderr)
        return 2
    content = {"command": "python -m verification.scoreboard.layers", **environment(), **origin,
               "block_size": BLOCK_SIZE, "damping": DAMPING, "runs": runs}  # fmt: skip
    write_record(options.out, content)
    return 0


def model_layers() -> tuple[dict[str, tuple[Matrix, Matrix]], dict[str, Any]]:
    """Weight and Gram matrix of each layer of a block of the dense model, and their origin."""
    loaded = load_model(DEFAULT_MODEL)
    windows = calibration_windows(
        loaded.tokenizer, DEFAULT_DATASET, nsamples=NSAMPLES, seqlen=SEQLEN, seed=DRAW
    )
    blocks = decoder_blocks(loaded.model)
    inside = prunable_layers(blocks)[BLOCK]
    layers = {name: layer for name, layer in inside.items() if name.endswith(ENDINGS)}
    grams: dict[str, torch.Tensor] = {}

    def summed(name: str) -> Any:
        def hook(module: Any, inputs: tuple[torch.Tensor], output: Any) -> None:
            X = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            grams[name] = grams.get(name, 0) + X.T @ X

        return hook

    hooks = [layer.module.register_forward_hook(summed(name)) for name, layer in layers.items()]
    with torch.no_grad():
        for window in windows.ids:
            loaded.model(window[None])
    for hook in hooks:
        hook.remove()
    found = {
        name: (layer.matrix.detach().float().numpy(), grams[name].float().numpy())
        for name, layer in layers.items()
    }
    origin = {
        "model": loaded.provenance(),
        "calibration": windows.provenance(),
        "layers": [*layers],
    }
    return found, origin


def _runs(
    row: Listed, folder: Folder, layers: dict[str, tuple[Matrix, Matrix]]
) -> Iterator[dict[str, Any]]:
    """One object for each pattern that a row supports."""
    with closing(function_of(row, folder, TIMEOUT)) as implementation:
        for pattern in PATTERNS:
            cases = [_case(row.methods[0], pattern, *pair, name) for name, pair in layers.items()]
            if implementation.capabilities.missing(cases[0]):
                continue
            answers = [implementation.answer(case) for case in cases]
            print(f"{row.name} {pattern}", file=sys.stderr)
            outputs = [answer for answer in answers if isinstance(answer, Output)]
            if len(outputs) < len(answers):
                failure = next(answer for answer in answers if not isinstance(answer, Output))
                yield {"name": row.name, "pattern": pattern, "failed": failure.message}
                continue
            yield {"name": row.name, "pattern": pattern, **_compared(cases, outputs)}


def _case(method: str, pattern: str, weight: Matrix, gram: Matrix, name: str) -> Case:
    return made_case(weight, gram, pattern, method=method, block_size=BLOCK_SIZE,
                     damping=DAMPING, name=name)  # fmt: skip


def _compared(cases: Sequence[Case], outputs: Sequence[Output]) -> dict[str, Any]:
    """Sums over the layers: zeros and losses, beside those of thanos_torch."""
    ours = [_ours(case) for case in cases]
    pairs = list(zip(cases, outputs, strict=True))
    return {
        "weights": sum(case.weight.size for case in cases),
        "zeros": sum(int((output.weight == 0).sum()) for output in outputs),
        "zeros_of_thanos_torch": sum(int((weight == 0).sum()) for weight in ours),
        "loss": sum(_loss(case, output.weight) for case, output in pairs),
        "loss_of_thanos_torch": sum(
            _loss(case, weight) for case, weight in zip(cases, ours, strict=True)
        ),
    }


def _ours(case: Case) -> Matrix:
    pruned = getattr(thanos_torch, case.method)(
        torch.from_numpy(case.weight.copy()),
        torch.from_numpy(case.gram.copy()),
        parse_pattern(case.pattern),
        block_size=int(case.block_size),
        damping=case.damping,
    )
    weight: Matrix = pruned.weight.numpy()
    return weight


def _loss(case: Case, weight: NDArray[Any]) -> float:
    """‖(Ŵ − W)X‖² of the layer, without damping."""
    D = weight.astype(float) - case.weight
    return float(((D @ case.gram.astype(float)) * D).sum())


if __name__ == "__main__":
    sys.exit(main())
