"""The measurements of the inference benchmark: layers, latency, and memory; run as a process."""

import copy
import json
import random
import sys
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import Structured
from thanos_torch.forms import CompactLinear, compact_linear, form_bytes
from verification.benchmarks.environment import clock, peak_memory
from verification.benchmarks.inference.variants import Variant, model_bytes
from verification.benchmarks.quality.worker import tell
from verification.benchmarks.statistics import Estimate, difference, in_words, median


def alternate(
    runs: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every run in every round, after one warm-up each; each round is shuffled."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffled = list(runs), random.Random(0)
    for _ in range(repeats):
        shuffled.shuffle(order)
        for name in order:
            seconds[name].append(clock(runs[name], device))
    return seconds


def summary(values: list[float]) -> dict[str, Any]:
    """Median and quartiles, for JSON."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [
        values[0]
    ] * 3  # fmt: skip
    return {"median": middle, "quartiles": [low, high], "repeats": len(values)}


def compare(values: list[float], base: list[float]) -> dict[str, Any]:
    """The ratio to `base`, round by round: median, quartiles, and interval of the median.

    The interval is that of `statistics.median`; None if there are too few ratios.
    """
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    found = median(ratios)
    interval = None if found.low is None or found.high is None else [found.low, found.high]
    return {**summary(ratios), "interval": interval}


def verdict(ratio: Mapping[str, Any]) -> str:
    """A result of `compare` in words: faster or slower only if the interval excludes 1."""
    low, high = ratio["interval"] or (None, None)
    said = in_words(difference(Estimate(ratio["median"], low, high, ratio["repeats"])))
    return {"lower": "faster", "higher": "slower"}.get(said, said)


def time_layers(
    shapes: list[list[int]],
    sparsity: float,
    outlier_rows: list[float],
    repeats: dict[str, int],
    turn_bytes: int,
) -> list[dict[str, Any]]:
    """Time nn.Linear against the compact layer for all shapes, outlier rows and tokens; float32.

    repeats     number of repeats by the number of tokens
    turn_bytes  copies of a layer take turns until they are this large together, so that weights
                are not in a cache, as in a model
    """
    cases = [(rows, columns, share) for rows, columns in shapes for share in outlier_rows]
    found: list[dict[str, Any]] = []
    for number, (rows, columns, share) in enumerate(cases):
        tell(f"layer {rows} x {columns}", number, len(cases))
        pattern = Structured(sparsity, share)
        linear, compact = layers((rows, columns), pattern)
        count = max(1, turn_bytes // linear.weight.nbytes)
        sizes = {
            "dense": linear.weight.nbytes,
            "compact": form_bytes("compact", pattern, (rows, columns), 4),
        }
        for tokens, times in repeats.items():
            found.append(
                {
                    "shape": [rows, columns],
                    "pattern": str(pattern),
                    "tokens": int(tokens),
                    "bytes": sizes,
                    **time_one(linear, compact, int(tokens), times, count),
                }
            )
    return found


@torch.inference_mode()
def time_one(
    linear: nn.Linear, compact: CompactLinear, tokens: int, repeats: int, copies: int
) -> dict[str, Any]:
    """Time both layers in turns. Raises RuntimeError if they do not compute the same."""
    x = torch.randn(tokens, linear.in_features)
    refuse_different(linear, compact, x)
    dense_turn, compact_turn = cycle(_copies(linear, copies)), cycle(_copies(compact, copies))
    seconds = alternate(
        {"dense": lambda: next(dense_turn)(x), "compact": lambda: next(compact_turn)(x)}, repeats
    )
    return {
        "dense": summary(seconds["dense"]),
        "compact": summary(seconds["compact"]),
        "ratio": compare(seconds["compact"], seconds["dense"]),
    }


def layers(shape: tuple[int, int], pattern: Structured) -> tuple[nn.Linear, CompactLinear]:
    """A random pruned layer as nn.Linear and in compact form."""
    rows, columns = shape
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, torch.randperm(columns, generator=generator)[: pattern.removed(columns)]] = True
    mask[torch.randperm(rows, generator=generator)[: pattern.outliers(rows)]] = False
    linear = nn.Linear(columns, rows)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(shape, generator=generator).masked_fill(mask, 0.0))
    return linear, compact_linear(linear, mask)


def refuse_different(linear: nn.Linear, compact: nn.Module, x: Tensor) -> None:
    """Raise RuntimeError if the layers differ by more than rounding: no time for a wrong answer."""
    bound = nn.functional.linear(x.abs(), linear.weight.abs(), linear.bias.abs())
    limit = linear.in_features * 2**-23 * bound  # of sums in any two orders
    if not bool(((compact(x) - linear(x)).abs() <= limit).all()):
        raise RuntimeError(f"{compact} computes something else than {linear}")


def _copies(layer: nn.Module, count: int) -> list[nn.Module]:
    """The layer and copies of it, each with its own weights in memory."""
    return [layer, *(copy.deepcopy(layer) for _ in range(count - 1))]


CLEAR_REFS = Path("/proc/self/clear_refs")


def main(task: str, out: str) -> None:
    """Run one measurement and write its result, as JSON, to the file `out`.

    task  JSON of {"kind", "threads", arguments of the measurement}
    """
    asked = json.loads(task)
    torch.set_num_threads(asked.pop("threads"))
    kinds: dict[str, Callable[..., Any]] = {
        "layers": time_layers,
        "latency": _latency,
        "memory": _memory,
    }
    result = kinds[asked.pop("kind")](**asked)
    Path(out).write_text(json.dumps(result, allow_nan=False))


@torch.inference_mode()
def _latency(
    variants: list[dict[str, str]], prompt: int, tokens: int, repeats: int, device: str
) -> list[dict[str, Any]]:
    """Time all variants in turns and compare them with the first one, which runs twice.

    Its second run is the control: any difference comes from the machine.
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
    """The two calls that are timed for each model."""

    def __init__(self, models: list[Any], ids: torch.Tensor, prompt: int) -> None:
        self._models, self._ids, self._prompt = models, ids, prompt

    def prefill(self, number: int) -> Any:
        """A call that reads the prompt into a cache, with logits of the last token only."""
        model, prompt = self._models[number], self._ids[:, : self._prompt]
        return lambda: model(prompt, use_cache=True, logits_to_keep=1)

    def decode(self, number: int) -> Any:
        """A call that decodes the tokens after the prompt one by one; the prompt is not timed."""
        model, ids, prompt = self._models[number], self._ids, self._prompt
        cache = model(ids[:, :prompt], use_cache=True, logits_to_keep=1).past_key_values

        def run() -> None:
            for at in range(prompt, ids.shape[1]):
                model(ids[:, at : at + 1], past_key_values=cache, use_cache=True)
            cache.crop(prompt - ids.shape[1])  # a negative count removes so many tokens

        return run


@torch.inference_mode()
def _memory(variant: dict[str, str], prompt: int, tokens: int, device: str) -> dict[str, Any]:
    """Memory of one model alone: its weights, and the peak while it loads and while it runs."""
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
    """Reset the peak that `_peak` reports; on Linux and on a GPU only."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")


if __name__ == "__main__":
    main(*sys.argv[1:])
