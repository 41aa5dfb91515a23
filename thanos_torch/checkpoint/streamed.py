"""Stream a model from disk: one decoder block at a time, everything else stays in memory."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import reduce
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from thanos_torch.checkpoint.converted import converted, converted_whole, has_room
from thanos_torch.checkpoint.fit import note_dtypes, refuse_unfit
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.model_class import build_model, read_config, refuse_endless
from thanos_torch.checkpoint.shards import (
    describe_tensors,
    join,
    model_files,
    read_rows,
    read_tensors,
    write_shard,
)
from thanos_torch.network.layers import PrunableLayer, block_of, decoder_blocks, prunable_layers
from thanos_torch.network.replay import keep_rows
from thanos_torch.runtime.arguments import checked
from thanos_torch.runtime.files import begin, whole_file


class Conversion:
    """Converts between the tensors of a checkpoint and the parameters and buffers of a model."""

    def __init__(self, model: Any) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        self._model = model
        self._transforms: list[Any] = list(get_model_conversion_mapping(model))
        self._renamings = [each for each in self._transforms if isinstance(each, WeightRenaming)]
        self._converters = [each for each in self._transforms if isinstance(each, WeightConverter)]
        self._known = model.state_dict()

    def place(self, name: str) -> tuple[str, bool]:
        """The model's name for a checkpoint's tensor, and whether its numbers are rearranged."""
        from transformers.core_model_loading import rename_source_key

        base = self._model.base_model_prefix
        place, pattern = rename_source_key(
            name, self._renamings, self._converters, base, self._known
        )
        if place not in self._known and name in self._known:
            place, pattern = rename_source_key(name, [], [], base, self._known)
        return str(place), pattern is not None

    def load(self, tensors: Mapping[str, Tensor]) -> Any:
        """Put checkpoint tensors into the model, in the dtypes that `from_pretrained` would choose.

        Either all tensors or none are on the meta device. Returns Transformers' report on missing
        and unexpected tensors. Raises ValueError for a tensor of another shape.
        """
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        device = next((tensor.device.type for tensor in tensors.values()), "cpu")
        config = LoadStateDictConfig(
            device_map={"": device},
            dtype=self._model.dtype,
            dtype_plan=self._model._get_dtype_plan(self._model.dtype),
            weight_mapping=self._transforms,
        )
        account, _ = convert_and_load_state_dict_in_model(self._model, dict(tensors), config)
        failed = [*account.conversion_errors.values(), *account.error_msgs]
        if failed:
            raise ValueError(str(failed[0]).splitlines()[0])
        for name, found, expected in account.mismatched_keys:
            raise ValueError(f"{name} has shape {tuple(found)}, expected {tuple(expected)}")
        return account

    def revert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a part of the model's state to the checkpoint's names and layout.

        Only after all tensors were loaded once, on the meta device or with content.
        """
        from transformers.core_model_loading import revert_weight_conversion

        reverted: dict[str, Tensor] = revert_weight_conversion(self._model, dict(state))
        return reverted


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers' bars and advice off the terminal; errors still come as exceptions."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        # The GGUF reader's bar asks nobody whether bars are wanted.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(before)


class Skeleton:
    """The model of a checkpoint folder without its weights, on the meta device.

    Buffers that checkpoints leave out are there. The dtype is that of config.json, or a wider one
    if the weight of a layer would not fit. A result in another dtype needs room for every tensor.

    model       the language model, in evaluation mode
    conversion  between the checkpoint's tensors and the model's
    places      as of `Conversion.place`, for every tensor
    """

    def __init__(
        self,
        folder: Path,
        described: Mapping[str, Tensor],
        trust_remote_code: bool,
        written: torch.dtype | None = None,
    ) -> None:
        """Raises ValueError for a quantised model, and for tensors that are not the model's.

        described  the tensors of the checkpoint, on the meta device
        written    the dtype of the result; None: as the checkpoint has each tensor
        """
        with quiet_transformers():
            config = read_config(str(folder), trust_remote_code=trust_remote_code)
        refuse_endless(config, len(described))
        kinds = [each.dtype for each in described.values() if each.is_floating_point()]
        dtype = config.dtype or next(iter(kinds), torch.float32)
        self._build(config, dtype, described, trust_remote_code)
        refuse_unfit(self.model, self.places, described)
        widest = note_dtypes(self.model, self.places, described) or dtype
        if written:  # also for what is not pruned, so that it is rounded once
            widest = reduce(torch.promote_types, kinds, written)
        if (wider := torch.promote_types(dtype, widest)) != dtype:
            self._build(config, wider, described, trust_remote_code)
            note_dtypes(self.model, self.places, described)

    def _build(
        self, config: Any, dtype: torch.dtype, names: Iterable[str], trust_remote_code: bool
    ) -> None:
        from accelerate import init_empty_weights

        with quiet_transformers(), init_empty_weights(include_buffers=False):
            model = build_model(config, dtype, trust_remote_code)
        self.model: Any = model.eval()
        self.conversion = Conversion(self.model)
        self.places = {name: self.conversion.place(name) for name in names}


