"""Tiny random models, a tokenizer, and Gram matrices by plain hooks."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from thanos_torch.models import ModelReport, prune_model

WORDS = 256  # one token a byte
SMALL_SHARDS = "18KB"  # four files for the tiny Llama, which share two blocks
BLOCK_SIZE = 8
# To calibrate with: the default text takes longer to tokenise than a tiny model to prune.
TEXT = Path(__file__).with_name("text.txt")
FUSED = torch.arange(24.0).view(2, 3, 4)  # two experts of one layer


def llama_config(**changes: Any) -> LlamaConfig:
    """Three blocks; no layer is square but q_proj and o_proj."""
    sizes: dict[str, Any] = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return LlamaConfig(**(sizes | changes))


def random_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    """A causal language model with random weights, the same for the same config."""
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM  # whose methods lack type hints
    return randomise(build.from_config(config, dtype=dtype).eval())


@torch.no_grad()
def randomise(model: Any) -> Any:
    """Give a model larger weights: fresh ones are too small to change what comes after."""
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(std=0.3)
    return model


def fused_module(is_transposed: bool) -> Any:
    """A module that holds FUSED."""
    module: Any = nn.Module()
    module.is_transposed = is_transposed
    module.weight = nn.Parameter(FUSED.clone())
    module.bias = nn.Parameter(torch.zeros(2, 3))
    return module


def random_windows(count: int = 6, seqlen: int = 32) -> Tensor:
    """Token ids, (count, seqlen)."""
    return torch.randint(WORDS, (count, seqlen), generator=torch.Generator().manual_seed(1))


def prune(model: nn.Module, pattern: Any = "unstructured:0.5", **options: Any) -> ModelReport:
    """Prune a model in place, calibrated with `random_windows`; certified unless told otherwise."""
    given = {"windows": random_windows(), "block_size": BLOCK_SIZE, **options}
    return prune_model(model, given.pop("windows"), pattern, **given)


def byte_tokenizer(bos: bool = False, adds: bool = True, chat: str | None = None) -> Any:
    """One token a byte.

    bos   whether there is a BOS token, `<bos>`, whose id is WORDS
    adds  whether the tokenizer puts it in front of every text
    chat  the chat template
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    build: Any = PreTrainedTokenizerFast
    if not bos:
        return build(tokenizer_object=tokenizer, chat_template=chat)
    tokenizer.add_special_tokens(["<bos>"])
    if adds:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", WORDS)]
        )
    return build(tokenizer_object=tokenizer, bos_token="<bos>", chat_template=chat)


def save_checkpoint(model: Any, folder: Path) -> Path:
    """A checkpoint folder as a user may have one."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def grams_by_hooks(model: nn.Module, windows: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """X Xᵀ of some layers' inputs in a plain forward pass of the whole model, window by window.

    An expert's layers, `MODULE.NUMBER.gate_up_proj` and `.down_proj`, are no modules: what they
    read is computed from what MODULE is given. Layers that no token reaches are left out.
    """
    grams: dict[str, Tensor] = {}
    fused: set[str] = set()

    def add(name: str, inputs: Tensor) -> None:
        tokens = inputs.reshape(-1, inputs.shape[-1]).double()  # (tokens, b)
        if len(tokens):
            grams[name] = grams.get(name, 0) + tokens.T @ tokens

    def linear(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda layer, args: add(name, args[0])

    def experts(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            for number, (outer, inner) in enumerate(expert_inputs(module, *args[:2])):
                add(f"{name}.{number}.gate_up_proj", outer)
                add(f"{name}.{number}.down_proj", inner)

        return look

    handles = []
    for name in layers:
        owner = name.rsplit(".", 2)[0]
        module = model.get_submodule(owner)
        if not hasattr(module, "gate_up_proj"):
            handles.append(model.get_submodule(name).register_forward_pre_hook(linear(name)))
        elif owner not in fused:
            fused.add(owner)
            handles.append(module.register_forward_pre_hook(experts(owner)))
    for window in windows:
        model(window[None])
    for handle in handles:
        handle.remove()
    return grams


def expert_inputs(module: Any, states: Tensor, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What every expert's two layers read: of states (tokens, b), those for which it was chosen.

    chosen  (tokens, k) numbers of experts
    """
    for number, weight in enumerate(module.gate_up_proj):
        outer = states[(chosen == number).any(dim=1)]
        products = outer @ (weight if module.is_transposed else weight.T)
        if module.has_bias:
            products = products + module.gate_up_proj_bias[number]
        yield outer, module._apply_gate(products)
