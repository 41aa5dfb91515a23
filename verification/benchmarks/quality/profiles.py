"""The studies of `thanos bench`, each a list of runs: quick, standard, paper, families."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from reference.patterns import Ablation
from thanos_torch.models import DEFAULT_DATASET, DEFAULT_MODEL
from verification.benchmarks.quality.engine import Study
from verification.benchmarks.quality.families import (
    FAMILIES,
    SEEDS,
    FamilyModel,
    family_runs,
)
from verification.benchmarks.quality.paper_models import PaperModel
from verification.benchmarks.quality.paper_plan import (
    METHODS,
    OUTLIERS,
    REFIT_STEPS,
    REFITTED,
    Protocol,
    paper_models,
    prunings,
)
from verification.benchmarks.quality.plan import PAPER, Calibration, Evaluation, Run, dense_runs


@dataclass(frozen=True)
class Minutes:
    """Estimated minutes of a pruning run, two at a time, and of a dense run, alone on all cores."""

    run: float
    dense: float


# SHORT is a measured pair of runs, less the time that faster Gram matrices have saved since. LONG
# adds 10 minutes for its windows and items. BRIEF is half of a run's processor seconds, on average
# over the quick profile, because two runs share two cores. SHORT and LONG take twice as long on a
# slower machine (115 Gflop/s in float32 products).
BRIEF = Minutes(0.8, 0.8)
SHORT = Minutes(2.25, 1.4)
LONG = Minutes(12.25, 9.5)


def minutes_of(runs: Iterable[Run]) -> float:
    """Estimated minutes of the distinct runs and of the dense runs that they need."""
    each = list(dict.fromkeys(runs))
    dense = dense_runs(each)
    return sum(_kind(run).run for run in each) + sum(_kind(run).dense for run in dense)


def _kind(run: Run) -> Minutes:
    if run.evaluation.items != 0:
        return LONG
    return SHORT if run.evaluation.seqlen > 512 else BRIEF


# The base runs, of which a study varies one or a few settings.
QUICK = Run(
    "thanos",
    "2:4",
    Calibration(DEFAULT_DATASET, 8, 512),
    Evaluation(DEFAULT_DATASET, 512, 6),
    DEFAULT_MODEL,
)
SWEEP = Run(
    "thanos",
    "unstructured:0.5",
    Calibration("c4", 32, 1024),
    Evaluation("wikitext2", 1024, 16, reference="c4"),
    DEFAULT_MODEL,
)
HEADLINE = Run(
    "thanos",
    "2:4",
    Calibration("c4", 32, 1024),
    Evaluation("wikitext2", 1024, None, items=200, reference="c4"),
    DEFAULT_MODEL,
)
HEADLINE_QUESTION = "Who is better in 2:4, on the whole test set?"
PATTERNS_QUESTION = "Who is better in structured and 4:8 pruning?"
SWITCHES = (
    PAPER,
    Ablation(adaptive=False),
    Ablation(residual="local"),
    Ablation(update="sequential"),
    Ablation(metric="magnitude"),
    Ablation(metric="obs"),
    # Towards SparseGPT, one step after another.
    Ablation(metric="obs", residual="local"),
    Ablation(metric="obs", residual="local", update="sequential"),
    Ablation(adaptive=False, update="sequential"),
)


def quick_runs() -> Iterator[Run]:
    """Every method in three patterns, without refits, which take longest."""
    for pattern in ("unstructured:0.5", "2:4", "structured:0.3"):
        for method in METHODS:
            yield replace(QUICK, method=method, pattern=pattern)


def sweep_runs(tenths: Iterable[int]) -> Iterator[Run]:
    """All methods at sparsities given in tenths, and refits at 50 and 70 %."""
    for tenth in tenths:
        pattern = f"unstructured:0.{tenth}"
        for method in METHODS:
            yield replace(SWEEP, method=method, pattern=pattern)
        if tenth in (5, 7):
            yield from _refits(replace(SWEEP, pattern=pattern))


def component_runs(seed: int) -> Iterator[Run]:
    """Unstructured Thanos with single switches and some pairs changed, and controls; one draw."""
    base = _on_draw(seed)
    for ablation in SWITCHES:
        yield replace(base, ablation=ablation)
    yield replace(base, method="sparsegpt")
    yield from _refits(base)


def setting_runs(seed: int) -> Iterator[Run]:
    """Thanos with other block sizes and dampings, and refits, which have no blocks; one draw."""
    base = _on_draw(seed)
    yield base
    for block_size in (8, 32, 512, 2048):  # 2048: the widest layer has fewer columns
        yield replace(base, block_size=block_size)
    for damping in (1e-3, 1e-1):
        yield replace(base, damping=damping)
    yield from _refits(base)


def calibration_runs(seed: int) -> Iterator[Run]:
    """Thanos with other numbers and sources of calibration tokens, and refits; one draw."""
    base = _on_draw(seed)
    yield base
    for nsamples in (1, 4):
        yield replace(base, calibration=replace(base.calibration, nsamples=nsamples))
    for dataset in (DEFAULT_DATASET, "wikitext2"):
        yield replace(base, calibration=replace(base.calibration, dataset=dataset))
    yield from _refits(base)


def outlier_runs() -> Iterator[Run]:
    """Outlier rows at two structured sparsities.

    On every draw: no outlier rows, and the paper's share of them, chosen by either score. On the
    first draw: other shares, and refits of methods without outlier rows. Structured Thanos has no
    refit, because a refit would not change it.
    """
    for sparsity in ("structured:0.3", "structured:0.5"):
        for base in _on_every_seed(replace(SWEEP, pattern=sparsity)):
            yield base
            few = replace(base, pattern=sparsity + OUTLIERS)
            yield few
            yield replace(few, ablation=Ablation(outlier_score="wanda"))
        for share in ("0.2", "0.3", "0.5"):
            yield replace(SWEEP, pattern=f"{sparsity}+outliers:{share}")
        for method in ("wanda", "sparsegpt"):
            yield replace(SWEEP, method=method, pattern=sparsity, refit_steps=REFIT_STEPS)


def pattern_runs() -> Iterator[Run]:
    """Structured and 4:8 pruning on the first draw; runs of other studies are reused.

    4:8 has only methods that move weights, so that the whole profile ends in ten hours. The other
    methods are compared with them in 2:4.
    """
    structured = replace(SWEEP, pattern="structured:0.3")
    for method in METHODS[1:]:
        yield replace(structured, method=method)
    yield replace(structured, pattern=structured.pattern + OUTLIERS)
    for method in ("wanda", "sparsegpt"):
        yield replace(structured, method=method, refit_steps=REFIT_STEPS)
    semi = replace(SWEEP, pattern="4:8")
    yield replace(semi, method="sparsegpt")
    yield semi
    yield replace(semi, pattern=semi.pattern + OUTLIERS)


def headline_runs(seed: int) -> Iterator[Run]:
    """2:4 with the long evaluation on one draw; magnitude, which reads no draw, on the first."""
    for method in METHODS if seed == SEEDS[0] else METHODS[1:]:
        yield replace(_on_draw(seed, HEADLINE), method=method)


def headline_refit_runs(seed: int) -> Iterator[Run]:
    """2:4 refits and their baseline on one draw; a study of its own, because each run is long."""
    base = replace(_on_draw(seed, HEADLINE), method="sparsegpt")
    yield base
    yield from _refits(base)


def _refits(base: Run) -> Iterator[Run]:
    """Refits of Thanos and of its controls."""
    for method in REFITTED:
        yield replace(base, method=method, refit_steps=REFIT_STEPS)


# Each of these is one study per draw, so that the first draw gives answers before the others run.
ABLATIONS: tuple[tuple[str, str, Callable[[int], Iterable[Run]]], ...] = (
    ("components", "What does each component contribute?", component_runs),
    ("settings", "How much do block size and damping matter?", setting_runs),
    ("calibration", "How much does the calibration text matter?", calibration_runs),
)
HEADLINES: tuple[tuple[str, Callable[[int], Iterable[Run]]], ...] = (
    ("headline", headline_runs),
    ("headline-refits", headline_refit_runs),
)


def _on_draw(seed: int, run: Run = SWEEP) -> Run:
    return replace(run, calibration=replace(run.calibration, seed=seed))


def _on_every_seed(run: Run) -> Iterator[Run]:
    return (_on_draw(seed, run) for seed in SEEDS)


def quick_study() -> Study:
    """The one study of `--quick`."""
    question = "What do the methods do to a small model?"
    return _study("quick", "quick", question, quick_runs())


def standard_studies() -> dict[str, Study]:
    """The studies of `--standard`, by name."""
    asked: tuple[tuple[str, str, Iterable[Run]], ...] = (
        ("sweep-low", "How much can be removed? 10 to 50 %", sweep_runs(range(1, 6))),
        ("sweep-high", "How much can be removed? 60 to 90 %", sweep_runs(range(6, 10))),
        *(
            (f"{topic}-{seed}", question, runs(seed))
            for seed in SEEDS
            for topic, question, runs in ABLATIONS
        ),
        ("outliers", "What do outlier rows contribute?", outlier_runs()),
        ("patterns", PATTERNS_QUESTION, pattern_runs()),
        *(
            (f"{topic}-{seed}", HEADLINE_QUESTION, runs(seed))
            for seed in SEEDS
            for topic, runs in HEADLINES
        ),
    )
    return {name: _study(name, "standard", question, runs) for name, question, runs in asked}


def _study(name: str, profile: str, question: str, runs: Iterable[Run]) -> Study:
    each = tuple(dict.fromkeys(runs))
    return Study(name, profile, question, minutes_of(each), each)


HOURS = 24  # estimate for one model on a GPU that holds it; the largest models take longer


def paper_studies() -> dict[str, Study]:
    """The studies of `--paper` by the model's label, the smallest model first."""
    models = sorted(paper_models(), key=lambda model: model.parameters)
    return {
        model.label: Study(
            model.label,
            "paper",
            f"What do the methods do to {model.label}?",
            60 * HOURS,
            tuple(paper_runs(model, Protocol())),
        )
        for model in models
    }


