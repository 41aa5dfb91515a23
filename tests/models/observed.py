"""Tiny models that do what most do not: share keys, run blocks twice, use weights by themselves."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from tests.models.families import GROUPED, ROTATED
from tests.models.sweep.configs import tiny_config
from tests.models.tiny import llama_config, random_model, save_checkpoint

_SMALL: dict[str, Any] = {"vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 2}
_SHARED: dict[str, Any] = {
    **GROUPED,
    "head_dim": 8,
    "num_hidden_layers": 3,
    "num_kv_shared_layers": 1,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "sliding_window": 4,
    "hidden_size_per_layer_input": 4,
    "vocab_size_per_layer_input": 256,
}

# Experts in other forms than most of Transformers' classes have.
LLAMA_4 = hf.Llama4TextConfig(
    **GROUPED,
    num_local_experts=4,
    num_experts_per_tok=1,
    intermediate_size_mlp=28,
    interleave_moe_layer_step=1,
)
JETMOE = hf.JetMoeConfig(
    vocab_size=256,
    hidden_size=16,
    num_hidden_layers=2,
    num_key_value_heads=2,
    kv_channels=4,
    intermediate_size=24,
    num_local_experts=4,
    max_position_embeddings=64,
)
DBRX = hf.DbrxConfig(
    vocab_size=256, d_model=16, n_heads=2, n_layers=2, max_seq_len=64,
    attn_config={"kv_n_heads": 1, "clip_qkv": 8.0, "rope_theta": 10000.0},
    ffn_config={"ffn_hidden_size": 24, "hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
)  # fmt: skip


def inkling2() -> Any:
    """Its checkpoints have the rows of gate and up projections in turns."""
    config = tiny_config("inkling2_text")
    config.vocab_size = 256
    return config


def gemma3n() -> Any:
    """The last block takes keys and values of the first one."""
    few = {**_SHARED, "num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}
    return hf.Gemma3nTextConfig(
        **few, laurel_rank=4, altup_num_inputs=4, activation_sparsity_pattern=[0.0] * 2
    )


def gemma3n_model() -> Any:
    """A Gemma 3n whose per-layer inputs count: fresh ones are multiplied by zeros."""
    model = random_model(gemma3n())
    for name, weight in model.named_parameters():
        if name.endswith("correct_output_scale"):
            nn.init.ones_(weight)
    return model


def gemma4() -> Any:
    """As Gemma 3n."""
    return hf.Gemma4TextConfig(**_SHARED, global_head_dim=8, num_global_key_value_heads=2)


def xlm() -> Any:
    """Attentions and MLPs are two lists."""
    return hf.XLMConfig(
        vocab_size=256, emb_dim=16, n_layers=2, n_heads=2, max_position_embeddings=64,
        asm=False, causal=True, bos_index=1, eos_index=2, pad_index=0, unk_index=3, mask_index=5,
    )  # fmt: skip


def mamba() -> Any:
    """Multiplies by the weight of `dt_proj` without calling it."""
    return hf.MambaConfig(**_SMALL, state_size=4, expand=2, time_step_rank=4)


def zamba2() -> Any:
    """Two blocks share one transformer."""
    return hf.Zamba2Config(
        vocab_size=256, hidden_size=32, num_hidden_layers=3,
        layers_block_type=["mamba", "hybrid", "hybrid"], mamba_d_state=8, mamba_headdim=8,
        mamba_ngroups=1, n_mamba_heads=8, intermediate_size=48, num_attention_heads=4,
        num_mem_blocks=1, adapter_rank=4, max_position_embeddings=64, chunk_size=16,
    )  # fmt: skip


def cpmant() -> Any:
    """Puts tokens of its own in front."""
    return hf.CpmAntConfig(
        vocab_size=256, hidden_size=16, num_attention_heads=2, dim_head=8, dim_ff=24,
        num_hidden_layers=2, prompt_types=3, prompt_length=4, segment_types=3,
        position_bias_num_buckets=8, position_bias_max_distance=32,
    )  # fmt: skip


def modern_bert_decoder() -> Any:
    """Its `get_decoder` returns the head."""
    return hf.ModernBertDecoderConfig(
        **_SMALL, intermediate_size=24, num_attention_heads=2, max_position_embeddings=64,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip


def mllama_model() -> Any:
    """Does not run its cross-attentions without an image."""
    text = {**GROUPED, "hidden_size": 16, "num_hidden_layers": 3, "cross_attention_layers": [1]}
    del text["head_dim"]
    config = hf.MllamaConfig(
        text_config={**text, "rope_parameters": ROTATED},
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_global_layers": 1, "attention_heads": 2, "image_size": 16, "patch_size": 8,
            "max_num_tiles": 1, "vision_output_dim": 32, "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1]],
        },
    )  # fmt: skip
    return hf.MllamaForConditionalGeneration(config).eval()


class Attention(nn.Module):
    """Takes the keys of an earlier block, or hands its own on."""

    def __init__(self, index: int, way: str) -> None:
        super().__init__()
        self.index, self.way = index, way
        self.q, self.k, self.o = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(8, 12)
        self.register_buffer("held", torch.zeros(1), persistent=False)

    def keys(self, states: Tensor, shared: Any, first: "Attention") -> Tensor:
        """The keys of block 0, however they came here."""
        keys: Tensor = self.k(states)
        if self.way == "dict":
            keys = shared.setdefault("keys", keys)
        elif self.way == "list":
            shared.append(keys)
            keys = shared[0]
        elif self.way == "object":
            keys = vars(shared).setdefault("keys", {}).setdefault("first", keys)
        elif self.way == "in place":
            if self.index == 0:
                shared[: len(keys)] = keys
            keys = shared[: len(keys)]
        elif self.way == "module":
            if self.index == 0:
                self.held = keys
            keys = first.held
        return keys

    def forward(self, states: Tensor, shared: Any, first: "Attention") -> Tensor:
        """States, (tokens, 12), with what the keys add."""
        mixed = self.q(states) * self.keys(states, shared, first).tanh()
        out: Tensor = states + self.o(mixed)
        return out


class Sharing(nn.Module):
    """Three blocks, the later ones with the keys of the first; `way` is how they get them."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.words = nn.Embedding(256, 12)
        self.blocks = nn.ModuleList(Attention(index, way) for index in range(3))

    def forward(self, ids: Tensor, use_cache: bool = True) -> Tensor:
        """States, (windows, tokens, 12)."""
        states = self.words(ids)
        makers: dict[str, Any] = {
            "dict": dict, "list": list, "object": SimpleNamespace, "module": object,
            "in place": lambda: torch.zeros(*states.shape[:2], 8),
        }  # fmt: skip
        shared = makers[self.way]()
        for block in self.blocks:
            states = block(states, shared, self.blocks[0])
        out: Tensor = states
        return out


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(12, 16), nn.Linear(16, 12)

    def forward(self, states: Tensor) -> Tensor:
        """What is added to states, (tokens, 12)."""
        out: Tensor = self.down(self.up(states).relu())
        return out


