"""`thanos prune`: prune a model, with a certificate for every layer."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.cli.display import progress_bar, say
from thanos_torch.cli.dry_run import show_plan
from thanos_torch.cli.options import (
    Dataset,
    Device,
    Model,
    Seqlen,
    check_device,
)
from thanos_torch.cli.prune_report import show_record
from thanos_torch.cli.what import (
    DryRun,
    Exclude,
    Include,
    KeepGram,
    PatternText,
    Recipe,
    described,
    read_rules,
)
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    GramWriter,
    LoadedModel,
    Windows,
    base_licence,
    calibration_windows,
    finished_run,
    load_model,
    model_card,
    prune_model,
    refuse_unusable,
    save_checkpoint,
    stamp,
)
from verification import certify

PACKAGES = ("thanos-pruning", "torch", "transformers")


def prune(
    model: Model = DEFAULT_MODEL,
    out: Annotated[
        Path | None, typer.Option(help="New or empty folder for the pruned checkpoint.")
    ] = None,
    pattern: PatternText = None,
    recipe: Recipe = None,
    include: Include = None,
    exclude: Exclude = None,
    method: Annotated[str, typer.Option(help="thanos, magnitude, wanda, sparsegpt")] = "thanos",
    dataset: Dataset = DEFAULT_DATASET,
    nsamples: Annotated[int, typer.Option(help="Windows to calibrate with.")] = 32,
    seqlen: Seqlen = 512,
    seed: Annotated[int, typer.Option(help="Of the choice of windows.")] = 0,
    block_size: Annotated[int, typer.Option(help="Columns in a block, B.")] = 128,
    damping: Annotated[float, typer.Option(help="Share of mean(diag G) on the diagonal.")] = 0.01,
    refit: Annotated[int, typer.Option(help="Steps to refit the kept weights afterwards.")] = 0,
    device: Device = "cpu",
    keep_gram: KeepGram = None,
    dry_run: DryRun = False,
    n_counts_zeros: Annotated[
        bool, typer.Option("--n-counts-zeros", help="n of n:m counts zeros: needed for n != m/2.")
    ] = False,
) -> None:
    """Prune MODEL and write a Hugging Face checkpoint, certified layer by layer.

    In n:m, n counts the ZEROS of every group of m. Exit status 0 means that every layer was
    pruned and that its certificate passed.
    """
    options = {"method": method, "block_size": block_size, "damping": damping, "refit": refit}
    rules = read_rules(pattern, recipe, n_counts_zeros, include, exclude, options)
    if dry_run:
        show_plan(model, rules, described(rules), nsamples, seqlen)
        raise typer.Exit(0)
    if out is None:
        raise typer.BadParameter("give a folder, or say --dry-run", param_hint="--out")
    check_device(device)
    text: dict[str, Any] = {
        "dataset": dataset,
        "nsamples": nsamples,
        "seqlen": seqlen,
        "seed": seed,
    }
    settings: dict[str, Any] = {"model": model, **text, "asked": rules.as_dict()}
    settings["files"] = [stamp(Path(name)) for name in (model, dataset) if Path(name).exists()]
    if keep_gram:
        settings["keep_gram"] = str(keep_gram)
    record = finished_run(out, settings)
    if record:
        say(f"{out} holds the result of this very run already.")
    else:
        for folder in filter(None, (out, keep_gram)):
            refuse_unusable(folder)
        loaded, windows = _load(model, text)
        base = {**loaded.provenance(), "licence": base_licence(model)}
        origin = {"model": base, "text": windows.provenance()}
        versions = {name: _version(name) for name in PACKAGES}
        with progress_bar("pruning") as show:
            report = prune_model(
                loaded.model,
                windows.ids,
                rules,
                judge=certify,
                device=device,
                on_layer=GramWriter(keep_gram) if keep_gram else None,
                progress=show,
            )
        record = {"settings": settings, **origin, "versions": versions, **report.as_dict()}
        card = model_card(record)
        save_checkpoint(loaded, out, record=record, masks=report.masks, card=card)
    show_record(record, described(rules), out)
    raise typer.Exit(0 if record["verified"] else 1)


def _load(model: str, text: dict[str, Any]) -> tuple[LoadedModel, Windows]:
    with progress_bar("loading") as show:
        show(model, 0, 1)
        loaded = load_model(model)
        return loaded, calibration_windows(loaded.tokenizer, **text)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # run from its source folder
