"""Pairs of runs on the same calibration draws, and the wording of their ratio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from verification.benchmarks.statistics import (
    LEVEL,
    Estimate,
    Spread,
    Verdict,
    added_percent,
    difference,
    geometric_mean,
    in_words,
    paired_ratio,
    perplexity_ratio,
    t_factor,
)

Record = dict[str, Any]
# Of the logarithm of a perplexity ratio by rounding alone: runs of SmolLM2-135M on the same tokens
# that two machines, or two commits, made: five in unstructured pruning by 50 %, five in 2:4 and
# four in structured pruning by 30 %, which damage the model more (`tests/test_results.py`). Not
# measured on small models, where fewer blocks let it grow less.
ROUNDING = Spread(0.007, 5)
ROUNDING_SEMI_STRUCTURED = Spread(0.0243, 5)
ROUNDING_STRUCTURED = Spread(0.025, 4)
INTERVALS = f"""95 % intervals: over several draws, Student's t of the draws on the same windows of the evaluation text: {t_factor(1, LEVEL):.1f} standard errors
  to either side where there are two, {t_factor(2, LEVEL):.1f} of three; they say nothing of other texts. Of one draw, Student's t of √n stretches of the n windows of the
  evaluation text, as neighbours are alike, and of what rounding alone moves on SmolLM2-135M (one standard deviation: {100 * ROUNDING.deviation:.1f} %, as measured in unstructured
  pruning by 50 %, {100 * ROUNDING_SEMI_STRUCTURED.deviation:.1f} % in n:m, measured in 2:4, and {100 * ROUNDING_STRUCTURED.deviation:.1f} % in structured pruning, measured at 30 %; other
  sparsities have the same numbers, where it was not measured): they say nothing of other draws, and what one draw shows, several may not"""


@dataclass(frozen=True)
class PairedRuns:
    """One way to prune against another one.

    own, other  their records on the draws that both have, in the same order
    """

    own: Sequence[Record]
    other: Sequence[Record]

    @property
    def draws(self) -> int:
        """Calibration draws that both have."""
        return len(self.own)

    @property
    def perplexity(self) -> float:
        """Geometric mean over the draws, as error and seconds are."""
        return _mean(_perplexity, self.own)

    @property
    def error(self) -> float:
        """Layer error with dense inputs."""
        return _mean(_error, self.own)

    @property
    def seconds(self) -> float:
        """Of pruning."""
        return _mean(_seconds, self.own)

    @property
    def perplexity_ratio(self) -> Estimate:
        """To the other: draw by draw; of one draw, over the windows of the evaluation text."""
        if self.draws > 1:
            return self._ratio(_perplexity)
        return on_one_draw(self.other[0], self.own[0])

    @property
    def error_ratio(self) -> Estimate:
        """To the other; of one draw it has no interval."""
        return self._ratio(_error)

    @property
    def seconds_ratio(self) -> float:
        """To the other."""
        return self._ratio(_seconds).value

    @property
    def verdict(self) -> Verdict:
        """Of the perplexity."""
        return difference(self.perplexity_ratio)

    @property
    def shown(self) -> str:
        """The verdict in words: lower, higher, not shown to differ."""
        return in_words(self.verdict)

    @property
    def over(self) -> str:
        """What the interval of the perplexity's ratio is over."""
        return f"{self.draws} draws" if self.draws > 1 else "windows of 1 draw"

    def _ratio(self, what: Callable[[Record], float]) -> Estimate:
        return paired_ratio(list(map(what, self.other)), list(map(what, self.own)))


def on_one_draw(before: Record, after: Record) -> Estimate:
    """The ratio of two runs' perplexities on the same windows, with what rounding may have done."""
    return perplexity_ratio(before["window_losses"], after["window_losses"], _rounding(after))


def _rounding(record: Record) -> Spread | None:
    pattern = record["run"]["pattern"]
    if pattern.startswith("unstructured"):
        return ROUNDING
    return ROUNDING_STRUCTURED if pattern.startswith("structured") else ROUNDING_SEMI_STRUCTURED


def _perplexity(record: Record) -> float:
    return float(record["perplexity"])


def _error(record: Record) -> float:
    return float(record["dense_error"])


def _seconds(record: Record) -> float:
    return float(record["seconds"]["pruning"])


def _mean(what: Callable[[Record], float], records: Sequence[Record]) -> float:
    return geometric_mean(list(map(what, records))).value


def percent(ratio: Estimate) -> str:
    """A ratio as what it adds, with its interval: with digits that show on which side of 0 it lies."""
    value = added_percent(ratio.value)
    if ratio.low is None or ratio.high is None:
        return f"{signed(value, 1)} %"
    ends = [added_percent(end) for end in (ratio.low, ratio.high)]
    judged = difference(ratio) != "no difference"
    digits = next((d for d in (1, 2) if all(round(end, d) for end in ends)), 3) if judged else 1
    low, high = (signed(end, digits) for end in ends)
    return f"{signed(value, digits)} % ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """With its sign, which 0 has none of."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}" if rounded else f"{0:.{digits}f}"
