"""Prune a tiny model of one registered name as the command does, and check all that it says."""

import json
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tests.models.conftest import Outcome, run_thanos
from tests.models.sweep.checkpoints import save_random
from tests.models.sweep.checks import file_problems, model_problems
from thanos_torch.cli import prune_tables
from thanos_torch.cli.display import ExitStatus
from thanos_torch.pruning.dry_run import Speed

PRUNED, PARTLY, REFUSED, FAILED = "pruned", "partly", "refused", "failed"
WINDOWS, TOKENS, WORDS = 24, 32, 128  # enough tokens for every expert
PATTERN = "unstructured:0.5"
ASKED = ("--pattern", PATTERN, "--block-size", 16, "--nsamples", WINDOWS, "--seqlen", TOKENS)
_PREFIX = re.compile(r"^thanos: (model '\S+' (could not be loaded|cannot be planned for): )?")


@dataclass
class Trial:
    """What came of one registered name.

    name         as `AutoModelForCausalLM` knows it
    kind         its class; empty if this Transformers cannot build it
    outcome      PRUNED, PARTLY, REFUSED or FAILED
    reason       why it was refused, in one line
    layers       layers that were pruned and certified
    share        of the decoder blocks' weights that were removed
    left_alone   and that stayed dense though nobody asked for that
    kinds        which layers and parameters these are, numbers replaced by *
    problems     what is not as it says
    """

    name: str
    kind: str = ""
    outcome: str = FAILED
    reason: str = ""
    layers: int = 0
    share: float = 0.0
    left_alone: float = 0.0
    kinds: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def try_name(name: str) -> Trial:
    """Run the trial of a name in a folder of its own."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        # How fast this machine is takes a second to measure, and matters for no result.
        patch.setattr(prune_tables, "measure_speed", lambda: Speed(1e9, 1e9, 1e9))
        trial = run_trial(name, Path(folder))
    trial.seconds = round(time.perf_counter() - begun, 1)
    return trial


def run_trial(name: str, folder: Path) -> Trial:
    """Save, plan, prune, certify and check a model in `folder`."""
    trial, dense, out = Trial(name), folder / "dense", folder / "out"
    trial.kind = save_random(name, dense)
    windows = torch.randint(3, WORDS, (WINDOWS, TOKENS), generator=torch.Generator().manual_seed(1))
    numpy.save(folder / "ids.npy", windows.numpy())
    planned = run_thanos("prune", dense, *ASKED, "--dry-run")
    files = ("--dataset", folder / "ids.npy", "--keep-gram", folder / "grams", "--out", out)
    done = run_thanos("prune", dense, *ASKED, *files)
    if done.status == ExitStatus.FAILED and not out.exists():
        _refused(trial, planned, done)
        return trial
    try:
        record = json.loads((out / "thanos.json").read_text())
    except OSError as error:
        trial.problems.append(f"exit status {done.status}: {done.err or error}")
        return trial
    _recorded(trial, record)
    if planned.status != done.status:
        trial.problems.append(f"the dry run ends with {planned.status}, the run with {done.status}")
    trial.problems += _judged(folder, record)
    trial.problems += file_problems(dense, out, record)
    trial.problems += model_problems(dense, out, folder / "grams", record, windows)
    known = {ExitStatus.DONE: PRUNED, ExitStatus.LESS_THAN_ASKED: PARTLY}
    trial.outcome = FAILED if trial.problems else known.get(ExitStatus(done.status), FAILED)
    return trial


def _refused(trial: Trial, planned: Outcome, done: Outcome) -> None:
    """A refusal is one line, and the dry run says the same."""
    said, foreseen = (_PREFIX.sub("", each.err.strip()) for each in (done, planned))
    trial.outcome, trial.reason = REFUSED, said
    if "\n" in done.err.strip() or not done.err.startswith("thanos: "):
        trial.problems.append(f"no refusal of one line: {done.err}")
    if said != foreseen:
        trial.problems.append(f"the dry run says: {foreseen or planned.out.strip()[-200:]}")
    if trial.problems:
        trial.outcome = FAILED


def _recorded(trial: Trial, record: dict[str, Any]) -> None:
    """Take over what `thanos.json` says."""
    certified = [each for each in record["layers"] if each["verified"] and not each["left_dense"]]
    trial.layers = len(certified)
    trial.share, trial.left_alone = record["block_sparsity"], record["left_alone_share"]
    trial.kinds = sorted({re.sub(r"\.\d+\.", ".*.", name) for name in record["left_alone"]})
    for layer in record["layers"]:
        if not layer["verified"] and not layer["left_dense"]:
            trial.problems.append(f"{layer['name']} is {layer['verdict']}")


def _judged(folder: Path, record: dict[str, Any]) -> Sequence[str]:
    """Judge again from the original: only what was left dense may fail, for lack of a matrix."""
    verdict = folder / "verdict.json"
    done = run_thanos("certify", folder / "dense", folder / "out",
                  "--gram", folder / "grams", "--json", verdict)  # fmt: skip
    if not verdict.exists():
        return [f"certify ends with {done.status}: {done.err}"]
    found = json.loads(verdict.read_text())
    left = {layer["name"] for layer in record["layers"] if layer["left_dense"]}
    failed = {layer["name"] for layer in found["layers"] if layer["verdict"] != "passed"}
    changed = [f"{name} {what}" for name, what in found["not_as_before"].items()]
    return [*changed, *(f"certify: {name} did not pass" for name in sorted(failed ^ left))]
