"""`thanos bench speed --device cuda --predict`: work, and its time on a card."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from reference.patterns import parse_pattern
from thanos_torch.pruning.cost import PlannedLayer
from thanos_torch.pruning.dry_run import planned_layers
from thanos_torch.pruning.plan import LayerOptions, Rules
from verification.benchmarks.environment import Progress, environment
from verification.benchmarks.performance.cases import SEMI, UNSTRUCTURED, Shape
from verification.benchmarks.performance.launches import Launches, counted, counted_published
from verification.benchmarks.performance.predict import LLAMAS
from verification.benchmarks.performance.roofline import (
    BLOCK,
    LAUNCH,
    PASSES,
    STEPS,
    Card,
    Work,
    least_seconds,
    least_work,
)

PREDICTED = "predicted.json"
LLAMA = LLAMAS[0]
# Rows and columns, the most important first: layers of large models, then those of SmolLM2-135M.
SHAPES: tuple[Shape, ...] = (
    *((4096, 4096), (4096, 14336), (14336, 4096), (8192, 8192)),
    *((576, 576), (192, 576), (1536, 576), (576, 1536)),
)
PUBLISHED = "published sparsegpt"
CASES = tuple(
    (method, pattern)
    for method in ("thanos", "sparsegpt", PUBLISHED)
    for pattern in (UNSTRUCTURED, SEMI)
)


@dataclass(frozen=True)
class Counted:
    """What a task launches and does, and the seconds that each card takes for it, by its name."""

    launches: float
    work: Work
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, found: Launches, cards: Sequence[Card]) -> "Counted":
        """Of operations that come one after another."""
        operations = found.operations
        return cls(
            sum(each.launches for each in operations),
            sum((each.work for each in operations), Work()),
            {card.name: sum(each.seconds(card) for each in operations) for card in cards},
        )

    def plus(self, other: "Counted", times: float = 1.0) -> "Counted":
        """This task, and another one some times."""
        own, more = asdict(self.work), asdict(other.work)
        return Counted(
            self.launches + times * other.launches,
            Work(**{name: own[name] + times * more[name] for name in own}),
            {card: own + times * other.seconds[card] for card, own in self.seconds.items()},
        )


def count_layer(
    method: str,
    pattern: str,
    shape: Shape,
    cards: Sequence[Card],
    *,
    shares_factor: bool = False,
) -> Counted:
    """Count the pruning of a layer (c, b) of float32 weights.

    shares_factor  whether a layer before it had the same Gram matrix; the published procedure has
                   no use for that
    """
    if method == PUBLISHED:
        return _published(pattern, shape, cards)
    parsed = parse_pattern(pattern)
    found = counted(method, parsed, *shape, block_size=BLOCK, shares_factor=shares_factor)
    return Counted.of(found, cards)


def _published(pattern: str, shape: Shape, cards: Sequence[Card]) -> Counted:
    """The published SparseGPT, from its first two blocks: its blocks are alike.

    What depends on the number of columns is added by its formula: factors, and the products for
    the columns behind a block. Of two blocks they take no longer than their launches.
    """
    rows, columns = shape
    one, two = _first_blocks(pattern, rows, tuple(cards))
    block = two.plus(one, times=-1)
    blocks = one.plus(block, times=columns / BLOCK - 1)
    least = least_work(PUBLISHED, parse_pattern(pattern), rows, columns)
    grows = least["factor and inverse"] + least["columns behind"]
    return blocks.plus(Counted(0, grows, {card.name: card.seconds(grows) for card in cards}))


@cache
def _first_blocks(pattern: str, rows: int, cards: tuple[Card, ...]) -> tuple[Counted, Counted]:
    """Layers of one block and of two."""
    parsed = parse_pattern(pattern)
    one, two = (counted_published(parsed, rows, blocks * BLOCK, BLOCK) for blocks in (1, 2))
    return Counted.of(one, cards), Counted.of(two, cards)


def predict(cards: Sequence[Card], command: str, progress: Progress) -> dict[str, Any]:
    """Count all layers of SHAPES and of LLAMA; the content of PREDICTED.

    Raises ValueError without Triton, whose kernels are counted.
    """
    if importlib.util.find_spec("triton") is None:
        raise ValueError("predict counts the launches of Triton's kernels, and finds no Triton")
    steps = len(CASES) * (len(SHAPES) + 1)
    of_block = planned_layers(LLAMA.build("meta"), Rules(LayerOptions(parse_pattern(SEMI))))
    layers, models = [], []
    for number, (method, pattern) in enumerate(CASES):
        for place, shape in enumerate(SHAPES):
            note = f"{method}, {pattern}, {shape[0]} x {shape[1]}"
            progress(note, number * (len(SHAPES) + 1) + place, steps)
            found = count_layer(method, pattern, shape, cards)
            parsed = parse_pattern(pattern)
            limits = {card.name: least_seconds(method, parsed, *shape, card) for card in cards}
            layers.append({"shape": shape, **_record(method, pattern, found), "limits": limits})
        done = number * (len(SHAPES) + 1) + len(SHAPES)
        progress(f"{method}, {pattern}, {LLAMA.name}", done, steps)
        models.append(_model(method, pattern, of_block, cards))
    return {
        "command": command,
        "environment": environment(),
        "assumed": {"launch_seconds": LAUNCH, "steps": STEPS, "passes": PASSES},
        "block_size": BLOCK,
        "cards": [asdict(card) for card in cards],
        "layers": layers,
        "models": models,
    }


def _record(method: str, pattern: str, found: Counted) -> dict[str, Any]:
    return {"method": method, "pattern": pattern, **asdict(found)}


def _model(
    method: str, pattern: str, layers: Sequence[PlannedLayer], cards: Sequence[Card]
) -> dict[str, Any]:
    """Pruning a Llama, without calibration; layers of a block with one input share a factor.

    layers  those of one decoder block, as all blocks are alike
    """
    whole = Counted(0, Work(), {card.name: 0.0 for card in cards})
    known: dict[tuple[Shape, bool], Counted] = {}
    for layer in layers:
        rows, columns = layer.shape
        key = (rows, columns), layer.reads != layer.name
        if key not in known:
            known[key] = count_layer(method, pattern, key[0], cards, shares_factor=key[1])
        whole = whole.plus(known[key], times=LLAMA.layers)
    count = LLAMA.layers * len(layers)
    return {"model": LLAMA.name, "layers": count, **_record(method, pattern, whole)}
