"""From results.json to a table and a page. Nothing here measures anything."""

from typing import Any

from verification.benchmarks.plan import Run

HEADINGS = [
    "pattern",
    "method",
    "sparsity",
    "perplexity",
    "layer error",
    "with dense inputs",
    "pruning s",
    "peak MiB",
    "certified",
]


def rows(results: dict[str, Any]) -> list[list[str]]:
    """The rows of the table, the dense model first."""
    return [_row(record) for record in results["runs"]]


def _row(record: dict[str, Any]) -> list[str]:
    run = Run(**record["run"])
    memory = f"{record['peak_memory_bytes'] / 2**20:.0f}"
    perplexity = f"{record['perplexity']:.2f}"
    if "layers" not in record:
        return ["", run.label, "0 %", perplexity, "0", "0", "", memory, ""]
    passed = sum(layer["passed"] for layer in record["layers"])
    return [
        run.family,
        run.label,
        f"{100 * record['sparsity']:.2f} %",
        perplexity,
        f"{record['error']:.4f}",
        f"{record['dense_error']:.4f}",
        f"{record['seconds']['pruning']:.1f}",
        memory,
        f"{passed} of {len(record['layers'])}",
    ]


def markdown_table(results: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [HEADINGS, ["---", "---", *["---:"] * (len(HEADINGS) - 2)], *rows(results)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def source(results: dict[str, Any]) -> str:
    """One sentence: which command, commit and machine made these numbers."""
    where = results["environment"]
    settings = results["settings"]
    return (
        f"Measured by `{results['command']}` at commit {where['commit']} on {where['machine']}, "
        f"torch {where['versions']['torch']}, {where['date'][:10]}: "
        f"{results['wall_seconds'] / 60:.1f} minutes, {results['jobs']} runs at a time with "
        f"{settings['threads']} thread each."
    )


def markdown_page(results: dict[str, Any]) -> str:
    """The page report.md, with the plots beside it."""
    settings = results["settings"]
    calibration = settings["nsamples"] * settings["seqlen"]
    evaluation = settings["evaluation_windows"] * settings["seqlen"]
    verified = all(record.get("verified", True) for record in results["runs"])
    verdict = (
        "Every layer of every run is certified." if verified else "NOT every layer is certified."
    )
    return f"""# Quick benchmark

{results["runs"][0]["origin"]}; calibrated on {calibration:,} and evaluated on {evaluation:,} tokens of
`{settings["dataset"]}`, in windows of {settings["seqlen"]}; blocks of {settings["block_size"]} columns, damping
{settings["damping"]}. {verdict}

{markdown_table(results)}

- In 2:4, two of every four weights are zeros. Structured runs remove whole columns.
- *Layer error*: tr(D G Dᵀ) / tr(W G Wᵀ), D = Ŵ − W, mean over the layers, with the Gram matrix that the layer was
  pruned with. *With dense inputs*: with the dense model's Gram matrix, which is the same for all methods.
- *Pruning* leaves out calibration and certificates. *Peak* is the memory of the whole process up to the end of pruning.
- *Certified*: counts and masks, and the update where the method has one.

{source(results)}

![Perplexity by method and pattern](perplexity.png)

![Layer error by depth](layer-error.png)

![Where the zeros are](zeros.png)
"""
