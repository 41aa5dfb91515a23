"""What pruning a layer costs at least, and the time that a card takes for it at its limits."""

from collections.abc import Mapping
from dataclasses import dataclass

from reference.patterns import Pattern, SemiStructured

BLOCK = 128  # columns
LAUNCH = 5e-6  # seconds that a launch takes at least: an assumption
# Conjugate-gradient steps of a block's systems, and the passes that they are made in: assumptions.
STEPS, PASSES = 6, 2


@dataclass(frozen=True)
class Work:
    """Floating-point operations by precision, and bytes that go to or come from memory."""

    float32: float = 0.0
    float64: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.float32 + other.float32, self.float64 + other.float64, self.bytes + other.bytes
        )

    @property
    def operations(self) -> float:
        """Of both precisions."""
        return self.float32 + self.float64


@dataclass(frozen=True)
class Card:
    """Rates of a GPU: operations of matrix products and bytes, in a second.

    float32  without TF32
    float64  with matrix units, if it has them for float64
    source   where the rates are from, in words
    """

    name: str
    float32: float
    float64: float
    bandwidth: float
    source: str

    def seconds(self, work: Work) -> float:
        """The time for one task, whose traffic goes on behind its operations."""
        computing = work.float32 / self.float32 + work.float64 / self.float64
        return max(computing, work.bytes / self.bandwidth)


_ADA = "the Ada architecture's white paper, by which float64 has 1/64 of float32's rate"
CARDS = (
    Card("H100 SXM", 67e12, 67e12, 3.35e12, "NVIDIA's data sheet of the H100"),
    Card("H200", 67e12, 67e12, 4.8e12, "NVIDIA's data sheet of the H200"),
    Card("A100 80GB", 19.5e12, 19.5e12, 2.039e12, "NVIDIA's data sheet of the A100 80GB SXM"),
    Card("RTX 4090", 82.6e12, 82.6e12 / 64, 1.008e12, f"NVIDIA's {_ADA[4:]}"),
    Card("L40S", 91.6e12, 91.6e12 / 64, 0.864e12, f"NVIDIA's data sheet of the L40S, and {_ADA}"),
)


def card_named(name: str) -> Card:
    """The card of this name. Raises ValueError for an unknown one."""
    for card in CARDS:
        if card.name.lower() == name.lower():
            return card
    raise ValueError(f"card must be one of {', '.join(card.name for card in CARDS)}, got {name!r}")


def least_work(method: str, pattern: Pattern, rows: int, columns: int) -> Mapping[str, Work]:
    """The tasks of pruning a float32 layer (c, b) in blocks of BLOCK that no program can leave out.

    method  thanos, sparsegpt, or `published sparsegpt`, which factorises three times

    Factors are made in float64, as float32 loses digits on real layers; the published one is not.
    """
    c, b, B = float(rows), float(columns), float(min(BLOCK, columns))
    weights = 4 * c * b  # bytes
    tasks = {"factor and inverse": Work(float64=2 * b**3 / 3)}
    if method == "published sparsegpt":
        tasks = {"factor and inverse": Work(float32=4 * b**3 / 3)}
    tasks["columns behind"] = Work(float32=c * b**2)
    if method != "thanos":
        tasks["columns of the blocks"] = Work(float32=c * b * B, bytes=2 * weights)
        return tasks
    # A step is a product of all rows with the block's matrix.
    tasks["block systems"] = Work(float32=2 * STEPS * c * b * B)
    # n:m reads every weight once; the r-th smallest takes three passes over what is left.
    picks = weights if isinstance(pattern, SemiStructured) else 3 * weights * b / (2 * B)
    tasks["picks"] = Work(bytes=picks)
    return tasks


def least_seconds(method: str, pattern: Pattern, rows: int, columns: int, card: Card) -> float:
    """The time of `least_work` on a card, one task after another."""
    return sum(map(card.seconds, least_work(method, pattern, rows, columns).values()))
