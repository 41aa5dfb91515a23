"""The model card of a pruned checkpoint, made from its `thanos.json`."""

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from thanos_torch.checkpoint.record import counted, layer_kind
from thanos_torch.checkpoint.terms import TERMS
from thanos_torch.pruning.plan import switch_words
from thanos_torch.pruning.recipe_file import recipe_lines
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.strangers import printable

CARD = "README.md"
OPTIONS = ("pattern", "method", "block_size", "damping", "refit_steps")

_PAGE = """---
{front}---

# {title}

{origin}, pruned with [Thanos](https://arxiv.org/abs/2504.05346): {removed:.2%} of the
weights of the pruned layers are zeros, which is {of_blocks:.2%} of all weights in its decoder
blocks. Zeros are stored as zeros: the checkpoint is dense.

| layers | number | pattern | method | block size | damping | refit steps | removed | certified |
| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |
{rows}

{switches}In n:m, n of every m weights in a row are **zeros**. {verdict}
A certificate proves from the weights before and after, and from the Gram matrix of the inputs,
that masks and kept weights are those of the method; it vouches for the weights as computed,
before rounding to {dtype}.

- Calibration: {windows:,} windows of {seqlen:,} tokens from {dataset} ({part}), seed {seed};
  SHA-256 of the {read} {sha256}; BOS token: {bos}
- Mean relative error of the layers' outputs on it: {error:.4f}
- Versions: {versions}
- `masks.safetensors` holds the masks, one bit a weight; `thanos reapply` sets them again after
  fine-tuning. `thanos inspect` tells whether the zeros still hold. `thanos.json` has all details.

{licence}

## Once more

{again}
"""


@checked()
def model_card(record: Mapping[str, Any]) -> str:
    """The model card: Markdown with the front matter that model hubs read.

    record  content of `thanos.json`
    """
    model, text, settings = record["model"], record["text"], record["settings"]
    layers = [layer for layer in record["layers"] if layer["options"]]
    verdict = counted(layers)
    return _PAGE.format(
        front=_front(model),
        title=_text(f"{_name(model['source'])}, {record['pattern']}"),
        origin=_text(model["origin"]),
        removed=record["sparsity"],
        of_blocks=record["block_sparsity"],
        rows="\n".join(_rows(record["layers"])),
        switches=_switches(layers),
        verdict=f"{verdict[0]} pruned layers passed their certificate{verdict[1]}.",
        dtype=record.get("dtype", model["dtype"]),
        windows=text["windows"],
        seqlen=text["seqlen"],
        dataset=_text(text["dataset"]),
        part=_text(text["part"]),
        seed=settings["seed"],
        read="text" if "text_sha256" in text else "token ids",
        sha256=text.get("text_sha256") or text["tokens_sha256"],
        bos=_bos(text),
        error=record["relative_error"],
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        licence=_licence(model),
        again=_again(record),
    )


def _bos(text: Mapping[str, Any]) -> str:
    """How the calibration windows begin, in words."""
    words = {
        "each": "in front of each window",
        "first": "in front of the text",
        "none": "not added",
        "tokenizer": "as the tokenizer adds it to a text",
    }
    own = "tokenizer" if "text_sha256" in text else ""
    return words.get(str(text.get("bos", own)), "as in the file")


def _front(model: Mapping[str, Any]) -> str:
    """The front matter. A hub knows no relation to the base model that means pruned: none is named.

    It has four, finetune, adapter, merge and quantized, and takes the first by itself.
    """
    lines = []
    if named := model.get("base_model"):
        lines += ["base_model:", *(f"- {_yaml(each)}" for each in named)]
    if model.get("licence"):
        lines.append(f"license: {_yaml(model['licence'])}")
    lines += ["library_name: transformers", "tags:", "- pruned", "- thanos"]
    return "\n".join(lines) + "\n"


_PLAIN = re.compile(r"[A-Za-z][\w.+/-]*", re.ASCII)
_WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _yaml(text: str) -> str:
    """A stranger's text as one value of the front matter, quoted unless it is a plain word."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else json.dumps(printable(text), ensure_ascii=False)


def _text(text: str) -> str:
    """A stranger's text on one line, without a meaning in Markdown or HTML."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", printable(text))


