"""`thanos prune --dry-run`: what a run would prune, and the memory and time it needs."""

import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from reference.patterns import Structured
from thanos_torch.checkpoint.load import DEFAULT_MODEL, check_source
from thanos_torch.checkpoint.model_class import build_model, read_config, refuse_endless
from thanos_torch.checkpoint.record import LayerRecord, ModelReport
from thanos_torch.checkpoint.shards import holds_weights, side_files
from thanos_torch.checkpoint.streamed import StreamedModel, quiet_transformers
from thanos_torch.methods.devices import is_host
from thanos_torch.network.layers import decoder_blocks
from thanos_torch.network.observe import input_table
from thanos_torch.network.replay import BATCH_TOKENS
from thanos_torch.pruning.plan import Choice, Dense, LayerOptions, Rules, begin_report
from thanos_torch.pruning.whole_model import plan_for
from thanos_torch.runtime.errors import reason_of
from thanos_torch.text.padding import real_windows

MEASURED_SIZE = 768  # rows and columns of the products that measure the machine's speed
SOLVER_FIXED = 32 * 2**20  # bytes that the solver takes whatever the layer
SOLVER_STEPS = 20  # conjugate-gradient steps in a block; 8 to 36 were seen
CERTIFICATE_MATRICES = 7  # float64 matrices of the size of W, and as many of the size of G

# The configuration of SmolLM2-135M-Instruct, so that a dry run need not download it.
_SMOLLM2: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class PlannedLayer:
    """A layer, and how a run would prune it.

    shape    (c, b)
    block    index of its decoder block
    reads    the first layer of its block that reads the same input; its own name if it is the first
    removed  how many weights would be removed
    """

    name: str
    shape: tuple[int, int]
    block: int
    reads: str
    choice: Choice
    removed: int

    @property
    def weights(self) -> int:
        """How many weights the layer has, c b."""
        return self.shape[0] * self.shape[1]


def meta_model(
    source: str, *, trust_remote_code: bool = False, written: torch.dtype | None = None
) -> Any:
    """A model on the meta device, without memory for its weights.

    written  the dtype of the result; None: that of the model

    Other arguments as of `load_model`. Raises ValueError if there is no such model, or if its
    weights are at hand and are not what `prune_checkpoint` takes.
    """
    from transformers import LlamaConfig

    check_source(source)
    path = Path(source)
    try:
        with quiet_transformers(), torch.device("meta"):
            if source == DEFAULT_MODEL:
                config: Any = LlamaConfig(**_SMOLLM2)
            elif path.is_file() and path.suffix == ".gguf":
                config = read_config(str(path.parent), gguf_file=path.name)
            else:
                config = read_config(source, trust_remote_code=trust_remote_code)
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
    if source.count("/") == 1 and not folder.exists():
        cached = try_to_load_from_cache(source, "config.json")
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

    The report has numbers of weights alone, as if tokens reached every layer. Errors as of
    `prune_model`.
    """
    table = next(iter(input_table(model).values()), None)
    windows = torch.arange(seqlen)[None] % (len(table.stored) if table else 1)
    [whole] = real_windows(model, windows)
    seen, plan = plan_for(model, whole.ids, rules)
    report = begin_report(seen, rules, {})
    layers = [
        PlannedLayer(
            name,
            layer.shape,
            index,
            seen.reads.get(name, name),
            plan[name],
            plan[name].removed(layer.shape),
        )
        for index, group in enumerate(seen.layers)
        for name, layer in group.items()
    ]
    for layer in layers:
        reason = layer.choice.reason if isinstance(layer.choice, Dense) else ""
        report.layers.append(
            LayerRecord(
                layer.name, layer.shape, layer.removed, left_dense=reason, asked_dense=bool(reason)
            )
        )
    return layers, report


@dataclass(frozen=True)
class Speed:
    """How fast this machine is.

    single, double  operations a second in matrix products, float32 and float64
    elements        numbers a second in passes over a float32 tensor
    """

    single: float
    double: float
    elements: float


def measure_speed() -> Speed:
    """Measure this machine's CPU for about a second, with torch's number of threads."""
    A = torch.rand(MEASURED_SIZE, MEASURED_SIZE)
    B, C = A.double(), torch.rand(2**23)
    operations = 2 * MEASURED_SIZE**3
    return Speed(
        operations / _best_time(lambda: A @ A),
        operations / _best_time(lambda: B @ B),
        len(C) / _best_time(lambda: C.mul(2.0)),
    )


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


def time_parts(
    layers: Sequence[PlannedLayer], tokens: int, seqlen: int, speed: Speed
) -> dict[str, float]:
    """Estimate the seconds of each stage, as `prune_model` reports them.

    tokens  windows times their length, which is seqlen
    """
    parts = dict.fromkeys(("calibration", "gram", "pruning", "certificates"), 0.0)
    for layer in layers:
        (rows, columns), numbers = layer.shape, layer.weights
        # Every block runs twice: to collect Gram matrices, and to hand on what it puts out.
        parts["calibration"] += 2 * 2 * tokens * numbers / speed.single
        if layer.reads == layer.name:
            # Attention, whose scores and sums are as wide as what a layer reads, once a block.
            parts["calibration"] += 2 * 2 * tokens * seqlen * columns / speed.single / 2
        if not isinstance(layer.choice, LayerOptions):
            continue
        if layer.reads == layer.name:
            parts["gram"] += 2 * tokens * columns**2 / speed.single
        parts["pruning"] += _pruning(layer.choice, rows, columns, speed)
        # Two factors, an inverse, and the products of the replay and of distances.
        work = 2 * columns**3 + 8 * rows * columns**2 + _systems(layer.choice, rows, columns)
        parts["certificates"] += work / speed.double + 60 * numbers / speed.elements
    return parts


def _systems(options: LayerOptions, rows: int, columns: int) -> float:
    """Operations for the linear systems of a certificate, one for each row and block.

    Counted sixteen times: on systems of some 64 unknowns LAPACK reaches a sixteenth of the speed
    of matrix products.
    """
    if options.method != "thanos" or isinstance(options.pattern, Structured):
        return 0.0
    width = min(options.block_size, columns)
    return 16 * rows * (columns / width) * (2 / 3) * (width / 2) ** 3


def _pruning(options: LayerOptions, rows: int, columns: int, speed: Speed) -> float:
    """Estimate the seconds to prune one layer."""
    numbers, blocks = rows * columns, max(1, columns // options.block_size)
    refit = options.refit_steps * 2 * rows * columns**2 / speed.single
    if options.method in ("magnitude", "wanda"):
        return 20 * numbers / speed.elements + refit
    factor = columns**3 / speed.double
    updates = rows * columns**2 / speed.single
    if options.method == "sparsegpt":  # column by column: each passes over its block
        width = min(options.block_size, columns)
        return factor + updates + refit + 2 * numbers * width / speed.elements
    if isinstance(options.pattern, Structured):
        return factor + updates + refit + 20 * numbers / speed.elements
    width = min(options.block_size, columns)
    steps = SOLVER_STEPS * (2 * numbers * width / speed.single + 8 * numbers / speed.elements)
    masks = 8 * numbers * (blocks + 1) / 2 / speed.elements
    return factor + updates + steps + masks + refit


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


def _best_time(work: Callable[[], object]) -> float:
    """Seconds, the least of five; the first time is a warm-up."""
    return min(timeit.repeat(work, number=1, repeat=6)[1:])
