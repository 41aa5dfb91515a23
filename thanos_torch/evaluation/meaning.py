"""Refuse models whose predictions of a text's next tokens mean nothing."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thanos_torch.network.kind import (
    class_names,
    refuse_encoder_decoder,
    refuse_idle_cross_attention,
)
from thanos_torch.network.layers import decoder_blocks
from thanos_torch.network.observe import input_table
from thanos_torch.runtime.errors import in_one_line

TOKENS = 16  # of the text: enough to see on which tokens a prediction depends
# The least derivative by a later token, relative to that by earlier ones, that counts as looking
# ahead. What a mask or a scan hides has a derivative of exactly 0: it had in all of 119 causal
# classes of Transformers, also in bfloat16. Models that look ahead had 0.5 and more; with fresh,
# small weights 0.0007.
LOOKS_AHEAD = 1e-5

_NOTHING = "a perplexity or an accuracy in tasks would mean nothing"
# What a model is whose class has such a name. It may be loaded as a causal language model all the
# same: its head is made of the input embedding, or its attention looks both ways.
_OTHER_CLASSES = {
    r"MaskedLM": "a masked language model, which reads the token that it predicts",
    r"Classification|Reward|Score|MultipleChoice": "a classifier or a reward model",
    r"QuestionAnswering|SentencePrediction": "a model that judges or marks a text",
}


def refuse_other_class(config: Any) -> None:
    """Raise ValueError if `architectures` in a config names a class that predicts no next tokens.

    That is known before there are weights.
    """
    for name in class_names(config)[:1]:
        kind = next((each for ends, each in _OTHER_CLASSES.items() if re.search(ends, name)), "")
        if "MaskedLM" in name and getattr(config, "is_decoder", False):
            kind = ""  # its attention looks back alone
        if name in _headless():
            kind = "a model without a language-model head, as for embeddings"
        if kind:
            raise ValueError(f"{name} (architectures in config.json) is {kind}; {_NOTHING}")


def _headless() -> set[str]:
    """Names of the classes of Transformers without a head."""
    from transformers.models.auto import modeling_auto as known

    return _names(known.MODEL_MAPPING_NAMES.values()) - _names(
        [
            *known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
            *known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.values(),
        ]
    )


def _names(values: Iterable[str | tuple[str, ...]]) -> set[str]:
    return {name for each in values for name in ((each,) if isinstance(each, str) else each)}


def refuse_meaningless(model: nn.Module, windows: Tensor, what: str) -> None:
    """Raise ValueError unless a model predicts each next token from the tokens before it alone.

    windows  token ids, (windows, tokens); the beginning of the first one is run
    what     could not be done if the model fails, for messages
    """
    kind, config = type(model).__name__, getattr(model, "config", None)
    refuse_encoder_decoder(config, kind)
    refuse_other_class(config)
    ids = windows[:1, :TOKENS]
    blocks = _blocks(model)
    # Hooks are seen by no compiled model, or stay in it.
    with torch.compiler.set_stance("force_eager"), _called(blocks) as reached:
        logits, derivative = _run(model, ids, what)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else None
    if not shape or shape[:-1] != tuple(ids.shape) or shape[-1] <= int(windows.max()):
        found = f"logits of the shape {shape}" if shape else "no logits"
        raise ValueError(
            f"{kind} has no language-model head: for a text of {ids.shape[1]} tokens with ids up "
            f"to {int(windows.max())} it returns {found}; {_NOTHING}"
        )
    refuse_idle_cross_attention(model, blocks, reached)
    if derivative is not None and _looks_ahead(derivative):
        raise ValueError(
            f"{kind} looks ahead: what it predicts depends on the predicted token and on later "
            f"ones; {_NOTHING}"
        )


def _looks_ahead(derivative: Tensor) -> bool:
    """Whether predictions of the first half of some tokens depend on the second half.

    derivative  of these predictions by each token's embedding, (tokens, width)
    """
    sizes = derivative.double().nan_to_num(0.0).norm(dim=1)
    half = len(sizes) // 2
    return bool(sizes[half:].max() > LOOKS_AHEAD * sizes[:half].max())


def _run(model: nn.Module, ids: Tensor, what: str) -> tuple[Any, Tensor | None]:
    """The logits for ids, (1, tokens), and a derivative as of `_looks_ahead`; None if unknown.

    A derivative tells dependence from rounding: other tokens send other numbers of tokens to an
    expert, so that earlier logits of a causal model change in their last digits.
    """
    try:
        # In inference mode there are no derivatives, whoever asks for them.
        with torch.inference_mode(False), torch.enable_grad(), _leaf(model) as leaves:
            ids = ids.clone()
            logits = model(ids, use_cache=False).logits
            half = ids.shape[1] // 2
            scores = logits[0, :half].gather(1, ids[0, 1 : half + 1, None]).sum()
            (found,) = torch.autograd.grad(scores, leaves, allow_unused=True)
    # No logits, or operations without a derivative; or it fails again below.
    except (Exception, SystemExit):
        found = None
    if found is None:
        with in_one_line(what):
            return getattr(model(ids, use_cache=False), "logits", None), None
    # Some models put tokens of their own in front.
    return logits.detach(), found.reshape(-1, found.shape[-1])[-ids.shape[1] :]


@contextmanager
def _leaf(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the input embedding returns first, to differentiate by it."""
    leaves: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if leaves:
            return output
        leaves.append(output.detach().requires_grad_())
        return leaves[0].clone()  # which the model may change in place

    with ExitStack() as stack:
        for layer in input_table(model).values():
            stack.callback(layer.module.register_forward_hook(hook).remove)
        yield leaves


def _blocks(model: nn.Module) -> dict[str, nn.Module]:
    try:
        return decoder_blocks(model)
    except ValueError:  # nothing to prune in it, which does not matter here
        return {}


@contextmanager
def _called(blocks: dict[str, nn.Module]) -> Iterator[Collection[str]]:
    """Collect the full names of all modules inside of blocks that are called."""
    called: set[str] = set()
    with ExitStack() as stack:
        for prefix, block in blocks.items():
            for name, module in block.named_modules(prefix=prefix):
                hook = module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
                stack.callback(hook.remove)
        yield called