class Lists(nn.Module):
    """Two lists of blocks, of different lengths; the model's own code adds them up, as `way` is."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.words = nn.Embedding(256, 12)
        self.late = nn.ModuleList(Mlp() for _ in range(2))
        self.early = nn.ModuleList(Mlp() for _ in range(3))
        self.unused = nn.ModuleList(Mlp() for _ in range(4))

    def forward(self, ids: Tensor, use_cache: bool = True) -> Tensor:
        """States, (windows, tokens, 12)."""
        states: Tensor = self.words(ids)
        before = [states]
        for block in [*self.early, *self.late]:
            if self.way == "in place":
                states += block(states)
            elif self.way == "mean of all":
                states = states + block(torch.stack(before).mean(0))
                before.append(states)
            else:
                states = block(states)
        return states


class Looped(Lists):
    """Runs its blocks three times."""

    def __init__(self) -> None:
        super().__init__("looped")
        del self.late, self.unused

    def forward(self, ids: Tensor, use_cache: bool = True) -> Tensor:
        """States, (windows, tokens, 12)."""
        states: Tensor = self.words(ids)
        for block in [*self.early] * 3:
            states = states + block(states)
        return states


class ByWeight(Mlp):
    """Uses its weights without calling its layers, in the way of `use`."""

    def __init__(self, use: str) -> None:
        super().__init__()
        self.use = use

    def forward(self, states: Tensor) -> Tensor:
        """States, (tokens, 12), and what the layers add."""
        return states + self.times(self.times(states, self.up.weight).relu(), self.down.weight)

    def times(self, states: Tensor, weight: Tensor) -> Tensor:
        """States by a weight."""
        return {
            "linear": lambda: nn.functional.linear(states, weight),
            "transposed": lambda: (weight @ states.transpose(1, 2)).transpose(1, 2),
            "einsum": lambda: torch.einsum("...b,cb->...c", states, weight),
            "copied": lambda: (states.double() @ weight.double().T).float(),
            "masked": lambda: nn.functional.linear(states, weight * 2),
        }[self.use]()


class Chain(nn.Module):
    """Blocks one after another."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.words, self.blocks = nn.Embedding(256, 12), nn.ModuleList(blocks)

    def forward(self, ids: Tensor, use_cache: bool = True) -> Tensor:
        """States, (windows, tokens, 12)."""
        states: Tensor = self.words(ids)
        for block in self.blocks:
            states = block(states)
        return states


