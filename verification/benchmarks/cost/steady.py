"""Whether the machine was equally fast all the time: one product, timed beside every cell."""

from statistics import median

import torch

from verification.benchmarks.clock import clock

YARDSTICK = 768  # columns and rows of the product
# Other tenants of a machine come and go, and double some times while they are there. A cell is
# measured again where the yardstick took so many times its median, TRIES times in all at most.
SLOWED, TRIES = 1.2, 3
STEADY = 0.3  # the most unsteadiness at which times of one run can be held against each other


def yardstick() -> float:
    """A fixed piece of work, the best of a few: its changes over a run are the machine's."""
    A, B = torch.ones(YARDSTICK, YARDSTICK), torch.ones(YARDSTICK, YARDSTICK)
    return min(clock(lambda: (A @ B).add_(A)) for _ in range(7))


def slowed(yardsticks: list[float]) -> list[int]:
    """The numbers of the cells that were measured on a slow machine."""
    usual = median(yardsticks)
    return [number for number, each in enumerate(yardsticks) if each > SLOWED * usual]


def unsteadiness(yardsticks: list[float]) -> float:
    """How much slower one and the same work was at the worst tenth of a run than at the best."""
    ordered = sorted(yardsticks)
    tenth = len(ordered) // 10
    return ordered[-1 - tenth] / ordered[tenth] - 1
