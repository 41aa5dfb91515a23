"""lm-evaluation-harness: its task definitions on items from anywhere, its model around ours."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from thanos_torch.evaluation.task_data import LAYOUTS, SPLIT, read_items
from thanos_torch.models.hub_text import hub_revision

Progress = Callable[[int, int], None]


def require_harness() -> None:
    """Raise ValueError if lm-evaluation-harness is not installed."""
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise ValueError(
            "zero-shot tasks need lm-evaluation-harness: pip install 'thanos-pruning[evaluation]'"
        ) from None


def load_tasks(names: Sequence[str], data: Path | None) -> dict[str, Any]:
    """The harness's tasks by name, without examples in their prompts.

    data is the folder of their items; None: the harness's own data sets, from a hub. Code that
    comes with a data set is never run: `datasets` has no support for it since version 4. Raises
    ValueError if items are out of reach.
    """
    with quiet_harness():
        loaded = _task_manager().load([_definition(name, data) for name in names])
    return dict(loaded["tasks"])


def wrap_model(model: Any, tokenizer: Any, batch_size: int, progress: Progress) -> Any:
    """The harness's interface to a loaded model.

    progress is called with (done, of) after every answer that is scored. Raises ValueError if the
    tokenizer has neither a first nor a last token of texts: the harness needs one of them.
    """
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError("tokenizer must have a bos_token or an eos_token, got neither")
    with quiet_harness():
        # A copy, because a tokenizer without a padding token is given one.
        return _reporting(progress)(
            pretrained=model, tokenizer=deepcopy(tokenizer), batch_size=batch_size
        )


def _reporting(progress: Progress) -> Any:
    """The harness's class for models of Transformers, which says how far it is."""
    from lm_eval.api.model import CacheHook
    from lm_eval.models.huggingface import HFLM

    class Answers(CacheHook):  # type: ignore[misc]
        """Not kept but counted: what the harness calls with every answer, passes may have many."""

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

    return Reporting


@contextmanager
def quiet_harness(bars: bool = False) -> Iterator[None]:
    """Keep the harness's advice off the terminal, and its bars out of files."""
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
    """The definition that comes with the harness; only where its items are is another."""
    from lm_eval.tasks._yaml_loader import load_yaml

    definition: dict[str, Any] = load_yaml(_task_manager().task_index[name].yaml_path)
    definition.pop("tag", None)  # tags are for the index
    definition["num_fewshot"] = 0
    if data is None:
        hub_revision(definition["dataset_path"])  # else its loader hangs for half a minute
        return definition
    items = {SPLIT: read_items(data, name)}
    own_splits = {"training_split": None, "validation_split": SPLIT, "test_split": None}
    return {**definition, **own_splits, "custom_dataset": lambda **options: items}


@cache
def _task_manager() -> Any:
    """Made once, of these tasks' definitions alone: to read all thousands takes seconds."""
    from lm_eval import tasks

    home = Path(tasks.__file__).parent
    folders = sorted({home / layout.definition for layout in LAYOUTS.values()})
    return tasks.TaskManager(include_path=folders, include_defaults=False)
