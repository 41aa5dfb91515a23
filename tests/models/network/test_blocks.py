"""Decoder blocks and their layers are found by structure; what they read, by identity."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3Config

from tests.models.families import FAMILIES
from tests.models.tiny import llama_config, random_model, random_windows
from thanos_torch.network.grams import InputGrams
from thanos_torch.network.layers import (
    PrunableLayer,
    decoder_blocks,
    other_weights,
    prunable_layers,
)
from thanos_torch.network.observe import observe
from thanos_torch.runtime.clock import Stopwatch


class Experts(nn.Module):
    """A mixture of experts as it used to be written, with more experts than there are blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 9)
        self.experts = nn.ModuleList([nn.Linear(4, 4) for _ in range(9)])
        self.kernel = nn.Conv1d(4, 4, 3)
        self.fused = nn.Parameter(torch.zeros(9, 4, 4))  # which way round is not said


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(4) for _ in range(20)])
        self.layers = nn.ModuleList([Experts(), Experts()])
        self.lm_head = nn.Linear(4, 10)


def test_experts_are_no_blocks_and_routers_no_layers() -> None:
    blocks = decoder_blocks(Blocks())
    assert list(blocks) == ["layers.0", "layers.1"]
    assert list(prunable_layers(blocks)[1]) == [f"layers.1.experts.{i}" for i in range(9)]
    others = {"fused": 144, "gate.weight": 36, "kernel.weight": 48}
    assert other_weights(blocks) == {
        f"layers.{i}.{other}": size for i in (0, 1) for other, size in others.items()
    }


def test_blocks_of_a_vision_tower_are_no_decoder_blocks() -> None:
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 5}
    config = Gemma3Config(
        text_config=FAMILIES["Gemma 3"].config,
        vision_config={**vision, "num_attention_heads": 4, "image_size": 16, "patch_size": 4},
        mm_tokens_per_image=4,
    )
    blocks = decoder_blocks(random_model(config))
    assert list(blocks) == [f"model.language_model.layers.{index}" for index in (0, 1)]


def collect(model: Any, index: int, windows: Tensor) -> InputGrams:
    seen = observe(model, windows)
    replay = seen.replay([windows], "cpu")
    for before in range(index):
        replay.advance(before)
    stopwatch = Stopwatch("cpu", ("gram",))
    with InputGrams(seen.layers[index], stopwatch) as inputs:
        for _ in replay.run(index):
            inputs.next_batch()
    return inputs


def test_layers_with_one_input_share_one_gram_matrix() -> None:
    inputs = collect(random_model(llama_config()), 1, random_windows(6, 32))
    kinds = [name.rpartition(".")[2] for name in inputs.grams]
    assert kinds == ["q_proj", "o_proj", "gate_proj", "down_proj"]
    assert all(gram.tokens == 6 * 32 for gram in inputs.grams.values())

    def matrix(kind: str) -> Tensor:
        found = inputs.matrix(f"model.layers.1.{kind}")
        assert found is not None
        return found

    assert torch.equal(matrix("self_attn.q_proj"), matrix("self_attn.v_proj"))
    assert torch.equal(matrix("mlp.gate_proj"), matrix("mlp.up_proj"))
    assert not torch.equal(matrix("self_attn.q_proj"), matrix("mlp.gate_proj"))


def watched(*readers: str) -> tuple[InputGrams, dict[str, nn.Linear]]:
    modules = {name: nn.Linear(3, 2) for name in readers}
    layers = {
        name: PrunableLayer(name, f"{name}.weight", module) for name, module in modules.items()
    }
    return InputGrams(layers, Stopwatch("cpu", ("gram",))), modules


def test_a_tensor_changed_in_place_is_another_input() -> None:
    inputs, layers = watched("first", "second")
    batch = torch.ones(4, 3)
    with inputs, torch.no_grad():
        layers["first"](batch)
        layers["second"](batch.mul_(2))
    assert torch.equal(inputs.matrix("first"), torch.full((3, 3), 4.0))  # type: ignore[arg-type]
    assert torch.equal(inputs.matrix("second"), torch.full((3, 3), 16.0))  # type: ignore[arg-type]


def test_layers_that_share_in_some_batches_only_are_refused() -> None:
    inputs, layers = watched("first", "second")
    batch = torch.ones(4, 3)
    with inputs:
        layers["first"](batch)
        inputs.next_batch()
        layers["first"](batch)
        layers["second"](batch)  # has missed the first batch
    assert inputs.matrix("first") is not None
    with pytest.raises(ValueError, match=r"second shares its input .* in some batches only"):
        inputs.matrix("second")

    inputs, layers = watched("first", "second")
    with inputs:
        layers["second"](batch)
        inputs.next_batch()
        layers["first"](batch)
        with pytest.raises(ValueError, match="second shares its input"):
            layers["second"](batch)


def test_the_last_reader_of_a_matrix_frees_it() -> None:
    inputs, layers = watched("first", "second", "third")
    with inputs:
        for name, batch in zip(layers, [ones := torch.ones(4, 3), ones, 2 * ones], strict=True):
            layers[name](batch)
    held = weakref.ref(inputs.matrix("first"))
    assert inputs.matrix("second") is held()
    inputs.forget("first")
    assert held() is not None
    inputs.forget("second")
    assert held() is None
    inputs.forget("third")  # which nobody asked for
    assert not inputs.grams


def test_layers_are_watched_no_longer_than_asked() -> None:
    inputs, layers = watched("layer")
    with inputs:
        layers["layer"](torch.ones(4, 3))
    layers["layer"](torch.ones(4, 3))
    assert inputs.grams["layer"].tokens == 4


def test_replay_ends_where_the_model_ends() -> None:
    model = random_model(llama_config())
    windows = random_windows(70, 32)  # more than one batch, the last one smaller
    replay = observe(model, windows).replay([windows], "cpu")
    for index in range(3):
        replay.advance(index)
    states = torch.cat([replay.activations.read(batch) for batch in range(2)])
    with torch.no_grad():
        expected = model(windows).logits
        assert torch.allclose(model.lm_head(model.model.norm(states)), expected, atol=1e-5)
    assert all("forward" not in vars(block) for block in model.model.layers)


def test_a_forward_set_by_another_tool_is_kept() -> None:
    model = random_model(llama_config())
    blocks: Any = model.model.layers
    blocks[0].forward = forward = blocks[0].forward
    replay = observe(model, random_windows()).replay([random_windows()], "cpu")
    replay.advance(0)
    replay.advance(1)
    assert blocks[0].forward is forward


def test_blocks_that_do_not_run_are_named() -> None:
    model = random_model(llama_config())
    model.config.num_hidden_layers = 2
    model.model.config.num_hidden_layers = 2
    with pytest.raises(ValueError, match="LlamaForCausalLM does not run its decoder block 2"):
        collect(model, 2, random_windows())


def test_time_of_a_stage_inside_another_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stopwatch = Stopwatch("cpu", ("outer", "inner"))
    ticks = iter([0.0, 1.0, 3.0, 7.0, 10.0, 20.0])
    monkeypatch.setattr(stopwatch, "_now", lambda: next(ticks))
    with stopwatch.stage("outer"):  # from 0 to 20
        with stopwatch.stage("inner"):  # from 1 to 3
            pass
        with stopwatch.stage("inner"):  # from 7 to 10
            pass
    assert stopwatch.seconds == {"outer": 15.0, "inner": 5.0}
