"""`thanos prune` and `thanos eval`: what they print, write, refuse, and return."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from reference.threads import NUMBERS
from tests.models import tiny
from tests.models.certifying.kept import undecided
from tests.models.conftest import SMALL, Thanos
from tests.test_imports import ROOT
from thanos_torch.cli import app as verify_command
from thanos_torch.cli import certify as certify_command
from thanos_torch.cli import evaluate as eval_command
from thanos_torch.cli import prune as prune_command
from thanos_torch.cli.display import MEANINGS
from thanos_torch.models import MASKS, RECORD, read_masks
from verification import certify
from verification.benchmarks import commands as bench_command
from verification.benchmarks.quality.engine import Study
from verification.conformance import load_cases


def test_prune_then_eval(thanos: Thanos, dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = thanos("prune", dense, "--pattern", "2:4", "--out", out, *SMALL)
    assert done.status == 0
    assert "thanos, 2:4 (2 zeros in every 4): checkpoint folder dense" in done.out
    assert done.out.splitlines()[-1] == (
        "Removed 49.18% of all weights in the decoder blocks, 50.00% of those in pruned layers, "
        "every layer certified."
    )
    assert "Worst loss of a layer, over the exact algorithm's with the same masks: " in done.out
    assert [line for line in done.out.splitlines() if "k_proj 8 x 16" in line and "3 of 3" in line]
    record = json.loads((out / RECORD).read_text())
    assert record["verified"] is True
    assert record["text"]["windows"] == 4
    assert set(record["versions"]) >= {"thanos-pruning", "torch", "transformers"}
    assert len(read_masks(out / MASKS)) == 21

    result = tmp_path / "result.json"
    done = thanos("eval", out, "--seqlen", 32, "--max-windows", 3, "--json", result)
    assert done.status == 0
    assert "checkpoint folder dense, pruned by thanos to 2:4" in done.out
    measured = json.loads(result.read_text())
    assert measured["tokens"] == 3 * 31
    assert f"{measured['perplexity']:.3f}" in done.out
    assert measured["text"]["part"] == "evaluation"


def test_a_finished_run_is_shown_again_and_not_repeated(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("prune", dense, "--pattern", "unstructured:0.5", "--out", tmp_path / "out", *SMALL)
    first = thanos(*command)
    assert first.status == 0
    monkeypatch.setattr(prune_command, "stream_model", None)  # nothing is loaded for it
    again = thanos(*command)
    assert again.status == 0
    assert "holds the result of this very run already" in again.out
    assert again.out.endswith(first.out)

    changed = thanos(*command, "--seed", 1)
    assert changed.status == 1
    assert "thanos: out must be a new or empty folder" in changed.err

    record = tmp_path / "out" / RECORD
    record.write_text(record.read_text().replace('"verified": true', '"verified": false'))
    assert thanos(*command).status == 1
    record.write_text("[]")
    assert "thanos: out must be a new or empty folder" in thanos(*command).err


def test_token_ids_of_a_file_are_pruned_by_and_named_in_the_card(
    thanos: Thanos, dense: Path, tmp_path: Path
) -> None:
    numpy.save(tmp_path / "ids.npy", numpy.arange(600) % 20)
    out = tmp_path / "out"
    ids = ("--dataset", tmp_path / "ids.npy")
    done = thanos("prune", dense, "--pattern", "2:4", "--out", out, *SMALL, *ids)
    assert done.status == 0, done.err
    told = json.loads((out / RECORD).read_text())["text"]["tokens_sha256"]
    assert f"SHA-256 of the token ids {told}" in (out / "README.md").read_text()


def test_a_finished_run_is_not_taken_for_one_of_a_changed_model(
    thanos: Thanos, tmp_path: Path
) -> None:
    model = tiny.random_model(tiny.llama_config())
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    assert thanos(*command).status == 0
    tiny.save_checkpoint(model, dense)
    assert "out must be a new or empty folder" in thanos(*command).err


def test_a_failed_certificate_is_shown_and_exits_with_1(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(*args: Any, **options: Any) -> Any:
        options["damping"] = 0.5  # so that every update is a wrong one
        return certify(*args, **options)

    monkeypatch.setattr(prune_command, "certify", strict)
    done = thanos("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    assert done.status == 1
    assert "layers.0.mlp.down_proj is NOT verified: its certificate failed at" in done.out
    assert "NOT verified." in done.out
    assert json.loads((tmp_path / "out" / RECORD).read_text())["verified"] is False


def test_a_certificate_that_is_not_decidable_exits_with_3(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune_command, "certify", undecided(certify))
    out = tmp_path / "out"
    command = ("prune", dense, "--pattern", "2:4", "--out", out, *SMALL)
    done = thanos(*command)
    assert done.status == 3
    assert "layers.0.mlp.down_proj is not decidable: [too few tokens]." in done.out
    assert "50.00% of those in pruned layers, NOT verified: 18 of 21, 3 not decidable." in done.out
    assert "0 of 3, 3 not decidable" in done.out
    assert "every layer certified" not in done.out
    record = json.loads((out / RECORD).read_text())
    assert (record["verified"], record["verdict"]) == (False, "not decidable")
    verdicts = [layer["verdict"] for layer in record["layers"]]
    assert (verdicts.count("passed"), verdicts.count("not decidable")) == (18, 3)
    assert thanos(*command).status == 3  # shown again
    card = (out / "README.md").read_text()
    assert "18 of 21 pruned layers passed their certificate, 3 not decidable." in card
    assert "| 50.00% | 0 of 3, 3 not decidable |" in card

    seen = tmp_path / "seen.json"
    done = thanos("inspect", out, "--json", seen)
    assert done.status == 3
    assert "layers.0.mlp.down_proj is not decidable: [too few tokens]" in done.out
    assert "Certificates passed when it was pruned: 18 of 21, 3 not decidable." in done.out
    told = json.loads(seen.read_text())
    assert (told["holds"], told["certificates"]) == (False, "not decidable")
    for layer, verdict in ((record["layers"][0], "failed"), (record["layers"][1], "sound")):
        layer.update(verified=False, verdict=verdict)
        (out / RECORD).write_text(json.dumps(record))
        assert thanos("inspect", out).status == 1


SPARE = """
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

