"""The BOS token at the beginning of windows: who adds it, and which model families need it."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor

# each: every window begins with it. first: the text does. none: no special tokens are added.
Bos = Literal["each", "first", "none"]
OWN = "tokenizer"  # recorded where the tokenizer decides by itself, the published protocol

# Families whose models were trained with BOS in front of every sequence and fail without it, and
# the `model_type` of their text configs. docs/models.md gives the sources.
FAMILIES: dict[str, tuple[str, ...]] = {
    "Gemma": ("gemma",),
    "Gemma 2": ("gemma2",),
    "Gemma 3": ("gemma3", "gemma3_text"),
    "Gemma 3n": ("gemma3n", "gemma3n_text"),
    "Gemma 4": ("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text"),
    "RecurrentGemma": ("recurrent_gemma",),
    "VaultGemma": ("vaultgemma",),
}
_TYPES = {kind for kinds in FAMILIES.values() for kind in kinds}
# The attribute of a tokenizer that `note_family` sets.
_NOTE = "_thanos_bos"


class BosWarning(UserWarning):
    """Windows lack the BOS token that their model needs."""


def needs_bos(config: Any) -> bool:
    """Whether models of a config need the BOS token in front of everything that they read."""
    return getattr(_text_config(config), "model_type", None) in _TYPES


def note_family(tokenizer: Any, config: Any) -> None:
    """Note on a tokenizer how windows for its model begin, as a tokenizer cannot tell the model."""
    if needs_bos(config):
        setattr(tokenizer, _NOTE, "each")


def chosen_bos(tokenizer: Any, bos: Bos | None) -> str:
    """What is done about BOS, as it is recorded: `bos`, or the default for the tokenizer's model.

    Raises ValueError if a BOS token is asked for and the tokenizer has none.
    """
    has_one = getattr(tokenizer, "bos_token_id", None) is not None
    if bos is None:
        noted: str = getattr(tokenizer, _NOTE, OWN)
        return noted if has_one else OWN
    if bos != "none" and not has_one:
        raise ValueError(f"bos {bos!r} needs a tokenizer with a BOS token, and this one has none")
    return bos


def encode(tokenizer: Any, text: str, bos: str, *, special: bool = True) -> list[int]:
    """The token ids of a text, which begins with one BOS token if `bos` is "first".

    bos      of `chosen_bos`. "each" leaves out the BOS token in front, as every window gets one
    special  whether the tokenizer may add special tokens if it decides itself; False for a text
             that has them already
    """
    options = {} if bos == OWN and special else {"add_special_tokens": False}
    # Not verbose: tokenizers warn of long texts, but this one is cut right after.
    ids: list[int] = tokenizer(text, verbose=False, **options)["input_ids"]
    if bos not in ("each", "first"):
        return ids
    own = tokenizer.bos_token_id
    written = next((place for place, each in enumerate(ids) if each != own), len(ids))
    bare = ids[written:]  # without what a chat template has written
    return bare if bos == "each" else [own, *bare]


def lacking_bos(model: Any, windows: Iterable[Tensor]) -> str:
    """A warning if windows lack the BOS token that their model needs; else empty.

    windows  for each length (windows, length)
    """
    config = getattr(model, "config", None)
    own = getattr(_text_config(config), "bos_token_id", None)
    if not needs_bos(config) or not isinstance(own, int):
        return ""
    firsts = [number for group in windows for number in group[:, 0].tolist()]
    lacking = sum(number != own for number in firsts)
    if not lacking:
        return ""
    return (
        f"{lacking} of {len(firsts)} windows do not begin with the BOS token (id {own}), which "
        f"{_text_config(config).model_type} models need: their results can be far worse than "
        "the model is"
    )


def warn_lacking_bos(model: Any, windows: Iterable[Tensor]) -> None:
    """Warn callers of Python functions as `lacking_bos` does; commands say it themselves."""
    if warning := lacking_bos(model, windows):
        warnings.warn(warning, BosWarning, stacklevel=2)


def _text_config(config: Any) -> Any:
    """Models of text and images nest the config of the text."""
    try:
        return config.get_text_config()
    except (AttributeError, ValueError):  # it is no config of Transformers, or has several
        return config
