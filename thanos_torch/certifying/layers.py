"""Judge every layer of a pruned checkpoint again, from the original and saved Gram matrices."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thanos_torch.certifying.gram_files import GramReader, sha256_of_tensor
from thanos_torch.certifying.original import Original, OriginalLayer, dtype_name, refuse_unlike
from thanos_torch.checkpoint.masks import Place
from thanos_torch.checkpoint.record import PASSED, Judge, Stored, verdict_of
from thanos_torch.checkpoint.shards import Tensors
from thanos_torch.pruning.plan import LayerOptions
from thanos_torch.runtime.clock import blas_threads


@dataclass(frozen=True)
class Judged:
    """What a judge says of a layer.

    shape        (c, b), of the original
    certificate  the verdict, None if the layer could not be judged
    gram_sha256  of the Gram matrix that it was judged with; empty without a certificate
    problem      why it could not be judged; empty if it was
    """

    name: str
    shape: tuple[int, ...]
    options: LayerOptions
    certificate: Stored | None
    gram_sha256: str = ""
    problem: str = ""

    @property
    def verdict(self) -> str:
        """The certificate's; a layer that could not be judged failed."""
        return verdict_of(self.certificate)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        verdict = self.verdict
        own = {**vars(self), "options": self.options.as_dict()}
        return {**own, "passed": verdict == PASSED, "verdict": verdict}


@dataclass(frozen=True)
class _Case:
    """One layer, ready to be judged.

    before, after  the weight in both checkpoints, (c, b)
    gram           (b, b)
    arithmetic     what the layer was pruned in, as `arithmetic_of`
    storage        the narrower dtype that `after` was rounded to, None if it was not
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
    judge: Judge,
) -> Judged:
    """Judge one layer by its weight in both checkpoints and its Gram matrix.

    The mask is inferred from the zeros. Where the weight is and which dtype it was rounded to comes
    from the original. What is missing or does not fit is a problem of the layer.
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
            refuse_unlike(original.tensors.described(tensor), pruned.described(tensor))
        if name not in grams:
            raise ValueError("there is no Gram matrix of it")
        case = _case(options, layer, layer.place, original.tensors, pruned, grams.gram(name))
        with blas_threads(len(case.gram)):
            certificate = _certificate(case, _witness(name, case, grams), judge)
        digest = sha256_of_tensor(case.gram)
    except ValueError as error:
        return Judged(name, shape, options, None, problem=str(error))
    return Judged(name, shape, options, certificate, digest)


def _case(
    options: LayerOptions,
    layer: OriginalLayer,
    place: Place,
    original: Tensors,
    pruned: Tensors,
    gram: Tensor,
) -> _Case:
    """Read both weights. All dtypes are the original's, whatever the pruned checkpoint says."""
    before, after = place.read(original.__getitem__), place.read(pruned.__getitem__)
    arithmetic = torch.float64 if layer.dtype == torch.float64 else torch.float32
    narrowest = before.dtype
    if layer.dtype.itemsize < narrowest.itemsize:  # the checkpoint is wider than its model
        narrowest = layer.dtype
        if not torch.equal(after, after.to(narrowest).to(after.dtype)):
            raise ValueError(f"it holds digits that {dtype_name(narrowest)} has no room for")
    storage = dtype_name(narrowest) if narrowest.itemsize < arithmetic.itemsize else None
    return _Case(options, before.to(layer.dtype), after, gram, arithmetic, storage)


def _witness(name: str, case: _Case, grams: GramReader) -> Tensor | None:
    """The weight before the refit, (c, b), as it was computed; None if no refit was asked for."""
    if not case.options.refit_steps:
        return None
    witness = grams.before_refit(name)
    if witness is None:
        raise ValueError("a refit was asked for, and the weight before it was not kept")
    if witness.dtype != case.arithmetic:
        raise ValueError(f"the weight before its refit is kept as {dtype_name(witness.dtype)}")
    return witness


def _certificate(case: _Case, witness: Tensor | None, judge: Judge) -> Stored:
    """The verdict on a layer; with a witness on that, and on the refit that came of it."""
    options, refitted = case.options, witness is not None
    return judge(
        _numpy(case.before),
        _numpy(case.gram),
        _numpy(case.after if witness is None else witness),
        options.pattern,
        method=options.method,
        block_size=options.block_size,
        damping=options.damping,
        arithmetic=dtype_name(case.arithmetic),
        # Of the refitted weight, if there is one: the witness was never rounded, and certify
        # allows nothing to it for that.
        storage=case.storage,
        refitted_weight=_numpy(case.after) if refitted else None,
        **options.ablation.changed(),
    ).as_dict()


def _numpy(tensor: Tensor) -> Any:
    """NumPy knows no bfloat16; float32 holds all of its numbers, and those of float16."""
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