def _name(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2]


def _licence(model: Mapping[str, Any]) -> str:
    licence = model.get("licence")
    if not licence:
        return "No card of the base model says its licence: look it up before you share this."
    return f"Licence of the base model, as its card says: {_text(licence)}.{_terms(licence)}"


def _terms(licence: str) -> str:
    """What the terms of use behind a licence ask a changed model to say; empty without terms."""
    terms = TERMS.get(licence)
    if terms is None:
        return ""
    return (
        f"\n{terms.notice}.\n"
        "The weights of the layers above were **modified**. Their use is restricted by the\n"
        f"[prohibited use policy]({terms.policy}),\n"
        "which binds everyone who gets this model. If you pass it on, add a copy of the\n"
        f"[terms]({terms.address})."
    )


def _switches(layers: list[Mapping[str, Any]]) -> str:
    """A paragraph on switches that make Thanos another algorithm; empty if none is changed."""
    changed = [switch_words(layer["options"].get("ablation", {})) for layer in layers]
    words = dict.fromkeys(f"`{word}`" for group in changed for word in group)
    if not words:
        return ""
    number = sum(map(bool, changed))
    return (
        f"{number} of {len(layers)} layers are **not** pruned by the paper's algorithm, but with\n"
        f"switches of an ablation: {', '.join(words)}.\n\n"
    )


def _rows(layers: list[Mapping[str, Any]]) -> list[str]:
    kinds: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for layer in layers:
        kind = layer_kind(layer["name"], layer["shape"])
        options = {"pattern": "dense", **layer["options"]}
        words = switch_words(options.get("ablation", {}))
        options["method"] = ", ".join([options.get("method", ""), *words])
        kinds[(kind, *(str(options.get(key, "")) for key in OPTIONS))].append(layer)
    return [_row(kind, group) for kind, group in kinds.items()]


def _row(kind: tuple[str, ...], group: list[Mapping[str, Any]]) -> str:
    weights = sum(layer["shape"][0] * layer["shape"][1] for layer in group)
    removed = sum(layer["removed"] for layer in group) / weights
    certified = "".join(counted(group))
    if all(layer["asked_dense"] for layer in group):
        certified = "as asked"
    name, *options = map(_text, kind)
    cells = [name, str(len(group)), *options, f"{removed:.2%}", certified]
    return f"| {' | '.join(cells)} |"


def _again(record: Mapping[str, Any]) -> str:
    """The command that made the checkpoint, and its recipe if it has rules."""
    settings, asked = record["settings"], record["settings"]["asked"]
    words = ["thanos", "prune", settings["model"]]
    if not asked["rules"]:
        options = dict(asked["default"])
        words += ["--pattern", options["pattern"], "--method", options["method"]]
        words += ["--block-size", options["block_size"], "--damping", options["damping"]]
        words += ["--refit", options["refit_steps"]]
        for switch in switch_words(options.get("ablation", {})):
            words += ["--ablation", switch]
    else:
        words += ["--recipe", "recipe.toml"]
    for option in ("include", "exclude"):
        words += [word for glob in asked[option] for word in (f"--{option}", glob)]
    for option in ("dataset", "nsamples", "seqlen", "seed", "bos", "column"):
        words += [f"--{option}", settings[option]] if option in settings else []
    words += ["--chat"] if settings.get("chat") else []
    if "dtype" in record:
        words += ["--dtype", record["dtype"]]
    # The command asks for this option if n differs from m/2.
    words += ["--n-counts-zeros", "--out", "DIR"]
    lines = shlex.join(map(str, words)).splitlines()  # a path may hold the end of a line
    command = "\n".join(f"    {printable(line)}" for line in lines)
    if not asked["rules"]:
        return command
    recipe = "\n".join(f"    {line}".rstrip() for line in recipe_lines(asked))
    return f"{command}\n\nwith this recipe.toml:\n\n{recipe}"