def paper_runs(model: PaperModel, protocol: Protocol) -> Iterator[Run]:
    """Every method and pattern on one model; the dense run is added by the engine."""
    draw = Calibration(protocol.dataset, protocol.nsamples, protocol.seqlen, protocol.seed)
    text = Evaluation(
        protocol.evaluation_dataset,
        protocol.evaluation_seqlen,
        windows=None,
        items=None,
        reference=protocol.dataset,
    )
    for pruning in prunings():
        yield Run(
            pruning.method,
            pruning.pattern,
            draw,
            text,
            model.hub_id,
            pruning.refit_steps,
            protocol.sparsegpt_block_size if pruning.method == "sparsegpt" else protocol.block_size,
            protocol.damping,
        )


def family_studies(model: FamilyModel) -> tuple[Study, ...]:
    """The studies of one model of `--families`, one for each calibration draw."""
    question = f"What do the methods do to {model.label}?"
    parts = zip(family_parts(model), SEEDS, strict=True)
    return tuple(
        _study(part, "families", question, family_runs(model, seed)) for part, seed in parts
    )


def family_parts(model: FamilyModel) -> tuple[str, ...]:
    """The names of a model's studies, which are their folders of results."""
    return tuple(f"{model.study}-{seed}" for seed in SEEDS)


def by_name(profile: str) -> dict[str, list[Study]]:
    """The studies of a profile by name: of the study itself, or of its model."""
    if profile == "families":
        return {model.label: [*family_studies(model)] for model in FAMILIES}
    of_profile = {
        "quick": lambda: {"quick": quick_study()},
        "standard": standard_studies,
        "paper": paper_studies,
    }
    return {name: [study] for name, study in of_profile[profile]().items()}
