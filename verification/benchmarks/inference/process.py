"""A measurement in a process of its own: `python -m verification.benchmarks.inference.process`.

Its threads are set before torch is loaded, and its peak memory is that of one model alone.
Progress goes to the standard output, a JSON list [note, done, of] a line.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from verification.benchmarks.clock import clock
from verification.benchmarks.environment import peak_memory
from verification.benchmarks.inference.layers import time_layers
from verification.benchmarks.inference.paired import alternate, compare, summary
from verification.benchmarks.inference.variants import Variant, model_bytes
from verification.benchmarks.studies.worker import tell

CLEAR_REFS = Path("/proc/self/clear_refs")


def main(task: str, out: str) -> None:
    """Do what `task` says, JSON of {"kind", ...}, and write the result to the file `out`."""
    asked = json.loads(task)
    torch.set_num_threads(asked.pop("threads"))
    kinds: dict[str, Callable[..., Any]] = {
        "layers": _layers,
        "latency": _latency,
        "memory": _memory,
    }
    result = kinds[asked.pop("kind")](**asked)
    Path(out).write_text(json.dumps(result, allow_nan=False))


def _layers(
    shapes: list[list[int]],
    sparsity: float,
    outlier_rows: list[float],
    repeats: dict[str, int],
    turn_bytes: int,
) -> list[dict[str, Any]]:
    return time_layers(
        [(rows, columns) for rows, columns in shapes],
        sparsity,
        outlier_rows,
        {int(tokens): times for tokens, times in repeats.items()},
        tell,
        turn_bytes,
    )


@torch.inference_mode()
def _latency(
    variants: list[dict[str, str]], prompt: int, tokens: int, repeats: int, device: str
) -> list[dict[str, Any]]:
    """All variants in turns; the first one is what the others are compared with, and runs twice.

    Its second run is the control: what it differs by is what the machine differs by.
    """
    models: list[Any] = []
    for number, variant in enumerate(variants):
        tell("loading", number, len(variants))
        models.append(Variant(**variant).load(device))
    models.append(models[0])
    ids = torch.randint(models[0].config.vocab_size, (1, prompt + tokens), device=device)
    rounds = _Rounds(models, ids, prompt)
    names = [str(number) for number in range(len(models))]
    tell("prefill", 0, 2)
    prefill = alternate({name: rounds.prefill(int(name)) for name in names}, repeats, device)
    tell("decoding", 1, 2)
    decoded = alternate({name: rounds.decode(int(name)) for name in names}, repeats, device)
    decode = {name: [each / tokens for each in values] for name, values in decoded.items()}
    seconds = {"prefill": prefill, "decode": decode}
    return [
        {
            what: {**summary(values[str(n)]), "ratio": compare(values[str(n)], values["0"])}
            for what, values in seconds.items()
        }
        for n in range(len(models))
    ]


class _Rounds:
    """What is timed of every model."""

    def __init__(self, models: list[Any], ids: torch.Tensor, prompt: int) -> None:
        self._models, self._ids, self._prompt = models, ids, prompt

    def prefill(self, number: int) -> Any:
        """One pass of the prompt that leaves a cache; logits of the last token alone."""
        model, prompt = self._models[number], self._ids[:, : self._prompt]
        return lambda: model(prompt, use_cache=True, logits_to_keep=1)

    def decode(self, number: int) -> Any:
        """The tokens after the prompt, one by one, with the cache; the prompt is not timed."""
        model, ids, prompt = self._models[number], self._ids, self._prompt
        cache = model(ids[:, :prompt], use_cache=True, logits_to_keep=1).past_key_values

        def run() -> None:
            for at in range(prompt, ids.shape[1]):
                model(ids[:, at : at + 1], past_key_values=cache, use_cache=True)
            cache.crop(prompt - ids.shape[1])  # a negative count: so many tokens are forgotten

        return run


@torch.inference_mode()
def _memory(variant: dict[str, str], prompt: int, tokens: int, device: str) -> dict[str, Any]:
    """Of one model alone: its weights, and the most that is held while it works."""
    model: Any = None

    def load() -> None:
        nonlocal model
        model = Variant(**variant).load(device)

    loading = clock(load, device)
    loaded_peak = _peak(device)
    _forget_peak(device)
    ids = torch.randint(model.config.vocab_size, (1, prompt + tokens), device=device)
    rounds = _Rounds([model], ids, prompt)
    rounds.decode(0)()
    return {
        "model_bytes": model_bytes(model),
        "loading_peak_bytes": loaded_peak,
        "working_peak_bytes": _peak(device),
        "loading_seconds": loading,
    }


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device != "cpu" else peak_memory()


def _forget_peak(device: str) -> None:
    """From now on `_peak` says what was held at most since; on Linux and on a GPU."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")


if __name__ == "__main__":
    main(*sys.argv[1:])
