"""The training loop: AdamW, warm-up and cosine, in float32 on the CPU."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

MOST_MINUTES = 30
CURVE_POINTS = 50


@dataclass(frozen=True)
class Schedule:
    """How a model is trained: the same bit for bit whenever all steps are done.

    steps    of the optimiser; the default takes minutes of one core that has nothing else to do
    minutes  after which training ends in any case
    """

    steps: int = 2400
    minutes: float = MOST_MINUTES
    seed: int = 0
    batch: int = 4
    seqlen: int = 256
    learning_rate: float = 3e-3
    final_rate: float = 0.1  # share of the learning rate at the last step
    warmup_steps: int = 40
    weight_decay: float = 0.1
    gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= MOST_MINUTES:
            raise ValueError(
                f"minutes must be above 0 and at most {MOST_MINUTES}, got {self.minutes}"
            )
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class Trained:
    """What a training was.

    curve       [last step, mean loss in nats a token] of equal parts of the steps
    stopped_by  "steps", or "minutes" if the time was over before
    """

    steps: int
    tokens: int
    seconds: float
    curve: list[tuple[int, float]]
    stopped_by: str


def train(
    model: Any,
    ids: Tensor,
    schedule: Schedule,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Trained:
    """Train a causal language model in place on a text, (tokens).

    Batches are windows at random places. progress is called with the steps done and their number.
    Raises ValueError if the text is shorter than a window, and if the loss is not finite.
    """
    if len(ids) < schedule.seqlen:
        raise ValueError(
            f"data must have at least seqlen = {schedule.seqlen} tokens, got {len(ids)}"
        )
    generator = torch.Generator().manual_seed(schedule.seed)
    optimiser = _optimiser(model, schedule)
    model.train()
    losses: list[float] = []
    start = time.monotonic()
    for step in range(schedule.steps):
        rate = schedule.learning_rate * _share(step, schedule)
        losses.append(_step(model, optimiser, _batch(ids, schedule, generator), rate, schedule))
        progress(len(losses), schedule.steps)
        if time.monotonic() - start >= 60 * schedule.minutes:
            break
    model.eval()
    stopped_by = "steps" if len(losses) == schedule.steps else "minutes"
    tokens = len(losses) * schedule.batch * schedule.seqlen
    seconds = time.monotonic() - start
    return Trained(len(losses), tokens, seconds, _curve(losses), stopped_by)


def _optimiser(model: Any, schedule: Schedule) -> torch.optim.Optimizer:
    """Weight decay for matrices only: norms and biases have none to lose."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.95))


def _share(step: int, schedule: Schedule) -> float:
    """Of the learning rate, at a step that is counted from 0."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    cosine = (1 + math.cos(math.pi * done)) / 2
    return schedule.final_rate + (1 - schedule.final_rate) * cosine


def _batch(ids: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """(batch, seqlen) token ids."""
    last = len(ids) - schedule.seqlen
    starts = torch.randint(0, last + 1, (schedule.batch,), generator=generator)
    return torch.stack([ids[start : start + schedule.seqlen] for start in starts.tolist()])


def _step(
    model: Any, optimiser: torch.optim.Optimizer, batch: Tensor, rate: float, schedule: Schedule
) -> float:
    """One step; returns the loss before it."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    loss = model(input_ids=batch, labels=batch).loss
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ValueError(f"loss is not finite at learning_rate = {schedule.learning_rate}")
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.gradient_norm)
    optimiser.step()
    return value


def _curve(losses: list[float]) -> list[tuple[int, float]]:
    points = min(CURVE_POINTS, len(losses))
    edges = [len(losses) * point // points for point in range(points + 1)]
    return [(last, sum(losses[first:last]) / (last - first)) for first, last in pairwise(edges)]
