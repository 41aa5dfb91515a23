"""One look a block on a device: nothing waits between its layers. CPU tensors pretend."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models import tiny
from thanos_torch.checkpoint.streamed import StreamedModel
from thanos_torch.methods.checks import Checks
from thanos_torch.models import prune_checkpoint, prune_model
from thanos_torch.pruning import plan

# Operations whose result Python, or the shape of a tensor, waits for.
WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero"}
BLOCKS = 3  # of the model
WINDOWS = torch.arange(64).reshape(2, 32) % 50


@pytest.fixture(autouse=True)
def cpu_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors are worked on as a device's are, by PyTorch alone."""
    monkeypatch.setattr("thanos_torch.methods.devices.HOSTS", frozenset())
    monkeypatch.setattr("thanos_torch.methods.strategy.has_kernels", lambda _: False)
    monkeypatch.setattr("thanos_torch.methods.solver.DeviceSolver.max_steps", 8)


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the name of every operation that waits for a device."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen

    def __torch_dispatch__(
        self, function: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function._schema.name.rpartition("::")[2]
        if name in WAITS:
            self._seen.append("wait")
        return function(*args, **(kwargs or {}))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happens in a run, in order: layers pruned, looks, and other waits."""
    events: list[str] = []

    def noting(event: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            events.append(event)
            return function(*args, **kwargs)

        return noted

    monkeypatch.setitem(plan.METHODS, "thanos", noting("layer", plan.METHODS["thanos"]))
    monkeypatch.setattr(Checks, "look", noting("look", Checks.look))
    for name in ("tolist", "numpy", "cpu"):
        monkeypatch.setattr(Tensor, name, noting("wait", getattr(Tensor, name)))
    with Waits(events):
        yield events


def blocks_of(events: list[str]) -> Iterator[list[str]]:
    """The events from the first layer of every block to its look, and the wait in it."""
    rest = events
    while "layer" in rest:
        rest = rest[rest.index("layer") :]
        end = rest.index("look") + 1
        yield [*rest[:end], *rest[end : end + 1]]
        rest = rest[end:]


def test_a_block_is_looked_at_once(seen: list[str]) -> None:
    model = tiny.random_model(tiny.llama_config())
    report = prune_model(model, WINDOWS, "unstructured:0.5", judge=None)
    assert [*blocks_of(seen)] == [["layer"] * 7 + ["look", "wait"]] * BLOCKS
    assert len(report.layers) == 7 * BLOCKS
    assert seen.count("look") == BLOCKS


def test_results_are_those_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = (tiny.random_model(tiny.llama_config()) for _ in range(2))
    report = prune_model(found, WINDOWS, "2:4", refit_steps=3)
    assert report.verified
    assert all(layer.stored_exactly and layer.removed for layer in report.layers)
    monkeypatch.setattr("thanos_torch.methods.devices.HOSTS", {"cpu"})
    plain = prune_model(expected, WINDOWS, "2:4", refit_steps=3)
    for one, other in zip(report.layers, plain.layers, strict=True):
        assert torch.equal(report.masks[one.name].bits, plain.masks[other.name].bits)
        assert one.relative_error == pytest.approx(other.relative_error, rel=1e-4)


def spoiled_weight(layers: Mapping[str, Any]) -> None:
    layers["model.layers.1.mlp.up_proj"].weight[3, 5] = torch.inf


def spoiled_input(layers: Mapping[str, Any]) -> None:
    layers["model.layers.1.post_attention_layernorm"].weight[2] = torch.nan


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoiled_weight, r"^model\.layers\.1\.mlp\.up_proj: weight must be finite.*\[3, 5\] = inf"),
        (
            spoiled_input,
            r"^calibration input of model\.layers\.1\.mlp\.gate_proj: batch .* in column 2",
        ),
    ],
)
def test_the_look_names_the_layer(spoil: Callable[[Any], None], message: str) -> None:
    model = tiny.random_model(tiny.llama_config())
    with torch.no_grad():
        spoil(dict(model.named_modules()))
    with pytest.raises(ValueError, match=message):
        prune_model(model, WINDOWS, "2:4", judge=None)


def test_unfinished_layers_are_completed_by_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thanos_torch.methods.solver.DeviceSolver.max_steps", 0)
    report = prune_model(tiny.random_model(tiny.llama_config()), WINDOWS, "2:4")
    assert report.verified
    assert all(layer.diagnostics["direct_rows"] for layer in report.layers)


def test_the_next_block_is_read_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: Path
) -> None:
    """Every block but the first is read by the thread, and is that of the checkpoint."""
    read: list[int] = []
    load = StreamedModel.load_block

    def noting(self: Any, index: int, files: Any = None, tensors: Any = None) -> None:
        if tensors:
            read.append(index)
            own = self.read_block(index)
            assert all(torch.equal(tensors[name], own[name]) for name in own)
        load(self, index, files, tensors)

    monkeypatch.setattr(StreamedModel, "load_block", noting)
    options: Any = {"judge": None, "record": {"settings": {}}, "activations": "memory"}
    record = prune_checkpoint(StreamedModel(dense), WINDOWS, "2:4", tmp_path / "out", **options)
    assert len(record["layers"]) == 7 * BLOCKS
    assert read == [*range(1, BLOCKS)]
