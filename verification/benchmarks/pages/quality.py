"""The pages on the quality of pruned models: their tables and pictures."""

from collections.abc import Callable, Mapping
from typing import Any

from verification.benchmarks.pages import pictures, zero_shot
from verification.benchmarks.pages.page import Page
from verification.benchmarks.pages.studies import (
    Comparison,
    Results,
    StudyRuns,
    accuracy,
    geometric,
)
from verification.benchmarks.pages.tables import (
    against,
    change_table,
    markdown,
    percent,
    perplexity,
    run_table,
    signed,
    source,
)
from verification.benchmarks.quality.paper_plan import paper_models
from verification.benchmarks.statistics import added_percent, mean

OTHERS = ("magnitude", "wanda", "sparsegpt")  # the methods that Thanos is compared with
METHODS = (*OTHERS, "thanos")
BASE = "thanos unstructured:0.5"  # that components, settings and calibration are varied from
SUMMARY = (
    ("sweep", "unstructured:0.5", "unstructured 50 %: part of WikiText-2, 1 draw"),
    ("headline", "2:4", "2:4: WikiText-2, 3 draws"),
    ("quick", "structured:0.3", "structured 30 %: Python's help, 1 draw"),
)
LOW_AXIS = "change of perplexity, % (linear within ±10); left is better"

# Every claim of the paper that can be tested: (study, run, base), where usable models are left.
CLAIMS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "better than the best other method": (
        *(("sweep", f"thanos unstructured:0.{tenth}", "") for tenth in range(1, 7)),
        ("patterns", "thanos 4:8", "sparsegpt 4:8"),
        ("headline", "thanos 2:4", ""),
        ("quick", "thanos structured:0.3", ""),
    ),
    "outlier rows help": (
        ("outliers", "thanos, 10 % outlier rows structured:0.3", "thanos structured:0.3"),
        ("patterns", "thanos, 10 % outlier rows 4:8", "thanos 4:8"),
    ),
    "the adaptive mask helps": (("components", BASE, "thanos, fixed mask unstructured:0.5"),),
    "the joint update helps": (("components", BASE, "thanos, sequential update unstructured:0.5"),),
}
REFITS = {
    "wanda + refit": ("thanos",),
    "sparsegpt + refit": ("sparsegpt",),
    "thanos + refit": ("thanos", "sparsegpt + refit", "wanda + refit"),
}
REFITTED = (("components", "unstructured:0.5"), ("headline", "2:4"), ("patterns", "structured:0.3"))


def _summary(results: Results) -> str:
    """Perplexity of all methods in three patterns, each from the best evidence that has them all."""
    rows = []
    for name, pattern, words in SUMMARY:
        study = results.study(name)
        values = [perplexity(geometric(study.of(f"{method} {pattern}"))) for method in METHODS]
        change = study.compare(f"thanos {pattern}", f"sparsegpt {pattern}")
        dense = perplexity(study.dense["perplexity"])
        rows.append([words, dense, *values, percent(change.perplexity)])
    return markdown(["pattern: text", "dense", *METHODS, "Thanos against SparseGPT"], rows)


def _sweep(results: Results) -> str:
    study = results.study("sweep")
    patterns = dict.fromkeys(name.rpartition(" ")[2] for name in study.runs)
    rows = []
    for pattern in patterns:
        best = study.best(f"thanos {pattern}", OTHERS)
        change = study.compare(f"thanos {pattern}", best)
        told = f"{percent(change.perplexity)} against {best.rpartition(' ')[0]}"
        ruined = "" if change.usable else ", ruined"
        shares = [f"{100 * float(pattern.partition(':')[2]):.0f} %{ruined}"]
        values = [perplexity(geometric(study.of(f"{method} {pattern}"))) for method in METHODS]
        rows.append([*shares, *values, told])
    headings = ["removed", *METHODS, "Thanos against the best other"]
    return f"{markdown(headings, rows)}\n\n{source(study)}"


def _headline(results: Results) -> str:
    study = results.study("headline")
    known = zero_shot.telling(study)
    dense = accuracy(study.dense, known)
    rows = [["dense", perplexity(study.dense["perplexity"]), "", f"{100 * dense:.1f}", ""]]
    for name, runs in study.runs.items():
        change = study.compare(name, "sparsegpt 2:4")
        shares = mean([accuracy(run, known) for run in runs])
        is_base = name == "sparsegpt 2:4"
        rows.append(
            [
                name.rpartition(" ")[0],
                perplexity(geometric(runs)),
                "" if is_base else percent(change.perplexity),
                f"{100 * shares.value:.1f}",
                "" if is_base else zero_shot.points(change.accuracy(known)),
            ]
        )
    headings = [
        "method",
        "perplexity",
        "against SparseGPT",
        "accuracy %",
        "against SparseGPT, points",
    ]
    return f"{markdown(headings, rows)}\n\n{source(study)}"


def _patterns(pattern: str) -> Callable[[Results], str]:
    return lambda results: change_table(results.study("patterns"), f"sparsegpt {pattern}")


def _outliers(pattern: str) -> Callable[[Results], str]:
    return lambda results: change_table(results.study("outliers"), f"thanos {pattern}")


