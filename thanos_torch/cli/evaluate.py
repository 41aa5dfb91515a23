"""`thanos eval`: the perplexity of a model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from thanos_torch.cli.display import progress_bar, say, table
from thanos_torch.cli.options import Dataset, Device, Model, Seqlen, check_device, check_writable
from thanos_torch.models import DEFAULT_DATASET, DEFAULT_MODEL, evaluation_windows, load_model
from thanos_torch.models import perplexity as measure


def evaluate(
    model: Model = DEFAULT_MODEL,
    dataset: Dataset = DEFAULT_DATASET,
    seqlen: Seqlen = 512,
    max_windows: Annotated[
        int | None, typer.Option(help="Take that many windows, evenly spread; default all.")
    ] = None,
    device: Device = "cpu",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result there as well.")
    ] = None,
) -> None:
    """Measure the perplexity of MODEL, a pruned checkpoint or any other.

    The text is cut into windows that do not overlap (stride = window).
    """
    check_device(device)
    check_writable(json_file, "--json")
    with progress_bar("loading") as show:
        show(model, 0, 1)
        loaded = load_model(model)
        windows = evaluation_windows(loaded.tokenizer, dataset, seqlen=seqlen, limit=max_windows)
    with progress_bar("evaluating") as show:
        result = measure(
            loaded.model.to(device), windows.ids, lambda done, of: show("windows", done, of)
        )
    table(
        loaded.origin,
        ["text", "windows", "tokens each", "perplexity"],
        [[dataset, str(result.windows), str(result.seqlen), f"{result.perplexity:.3f}"]],
    )
    if json_file:
        record = {
            "model": loaded.provenance(),
            "text": windows.provenance(),
            **result.as_dict(),
        }
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        say(f"Written to {json_file}.")
