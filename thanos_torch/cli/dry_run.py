"""`thanos prune --dry-run`: what would be pruned, and what it will take."""

from collections import defaultdict

from thanos_torch.cli.display import say, table
from thanos_torch.models import LayerOptions, Rules
from thanos_torch.models.estimate import measure_speed, memory_parts, time_parts
from thanos_torch.models.planning import PlannedLayer, meta_model, planned_layers
from thanos_torch.models.prune_checkpoint import refuse_activations
from thanos_torch.models.windows import at_least_one

PLAN_HEADINGS = ["layers", "number", "asked for", "weights", "removed", "sparsity"]


def show_plan(
    model: str,
    rules: Rules,
    asked: str,
    nsamples: int,
    seqlen: int,
    activations: str,
    *,
    trust_remote_code: bool,
) -> None:
    """Print it; nothing is loaded but the model's configuration, and nothing written.

    Raises ValueError for what the run itself would refuse.
    """
    at_least_one("nsamples", nsamples)
    at_least_one("seqlen", seqlen)
    refuse_activations(activations)
    built = meta_model(model, trust_remote_code=trust_remote_code)
    layers = planned_layers(built, rules)
    tokens = nsamples * seqlen
    memory = memory_parts(built, layers, tokens, held_activations=activations == "memory")
    seconds = time_parts(layers, tokens, seqlen, measure_speed())
    table(f"Dry run, {asked}: {model}", PLAN_HEADINGS, _rows(layers))
    weights = sum(_weights(layer) for layer in layers)
    removed = sum(layer.removed for layer in layers)
    say(f"{removed} of {weights} weights ({removed / weights:.2%}) would be removed.")
    parts = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in memory.items())
    say(f"Memory, ESTIMATED: {sum(memory.values()) / 2**20:.0f} MiB ({parts}).")
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    say(
        f"Time, ESTIMATED from this machine's speed just now: {sum(seconds.values()):.0f} s "
        f"({parts}), on the CPU, without loading and saving."
    )
    say("Estimates may be off by a factor of two. Nothing was loaded, nothing was written.")


def _rows(layers: list[PlannedLayer]) -> list[list[str]]:
    """One line for each kind of layer, as in PLAN_HEADINGS."""
    kinds: dict[tuple[str, str], list[PlannedLayer]] = defaultdict(list)
    for layer in layers:
        choice = layer.choice
        asked = choice.described() if isinstance(choice, LayerOptions) else "dense"
        shape = f"{layer.shape[0]} x {layer.shape[1]}"
        kinds[f"{layer.name.rpartition('.')[2]} {shape}", asked].append(layer)
    rows = []
    for (kind, asked), group in kinds.items():
        weights = sum(_weights(layer) for layer in group)
        gone = sum(layer.removed for layer in group)
        cells = [str(weights), str(gone), f"{gone / weights:.2%}"]
        rows.append([kind, str(len(group)), asked, *cells])
    return rows


def _weights(layer: PlannedLayer) -> int:
    return layer.shape[0] * layer.shape[1]
