"""A packed model at work: the same logits, compact layers in place."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.checkpoint.packs import ROWS, forge, pruned
from tests.models.families import FAMILIES
from tests.models.tiny import random_windows
from thanos_torch.checkpoint.packed_format import PackedFolder
from thanos_torch.forms import CompactLinear
from thanos_torch.models import load_model, load_packed, pack_checkpoint


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A folder with a Llama: `dense`, `pruned` by whole columns, and `packed`."""
    pack_checkpoint(pruned("Llama", ROWS, tmp_path), tmp_path / "packed")
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_those_of_the_pruned_model(family: str, tmp_path: Path) -> None:
    folder = pruned(family, ROWS, tmp_path)
    pack_checkpoint(folder, tmp_path / "packed")
    packed = load_packed(tmp_path / "packed")
    layers = FAMILIES[family].block(0) | FAMILIES[family].block(1)
    experts = {name for name in layers if ".experts." in name}
    assert set(packed.compact) == layers.keys() - experts
    assert set(packed.dense) == experts
    for name in packed.compact:
        assert isinstance(packed.loaded.model.get_submodule(name), CompactLinear), name
    with torch.no_grad():
        found = packed.loaded.model(random_windows()).logits
        expected = load_model(str(folder)).model(random_windows()).logits
    # Sums in another order, through two blocks whose norms may enlarge it: a thousand roundings.
    assert (found - expected).abs().max() <= 1000 * 2**-24 * expected.abs().max()
    assert not torch.equal(
        expected, load_model(str(tmp_path / "dense")).model(random_windows()).logits
    )


def test_it_generates_with_a_cache(llama: Path) -> None:
    ids = random_windows()[:1, :8]
    options = {"max_new_tokens": 8, "do_sample": False}
    found = load_packed(str(llama / "packed")).loaded.model.generate(ids, **options)
    assert torch.equal(found, load_model(str(llama / "pruned")).model.generate(ids, **options))


def test_other_forms_run_dense(tmp_path: Path) -> None:
    folder = pruned("Llama", "2:4", tmp_path)
    pack_checkpoint(folder, tmp_path / "packed")
    packed = load_packed(tmp_path / "packed")
    assert not packed.compact
    assert set(packed.dense.values()) == {"nm is a form to store, not one to run"}
    with torch.no_grad():
        found = packed.loaded.model(random_windows()).logits
        assert torch.equal(found, load_model(str(folder)).model(random_windows()).logits)


def test_the_model_takes_less_memory(tmp_path: Path) -> None:
    folder = pruned("Llama", ROWS, tmp_path)
    sizes = pack_checkpoint(folder, tmp_path / "packed")
    model = load_packed(tmp_path / "packed").loaded.model
    kept = [each for each in model.modules() if isinstance(each, CompactLinear)]
    removed = sum(each.removed.nbytes for each in kept)
    held = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    buffers = sum(tensor.nbytes for tensor in load_model(str(folder)).model.buffers())
    assert held == sizes.pruned[1] + removed + sizes.others[1] + buffers


def test_a_compact_layer_is_never_made_dense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its dense weight would make the peak of the process that of the dense model, or more."""
    folder = pruned("OPT", ROWS, tmp_path)
    pack_checkpoint(folder, tmp_path / "packed")
    read: list[str] = []

    def reading(packed: PackedFolder, name: str, plain: Any = PackedFolder.read) -> Any:
        read.append(name)
        return plain(packed, name)

    monkeypatch.setattr(PackedFolder, "read", reading)
    packed = load_packed(tmp_path / "packed")
    weights = {f"{name}.weight" for name in packed.compact}
    assert weights
    assert not weights & set(read)
    assert {f"{name}.bias" for name in packed.compact} <= set(read)


def test_weights_that_are_missing_are_named(llama: Path) -> None:
    file = llama / "packed" / "config.json"
    file.write_text(file.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    forge(llama / "packed")
    with pytest.raises(ValueError, match=r"lacks weights: model.layers.2"):
        load_packed(llama / "packed")
