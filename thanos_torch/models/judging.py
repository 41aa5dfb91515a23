"""Judging a pruned checkpoint again, from the original one and saved Gram matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reference.patterns import Ablation, parse_pattern
from thanos_torch.models.gram_files import GramReader
from thanos_torch.models.places import Place
from thanos_torch.models.recipe import LayerOptions
from thanos_torch.models.report import Judge
from thanos_torch.models.tensors import Tensors
from thanos_torch.models.threads import blas_threads

_HALF = {torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True)
class Judged:
    """What a judge said of a layer now.

    certificate  the verdict, None if the layer could not be judged
    problem      why not; empty if it was
    """

    name: str
    shape: tuple[int, ...]
    options: LayerOptions
    certificate: dict[str, Any] | None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the layer was judged and is as promised."""
        return self.certificate is not None and self.certificate["passed"] is True

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "options": self.options.as_dict(), "passed": self.passed}


def asked_of(record: Mapping[str, Any]) -> dict[str, LayerOptions]:
    """What was asked for each layer that should be pruned: all that is taken from `thanos.json`.

    Raises ValueError if a layer's options are none.
    """
    asked: dict[str, LayerOptions] = {}
    for layer in record["layers"]:
        if not layer["options"]:
            continue
        try:
            options = dict(layer["options"])
            pattern, ablation = options.pop("pattern"), Ablation(**options.pop("ablation", {}))
            asked[layer["name"]] = LayerOptions(
                parse_pattern(pattern), **options, ablation=ablation
            )
            asked[layer["name"]].check()
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"options of {layer['name']}: {error}") from error
    return asked


def judge_again(
    name: str,
    options: LayerOptions,
    place: Place | None,
    original: Tensors,
    pruned: Tensors,
    grams: GramReader,
    judge: Judge,
) -> Judged:
    """Judge one layer by its weight in both checkpoints and its Gram matrix.

    place  where both have the weight; None if the record does not know

    The mask is inferred from the zeros, and weights that were rounded to half precision when they
    were stored are judged as such. What is missing or does not fit is a problem of the layer.
    """
    shape: tuple[int, ...] = ()
    try:
        if place is None:
            raise ValueError("the record does not say where its weight is")
        before, after = place.read(original.__getitem__), place.read(pruned.__getitem__)
        shape = tuple(after.shape)
        if name not in grams:
            raise ValueError("there is no Gram matrix of it")
        certificate = _certificate(name, options, before, after, grams, judge)
    except ValueError as error:
        return Judged(name, shape, options, None, str(error))
    return Judged(name, shape, options, certificate)


def same_tensors(
    original: Tensors, pruned: Tensors, places: Mapping[str, Place], judged: set[str]
) -> tuple[int, dict[str, str]]:
    """How many tensors are equal in both checkpoints, and what became of the others, by name.

    That is "changed", "lost" or "added". Compared are all tensors but the weights of `judged`
    layers; of tensors that those share with other layers, as experts do, the weights of the others.
    """
    taken = {tensor for name in judged if name in places for tensor in places[name].tensors}
    before, after = original.files.keys() - taken, pruned.files.keys() - taken
    found = dict.fromkeys(sorted(before - after), "lost")
    found |= dict.fromkeys(sorted(after - before), "added")
    shared = sorted(before & after)
    changed = [name for name in shared if not torch.equal(original[name], pruned[name])]
    beside = [
        name for name, place in places.items() if name not in judged and taken & set(place.tensors)
    ]
    for name in beside:
        first, second = (places[name].read(each.__getitem__) for each in (original, pruned))
        if not torch.equal(first, second):
            changed.append(name)
    return len(shared) + len(beside) - len(changed), found | dict.fromkeys(changed, "changed")


def _certificate(
    name: str,
    options: LayerOptions,
    before: Tensor,
    after: Tensor,
    grams: GramReader,
    judge: Judge,
) -> dict[str, Any]:
    result, refitted = after, None
    if options.refit_steps:
        result_before = grams.before_refit(name)
        if result_before is None:
            raise ValueError("it was refitted, and its weight before that was not kept")
        result, refitted = result_before, _numpy(after)
    gram = grams.gram(name)
    with blas_threads(len(gram)):
        verdict = judge(
            _numpy(before),
            _numpy(gram),
            _numpy(result),
            options.pattern,
            method=options.method,
            block_size=options.block_size,
            damping=options.damping,
            arithmetic="float64" if after.dtype == torch.float64 else "float32",
            storage=_HALF.get(after.dtype),
            refitted_weight=refitted,
            **options.ablation.changed(),
        )
    return verdict.as_dict()


def _numpy(tensor: Tensor) -> Any:
    """NumPy knows no bfloat16; float32 holds all of its numbers, and those of float16."""
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