class Again(nn.Module):
    """Calls one layer a second time, with inputs that the other one does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, states: Tensor) -> Tensor:
        """States, (tokens, 12), and what the layers add."""
        added: Tensor = self.twice(states.sin()) + self.twice(states) + self.once(states).tanh()
        return states + added


def by_weight(use: str) -> Chain:
    """Two blocks that use their weights in one way."""
    torch.manual_seed(0)
    return Chain([ByWeight(use) for _ in range(2)])


class Scaling(nn.Linear):
    """Multiplies what it makes of its inputs, or of its weight, in the way of `way`."""

    def __init__(self, way: str) -> None:
        super().__init__(12, 16, bias=False)
        self.way = way

    def forward(self, states: Tensor) -> Tensor:
        """Outputs, (tokens, 16)."""
        if self.way == "its inputs":
            return nn.functional.linear(states.sin() * 2, self.weight)
        if self.way == "some inputs":
            return nn.functional.linear(states[:, ::2], self.weight).repeat_interleave(2, 1)
        if self.way == "rounded":
            return nn.functional.linear(states, self.weight.round(decimals=2))
        with torch.no_grad():
            self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(states)


def chain() -> Any:
    """Two blocks that call their layers."""
    torch.manual_seed(0)
    return Chain([Mlp(), Mlp()])


def scaling(way: str) -> Any:
    """Two blocks whose first layer has a forward pass of its own."""
    model = chain()
    for block in model.blocks:
        block.up = Scaling(way)
    return model


CODE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, input_ids=None, **options):
        options["use_cache"] = False
        {body}
"""
BODIES = {
    "looped": "return super().forward("
    "inputs_embeds=self.model(input_ids).last_hidden_state, use_cache=False)",
    "token 50 in front": "return super().forward("
    "torch.cat([torch.full_like(input_ids[:, :1], 50), input_ids], 1), **options)",
    "rows by themselves": "return super().forward("
    "inputs_embeds=self.model.embed_tokens.weight[input_ids], **options)",
    "raises": 'raise KeyError("nothing")',
    "exits": "raise SystemExit(0)",
}


def own_code(folder: Path, body: str) -> Path:
    """A checkpoint of a Llama whose forward pass is one of BODIES."""
    save_checkpoint(random_model(llama_config(num_hidden_layers=2)), folder)
    (folder / "modeling_own.py").write_text(CODE.format(body=BODIES[body]))
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "OwnConfig", "AutoModelForCausalLM": "OwnForCausalLM"}
    config["auto_map"] = {auto: f"modeling_own.{name}" for auto, name in names.items()}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    return folder
