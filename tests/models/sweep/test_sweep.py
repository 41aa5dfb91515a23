"""The sweep finds what is not as it says, and its recorded results are whole."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.models.sweep.__main__ import main
from tests.models.sweep.checks import file_problems, model_problems
from tests.models.sweep.configs import default_config, tiny_config
from tests.models.sweep.trial import PRUNED, REFUSED, TOKENS, run_trial
from tests.test_imports import ROOT
from thanos_torch.network.layers import decoder_blocks

RECORD = json.loads((ROOT / "docs" / "results" / "model-sweep.json").read_text())
REGISTERED = 189  # names, in the version of Transformers that the record is of


def test_the_record_has_every_registered_name_and_no_failure() -> None:
    trials = RECORD["trials"]
    names = [trial["name"] for trial in trials]
    assert len({*names}) == len(names) == REGISTERED
    if RECORD["environment"]["versions"]["transformers"] == version("transformers"):
        assert names == list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    counts = Counter(trial["outcome"] for trial in trials)
    assert counts["failed"] == 0
    assert counts[PRUNED] >= 150
    for trial in trials:
        assert not trial["problems"]
        assert bool(trial["reason"]) is (trial["outcome"] == REFUSED)
        assert (trial["layers"] > 0) is (trial["outcome"] != REFUSED)
        assert trial["outcome"] != PRUNED or 0.4 < trial["share"] <= 0.5
        assert (trial["left_alone"] > 0.1) is (trial["outcome"] == "partly")


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial: a Mixtral, whose tensors are in another layout than its weights."""
    folder = tmp_path_factory.mktemp("trial")
    trial = run_trial("mixtral", folder)
    assert (trial.outcome, trial.problems) == (PRUNED, [])
    assert (trial.kind, trial.layers) == ("MixtralForCausalLM", 2 * (4 + 4 * 2))
    return folder


def shard_with(folder: Path, name: str) -> Path:
    return next(file for file in sorted(folder.glob("*.safetensors")) if name in load_file(file))


def change(folder: Path, name: str, how: Callable[[Tensor], Any]) -> None:
    file = shard_with(folder, name)
    tensors = load_file(file)
    how(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})


def of_record(name: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "out" / "thanos.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return edit


QUERY = "model.layers.1.self_attn.q_proj"
WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "a zero less": (
        lambda folder: change(
            folder / "out", f"{QUERY}.weight", lambda w: w.masked_fill_(w == 0, 1e-3)
        ),
        f"{QUERY}: 0 zeros are stored, 512 are recorded",
    ),
    "a norm": (
        lambda folder: change(folder / "out", "model.norm.weight", lambda w: w.mul_(2)),
        "model.norm.weight changed outside of the pruned layers",
    ),
    "more than was removed": (of_record("block_sparsity", 0.6), "block_sparsity is 0.6, but"),
    "a router that nobody names": (
        of_record("others", []),
        "mlp.gate.weight is as dense as before",
    ),
    "another Gram matrix": (
        lambda folder: change(folder / "grams", QUERY, lambda gram: gram[0].mul_(1.001)),
        f"{QUERY}: its Gram matrix is not that of its inputs",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_as_it_says_is_found(wrong: str, pruned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    shutil.copytree(pruned, folder)
    spoil, found = WRONG[wrong]
    spoil(folder)
    record = json.loads((folder / "out" / "thanos.json").read_text())
    windows = torch.from_numpy(numpy.load(folder / "ids.npy"))
    assert windows.shape[1] == TOKENS
    paths = folder / "dense", folder / "out"
    problems = [
        *file_problems(*paths, record),
        *model_problems(*paths, folder / "grams", record, windows),
    ]
    assert any(found in problem for problem in problems), problems


def test_some_names_in_processes_of_their_own(tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "results.json"
    assert main(["musicgen", "hrm_text", "--out", str(out)]) == 0
    printed = capfd.readouterr().out
    for trial in json.loads(out.read_text())["trials"]:
        assert (trial["outcome"], trial["problems"]) == (REFUSED, [])
        assert f"{trial['name']} refused: {trial['reason']}" in printed
    assert "2 refused" in printed


def kinds_of_modules(config: Any) -> set[str]:
    """The classes of all modules in the decoder blocks."""
    build: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = build.from_config(config)
    blocks = decoder_blocks(model).values()
    return {type(module).__name__ for block in blocks for module in block.modules()}


@pytest.mark.long
@pytest.mark.parametrize("name", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
def test_a_tiny_model_has_every_kind_of_module_of_the_default(name: str) -> None:
    try:
        expected = kinds_of_modules(default_config(name))
    except Exception as error:  # many defaults are no whole configuration
        pytest.skip(f"Transformers cannot build the default: {error}")
    assert expected <= kinds_of_modules(tiny_config(name))
