"""The certificate by NumPy and by PyTorch must agree. CPU tensors stand in for a device's."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from verification.certificate import FAILED, Certificate, Check, certify

# How far two values of a check may be apart: as a share of them, and of what decides. That is the
# threshold, or what rounding explains where values are in its units; else they are shares of f.
RELATIVE, OF_THRESHOLD, OF_LOSS = 1e-4, 0.1, 1e-9
IN_ROUNDINGS = ("gradient", "margin", "outlier margin")


def certify_both(*layer: Any, **options: Any) -> Certificate:
    """NumPy's certificate, after PyTorch's was seen to say the same, refusals included."""
    tensors = [tensor_of(each) for each in layer[:3]]
    others = {name: tensor_of(value) for name, value in options.items()}
    try:
        expected = certify(*layer, **options)
    except ValueError as error:
        if isinstance(tensors[0], torch.Tensor):
            with pytest.raises(ValueError, match=re.escape(str(error).split()[0])):
                on_device(*tensors, *layer[3:], **others)
        raise error
    if isinstance(tensors[0], torch.Tensor):
        refuse_difference(on_device(*tensors, *layer[3:], **others), expected)
    return expected


def on_device(*layer: Any, **options: Any) -> Certificate:
    """The certificate where tensors are, which NumPy is not asked to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("verification.certificate.libraries.HOSTS", frozenset())
        return certify(*layer, **options)


def tensor_of(value: Any) -> Any:
    """An array as a tensor with its own memory; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    try:
        return torch.tensor(value.copy())
    except TypeError:  # float128
        return value


def refuse_difference(found: Certificate, expected: Certificate) -> None:
    """Fail unless two certificates have the same verdicts and nearly the same values.

    Where a result that failed leaves float64, the order of operations tells infinity from NaN.
    """
    assert [check.name for check in found.checks] == [check.name for check in expected.checks]
    pairs = [*zip(found.checks, expected.checks, strict=True)]
    if any(
        not math.isfinite(one.value) and one.verdict == other.verdict == FAILED
        for one, other in pairs
    ):
        assert found.verdict == expected.verdict
        return
    for one, other in pairs:
        assert alike(one, other), f"{one}\n{other}"


def alike(one: Check, other: Check) -> bool:
    """Whether two checks agree; verdicts may differ where a value is the threshold, nearly."""
    size = max(abs(one.value), abs(other.value))
    threshold = 1.0 if one.name in IN_ROUNDINGS else one.threshold
    room = OF_LOSS if threshold is None else OF_THRESHOLD * threshold
    near = abs(one.value - other.value) <= RELATIVE * size + room
    same = one.value == other.value or (math.isnan(one.value) and math.isnan(other.value))
    if one.verdict == other.verdict:
        return same or near
    return near and threshold is not None and abs(one.value - threshold) <= 0.01 * threshold
