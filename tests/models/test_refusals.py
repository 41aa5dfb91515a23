"""Refusals: the command and `prune_model` say the same of the same model, in one line."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.evaluation.items import write_items
from tests.models import tiny
from tests.models.conftest import SMALL, Thanos
from thanos_torch.models import perplexity, prune_model
from thanos_torch.runtime.errors import in_one_line, reason_of, said_by


class Unprintable(Exception):  # noqa: N818, its name is in the message
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise KeyError


FAULTS: dict[str, BaseException] = {
    "RuntimeError": RuntimeError("shapes differ\nand a second line"),
    "KeyError": KeyError("sliding_attention"),
    "IndexError": IndexError("index out of range in self"),
    "NotImplementedError": NotImplementedError("Cannot copy out of meta tensor; no data!"),
    "ValueError": ValueError("no image was given"),
    "FileNotFoundError": FileNotFoundError(2, "No such file"),
    "AssertionError": AssertionError(),
    "SystemExit": SystemExit(0),
    "Unprintable": Unprintable(),
}


class FaultyConfig(LlamaConfig):  # type: ignore[misc]
    model_type = "faulty"
    fault: str = ""
    late: bool = False


class FaultyForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    """A Llama whose second block raises what its configuration names.

    `late`: only for several windows at a time, which the pass that observes the model does not run.
    """

    config_class = FaultyConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.layers[1].mlp.register_forward_pre_hook(self._fail)

    def _fail(self, _: Any, inputs: tuple[torch.Tensor]) -> None:
        if self.config.fault and (len(inputs[0]) > 1 or not self.config.late):
            raise FAULTS[self.config.fault]


AutoConfig.register("faulty", FaultyConfig)
AutoModelForCausalLM.register(FaultyConfig, FaultyForCausalLM)


def first_line(error: BaseException) -> list[str]:
    return [] if isinstance(error, Unprintable) else str(error).splitlines()[:1]


def llama(dtype: torch.dtype = torch.float32) -> Any:
    return tiny.random_model(tiny.llama_config(num_hidden_layers=2), dtype)


def faulty(fault: str, *, late: bool = False) -> Callable[[], Any]:
    sizes = {**tiny.llama_config(num_hidden_layers=2).to_dict(), "model_type": "faulty"}
    return lambda: tiny.random_model(FaultyConfig(**sizes, fault=fault, late=late))


def with_number(layer: str, value: float) -> Callable[[], Any]:
    def make() -> Any:
        model = llama()
        model.get_parameter(f"model.layers.1.{layer}.weight").data.view(-1)[3] = value
        return model

    return make


def overflowing() -> Any:
    """A float16 model whose gate and up projections are too large for the product of both."""
    model = llama(torch.float16)
    for name in ("gate_proj", "up_proj"):
        model.get_parameter(f"model.layers.1.mlp.{name}.weight").data.mul_(1000)
    return model


@dataclass(frozen=True)
class Refused:
    """A refusal that both doors share.

    message  what both say
    options  by the names of `prune_model`
    early    whether a dry run says it too
    """

    message: str
    make: Callable[[], Any] = llama
    options: dict[str, Any] = field(default_factory=dict)
    early: bool = False


def by_pattern(pattern: str, what: str, **options: Any) -> Refused:
    first = "model.layers.0.self_attn.q_proj"
    message = f"{first}: {pattern} removes {what} of its 256 weights: choose another share"
    return Refused(message, options={"pattern": pattern, **options}, early=True)


BLOCK_1 = "model.layers.1"
CANNOT_RUN = f"FaultyForCausalLM cannot run its decoder block {BLOCK_1}: "
NOT_FINITE = f"calibration input of {BLOCK_1}.mlp"
REFUSED = {
    "all columns": by_pattern("structured:0.999", "all"),
    "all of every group": by_pattern("4:4", "all", n_counts_zeros=True),
    "all rows are outliers": by_pattern("2:4+outliers:0.99", "none"),
    "all rows are outliers of columns": by_pattern("structured:0.01+outliers:0.95", "none"),
    "a share of zero": by_pattern("unstructured:0", "none"),
    "none of every group": by_pattern("0:4", "none", n_counts_zeros=True),
    "too small a share": by_pattern("unstructured:0.003", "none"),
    "too small a share of a row": by_pattern("unstructured:0.06", "none", method="wanda"),
    "method": Refused("method must be one of thanos, ", options={"method": "obc"}, early=True),
    "block size": Refused("block_size must be at least 1", options={"block_size": 0}, early=True),
    "m": Refused("q_proj: m = 10 does not divide", options={"pattern": "5:10"}, early=True),
    "NaN in a weight": Refused(
        f"{BLOCK_1}.mlp.down_proj: weight must be finite",
        with_number("mlp.down_proj", float("nan")),
    ),
    "infinity in a weight": Refused(
        f"{BLOCK_1}.self_attn.q_proj: weight must be finite",
        with_number("self_attn.q_proj", float("inf")),
    ),
    "NaN in a norm": Refused(
        f"{NOT_FINITE}.gate_proj", with_number("post_attention_layernorm", float("nan"))
    ),
    "float16 overflows": Refused(f"{NOT_FINITE}.down_proj", overflowing),
    **{
        name: Refused(
            f"{CANNOT_RUN}{': '.join([name, *first_line(error)])} (--debug shows",
            faulty(name),
            early=True,
        )
        for name, error in FAULTS.items()
    },
    "late": Refused(f"{CANNOT_RUN}KeyError: ", faulty("KeyError", late=True)),
}


def as_options(options: dict[str, Any]) -> list[object]:
    """The options of `prune_model` as those of the command."""
    return [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", *([] if value is True else [value]))
    ]


@pytest.mark.parametrize("case", REFUSED)
def test_both_doors_refuse_with_the_same_words(thanos: Thanos, tmp_path: Path, case: str) -> None:
    refused = REFUSED[case]
    model = refused.make()
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    options = {"pattern": "2:4", "block_size": 8, **refused.options}
    command = ("prune", dense, "--nsamples", 2, "--seqlen", 16, *as_options(options))

    options.pop("n_counts_zeros", None)
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        prune_model(model, tiny.random_windows(2, 16), options.pop("pattern"), **options)
    done = thanos(*command, "--out", tmp_path / "out")
    assert done.status == 1
    for said in (str(error.value), done.said):
        assert refused.message in said
        assert "\n" not in said.strip()
    assert str(error.value) in done.err
    assert "the same command goes on" not in done.err
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").exists() is not refused.early
    if case in FAULTS:
        assert error.value.__cause__ is FAULTS[case]
    if refused.early:
        assert refused.message in thanos(*command, "--dry-run").err


def test_the_traceback_is_shown_on_request_in_any_place(thanos: Thanos, tmp_path: Path) -> None:
    dense = tiny.save_checkpoint(faulty("KeyError")(), tmp_path / "dense")
    command = ("prune", dense, "--pattern", "2:4", *SMALL, "--out", tmp_path / "out")
    plain = thanos(*command)
    for asked in (thanos(*command, "--debug"), thanos("--debug", *command)):
        assert asked.status == 1
        assert asked.err.startswith("Traceback (most recent call last):")
        assert "in _fail" in asked.err
        assert asked.err.splitlines()[-1] == plain.err
    assert "--debug" in thanos("--help").out


def test_a_block_that_cannot_be_moved_is_named() -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore")

    model = llama()
    model.model.layers[1].to = full
    message = r"decoder block 1, LlamaDecoderLayer, cannot go to cpu: OutOfMemoryError: CUDA out of"
    with pytest.raises(ValueError, match=message):
        tiny.prune(model)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("asked", ["get_decoder", "get_input_embeddings", "eval"])
@pytest.mark.parametrize("error", [KeyError("nothing"), ValueError("nothing")])
def test_what_a_model_raises_when_it_is_asked_names_the_model(asked: str, error: Exception) -> None:
    model = llama()
    setattr(model, asked, raising(error))
    message = (
        rf"^LlamaForCausalLM cannot be looked into: {type(error).__name__}: .*nothing.* \(--debug"
    )
    with pytest.raises(ValueError, match=message):
        tiny.prune(model)


def test_an_error_is_own_only_if_a_statement_of_the_package_raised_it() -> None:
    own: dict[str, Any] = {"__name__": "thanos_torch.some.module"}
    exec("def said(): raise ValueError('n')\ndef built_in(): int('n')", own)
    with pytest.raises(ValueError, match=r"^n$"), in_one_line("it failed"):
        own["said"]()
    message = r"^it failed: ValueError: invalid literal"
    with pytest.raises(ValueError, match=message), in_one_line("it failed"):
        own["built_in"]()


def test_reasons_are_short_and_on_one_line() -> None:
    assert len(said_by(KeyError("x" * 10000))) < 700
    assert reason_of(ValueError("a\n  b")) == "a b"
    assert reason_of(KeyError("a")) == "KeyError 'a'"
    assert reason_of(SystemExit(0)) == "SystemExit 0"


def test_what_nobody_foresaw_ends_in_one_line_too(
    thanos: Thanos, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thanos_torch.cli.checkpoints.read_record", raising(IndexError("far\noff")))
    done = thanos("inspect", dense)
    said = "a fault of thanos, please report it: IndexError: far (--debug shows the traceback)"
    assert (done.status, done.err) == (1, f"thanos: {said}")
    assert "Traceback" in thanos("inspect", dense, "--debug").err


def test_what_callbacks_raise_is_theirs() -> None:
    def stop(*_: Any) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match=r"^enough$"):
        tiny.prune(llama(), on_layer=stop)


def test_eval_names_the_model_that_fails(thanos: Thanos, tmp_path: Path) -> None:
    model = faulty("IndexError")()
    dense = tiny.save_checkpoint(model, tmp_path / "dense")
    reason = "IndexError: index out of range in self (--debug shows the traceback)"
    message = f"FaultyForCausalLM cannot run window 0 of the text: {reason}"
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        perplexity(model, tiny.random_windows())
    assert str(error.value) == message
    done = thanos("eval", dense, "--seqlen", 16, "--max-windows", 2)
    assert (done.status, done.err) == (1, f"thanos: {message}")
    words = tiny.byte_tokenizer()
    words.eos_token = "a"
    words.save_pretrained(dense)
    items = write_items(tmp_path / "items")
    done = thanos("eval", dense, "--tasks", "piqa", "--task-data", items, "--limit", 1)
    assert done.err == f"thanos: FaultyForCausalLM cannot do the tasks: {reason}"