def _tied_names(model: Any) -> dict[str, list[str]]:
    """For every name of a tied weight its other names, the one that owns it first."""
    groups: dict[str, list[str]] = {}
    for target, source in getattr(model, "all_tied_weights_keys", {}).items():
        groups.setdefault(source, [source]).append(target)
    return {
        name: [each for each in group if each != name]
        for group in groups.values()
        for name in group
    }


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model's parameters hold; tied ones count once, read or not yet read."""
    tied = getattr(model, "all_tied_weights_keys", {})
    own = {
        id(weight): weight.numel()
        for name, weight in model.named_parameters(remove_duplicate=False)
        if name not in tied
    }
    return sum(own.values())


class StreamedModel:
    """A model built from a checkpoint's config.json, whose weights are read when they are needed.

    Until then they are on the meta device.

    model    the language model, in evaluation mode
    folder   the checkpoint's folder
    trust_remote_code  whether code in the folder may run
    dtype    what all floating-point tensors are to be written in; None: as the checkpoint has each
    files    the file of every tensor of the checkpoint
    dtypes   the dtype of every tensor
    shapes   the shape of every tensor
    sizes    the bytes of every tensor
    written  every tensor as it is to be written, on the meta device
    blocks   the decoder blocks by name
    outside  names of the checkpoint's tensors outside of the decoder blocks, or in several
    inside   for each decoder block, names of the checkpoint's tensors in it alone
    """

    @checked()
    def __init__(
        self, folder: Path, *, trust_remote_code: bool = False, dtype: torch.dtype | None = None
    ) -> None:
        """Raises ValueError if the checkpoint's tensors are not those of the model.

        Also for quantised weights, and for tensors that are missing or have other shapes.
        """
        self.folder, self.trust_remote_code, self.dtype = folder, trust_remote_code, dtype
        self.files = model_files(folder)
        described = describe_tensors(self.files)
        self.dtypes = {name: tensor.dtype for name, tensor in described.items()}
        self.shapes = {name: tuple(tensor.shape) for name, tensor in described.items()}
        self.sizes = {name: tensor.nbytes for name, tensor in described.items()}
        built = Skeleton(folder, described, trust_remote_code, dtype)
        self.model, self._conversion, self._places = built.model, built.conversion, built.places
        self.blocks = decoder_blocks(self.model)
        self._untie()
        self._tied = _tied_names(self.model)
        self._refuse_missing(described)
        self.written = {name: converted(described[name], dtype) for name in self._in_order()}
        self._tie()
        self._in_several = self._shared_names()
        self.outside, self.inside = self._sorted_by_block()
        self._refuse_one_way()

    def written_in(self, dtype: torch.dtype | None) -> Self:
        """The same checkpoint, to be written in another dtype; None: as the checkpoint has it."""
        if dtype == self.dtype:
            return self
        return type(self)(self.folder, trust_remote_code=self.trust_remote_code, dtype=dtype)

    def refuse_overflow(self) -> None:
        """Read all tensors; ValueError, naming it, if one is too large for the dtype to write."""
        for name, dtype in self.dtypes.items():
            if self.dtype and dtype.is_floating_point and not has_room(self.dtype, dtype):
                self.read_outside([name])

    def read_outside(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read tensors as they are to be written if pruning leaves them alone.

        Raises ValueError, naming it, for a tensor that is too large for that dtype.
        """
        found = read_tensors({name: self.files[name] for name in names})
        return {name: converted_whole(name, each, self.dtype) for name, each in found.items()}

    def write_outside(self, names: Sequence[str], file: Path) -> None:
        """Write tensors to a file as they are to be written if pruning leaves them alone.

        Errors as of `read_outside`; OSError if the disk is full.
        """
        if self.dtype is not None:
            write_shard(file, self.read_outside(names))
            return
        begin("shard write")
        with whole_file(file) as unfinished:  # copied, because a vocabulary may be large
            join({name: self.files[name] for name in names}, unfinished)

    def arrange(self, names: Iterable[str]) -> None:
        """Take the blocks of these names, in this order, for all decoder blocks."""
        self.blocks = {name: self.blocks[name] for name in names}
        self.outside, self.inside = self._sorted_by_block()

    def load_for(self, tokens: Tensor, *, table_alone: bool) -> None:
        """Read the tensors outside of the blocks that running the blocks on `tokens` needs.

        table_alone  whether the input embedding's weight is used by its own module alone; then
                     only the rows of `tokens` are kept in memory
        """
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        table = self._of_module(embedding)
        unread = self._of_module(head) - table
        alone = table_alone and isinstance(embedding, nn.Embedding)
        by_rows = table if alone and self._is_plain(table, embedding.weight) else set()
        self._load(name for name in self.outside if name not in unread | by_rows)
        rows = tokens.unique()
        self._fill({name: read_rows(self.files[name], name, rows) for name in by_rows})
        if head is not None and head is not embedding and head.weight is embedding.weight:
            head.weight = nn.Parameter(torch.empty_like(head.weight, device="meta"))
        if alone:
            keep_rows(embedding, tokens, lambda: self._load(table))

    def load_outside(self) -> None:
        """Read all tensors outside of the blocks."""
        self._load(self.outside)

    def _of_module(self, module: nn.Module | None) -> set[str]:
        """The checkpoint's tensors, outside of the blocks, that a module is filled with.

        Those of its own parameters, or else of the ones that these are tied to.
        """
        held = {self._places[name][0]: name for name in self.outside}
        found = set()
        for name in self._own_names(module):
            known = [held[each] for each in (name, *self._tied.get(name, ())) if each in held]
            found.update(known[:1])
        return found

    def _own_names(self, module: nn.Module | None) -> set[str]:
        """The names of a module's own parameters, all of them if the module has several names."""
        return {
            f"{name}.{own}"
            for name, each in self.model.named_modules(remove_duplicate=False)
            if module is each
            for own, _ in module.named_parameters(recurse=False)
        }

    def _is_plain(self, names: set[str], parameter: Tensor) -> bool:
        """Whether one tensor of the checkpoint, as it is, is what a parameter is filled with."""
        return all(
            len(names) == 1
            and not self._places[name][1]
            and self.shapes[name] == tuple(parameter.shape)
            and self.dtypes[name] == parameter.dtype
            for name in names
        )

    def _load(self, wanted: Iterable[str]) -> None:
        self._fill(read_tensors({name: self.files[name] for name in wanted}))

    def _fill(self, tensors: Mapping[str, Tensor]) -> None:
        with quiet_transformers():
            self._conversion.load(tensors)
        self._tie()

    def load_block(
        self,
        index: int,
        files: Mapping[str, Path] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take the weights of a decoder block from the checkpoint, from `files` or from `tensors`.

        tensors  as of `read_block`
        """
        tensors = tensors or self.read_block(index, files)
        with quiet_transformers():
            self._conversion.load(tensors)

    def read_block(self, index: int, files: Mapping[str, Path] | None = None) -> dict[str, Tensor]:
        """Read the checkpoint's tensors of a decoder block; the model stays as it is."""
        where = files or self.files
        return read_tensors({name: where[name] for name in self.inside[index]})

    def block_state(self, index: int) -> dict[str, Tensor]:
        """The weights of a block by the model's names, not copied."""
        prefix, block = list(self.blocks.items())[index]
        return {f"{prefix}.{name}": value for name, value in block.state_dict().items()}

    def block_tensors(self, index: int) -> dict[str, Tensor]:
        """The weights of a block as they are to be written: the checkpoint's names and layout.

        Raises ValueError, naming it, for a tensor that is too large for the dtype.
        """
        state = {name: value.cpu() for name, value in self.block_state(index).items()}
        names = self.inside[index]
        reverted = self._reverted(state, names)
        tensors: dict[str, Tensor] = {}
        for name in names:
            now = (reverted if name in reverted else state).get(self._own_name(name))
            if now is not None and now.dim() > 1 and now.shape != self.shapes[name]:
                # Transformers reads experts of both layouts, and always writes the model's.
                now = now.mT.contiguous()
            if now is None or now.dtype != self.dtypes[name]:
                before = read_tensors({name: self.files[name]})[name]
                # Digits that the model's dtype has no room for are lost by pruning alone.
                if now is None or torch.equal(now, before.to(now.dtype)):
                    now = before
                elif self.dtype is None:
                    now = now.to(before.dtype)
            tensors[name] = converted_whole(name, now, self.dtype)
        return tensors

    def is_written(self, before: Tensor, after: Tensor) -> bool:
        """Whether what was read from a file is what was there before, in the dtype to write."""
        return torch.equal(converted(before, self.dtype).to(before.dtype), after)

    def places(self, index: int) -> dict[str, Place]:
        """Where the checkpoint has the weights of a block's layers, by layer.

        A layer is left out if the checkpoint does not hold its rows in their order.
        """
        layers = prunable_layers(self.blocks)[index]
        own = {self._places[name][0]: name for name in self.inside[index]}
        places: dict[str, Place] = {}
        codes: dict[str, dict[str, Tensor]] = {}
        for name, layer in layers.items():
            stored = own.get(layer.parameter)
            if stored and not self._places[stored][1]:
                places[name] = Place((stored,), layer.transposed, layer.expert, layer.stacked)
            elif stored and not layer.transposed:
                if layer.parameter not in codes:
                    rows = row_codes(layer.stored.shape)
                    codes[layer.parameter] = self._conversion.revert({layer.parameter: rows})
                if place := self._place(layer, stored, codes[layer.parameter]):
                    places[name] = place
        return places

    def _place(
        self, layer: PrunableLayer, stored: str, codes: Mapping[str, Tensor]
    ) -> Place | None:
        """Where the checkpoint has the rows of a layer's weight; None if they are in no order.

        stored  a tensor that the parameter is made of, maybe beside others
        codes   of the parameter's rows, by the checkpoint's tensors
        """
        whole = codes.get(stored)
        if layer.expert is not None and whole is not None and whole.dim() == 3:
            rows = layer.stored.shape[:-1].numel()
            down, across = (
                len(each) == rows and _in_order(each)
                for each in (whole[:, :, 0].flatten(), whole[:, 0].flatten())
            )
            square = layer.shape[0] == layer.shape[1]
            turned = across if square else self.shapes[stored] != layer.stored.shape
            if down or across:
                return Place((stored,), turned, layer.expert)
        first = (layer.expert or 0) * layer.shape[0]
        ordered = first_rows(codes).items()
        parts = sorted((row, name) for name, row in ordered if 0 <= row - first < layer.shape[0])
        if parts:
            return Place(tuple(name for _, name in parts))
        turns = taking_turns(codes, layer.stored.shape).get(stored)
        own_slice = layer.expert, layer.stacked
        return Place((stored,), False, *own_slice, interleaved=turns) if turns else None

    def release_block(self, index: int) -> None:
        """Free the memory of a block's weights."""
        prefix, block = list(self.blocks.items())[index]
        for name, value in block.state_dict().items():
            if f"{prefix}.{name}" in self._in_several:
                continue
            path, _, own = name.rpartition(".")
            empty = torch.empty_like(value, device="meta")
            owner = block.get_submodule(path)
            is_buffer = own in owner._buffers
            setattr(owner, own, empty if is_buffer else nn.Parameter(empty, requires_grad=False))

    def _in_order(self) -> list[str]:
        """The checkpoint's tensors in the order in which `save_pretrained` goes through them."""
        saved = self._conversion.revert(self.model.state_dict())
        order = {name: number for number, name in enumerate(saved)}

        def number(name: str) -> int:
            return order.get(name, order.get(self._places[name][0], len(order)))

        return sorted(self.files, key=number)

    def _own_name(self, name: str) -> str:
        """The key of a tensor in `block_tensors`: rearranged ones have the checkpoint's name."""
        place, rearranged = self._places[name]
        return name if rearranged else place

    def _reverted(self, state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
        """Converted back: the tensors that differ from the model's in more than the name."""
        rearranged = [name for name in names if self._places[name][1]]
        found = self._conversion.revert(state) if rearranged else {}
        return {name: found[name] for name in rearranged if name in found}

    def _sorted_by_block(self) -> tuple[list[str], list[list[str]]]:
        outside: list[str] = []
        inside: dict[str, list[str]] = {name: [] for name in self.blocks}
        for name, (place, _) in self._places.items():
            block = block_of(place, self.blocks)
            alone = block is not None and place not in self._in_several
            (inside[block] if block and alone else outside).append(name)
        return outside, list(inside.values())

    def _untie(self) -> None:
        """Forget ties between weights that the checkpoint holds both, and not with equal numbers.

        Transformers does not tie these either, whatever the config says.
        """
        held = {place: name for name, (place, _) in self._places.items()}
        tied = getattr(self.model, "all_tied_weights_keys", {})
        for target, source in list(tied.items()):
            names = [held[each] for each in (target, source) if each in held]
            if len(names) == 2:
                one, other = read_tensors({name: self.files[name] for name in names}).values()
                if one.dtype != other.dtype or not torch.equal(one, other):
                    del tied[target]

    def _tie(self) -> None:
        """Let blocks that share weights hold the same parameter; loading gives them to one.

        Outside of the blocks, let parameters that the checkpoint lacks be those they are tied to,
        except the output head's: calibration does not need it.
        """
        head = self._own_names(self.model.get_output_embeddings())
        for name, others in self._tied.items():
            own = self.model.get_parameter(name)
            there = [self.model.get_parameter(each) for each in others]
            whole = next((each for each in there if not each.is_meta), there[0])
            in_block = any(block_of(each, self.blocks) for each in (name, *others))
            if own.is_meta and (in_block or not (whole.is_meta or name in head)):
                path, _, last = name.rpartition(".")
                setattr(self.model.get_submodule(path), last, whole)

    def _shared_names(self) -> set[str]:
        """The names in the model of weights inside of blocks that have several names."""
        names: dict[int, list[str]] = {}
        for name, weight in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(weight), []).append(name)
        return {
            name
            for group in names.values()
            if len(group) > 1 and any(block_of(name, self.blocks) for name in group)
            for name in group
        }

    def _refuse_missing(self, described: Mapping[str, Tensor]) -> None:
        with quiet_transformers():
            account = self._conversion.load(described)
        self.model._adjust_missing_and_unexpected_keys(account)
        held = {place for place, _ in self._places.values()}
        tied = getattr(self.model, "all_tied_weights_keys", {})
        untied = sorted(account.missing_keys - set(tied))
        missing = [name for name in untied if held.isdisjoint(self._tied.get(name, ()))]
        if missing:
            raise ValueError(lacking(missing))

    def _refuse_one_way(self) -> None:
        """Raise ValueError if a block's tensors cannot be converted back to the checkpoint's."""
        for index, names in enumerate(self.inside):
            rearranged = {name for name in names if self._places[name][1]}
            lost = rearranged - self._reverted(self.block_state(index), names).keys()
            if lost:
                raise ValueError(f"{min(lost)} cannot be written as it was read")


def row_codes(shape: torch.Size) -> Tensor:
    """A dummy parameter that numbers the rows of a parameter of `shape`.

    Passing it through the conversion shows where each row ends up. It has one column; of squares in
    3-D all, because some conversions tell by the shape whether they transpose.
    """
    rows = shape[:-1]
    codes = torch.arange(float(rows.numel()), dtype=torch.float64).view(*rows, 1)
    return codes.expand(shape) if len(shape) == 3 and shape[1] == shape[2] else codes


def first_rows(codes: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of each tensor's first row, for matrices that hold consecutive rows in order."""
    return {
        name: int(tensor[0, 0])
        for name, tensor in codes.items()
        if tensor.dim() == 2 and _in_order(tensor[:, 0])
    }


def _in_order(codes: Tensor) -> bool:
    """Whether codes of rows are consecutive numbers."""
    return torch.equal(codes, codes[0] + torch.arange(len(codes), dtype=codes.dtype))


def taking_turns(codes: Mapping[str, Tensor], shape: torch.Size) -> dict[str, int]:
    """How many equal parts of a weight's rows take turns in a tensor of its shape; 1 if in order.

    codes  what the conversion makes of `row_codes(shape)`; tensors with other rows are left out
    """
    found: dict[str, int] = {}
    for name, tensor in codes.items():
        rows = shape[-2]
        if tensor.shape != (*shape[:-1], 1) or rows < 2:
            continue
        numbers = tensor.flatten()
        step = int(numbers[1] - numbers[0])  # from the first row of a part to that of the next one
        if step > 0 and rows % step == 0:
            parts = rows // step if step > 1 else 1
            expected = row_codes(shape).unflatten(-2, (parts, -1)).transpose(-3, -2)
            if torch.equal(numbers, expected.flatten()):
                found[name] = parts
    return found


def lacking(missing: Sequence[str]) -> str:
    """The refusal of a checkpoint without these weights; of many it names the first ones."""
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"it lacks weights: {', '.join(missing[:3])}{more}"