def _refits(results: Results) -> list[tuple[str, str, str, Comparison]]:
    """Method, base and pattern of every refit, with the comparison."""
    found = []
    for name, pattern in REFITTED:
        study = results.study(name)
        for refit, bases in REFITS.items():
            for base in bases:
                own, usual = f"{refit} {pattern}", f"{base} {pattern}"
                if own in study.runs and usual in study.runs:
                    found.append((refit, base, pattern, study.compare(own, usual)))
    return found


def _refit(results: Results) -> str:
    rows = [
        [
            pattern,
            refit,
            base,
            percent(change.perplexity),
            f"{signed(added_percent(change.error.value), 1)} %",
            str(len(change.own)),
        ]
        for refit, base, pattern, change in _refits(results)
    ]
    headings = ["pattern", "refit", "against", "perplexity", "layer error", "draws"]
    return markdown(headings, rows, left=3)


def _refit_picture(results: Results) -> Any:
    groups: dict[str, dict[str, Comparison]] = {}
    for refit, base, pattern, change in _refits(results):
        groups.setdefault(pattern, {})[f"{refit}, against {base}"] = change
    return pictures.forest(groups, LOW_AXIS)


def claim_cases(results: Results) -> dict[str, dict[str, Comparison]]:
    """The cases of every claim by a name for people."""
    groups: dict[str, dict[str, Comparison]] = {}
    for claim, cases in CLAIMS.items():
        for name, run, named in cases:
            study = results.study(name)
            base = named or study.best(run, OTHERS)
            method, _, pattern = run.rpartition(" ")
            rival = base.rpartition(" ")[0]
            said = f"{pattern}, against {rival}" if method == "thanos" else pattern
            groups.setdefault(claim, {})[said] = study.compare(run, base)
    return groups


def _forest(study: str, *bases: str) -> Callable[[Results], Any]:
    """A picture of all runs of a study against a base in each pattern."""

    def picture(results: Results) -> Any:
        found = results.study(study)
        groups = {base.rpartition(" ")[2]: _named(found, base) for base in bases}
        return pictures.forest(groups, f"{LOW_AXIS}\nagainst {bases[0].rpartition(' ')[0]}")

    return picture


def _named(study: StudyRuns, base: str) -> dict[str, Comparison]:
    """Names without the pattern, which is the panel's title, and without the method of the base."""
    method = base.rpartition(" ")[0]
    changes = against(study, base).items()
    return {name.rpartition(" ")[0].removeprefix(f"{method}, "): each for name, each in changes}


def _varied(name: str, question: str) -> Page:
    """A page on what changes if one thing about unstructured Thanos is varied."""
    return Page(
        name,
        question,
        {name: lambda results: change_table(results.study(name), BASE, seconds=name == "settings")},
        {name: _forest(name, BASE)},
    )


def _paper(label: str) -> Callable[[Results], str]:
    return lambda results: f"## {label}\n\n{run_table(results.study(label))}"


QUICK = Page(
    "quick",
    "What do the methods do to a small model?",
    {"quick": lambda results: run_table(results.study("quick"))},
    {
        "quick-perplexity": lambda results: pictures.bars(results.study("quick")),
        "quick-zeros": lambda results: pictures.zeros(results.study("quick")),
    },
)
QUALITY: tuple[Page, ...] = (
    Page("README", "What is Thanos worth?", {"summary": _summary}),
    QUICK,
    Page(
        "claims",
        "Do the paper's claims hold here?",
        pictures={"claims": lambda results: pictures.forest(claim_cases(results), LOW_AXIS)},
    ),
    Page(
        "headline",
        "Who is better in 2:4, on the whole test set?",
        {
            "headline": _headline,
            "headline tasks": lambda results: zero_shot.table(results.study("headline")),
        },
        {"headline": lambda results: pictures.draws(results.study("headline"))},
    ),
    Page(
        "sweep",
        "How much can be removed?",
        {"sweep": _sweep, "sweep runs": lambda results: run_table(results.study("sweep"))},
        {"sweep": lambda results: pictures.by_sparsity(results.study("sweep"), METHODS)},
    ),
    _varied("components", "What does each component contribute?"),
    _varied("settings", "How much do block size and damping matter?"),
    _varied("calibration", "How much does the calibration text matter?"),
    Page(
        "outliers",
        "What do outlier rows contribute?",
        {
            f"outliers {pattern}": _outliers(pattern)
            for pattern in ("structured:0.3", "structured:0.5")
        },
        {"outliers": _forest("outliers", "thanos structured:0.3", "thanos structured:0.5")},
    ),
    Page(
        "patterns",
        "Who is better in structured and 4:8 pruning?",
        {f"patterns {pattern}": _patterns(pattern) for pattern in ("structured:0.3", "4:8")},
        {"patterns": _forest("patterns", "sparsegpt structured:0.3", "sparsegpt 4:8")},
    ),
    Page("refit", "What does a refit buy?", {"refit": _refit}, {"refit": _refit_picture}),
    Page(
        "paper",
        "Who is better on the paper's models?",
        {f"paper {model.label}": _paper(model.label) for model in paper_models()},
    ),
)
