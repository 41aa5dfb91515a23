"""The layers of a block, dealt out over the ranks; their results go to the first one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from thanos_torch.models.failpoints import begin
from thanos_torch.models.inputs import InputGrams
from thanos_torch.models.layers import Layer
from thanos_torch.models.masks import PackedMask
from thanos_torch.models.ranks import Ranks
from thanos_torch.models.report import LayerRecord, PrunedLayer
from thanos_torch.models.rules import Choice, Dense, Plan
from thanos_torch.models.solving import Run, Solved, arithmetic_of
from thanos_torch.result import Diagnostics, Pruned
from thanos_torch.sharing import shared_factors


def prune_layers(
    run: Run,
    layers: Mapping[str, Layer],
    inputs: InputGrams,
    show: Callable[[str, int], None],
) -> None:
    """Prune the layers of a block in place, alone or with other ranks.

    Every layer is pruned by one rank, by the code and from the numbers of a process alone, so its
    result is the same bit for bit. Only the first rank's model is changed. All ranks raise the
    ValueError of any of them, which names the layer.
    """
    owners = dealt(layers, run.plan, run.ranks.count)
    done = len(run.report.layers)

    def solved() -> Iterator[tuple[str, Solved]]:
        with shared_factors():
            for number, (name, layer) in enumerate(layers.items()):
                if owners[name] == run.ranks.rank:
                    show(name.rpartition(".")[2], done + number)
                    begin("solve")
                    yield name, run.solve(name, layer, inputs.matrix(name))

    if run.ranks.count == 1:
        for name, each in solved():
            run.take(layers[name], each)
            inputs.forget(name)
            del each  # before the next layer is solved
        return
    own: dict[str, Solved] = {}

    def solve_own() -> dict[str, Any]:
        own.update(solved())
        return {name: _facts(each) for name, each in own.items()}

    facts = run.ranks.agree(solve_own)
    with run.watch.stage("exchange"):
        for name, layer in layers.items():
            owner, mine = owners[name], own.get(name)
            if run.ranks.first:
                sent = facts[owner][name]
                run.take(layer, mine or _receive(run, owner, layer, inputs.matrix(name), sent))
            elif mine and mine.result:
                _send(run.ranks, mine.result)
            inputs.forget(name)


def dealt(layers: Mapping[str, Layer], plan: Plan, count: int) -> dict[str, int]:
    """The rank of each layer: the most expensive first, each to whom has least to do so far."""
    load = [0] * count
    owners: dict[str, int] = {}
    for name in sorted(layers, key=lambda each: -_cost(layers[each], plan[each])):
        rank = load.index(min(load))
        load[rank] += _cost(layers[name], plan[name])
        owners[name] = rank
    return owners


def _cost(layer: Layer, choice: Choice) -> int:
    """Of a factorisation, and of products with it: their flops, but for a factor."""
    rows, columns = layer.shape
    return 0 if isinstance(choice, Dense) else columns**2 * (rows + columns)


def _facts(solved: Solved) -> dict[str, Any]:
    """JSON-able: all but the tensors, which travel by themselves."""
    losses = solved.result.pruned.block_losses.tolist() if solved.result else None
    return {"record": solved.record.as_dict(), "block_losses": losses}


def _send(ranks: Ranks, result: PrunedLayer) -> None:
    ranks.send_to_first(result.pruned.weight)
    ranks.send_to_first(torch.from_numpy(PackedMask.of(result.pruned.mask).bits))
    if result.before_refit is not None:
        ranks.send_to_first(result.before_refit)


def _receive(
    run: Run, owner: int, layer: Layer, gram: Tensor | None, facts: dict[str, Any]
) -> Solved:
    """What rank `owner` sends of a layer."""
    record = LayerRecord.from_dict(facts["record"])
    choice = run.plan[layer.name]
    if facts["block_losses"] is None or gram is None or isinstance(choice, Dense):
        return Solved(record)
    (rows, columns), dtype = layer.shape, arithmetic_of(layer)
    device = gram.device
    weight = run.ranks.receive(owner, layer.shape, dtype).to(device)
    bits = run.ranks.receive(owner, (-(-rows * columns // 8),), torch.uint8)
    mask = torch.from_numpy(PackedMask(bits.numpy(), layer.shape).unpacked()).to(device)
    losses = torch.tensor(facts["block_losses"], dtype=torch.float64, device=device)
    pruned = Pruned(weight, mask, losses, Diagnostics(**facts["record"]["diagnostics"]))
    before_refit = None
    if choice.refit_steps:
        before_refit = run.ranks.receive(owner, layer.shape, dtype).to(device)
    own = layer.read().to(dtype)
    return Solved(record, PrunedLayer(layer.name, own, gram.to(dtype), pruned, before_refit))
