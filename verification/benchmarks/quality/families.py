"""Models of other families, read from `families.toml`, and what `thanos bench --families` runs.

Four methods in three patterns on three calibration draws; on the first draw also the patterns that
newer runtimes execute.
"""

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thanos_torch.checkpoint.named import NAMED, refuse_unaccepted
from thanos_torch.checkpoint.terms import TermsError
from verification.benchmarks.quality.paper_plan import METHODS, evaluating_bytes, preparation
from verification.benchmarks.quality.plan import Calibration, Evaluation, Run, dense_runs

PATTERNS = ("unstructured:0.5", "2:4", "structured:0.3")
# 2:4 with outlier rows, and n:m with wider groups: docs/runtimes.md says who runs them. 2:6 only
# where 6 divides the widths of all layers.
RUNTIME_RUNS = (
    ("thanos", "2:4+outliers:0.1"),
    ("sparsegpt", "2:8"),
    ("thanos", "2:8"),
    ("sparsegpt", "2:6"),
    ("thanos", "2:6"),
)
BLOCK_SIZE = 128  # columns in a block, or fewer: a multiple of 32 and of m
# Windows of 1024 tokens are twice as long as what Gemma's sliding layers see.
SEQLEN = 1024
NSAMPLES = 16
WINDOWS = 16
SEEDS = (0, 1, 2)
SECONDS = 10  # to wait for a hub


@dataclass(frozen=True)
class FamilyModel:
    """One model; the fields are those of `families.toml`."""

    label: str
    source: str
    parameters: int
    vocabulary: int
    widths: tuple[int, ...]
    licence: str
    revision: str = ""
    gated: bool = False
    pickled: bool = False

    @property
    def study(self) -> str:
        """The name of its study, which has a part for each calibration draw."""
        return f"family-{self.label.lower()}"

    @property
    def where(self) -> str:
        """What `thanos prune` takes: a name, or `REPOSITORY@COMMIT` of a hub."""
        return f"{self.source}@{self.revision}" if self.revision else self.source

    def holds(self, pattern: str) -> bool:
        """Whether the groups of an n:m pattern fit every layer."""
        return all(width % _group(pattern) == 0 for width in self.widths)


def _read(file: Path) -> tuple[FamilyModel, ...]:
    """Raises TypeError if a field is missing or unknown."""
    content: Mapping[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(FamilyModel(**{**each, "widths": (*each["widths"],)}) for each in content["model"])


FAMILIES = _read(Path(__file__).with_suffix(".toml"))


def family_runs(model: FamilyModel, seed: int) -> Iterator[Run]:
    """The runs on one model and calibration draw.

    Magnitude reads no calibration text, so that it runs on the first draw alone.
    """
    base = Run(
        "thanos",
        "2:4",
        Calibration("c4", NSAMPLES, SEQLEN, seed),
        Evaluation("wikitext2", SEQLEN, WINDOWS, reference="c4"),
        model.where,
        block_size=BLOCK_SIZE,
    )
    for pattern in PATTERNS:
        for method in METHODS if seed == 0 else METHODS[1:]:
            yield replace(base, method=method, pattern=pattern)
    for method, pattern in RUNTIME_RUNS if seed == 0 else ():
        if model.holds(pattern):
            whole = math.lcm(32, _group(pattern))
            size = BLOCK_SIZE // whole * whole
            yield replace(base, method=method, pattern=pattern, block_size=size)


def out_of_reach(model: FamilyModel) -> str:
    """Why a model cannot be loaded: no hub, no safetensors, terms not accepted; empty if it can."""
    if model.pickled:
        return "its revision has no safetensors"
    if not model.revision:
        try:
            refuse_unaccepted(model.source)
        except TermsError as error:
            return str(error)
        return ""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(model.source, revision=model.revision, timeout=SECONDS).siblings
    except Exception as error:  # the HTTP client and the hub client each raise their own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"the hub does not give it: {reason}"
    names = [file.rfilename for file in files or ()]
    return "" if any(name.endswith(".safetensors") for name in names) else f"it has only {names}"


def _group(pattern: str) -> int:
    """M of an n:m pattern; 1 for others."""
    n, _, m = pattern.partition("+")[0].partition(":")
    return int(m) if n.isdecimal() else 1


HEADINGS = ["model", "from", "licence", "parameters", "runs", "peak GiB", "before the first run"]


def plan_rows(models: Iterable[FamilyModel]) -> list[list[str]]:
    """The table of `thanos bench --families --dry-run` below HEADINGS.

    Peak memory is an estimate: evaluation of the whole model in 16 bits.
    """
    rows = []
    for model in models:
        runs = [run for seed in SEEDS for run in family_runs(model, seed)]
        memory = evaluating_bytes(model.parameters, model.vocabulary, SEQLEN)
        rows.append(
            [
                model.label,
                f"{model.source}@{model.revision[:8]}".rstrip("@"),
                model.licence,
                f"{model.parameters / 1e9:.2f} B",
                str(len(runs) + len(dense_runs(runs))),
                f"{memory / 2**30:.1f}",
                preparation(model.gated or _has_terms(model), model.pickled),
            ]
        )
    return rows


def _has_terms(model: FamilyModel) -> bool:
    return model.source in NAMED and NAMED[model.source].terms is not None


def plan_lines() -> list[str]:
    """Sentences that describe the runs, to be printed with the table."""
    wider = ", ".join(f"{method} {pattern}" for method, pattern in RUNTIME_RUNS)
    return [
        f"Methods: {', '.join(METHODS)}; patterns: {', '.join(PATTERNS)}; {len(SEEDS)} draws.",
        f"On the first draw also {wider}, where the groups fit all layers.",
        f"Calibrated on {NSAMPLES} windows of {SEQLEN} tokens of C4, evaluated on {WINDOWS} of "
        "WikiText-2: from --data FOLDER, or from a hub (pip install 'thanos-pruning[data]').",
    ]
