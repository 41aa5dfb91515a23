"""`thanos prune --dry-run`: what a run would prune, and the memory it needs."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from thanos_torch.checkpoint.hub import hub_model
from thanos_torch.checkpoint.load import any_config, check_source
from thanos_torch.checkpoint.model_class import build_model, refuse_endless
from thanos_torch.checkpoint.record import NOT_REACHED, LayerRecord, ModelReport
from thanos_torch.checkpoint.shards import holds_weights, side_files
from thanos_torch.checkpoint.streamed import StreamedModel, quiet_transformers
from thanos_torch.methods.devices import is_host
from thanos_torch.network.layers import decoder_blocks
from thanos_torch.network.observe import input_table
from thanos_torch.network.replay import BATCH_TOKENS
from thanos_torch.pruning.cost import PlannedLayer, layers_to_prune
from thanos_torch.pruning.plan import Dense, LayerOptions, Rules, begin_report
from thanos_torch.pruning.whole_model import plan_for
from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.padding import real_windows

SOLVER_FIXED = 32 * 2**20  # bytes that the solver takes whatever the layer
CERTIFICATE_MATRICES = 7  # float64 matrices of the size of W, and as many of the size of G

_NUMBER = re.compile(r"\b\d+\b")  # of a block or an expert


def meta_model(
    source: str, *, trust_remote_code: bool = False, written: torch.dtype | None = None
) -> Any:
    """A model on the meta device, without memory for its weights.

    written  the dtype of the result; None: that of the model

    Other arguments as of `load_model`. Raises ValueError if there is no such model, or if its
    weights are at hand and are not what `prune_checkpoint` takes.
    """
    check_source(source)
    try:
        with quiet_transformers(), torch.device("meta"):
            config = any_config(source, trust_remote_code)
            refuse_endless(config)
            dtype = config.dtype or torch.float32
            dtype = torch.promote_types(dtype, written or dtype)
            if folder := _weights_at_hand(source):
                side_files(folder)  # refuses what cannot be copied
                trusted = {"trust_remote_code": trust_remote_code}
                dtype = StreamedModel(folder, **trusted, dtype=written).model.dtype
            return build_model(config, dtype, trust_remote_code).eval()
    except (Exception, SystemExit) as error:  # readers of configurations raise what they like
        reason = reason_of(error)
        raise ValueError(f"model {source!r} cannot be planned for: {reason}") from error


def _weights_at_hand(source: str) -> Path | None:
    """The folder of a checkpoint, or of a hub model in the hub's cache, if weights are in it."""
    from huggingface_hub import try_to_load_from_cache

    folder = Path(source)
    model = None if folder.exists() else hub_model(source)
    if model:
        cached = try_to_load_from_cache(model.repository, "config.json", revision=model.revision)
        folder = Path(cached).parent if isinstance(cached, str) else folder
    held = folder.is_dir() and any(holds_weights(file.name) for file in folder.iterdir())
    return folder if held else None


def planned_layers(model: nn.Module, rules: Rules, seqlen: int = 8) -> list[PlannedLayer]:
    """The layers of `planned_run`."""
    layers, _ = planned_run(model, rules, seqlen)
    return layers


def planned_run(
    model: nn.Module, rules: Rules, seqlen: int
) -> tuple[list[PlannedLayer], ModelReport]:
    """Every layer that could be pruned, in the order of the run, and the report of that run.

    seqlen  tokens of a window

    The report has numbers of weights alone, as if tokens reached every layer, except those of which
    the model runs none of the same kind: for example cross-attentions. Errors as of `prune_model`.
    """
    table = next(iter(input_table(model).values()), None)
    windows = torch.arange(seqlen)[None] % (len(table.stored) if table else 1)
    [whole] = real_windows(model, windows)
    seen, plan = plan_for(model, whole.ids, rules)
    report = begin_report(seen, rules, {})
    runs = {_NUMBER.sub("*", name) for name in seen.reads}
    layers = []
    for layer in layers_to_prune(seen, plan):
        reached = _NUMBER.sub("*", layer.name) in runs
        layers.append(layer if reached else replace(layer, removed=0))
        asked = layer.choice.reason if isinstance(layer.choice, Dense) else ""
        reason = asked or ("" if reached else NOT_REACHED)
        removed = layers[-1].removed
        report.layers.append(
            LayerRecord(
                layer.name, layer.shape, removed, left_dense=reason, asked_dense=bool(asked)
            )
        )
    return layers, report


