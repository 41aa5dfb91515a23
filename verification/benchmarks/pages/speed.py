"""The page of speed.json and its verdicts."""

from typing import Any

HEADINGS = ["layer", "method", "pattern", "B", "inputs", "units", "limit", "of published",
            "seconds", "of peak", "extra MiB", "limit", "steps", "factor", "certificate",
            "pass"]  # fmt: skip


def verdicts(results: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Points 1 to 5 of the promise: what, whether it holds, the numbers."""
    timed = results["layers"]
    judged = [each for each in timed if each["limit"] is not None]
    slow = [each for each in judged if each["units"] > each["limit"]]
    large = [each for each in timed if each["memory"] > each["memory_limit"]]
    growth = results["growth"]
    found = [
        ("1 units", not slow, f"{len(judged) - len(slow)} of {len(judged)} within their limit"),
        *_on_a_cpu(results),
        ("4 memory", not large, f"{len(timed) - len(large)} of {len(timed)} within their limit"),
        (
            "5 growth",
            not growth["cliffs"],
            "exponents "
            + ", ".join(f"{name} {value:.2f}" for name, value in growth["exponents"].items())
            + (f"; cliffs at {'; '.join(growth['cliffs'])}" if growth["cliffs"] else ""),
        ),
    ]
    uncertified = sum(not each["certified"] for each in timed)
    model = results.get("model")
    whole = not uncertified and growth["certified"] and (model is None or model["certified"])
    real = (
        ""
        if model is None
        else f", {len(model['layers'])} real ones" + ("" if model["certified"] else " NOT all")
    )
    how = f"{len(timed) - uncertified} of {len(timed)} random layers, all sweeps{real}"
    return [*found, ("certificates", whole, how)]


def _on_a_cpu(results: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """Points 2 and 3, which are measured on a CPU only."""
    if results["device"] != "cpu":
        return []
    model = results["model"]
    alone = model["pruning_of_all"] / model["passes_of_all"]
    return [
        (
            "2 real model",
            model["share"] <= model["limit"],
            f"pruning takes {model['share']:.3f} of two calibration passes with their Gram "
            f"matrices (limit {model['limit']}; {alone:.2f} of the passes alone), at most "
            f"{model['most_steps']} steps a block, "
            f"{model['direct_rows']} rows solved directly",
        ),
        (
            "3 selection",
            all(each["shares"]["masks"] <= each["limit"] for each in results["stages"]),
            "; ".join(
                "{} x {}: ".format(*each["shape"])
                + ", ".join(f"{name} {share:.0%}" for name, share in each["shares"].items())
                for each in results["stages"]
            ),
        ),
    ]


def rows(results: dict[str, Any]) -> list[list[str]]:
    """One a timing. No time without a certificate."""
    shown = []
    for each in results["layers"]:
        times = [f"{each['units']:.1f}", f"{each['seconds']:.2f}", f"{each['peak']:.0%}"]
        units, seconds, peak = times if each["certified"] else ["-"] * 3
        fits = each["limit"] is None or each["units"] <= each["limit"]
        small = each["memory"] <= each["memory_limit"]
        shown.append(
            [
                "{} x {}".format(*each["shape"]),
                each["method"],
                each["pattern"],
                str(each["block_size"]),
                each["inputs"],
                units,
                "-" if each["limit"] is None else f"{each['limit']:.1f}",
                "-" if each["limit"] is None else f"{each['share_of_published']:.2f}",
                seconds,
                peak,
                f"{each['memory'] / 2**20:.0f}",
                f"{each['memory_limit'] / 2**20:.0f}",
                f"{each['steps'][0]}" if each["steps"][0] else "-",
                each["factor"],
                "passed" if each["certified"] else "FAILED",
                "yes" if fits and small and each["certified"] else "NO",
            ]
        )
    return shown


def page(results: dict[str, Any]) -> str:
    """speed.md: the verdicts, the table, where the numbers come from."""
    origin = results["environment"]
    lines = ["# Cost of pruning a layer", ""]
    lines += [f"- {'yes' if holds else '**no**'}: {what}: {how}"
              for what, holds, how in verdicts(results)]  # fmt: skip
    lines += ["", "Product units of SparseGPT's published procedure in that run (50 %, 2:4):", ""]
    lines += ["- {} x {}: ".format(*each["shape"])
              + f"{each['unstructured']:.1f}, {each['semi']:.1f}"
              for each in results["published"]]  # fmt: skip
    lines += _model_lines(results.get("model"))
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(results)]
    lines += [
        "",
        f"`{results['command']}` at commit {origin['commit']}, {origin['machine']}, "
        f"torch {origin['versions']['torch']}, {results['threads']} threads, {origin['date']}, "
        f"{results['minutes']:.1f} minutes.",
    ]
    return "\n".join(lines) + "\n"


def _model_lines(model: dict[str, Any] | None) -> list[str]:
    """Where the time of pruning a whole model goes."""
    if model is None:
        return []
    seconds, stages = model["seconds"], model["stages"]
    parts = {"calibration": seconds["calibration"], "Gram": seconds["gram"], **stages,
             "certificates": seconds["certificates"]}  # fmt: skip
    return [
        "",
        f"{model['model']}, {model['pruned_blocks']} of {model['blocks']} decoder blocks, "
        f"{model['tokens']} tokens, unstructured 50 %, seconds: "
        + ", ".join(f"{name} {spent:.1f}" for name, spent in parts.items())
        + ".",
    ]
