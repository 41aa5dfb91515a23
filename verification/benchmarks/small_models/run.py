"""From a family's name to a checkpoint folder with its training.json."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from thanos_torch.models import evaluation_windows, perplexity
from thanos_torch.models.durable import write_json
from thanos_torch.models.fingerprint import differences
from thanos_torch.models.folders import new_folder, refuse_unusable
from thanos_torch.models.quiet import quiet_transformers
from verification.benchmarks.content import content_of
from verification.benchmarks.environment import environment
from verification.benchmarks.small_models.corpus import Texts, train_tokenizer, unigram_perplexity
from verification.benchmarks.small_models.families import family_config, new_model
from verification.benchmarks.small_models.training import Schedule, train

RECORD = "training.json"
HELD_OUT_WINDOWS = 128  # evenly spread over the held-out text
WELL_BELOW = 0.5  # of a unigram model's perplexity: what counts as trained

Progress = Callable[[str, int, int], None]


def train_family(
    family: str,
    texts: Texts,
    schedule: Schedule,
    out: Path,
    command: str,
    progress: Progress = lambda note, done, of: None,
    **changes: Any,
) -> dict[str, Any]:
    """Train one family's model and write the folder `out`; returns what its training.json holds.

    The folder is a checkpoint with its tokenizer, and appears whole or not at all. If it holds
    this very training already, nothing is done. `changes` are for `family_config`. Raises
    ValueError if `out` holds anything else.
    """
    asked = {
        "family": family,
        "schedule": asdict(schedule),
        "data": list(texts.origins),
        "held_out": texts.held_out_origin,
        "threads": torch.get_num_threads(),
        "changes": changes,
        "code": _code(),
    }
    found = _found(out)
    if found:
        stored, wanted = found["asked"], json.loads(json.dumps(asked))
        if stored == wanted:
            return found
        other = "; ".join(differences({"asked": stored}, {"asked": wanted}))
        raise ValueError(
            f"{out} holds a model that was trained otherwise, remove it to train again: {other}"
        )
    refuse_unusable(out)
    origin = environment()  # before the work: the checkout may change meanwhile
    config = family_config(family, **changes)
    progress("tokenizer", 0, 1)
    tokenizer = train_tokenizer(texts.training, config.vocab_size)
    ids = torch.tensor(tokenizer(texts.training, verbose=False)["input_ids"])
    held_out = evaluation_windows(
        tokenizer, texts.held_out, seqlen=schedule.seqlen, limit=HELD_OUT_WINDOWS
    )
    model = new_model(config, schedule.seed)
    trained = train(model, ids, schedule, lambda done, of: progress("steps", done, of))
    measured = perplexity(model, held_out.ids)
    unigram = unigram_perplexity(ids, held_out.ids, config.vocab_size)
    record = {
        "command": command,
        **origin,
        "asked": asked,
        "architecture": type(model).__name__,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "config": json.loads(config.to_json_string()),
        "text": {"tokens": len(ids), "held_out_overlap": texts.overlap},
        "held_out": {**held_out.provenance(), "dataset": texts.held_out_origin["dataset"]},
        **asdict(trained),
        "epochs": trained.tokens / len(ids),
        "perplexity": measured.perplexity,
        "unigram_perplexity": unigram,
        "ratio": measured.perplexity / unigram,
        "well_below_unigram": measured.perplexity <= WELL_BELOW * unigram,
    }
    with new_folder(out) as partial, quiet_transformers():
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_json(partial / RECORD, record)
    return record


def _code() -> str:
    """SHA-256 of the code that decides what is learned."""
    names = ("corpus.py", "families.py", "training.py")
    return content_of(Path(__file__).with_name(name) for name in names)


def _found(out: Path) -> dict[str, Any] | None:
    """The record of a training that is finished."""
    file = out / RECORD
    if not file.is_file():
        return None
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record
