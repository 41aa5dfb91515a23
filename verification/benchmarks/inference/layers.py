"""Single layers: nn.Linear with zeros in it against the compact layer, by size and tokens."""

import copy
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from reference.patterns import Structured
from thanos_torch.forms import CompactLinear, compact_linear, form_bytes
from verification.benchmarks.inference.paired import alternate, compare, summary

# Copies of a layer take turns until they are this large together: in a model the weights of a layer
# are in no cache either when its turn comes.
TURN_BYTES = 2**30
Progress = Callable[[str, int, int], None]


def time_layers(
    shapes: list[tuple[int, int]],
    sparsity: float,
    outlier_rows: list[float],
    repeats: dict[int, int],
    progress: Progress,
    turn_bytes: int = TURN_BYTES,
) -> list[dict[str, Any]]:
    """Times of all shapes, shares of outlier rows, and numbers of tokens; float32.

    repeats  by the number of tokens
    """
    cases = [(shape, share) for shape in shapes for share in outlier_rows]
    found: list[dict[str, Any]] = []
    for number, (shape, share) in enumerate(cases):
        progress(f"layer {shape[0]} x {shape[1]}", number, len(cases))
        pattern = Structured(sparsity, share)
        linear, compact = layers(shape, pattern)
        count = max(1, turn_bytes // linear.weight.nbytes)
        for tokens, times in repeats.items():
            found.append(
                {
                    "shape": list(shape),
                    "pattern": str(pattern),
                    "tokens": tokens,
                    "bytes": {
                        "dense": linear.weight.nbytes,
                        "compact": form_bytes("compact", pattern, shape, 4),
                    },
                    **time_one(linear, compact, tokens, times, count),
                }
            )
    return found


@torch.inference_mode()
def time_one(
    linear: nn.Linear, compact: CompactLinear, tokens: int, repeats: int, copies: int
) -> dict[str, Any]:
    """Seconds of both, in turns. RuntimeError if they do not compute the same."""
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
    """The same random layer in both forms."""
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
    """No time without the right answer: RuntimeError beyond what rounding explains."""
    bound = nn.functional.linear(x.abs(), linear.weight.abs(), linear.bias.abs())
    limit = linear.in_features * 2**-23 * bound  # of sums in any two orders
    if not bool(((compact(x) - linear(x)).abs() <= limit).all()):
        raise RuntimeError(f"{compact} computes something else than {linear}")


def _copies(layer: nn.Module, count: int) -> list[nn.Module]:
    """The layer, and others with weights of their own in memory."""
    return [layer, *(copy.deepcopy(layer) for _ in range(count - 1))]
