"""`thanos prune`: prune a model, with a certificate for every layer."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from thanos_torch.checkpoint.converted import AUTO
from thanos_torch.checkpoint.named import refuse_unaccepted
from thanos_torch.cli.display import ExitStatus, say, write_result
from thanos_torch.cli.options import (
    BLOCK_SIZE,
    DAMPING,
    METHOD,
    AcceptGemmaTerms,
    Activations,
    AllowPartial,
    BlockSize,
    BosText,
    ChatFlag,
    ColumnName,
    Damping,
    Dataset,
    Device,
    DryRun,
    Dtype,
    Evaluate,
    Exclude,
    Include,
    KeepGram,
    Method,
    Model,
    NCountsZeros,
    NSamples,
    Out,
    PatternText,
    RankTimeout,
    Recipe,
    Refit,
    Seed,
    Seqlen,
    StartOver,
    Summary,
    Switches,
    Threads,
    TrustRemoteCode,
    check_device,
    check_dtype,
    check_writable,
    described,
    read_rules,
)
from thanos_torch.cli.progress import PruningProgress, progress_bar
from thanos_torch.cli.prune_end import PerplexityComparison, compare_models, say_next, summary
from thanos_torch.cli.prune_tables import exit_status, show_plan, show_record
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    GramWriter,
    LoadedModel,
    Ranks,
    Rules,
    StreamedModel,
    Windows,
    base_licence,
    base_model,
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
    out: Out = None,
    pattern: PatternText = None,
    n_counts_zeros: NCountsZeros = False,
    recipe: Recipe = None,
    include: Include = None,
    exclude: Exclude = None,
    allow_partial: AllowPartial = False,
    method: Method = METHOD,
    block_size: BlockSize = BLOCK_SIZE,
    damping: Damping = DAMPING,
    refit: Refit = 0,
    ablation: Switches = None,
    dataset: Dataset = DEFAULT_DATASET,
    nsamples: NSamples = 32,
    seqlen: Seqlen = 512,
    seed: Seed = 0,
    bos: BosText = None,
    column: ColumnName = None,
    chat: ChatFlag = False,
    dtype: Dtype = AUTO,
    keep_gram: KeepGram = None,
    evaluate: Evaluate = False,
    json_file: Summary = None,
    dry_run: DryRun = False,
    start_over: StartOver = False,
    device: Device = "cpu",
    threads: Threads = 0,
    activations: Activations = "disk",
    trust_remote_code: TrustRemoteCode = False,
    rank_timeout: RankTimeout = TIMEOUT,
    accept_gemma_terms: AcceptGemmaTerms = False,
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
    check_writable(json_file, "--json")
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
    refuse_unaccepted(model)
    refuse_missing(dataset)
    if out is None:
        raise typer.BadParameter("give a folder, or say --dry-run", param_hint="--out")
    text = {"dataset": dataset, "nsamples": nsamples, "seqlen": seqlen, "seed": seed}
    given = {"bos": bos, "column": column, "chat": chat or None}
    text |= {name: value for name, value in given.items() if value is not None}
    asked = _Asked(
        model, out, rules, text, dtype, keep_gram, evaluate, device, activations, trust_remote_code
    )
    with joined(rank_timeout) as ranks:
        record = asked.result(ranks, start_over=start_over)
    status = exit_status(record, allow_partial)
    if ranks.first:
        status = asked.end(record, status, json_file)
    raise typer.Exit(status)


@dataclass
class _Asked:
    """What a run was asked for: the arguments of `prune`; `text` has those about the windows."""

    model: str
    out: Path
    rules: Rules
    text: dict[str, Any]
    dtype: str
    keep_gram: Path | None
    evaluate: bool
    device: str
    activations: str
    trust_remote_code: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What tells runs apart, JSON-able."""
        named = (self.model, self.text["dataset"])
        return {
            "model": self.model,
            **self.text,
            "asked": self.rules.as_dict(),
            "files": [stamp(Path(name)) for name in named if Path(name).exists()],
            **({"keep_gram": str(self.keep_gram)} if self.keep_gram else {}),
            **({"dtype": self.dtype} if self.dtype != AUTO else {}),
        }

    def result(self, ranks: Ranks, *, start_over: bool) -> dict[str, Any]:
        """The content of thanos.json: of a finished run, or after pruning."""
        settings = self.settings
        record = ranks.from_first(lambda: finished_run(self.out, settings, self.keep_gram))
        if record:
            if ranks.first:
                # Of a process that ended right after the result had its name.
                discard_progress(self.out)
                say(f"{self.out} holds the result of this very run already.")
            return record
        progress = PruningProgress(self.out)
        with progress.saying_what_is_kept() if ranks.first else nullcontext():
            return self._pruned(ranks, settings, progress, start_over=start_over)

    def _pruned(
        self,
        ranks: Ranks,
        settings: dict[str, Any],
        progress: PruningProgress,
        *,
        start_over: bool,
    ) -> dict[str, Any]:
        folder = Path(self.model) if Path(self.model).is_dir() else None
        ranks.from_first(lambda: refuse_outputs(self.out, self.keep_gram, folder))
        loaded, streamed, windows = self._load_in_turn(ranks)
        if ranks.first and (warning := lacking_bos(streamed.model, [windows.ids])):
            say(f"Warning: {warning}.")
        if start_over:
            ranks.from_first(lambda: _discard(self.out, self.keep_gram))
        described = {
            **loaded.provenance(),
            "licence": base_licence(self.model),
            "base_model": base_model(self.model),
        }
        with progress.shown() if ranks.first else nullcontext() as show:
            return prune_checkpoint(
                streamed,
                windows.ids,
                self.rules,
                self.out,
                judge=certify,
                record={
                    "settings": settings,
                    "model": described,
                    "text": windows.provenance(),
                    "versions": versions(),
                },
                card=model_card,
                dtype=self.dtype,
                device=self.device,
                activations=self.activations,
                on_layer=GramWriter(self.keep_gram) if self.keep_gram else None,
                progress=show,
                ranks=ranks,
            )

    def _load_in_turn(self, ranks: Ranks) -> tuple[LoadedModel, StreamedModel, Windows]:
        """The first rank before the others: what it downloads or unpacks they find."""
        if not ranks.first:
            ranks.wait()
            return self._load()
        loaded = self._load()
        ranks.wait()
        return loaded

    def _load(self) -> tuple[LoadedModel, StreamedModel, Windows]:
        with progress_bar("loading") as show:
            show(self.model, 0, 1)
            loaded, streamed = stream_model(self.model, trust_remote_code=self.trust_remote_code)
            windows = calibration_windows(loaded.tokenizer, **self.text)
            if self.evaluate:
                self._comparison.check(self.model, loaded.tokenizer)
            return loaded, streamed, windows

    @property
    def _comparison(self) -> PerplexityComparison:
        return PerplexityComparison(self.text, self.device, self.trust_remote_code)

    def end(self, record: dict[str, Any], status: ExitStatus, json_file: Path | None) -> ExitStatus:
        """Show the result, measure perplexity if asked to, and say what to do next."""
        show_record(record, described(self.rules), self.out)
        measured = None
        if self.evaluate:
            measured = compare_models(self._comparison, self.model, self.out)
            status = status if measured else max(status, ExitStatus.FAILED)
        write_result(json_file, summary(record, self.out, status, measured))
        say_next(self.out, self._comparison)
        return status


def _discard(out: Path, keep_gram: Path | None) -> None:
    """Discard an unfinished run, also the Gram matrices that it kept in the same folder."""
    ours = keep_gram and unfinished_options(out).get("keep_gram") == str(keep_gram)
    if keep_gram and not ours:
        refuse_occupied(keep_gram, "keep_gram")
    discard_progress(out)
    if keep_gram and ours:
        GramWriter.discard(keep_gram)
