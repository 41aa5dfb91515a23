"""`thanos prune`: prune a model, with a certificate for every layer."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.checkpoint.converted import AUTO
from thanos_torch.cli.display import progress_bar, say
from thanos_torch.cli.options import (
    BLOCK_SIZE,
    DAMPING,
    METHOD,
    AllowPartial,
    BosText,
    ChatFlag,
    ColumnName,
    Dataset,
    Device,
    DryRun,
    Dtype,
    Exclude,
    Include,
    KeepGram,
    Model,
    NCountsZeros,
    PatternText,
    Recipe,
    Seqlen,
    StartOver,
    Switches,
    Threads,
    TrustRemoteCode,
    check_device,
    check_dtype,
    described,
    read_rules,
)
from thanos_torch.cli.prune_tables import exit_status, show_plan, show_record
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    GramWriter,
    LoadedModel,
    Ranks,
    StreamedModel,
    Windows,
    base_licence,
    calibration_windows,
    finished_run,
    joined,
    model_card,
    prune_checkpoint,
    stream_model,
)
from thanos_torch.pruning.checkpoint import refuse_outputs
from thanos_torch.runtime.files import refuse_occupied, stamp
from thanos_torch.runtime.progress import discard_progress, unfinished_options, versions
from thanos_torch.runtime.ranks import TIMEOUT
from thanos_torch.runtime.threads import use_threads
from thanos_torch.text.bos import BosWarning, lacking_bos
from thanos_torch.text.sources import refuse_missing
from verification import certify


def prune(
    model: Model = DEFAULT_MODEL,
    out: Annotated[
        Path | None, typer.Option(help="New or empty folder for the pruned checkpoint.")
    ] = None,
    pattern: PatternText = None,
    recipe: Recipe = None,
    include: Include = None,
    exclude: Exclude = None,
    method: Annotated[str, typer.Option(help="thanos, magnitude, wanda, sparsegpt")] = METHOD,
    dataset: Dataset = DEFAULT_DATASET,
    nsamples: Annotated[int, typer.Option(help="Windows to calibrate with.")] = 32,
    seqlen: Seqlen = 512,
    bos: BosText = None,
    column: ColumnName = None,
    chat: ChatFlag = False,
    seed: Annotated[int, typer.Option(help="Of the choice of windows.")] = 0,
    block_size: Annotated[int, typer.Option(help="Columns in a block, B.")] = BLOCK_SIZE,
    damping: Annotated[
        float, typer.Option(help="Share of mean(diag G) on the diagonal.")
    ] = DAMPING,
    refit: Annotated[int, typer.Option(help="Steps to refit the kept weights afterwards.")] = 0,
    ablation: Switches = None,
    dtype: Dtype = AUTO,
    device: Device = "cpu",
    threads: Threads = 0,
    activations: Annotated[
        str, typer.Option(help="Keep what blocks read on disk, or in memory.")
    ] = "disk",
    trust_remote_code: TrustRemoteCode = False,
    rank_timeout: Annotated[
        float, typer.Option(help="Under torchrun: seconds that ranks wait for one another.")
    ] = TIMEOUT,
    keep_gram: KeepGram = None,
    dry_run: DryRun = False,
    allow_partial: AllowPartial = False,
    start_over: StartOver = False,
    n_counts_zeros: NCountsZeros = False,
) -> None:
    """Prune MODEL and write a Hugging Face checkpoint, certified layer by layer.

    One decoder block is in memory at a time. Progress is kept in OUT.partial: whatever ended the
    command, the same command goes on there. Started with torchrun, several processes share the
    work.

    In n:m, n counts the ZEROS of every group of m. Exit status 0 means that every layer was
    pruned and that its certificate passed, 3 that none failed but some are not decidable, 4 that
    over a tenth of the decoder blocks' weights was left alone though nobody asked for that.
    """
    use_threads(threads)
    warnings.simplefilter("ignore", BosWarning)  # it is said in a line
    options = {"method": method, "block_size": block_size, "damping": damping, "refit": refit}
    rules = read_rules(pattern, recipe, n_counts_zeros, include, exclude, options, ablation)
    check_device(device)
    check_dtype(dtype)
    if dry_run:
        status = show_plan(
            model,
            rules,
            described(rules),
            nsamples,
            seqlen,
            activations,
            device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            allow_partial=allow_partial,
        )
        raise typer.Exit(status)
    refuse_missing(dataset)
    if out is None:
        raise typer.BadParameter("give a folder, or say --dry-run", param_hint="--out")
    text: dict[str, Any] = {
        "dataset": dataset,
        "nsamples": nsamples,
        "seqlen": seqlen,
        "seed": seed,
    }
    asked = {"bos": bos, "column": column, "chat": chat or None}
    text |= {name: value for name, value in asked.items() if value is not None}
    settings: dict[str, Any] = {"model": model, **text, "asked": rules.as_dict()}
    settings["files"] = [stamp(Path(name)) for name in (model, dataset) if Path(name).exists()]
    if keep_gram:
        settings["keep_gram"] = str(keep_gram)
    if dtype != AUTO:
        settings["dtype"] = dtype
    with joined(rank_timeout) as ranks:
        record = ranks.from_first(lambda: finished_run(out, settings, keep_gram))
        if not record:
            folder = Path(model) if Path(model).is_dir() else None
            ranks.from_first(lambda: refuse_outputs(out, keep_gram, folder))
            loaded, streamed, windows = _load_in_turn(ranks, model, text, trust_remote_code)
            if ranks.first and (warning := lacking_bos(streamed.model, [windows.ids])):
                say(f"Warning: {warning}.")
            if start_over:
                ranks.from_first(lambda: _discard(out, keep_gram))
            with progress_bar("pruning") if ranks.first else nullcontext() as show:
                record = prune_checkpoint(
                    streamed,
                    windows.ids,
                    rules,
                    out,
                    judge=certify,
                    record={
                        "settings": settings,
                        "model": {**loaded.provenance(), "licence": base_licence(model)},
                        "text": windows.provenance(),
                        "versions": versions(),
                    },
                    card=model_card,
                    dtype=dtype,
                    device=device,
                    activations=activations,
                    on_layer=GramWriter(keep_gram) if keep_gram else None,
                    progress=show,
                    ranks=ranks,
                )
        elif ranks.first:
            discard_progress(out)  # of a process that ended right after the result had its name
            say(f"{out} holds the result of this very run already.")
        if ranks.first:
            show_record(record, described(rules), out)
    raise typer.Exit(exit_status(record, allow_partial))


def _discard(out: Path, keep_gram: Path | None) -> None:
    """Discard an unfinished run, also the Gram matrices that it kept in the same folder."""
    ours = keep_gram and unfinished_options(out).get("keep_gram") == str(keep_gram)
    if keep_gram and not ours:
        refuse_occupied(keep_gram, "keep_gram")
    discard_progress(out)
    if keep_gram and ours:
        GramWriter.discard(keep_gram)


def _load_in_turn(
    ranks: Ranks, model: str, text: dict[str, Any], trust_remote_code: bool
) -> tuple[LoadedModel, StreamedModel, Windows]:
    """The first rank before the others: what it downloads or unpacks they find."""
    if not ranks.first:
        ranks.wait()
        return _load(model, text, trust_remote_code)
    loaded = _load(model, text, trust_remote_code)
    ranks.wait()
    return loaded


def _load(
    model: str, text: dict[str, Any], trust_remote_code: bool
) -> tuple[LoadedModel, StreamedModel, Windows]:
    with progress_bar("loading") as show:
        show(model, 0, 1)
        loaded, streamed = stream_model(model, trust_remote_code=trust_remote_code)
        return loaded, streamed, calibration_windows(loaded.tokenizer, **text)