class SpareConfig(LlamaConfig):
    model_type = "spare"

class SpareForCausalLM(LlamaForCausalLM):
    config_class = SpareConfig

    def __init__(self, config):
        super().__init__(config)
        self.model.layers[0].spare = nn.Linear(16, 8)
        self.post_init()
"""


def a_model_with_its_own_code(folder: Path) -> Path:
    """A Llama with a layer that no token reaches."""
    model = tiny.random_model(tiny.llama_config())
    model.model.layers[0].spare = torch.nn.Linear(16, 8)
    tiny.save_checkpoint(model, folder)
    (folder / "modeling_spare.py").write_text(SPARE)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "spare"
    names = {"AutoConfig": "SpareConfig", "AutoModelForCausalLM": "SpareForCausalLM"}
    config["auto_map"] = {auto: f"modeling_spare.{name}" for auto, name in names.items()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_layers_left_dense_are_listed_and_exit_with_1(thanos: Thanos, tmp_path: Path) -> None:
    dense = a_model_with_its_own_code(tmp_path / "dense")
    command = ("prune", dense, "--pattern", "2:4", "--out", tmp_path / "out", *SMALL)
    refused = thanos(*command)
    assert refused.status == 1
    assert "could not be loaded" in refused.err
    assert not (tmp_path / "out").exists()
    planned = thanos(*command, "--dry-run")
    assert (planned.status, "cannot be planned for" in planned.err) == (1, True)
    planned = thanos(*command, "--dry-run", "--trust-remote-code")
    assert planned.status == 1, planned.err
    assert "spare 8 x 16" in planned.out
    assert "layers.0.spare would be left dense: the model does not run it." in planned.out
    assert thanos(*command, "--dry-run", "--trust-remote-code", "--allow-partial").status == 0
    done = thanos(*command, "--trust-remote-code")
    assert done.status == 1
    assert "layers.0.spare was left dense: no calibration token reached it." in done.out
    assert (tmp_path / "out" / "modeling_spare.py").read_text() == SPARE
    evaluate = ("eval", dense, "--seqlen", 32, "--max-windows", 2)
    assert "could not be loaded" in thanos(*evaluate).err
    assert thanos(*evaluate, "--trust-remote-code").status == 0


REFUSED: dict[str, tuple[tuple[object, ...], int, str]] = {
    "no such pattern": (("--pattern", "half"), 2, "pattern must look like"),
    "n is not half of m": (("--pattern", "1:4"), 2, "removes 1 of every 4 .* --n-counts-zeros"),
    "no such method": (("--method", "obc"), 1, "^thanos: method must be one of .* got 'obc'$"),
    "no such device": (("--device", "abacus"), 2, "--device.*'abacus'"),
    "damping": (("--damping", "0"), 1, "^thanos: damping must be positive and finite, got 0.0$"),
    "outlier rows": (("--pattern", "2:4+outliers:0.1", "--method", "wanda"), 1, "outlier_rows"),
    "no such switch": (("--ablation", "order=up"), 2, "one of adaptive, .* got 'order=up'"),
    "no such value": (("--ablation", "metric=l2"), 2, "metric must be one of wanda, .* got 'l2'"),
    "said twice": (("--ablation", "metric=obs", "--ablation", "metric=obs"), 2, "metric .*twice"),
    "switch of a baseline": (
        ("--ablation", "adaptive=false", "--method", "wanda"),
        1,
        "^thanos: adaptive must be True for method wanda, got False$",
    ),
    "does not fit": (("--pattern", "5:10"), 1, r"layers.0.self_attn.q_proj: m = 10 does not div"),
    "short text": (("--dataset", "short.txt"), 1, "has 9 tokens for calibration, too few"),
    "no text": (("--dataset", "nowhere.txt"), 1, "^thanos: dataset nowhere.txt: there is no such"),
    "long windows": (("--seqlen", 65), 1, "seqlen must be at most 64 for this model, got 65"),
    "activations": (("--activations", "tape"), 1, "activations must be disk or memory, got 'tape'"),
    "unknown option": (("--blocksize", 8), 2, "No such option"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_and_nothing_written(
    thanos: Thanos, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("too short")
    changes, status, message = REFUSED[case]
    done = thanos("prune", dense, "--pattern", "2:4", "--out", "out", *SMALL, *changes)
    assert done.status == status
    lines = done.err.strip().splitlines()
    assert len(lines) == 1 or status == 2
    flat = " ".join(done.err.split())
    assert re.search(message, flat), flat
    assert [file.name for file in tmp_path.iterdir()] == ["short.txt"]


def test_eval_refuses_a_result_file_before_it_measures(
    thanos: Thanos, dense: Path, tmp_path: Path
) -> None:
    for file in (tmp_path, tmp_path / "nowhere" / "result.json"):
        done = thanos("eval", dense, "--json", file)
        assert done.status == 2
        assert "cannot write to" in " ".join(done.err.split())


PROGRAM = """
import sys
sys.modules[{package!r}] = None  # importing it fails, as if it was not there
sys.argv = ["thanos", "eval", {model!r}]
from thanos_torch.cli import main
main()
"""


@pytest.mark.parametrize("package", ["typer", "rich", "transformers"])
def test_missing_packages_are_named(dense: Path, package: str) -> None:
    program = PROGRAM.format(package=package, model=str(dense))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    extras = "pip install 'thanos-pruning[models,verification]'"
    assert done.stderr.startswith(f"thanos: {package} is missing: {extras}")


def test_verify_judges_on_one_thread_and_gives_the_others_back(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    seen: list[set[int]] = []

    def judged(*_: Any, **__: Any) -> int:
        seen.append(threads())
        return 0

    monkeypatch.setattr(verify_command, "main", judged)
    with threadpool_limits(2, user_api="blas"):
        assert thanos("verify", "reference").status == 0
        seen.append(threads())
    assert seen == [{1}, {2}]
    widest = max(case.weight.shape[1] for case in load_cases() if case.weight.ndim == 2)
    assert widest <= verify_command.COLUMNS


COMPUTING: dict[tuple[str, ...], ModuleType] = {
    ("prune", "--pattern", "2:4", "--dry-run"): prune_command,
    ("certify", "dense", "pruned", "--gram", "grams"): certify_command,
    ("eval",): eval_command,
    **{("bench", *part): bench_command for part in ((), ("cost",), ("speed",), ("inference",))},
}


@pytest.mark.parametrize("command", COMPUTING, ids=" ".join)
def test_every_command_that_computes_sets_its_threads_first(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def use_threads(number: int) -> None:
        raise ValueError(f"{number} threads")

    monkeypatch.setattr(COMPUTING[command], "use_threads", use_threads)
    done = thanos(*command, "--threads", 3)
    assert (done.status, done.err) == (1, "thanos: 3 threads")


@pytest.mark.parametrize("number", ["-1", "1025", "1.5", "two", ""])
@pytest.mark.parametrize("command", [*COMPUTING, ("verify", "reference")], ids=" ".join)
def test_a_wrong_number_of_threads_is_refused(
    thanos: Thanos, command: tuple[str, ...], number: str
) -> None:
    done = thanos(*command, f"--threads={number}")
    assert done.status == 2
    assert re.search(f"threads.*{re.escape(number)}", done.err.splitlines()[-1])


def test_verify_gives_its_threads_to_the_processes_under_test(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NUMBERS:  # given back by the fixture
        monkeypatch.setenv(name, "1")
    program = "tests.models.cli.counting:thanos"
    assert thanos("verify", program, "--threads", 3, "--only=-06-").status == 0


def test_the_help_has_the_exit_statuses(thanos: Thanos) -> None:
    shown = thanos("--help").out
    for status, meaning in MEANINGS.items():
        assert f"  {status.value}  {meaning}\n" in shown


def test_a_study_with_tasks_asks_for_the_harness_before_it_measures(
    thanos: Thanos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing() -> None:
        raise ValueError("zero-shot tasks need lm-evaluation-harness")

    monkeypatch.setattr(bench_command, "load_model", lambda _: None)
    monkeypatch.setattr(bench_command, "require_harness", missing)
    monkeypatch.setattr(Study, "measure", lambda *_: pytest.fail("it measured"))
    done = thanos("bench", "--standard", "--study", "headline-0", "--out", tmp_path)
    assert done.status == 1
    assert "thanos: zero-shot tasks need lm-evaluation-harness" in done.err
