"""The page of cost.json and its verdicts."""

from verification.benchmarks.pages import cost_between as between
from verification.benchmarks.pages import cost_bias as bias
from verification.benchmarks.pages import cost_sections as sections
from verification.benchmarks.pages import cost_stages as stages
from verification.benchmarks.pages.cost_sections import GIB, Results, hours, needed, pruning
from verification.benchmarks.performance.cost_model import BOUNDS, NAMES, checked
from verification.benchmarks.performance.steadiness import SLOWED, STEADY, at_usual_speed


def verdicts(results: Results) -> list[tuple[str, bool, str]]:
    """What is promised, whether it holds, the numbers."""
    layers = [layer for each in results["runs"] for layer in each["layers"]]
    others = [each for kind in ("gram", "pass", "model") for each in results[kind]]
    failed = sum(not each["passed"] for each in [*layers, *others])
    shaken, cells = results["unsteadiness"], len(results["tries"])
    again = sum(tries > 1 for tries in results["tries"])
    found = [
        ("certificates", not failed, f"{len(layers)} layers; {failed} failed in all"),
        (
            "steady machine",
            shaken <= STEADY,
            f"one and the same work took {shaken:.0%} longer at times (limit {STEADY:.0%}), after {again} of "
            f"{cells} cases were measured again, as it took {SLOWED - 1:.0%} longer than usual beside them",
        ),
    ]
    for quantity, name in NAMES.items():
        seen = results["errors"].get(quantity, {}).get("held out")
        middle, most = BOUNDS[quantity]
        how = "no held-out sizes"
        if seen:
            how = (
                f"off by {seen['median']:.0%} in the median (limit {middle:.0%}), {seen['worst']:.0%} "
                f"at most (limit {most:.0%}: {seen['where']}) on {seen['count']} held-out cases"
            )
        found.append((f"model of {name}", checked(results["errors"], quantity), how))
    return found


def page(results: Results) -> str:
    """cost.md."""
    results = at_usual_speed(results)
    lines = ["# What pruning costs", "", *between.between_methods(results), *_answer(results), ""]
    lines += [f"- {'yes' if kept else '**no**'}: {what}: {how}"
              for what, kept, how in verdicts(results)]  # fmt: skip
    lines += ["", *sections.predictions(results), *sections.small_models(results)]
    lines += ["![Seconds against size](time.png)", "", *stages.stages(results)]
    lines += [
        "![Stages](stages.png)",
        "",
        *stages.by_size(results),
        *sections.growth(results),
        "![Growth](growth.png)",
        "",
        "![Memory](memory.png)",
        "",
    ]
    lines += [*sections.errors(results), *sections.coefficients(results), source(results)]
    return "\n".join(lines) + "\n"


def source(results: Results) -> str:
    """One sentence: which command, commit and machine made these numbers."""
    return (
        f"Measured by `{results['command']}` at commit {results['commit']} on {results['machine']}, "
        f"torch {results['versions']['torch']}, {results['settings']['threads']} threads, "
        f"{results['date'][:10]}: {results['wall_seconds'] / 60:.1f} minutes."
    )


def _answer(results: Results) -> list[str]:
    found = verdicts(results)
    failed = [what for what, kept, _ in found if not kept]
    lines = []
    if failed:
        lines = [
            f"**Of the {len(found)} things that this page promises, {len(failed)} do NOT hold**: {'; '.join(failed)}. By how much is said below. "
            "Predictions that rest on these are rough.",
            "",
        ]
    lines += [
        "Predicted for Thanos, unstructured 50 %, B = 128, from 128 x 2048 tokens: the time at the speed of the machine that was "
        "measured, and the memory that it would need, which that machine may not have.",
        "",
    ]
    for each in results["predictions"]:
        if each["run"] == bias.HEADLINE:
            seconds = each["seconds"]
            lines.append(
                f"- {each['model']}: {hours(pruning(seconds))} to prune, {hours(needed(seconds))} with "
                f"calibration, {hours(sum(seconds.values()))} with certificates; "
                f"{each['peak_bytes'] / GIB:.0f} GiB without those, "
                f"{each['peak_with_certificates_bytes'] / GIB:.0f} GiB with them."
            )
    return [*lines, *bias.in_answer(results)]