def memory_parts(
    model: nn.Module,
    layers: Sequence[PlannedLayer],
    tokens: int,
    *,
    held_activations: bool = False,
    device: str = "cpu",
) -> dict[str, float]:
    """Estimate the peak memory of `prune_checkpoint` in bytes, by what takes it.

    On a device the parts from the activations on are the device's, and one block.

    model             on the meta device, as of `meta_model`
    tokens            windows times their length
    held_activations  the activations of all batches are in memory, not only those of one
    device            where blocks are pruned: on another than the CPU, all layers of a block at
                      once, while the next block is read
    """
    chosen = [layer for layer in layers if isinstance(layer.choice, LayerOptions)]
    block, outside = _sizes(model, tokens)
    held = tokens if held_activations else 2 * BATCH_TOKENS
    width, widest = _hidden_size(model), max(max(layer.shape) for layer in layers)
    element = next(model.parameters()).element_size()
    grams: dict[int, int] = {}
    for layer in chosen:
        if layer.reads == layer.name:
            grams[layer.block] = grams.get(layer.block, 0) + 4 * layer.shape[1] ** 2
    solver = max(2 * 4 * (layer.weights + layer.shape[1] ** 2) for layer in chosen)
    # Weights, results and masks of a block's layers, and the factors of its Gram matrices.
    waiting = dict(grams)
    for layer in chosen:
        waiting[layer.block] = waiting.get(layer.block, 0) + (4 + 4 + 1) * layer.weights
    ahead = (
        {}
        if is_host(device)
        else {"next block": block, "results of a block": max(waiting.values())}
    )
    judge = max(8 * (layer.weights + layer.shape[1] ** 2) for layer in chosen)
    return {
        "program and libraries": psutil.Process().memory_info().rss,
        "outside of the blocks": outside,
        # It is read again once it is written, and compared.
        "block": 2 * block,
        **ahead,
        "activations": held * width * element + 4 * BATCH_TOKENS * widest * element,
        "Gram matrices of a block": max(grams.values(), default=0),
        "solver": solver + SOLVER_FIXED,
        "certificate": CERTIFICATE_MATRICES * judge,
    }


def written_bytes(model: nn.Module, written: torch.dtype | None = None) -> int:
    """Bytes of the result's weights; `model` and `written` as of `meta_model`."""
    return sum(weight.numel() * (written or weight.dtype).itemsize for weight in model.parameters())


def _sizes(model: nn.Module, tokens: int) -> tuple[int, int]:
    """Bytes of the largest decoder block, and of the weights that are held outside of the blocks.

    The latter leave out the output head and the rows of the embedding that no token reads.
    """
    blocks = decoder_blocks(model).values()
    build: Any = model  # a Transformers model, whose methods lack type hints
    head, tables = build.get_output_embeddings(), [*input_table(model).values()]
    tied = head is None or any(head.weight is table.stored for table in tables)
    sizes = [_bytes(block) for block in blocks]
    rest = _bytes(model) - sum(sizes) - (0 if tied else _bytes(head))
    unread = sum(max(0, len(table.stored) - tokens) * table.stored[0].nbytes for table in tables)
    return max(sizes), rest - unread


def _bytes(module: nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


def _hidden_size(model: nn.Module) -> int:
    """Numbers for each token in the output of a decoder block: as a rule the size of its norms."""
    block, *_ = decoder_blocks(model).values()
    size = getattr(getattr(model, "config", None), "hidden_size", None)
    return int(size or next(block.parameters()).shape[-1])
