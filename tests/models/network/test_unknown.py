"""Architectures that nobody here has heard of: found by structure, or refused with the reason."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.tiny import prune, random_windows
from thanos_torch.models import PrunedLayer


class Mixture(nn.Module):
    """Two experts of one layer, stored inputs first; one for each half of the columns' signs."""

    is_transposed = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 2)
        self.weight = nn.Parameter(torch.randn(2, 12, 16))

    def forward(self, states: Tensor) -> Tensor:
        flat = states.flatten(0, -2)  # (tokens, 12)
        chosen = self.gate(flat).argmax(dim=-1)
        mixed = flat.new_zeros(len(flat), 16)
        for expert in range(2):
            mixed[chosen == expert] = flat[chosen == expert] @ self.weight[expert]
        return mixed.view(*states.shape[:-1], 16)


class Stage(nn.Module):
    """Returns more than its states, and takes an argument of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.mixture = Mixture()
        self.narrow = nn.Linear(16, 12)

    def forward(self, states: Tensor, *, scale: Tensor) -> tuple[Tensor, str]:
        return states + scale * self.narrow(self.mixture(states).relu()), "and more"


class Unheard(nn.Module):
    """Not Transformers' at all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.vocabulary = nn.Embedding(256, 12)
        self.trunk = nn.ModuleDict({"stages": nn.ModuleList(Stage() for _ in range(3))})
        self.out = nn.Linear(12, 256)

    def forward(self, ids: Tensor, use_cache: bool = True) -> Tensor:
        states = self.vocabulary(ids)
        stages: Any = self.trunk["stages"]
        for index, stage in enumerate(stages):
            states, _ = stage(states, scale=torch.tensor(1 / (index + 1)))
        logits: Tensor = self.out(states)
        return logits


def test_a_list_of_blocks_is_enough() -> None:
    model = Unheard()
    before = copy.deepcopy(model.state_dict())
    seen: dict[str, PrunedLayer] = {}
    report = prune(model, "2:4", on_layer=lambda layer: seen.update({layer.name: layer}))
    assert report.verified
    assert {record.name: record.shape for record in report.layers} == {
        f"trunk.stages.{index}.{name}": shape
        for index in range(3)
        for name, shape in {
            "mixture.0.weight": (16, 12),
            "mixture.1.weight": (16, 12),
            "narrow": (12, 16),
        }.items()
    }
    assert report.others == [f"trunk.stages.{index}.mixture.gate.weight" for index in range(3)]
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    kinds = ("mixture.weight", "narrow.weight")
    assert changed == {f"trunk.stages.{i}.{kind}" for i in range(3) for kind in kinds}

    states = before["vocabulary.weight"][random_windows()].flatten(0, 1)
    gate = before["trunk.stages.0.mixture.gate.weight"], before["trunk.stages.0.mixture.gate.bias"]
    chosen = (states @ gate[0].T + gate[1]).argmax(dim=-1)
    for expert in range(2):
        own = states[chosen == expert]
        gram = seen[f"trunk.stages.0.mixture.{expert}.weight"].gram
        assert torch.allclose(gram, own.T @ own, rtol=1e-5, atol=1e-3)


class Together(Mixture):
    """Computes all experts for all tokens, and picks afterwards."""

    def forward(self, states: Tensor) -> Tensor:
        both = torch.einsum("...b,ebc->...ec", states, self.weight)
        chosen = self.gate(states).argmax(dim=-1)[..., None, None].expand(*states.shape[:-1], 1, 16)
        return both.gather(-2, chosen).squeeze(-2)


def experts_all_at_once(model: Any) -> None:
    for stage in model.trunk["stages"]:
        stage.mixture = Together()


def no_list(model: Any) -> None:
    model.trunk = nn.ModuleDict({"stage": Stage()})


def unused(model: Any) -> None:
    model.trunk["stages"] = nn.ModuleList([Stage() for _ in range(3)])
    model.forward = lambda ids, use_cache: model.vocabulary(ids)


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "experts all at once": (
        experts_all_at_once,
        r"^trunk.stages.0.mixture.weight: what reaches it cannot be told, .* aten.clone",
    ),
    "no list": (no_list, r"^model Unheard has no prunable layers: no list of decoder blocks"),
    "unused": (unused, r"^Unheard does not run its decoder block 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_and_left_as_it_was(case: str) -> None:
    spoil, message = REFUSED[case]
    model = Unheard()
    spoil(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        prune(model, "2:4")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
