"""Judge the layers of a result again, by the Gram matrices that its run kept."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thanos_torch.certifying.original import Original, refuse_unlike
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.record import PASSED, Judge, Stored, verdict_of
from thanos_torch.checkpoint.shards import Tensors, inside
from thanos_torch.network.layers import arithmetic_of, dtype_name
from thanos_torch.pruning.kept_grams import GRAMS_INDEX, refit_file
from thanos_torch.pruning.plan import LayerOptions, default_judge
from thanos_torch.runtime.strangers import is_file_name, printable, read_json, shown
from thanos_torch.runtime.threads import blas_threads


class GramReader:
    """The Gram matrices of layers: those of a `GramWriter`, or of any safetensors file."""

    def __init__(self, place: Path) -> None:
        """Open a folder, or a file whose tensors are named by their layers.

        Raises ValueError for anything else.
        """
        from safetensors import SafetensorError, safe_open

        self._folder = place if place.is_dir() else None
        if self._folder:
            index = _read_index(place)
            self._places = {n: (inside(place, f"{o}.safetensors"), o) for n, o in index.items()}
            return
        try:
            with safe_open(place, framework="pt") as stored:
                self._places = {name: (place, name) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"gram file {place} cannot be read: {error}") from error

    def __contains__(self, layer: object) -> bool:
        """Whether there is a Gram matrix of a layer."""
        return layer in self._places

    def gram(self, layer: str) -> Tensor:
        """G of a layer, (b, b). Raises ValueError if it is missing or cannot be read."""
        return _read(*self._places[layer])

    def before_refit(self, layer: str) -> Tensor | None:
        """The weight of a layer, (c, b), before it was refitted; None if it was not kept."""
        if self._folder is None or not refit_file(self._folder, layer).is_file():
            return None
        return _read(inside(self._folder, refit_file(self._folder, layer).name), layer)


def sha256_of_tensor(tensor: Tensor) -> str:
    """SHA-256 over a tensor's dtype, its shape and its bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def sha256_of_all(digests: Mapping[str, str]) -> str:
    """One SHA-256 for the Gram matrices of several layers, over sorted lines `NAME SHA-256`."""
    lines = sorted(f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read(file: Path, name: str) -> Tensor:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ValueError(printable(f"gram file {file} cannot be read: {error}")) from error
    return tensor


def _read_index(folder: Path) -> dict[str, str]:
    index = read_json(inside(folder, GRAMS_INDEX), dict[str, str], "is no index of it")
    strange = [name for pair in index.items() for name in pair if not is_file_name(name)]
    if strange:
        raise ValueError(f"gram folder {folder}: {shown(strange[0])} is no name of a layer")
    return index


@dataclass(frozen=True)
class Judged:
    """The verdict on one layer.

    shape        (c, b), of the original
    certificate  None if the layer could not be judged
    gram_sha256  SHA-256 of the Gram matrix used; empty without a certificate
    problem      why the layer could not be judged; empty if it was
    """

    name: str
    shape: tuple[int, ...]
    options: LayerOptions
    certificate: Stored | None
    gram_sha256: str = ""
    problem: str = ""

    @property
    def verdict(self) -> str:
        """The certificate's verdict; a layer that could not be judged failed."""
        return verdict_of(self.certificate)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        verdict = self.verdict
        own = {**vars(self), "options": self.options.as_dict()}
        return {**own, "passed": verdict == PASSED, "verdict": verdict}


@dataclass(frozen=True)
class _Case:
    """One layer, ready to be judged.

    before, after  the weight in the original and in the pruned checkpoint, (c, b)
    gram           (b, b)
    arithmetic     the dtype that the layer was pruned in, of `arithmetic_of`
    storage        the narrower dtype that `after` was rounded to; None if it was not rounded
    """

    options: LayerOptions
    before: Tensor
    after: Tensor
    gram: Tensor
    arithmetic: torch.dtype
    storage: str | None


def judge_again(
    name: str,
    options: LayerOptions,
    original: Original,
    pruned: Tensors,
    grams: GramReader,
    judge: Judge = default_judge,
    dtype: torch.dtype | None = None,
) -> Judged:
    """Judge one layer by its weight in both checkpoints and its Gram matrix.

    dtype  what the pruned checkpoint was to be written in; None: as the original

    The mask is inferred from the zeros, and the weight's place comes from the original. If
    something is missing or does not fit, the result names the problem.
    """
    shape: tuple[int, ...] = ()
    try:
        if name not in original.layers:
            raise ValueError("the original has no such layer")
        layer = original.layers[name]
        shape = layer.shape
        if layer.place is None:
            raise ValueError("where the original has its weight cannot be told")
        for tensor in layer.place.tensors:
            refuse_unlike(original.tensors.described(tensor), pruned.described(tensor), dtype)
        if name not in grams:
            raise ValueError("there is no Gram matrix of it")
        case = _case(options, layer.place, original.tensors, pruned, grams.gram(name))
        with blas_threads(len(case.gram)):
            certificate = _certificate(case, _witness(name, case, grams), judge)
        digest = sha256_of_tensor(case.gram)
    except ValueError as error:
        return Judged(name, shape, options, None, problem=str(error))
    return Judged(name, shape, options, certificate, digest)


def _case(
    options: LayerOptions,
    place: Place,
    original: Tensors,
    pruned: Tensors,
    gram: Tensor,
) -> _Case:
    """Read both weights; the arithmetic follows from the dtype that the original has."""
    before, after = place.read(original.__getitem__), place.read(pruned.__getitem__)
    arithmetic = arithmetic_of(before.dtype)
    storage = dtype_name(after.dtype) if after.dtype != arithmetic else None
    return _Case(options, before, after, gram, arithmetic, storage)


def _witness(name: str, case: _Case, grams: GramReader) -> Tensor | None:
    """The weight before the refit, (c, b), not rounded; None if no refit was asked for."""
    if not case.options.refit_steps:
        return None
    witness = grams.before_refit(name)
    if witness is None:
        raise ValueError("a refit was asked for, and the weight before it was not kept")
    if witness.dtype != case.arithmetic:
        raise ValueError(f"the weight before its refit is kept as {dtype_name(witness.dtype)}")
    return witness


def _certificate(case: _Case, witness: Tensor | None, judge: Judge) -> Stored:
    """The verdict on a layer; with a witness, on the witness and on its refit."""
    return case.options.ask(
        judge,
        case.before,
        case.gram,
        case.after if witness is None else witness,
        None if witness is None else case.after,
        arithmetic=dtype_name(case.arithmetic),
        # The dtype of the refitted weight if there is one: the witness was never rounded, and
        # certify allows it no rounding.
        storage=case.storage,
    ).as_dict()
