"""Storage forms: nothing is lost, and the sizes are those of the formulas, to the byte."""

from collections.abc import Callable
from math import comb

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reference.patterns import Pattern, SemiStructured, Structured, Unstructured
from tests.forms.layers import DTYPES, PATTERNS, pruned
from thanos_torch.forms import (
    Bitmask,
    Compact,
    Form,
    PackedNM,
    bits_of,
    choose,
    form_bytes,
    form_from,
    form_of,
    pack,
    stored_bytes,
)
from thanos_torch.forms.form import pack_bits, pack_codes, unpack_bits, unpack_codes
from thanos_torch.forms.nm import code_bits, rank, unrank

CASES = [(pattern, form_of(pattern)) for pattern in PATTERNS]
CASES += [(pattern, "bitmask") for pattern in PATTERNS if form_of(pattern) != "bitmask"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("pattern", "name"), CASES, ids=lambda each: str(each))
def test_every_bit_comes_back_and_every_byte_is_counted(
    pattern: Pattern, name: str, dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weight, mask = pruned(pattern, dtype)
    form = pack(name, weight, mask, pattern)
    again = form_from(name, (13, 48), form.tensors, pattern)
    assert again.weight().dtype == dtype
    assert torch.equal(bits_of(again.weight()), bits_of(weight))
    assert torch.equal(again.mask(), mask)

    expected = form_bytes(name, pattern, (13, 48), dtype.itemsize)
    assert stored_bytes(form) == expected
    file = tmp_path_factory.mktemp("form") / "form.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in form.tensors.items()}, file)
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert file.stat().st_size - header == expected


def test_sizes_by_hand() -> None:
    assert choose.dense_bytes(4, 8, 2) == 64
    assert choose.bitmask_bytes(4, 8, 16, 2) == 2 * 16 + 4
    assert choose.bitmask_bytes(3, 3, 4, 4) == 4 * 5 + 2
    # 2:4 has C(4, 2) = 6 choices, hence 3 bits: 8 groups of them are 3 bytes.
    assert choose.nm_bytes(4, 8, 2, 4, 0, 2) == 2 * 16 + 3
    # Rows 8 wide: 3 of them with 2 groups of 2 kept weights, 1 whole and listed.
    assert choose.nm_bytes(4, 8, 2, 4, 1, 2) == 2 * (12 + 8) + 3 + 4
    assert choose.compact_bytes(4, 8, 3, 0, 4) == 4 * 4 * 5 + 4 * 5
    assert choose.compact_bytes(4, 8, 3, 1, 4) == 4 * (4 * 5 + 3) + 4 * (5 + 1)


@pytest.mark.parametrize(("m", "k"), [(1, 0), (1, 1), (4, 2), (4, 1), (8, 4), (9, 9), (10, 0)])
def test_codes_number_all_subsets_without_a_gap(m: int, k: int) -> None:
    numbers = torch.arange(comb(m, k))
    taken = unrank(numbers, m, k)
    assert (taken.sum(dim=1) == k).all()
    assert len({tuple(row) for row in taken.tolist()}) == comb(m, k)
    assert torch.equal(rank(taken), numbers)
    assert 2 ** code_bits(m, k) >= comb(m, k) > 2 ** code_bits(m, k) // 2


def test_the_longest_codes_fit() -> None:
    taken = torch.zeros(2, 64, dtype=torch.bool)
    taken[0, 32:], taken[1, :32] = True, True  # the last and the first of C(64, 32)
    assert rank(taken).tolist() == [comb(64, 32) - 1, 0]
    assert torch.equal(unrank(rank(taken), 64, 32), taken)


@pytest.mark.parametrize("count", [0, 1, 8, 9, 100])
def test_bits_are_those_of_numpy(count: int) -> None:
    flags = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.5
    assert pack_bits(flags).tolist() == np.packbits(flags.numpy()).tolist()
    assert torch.equal(unpack_bits(pack_bits(flags), count), flags)


@pytest.mark.parametrize("width", [0, 1, 3, 7, 61])
def test_codes_of_any_width_come_back(width: int) -> None:
    codes = torch.randint(2**width, (11,), generator=torch.Generator().manual_seed(width))
    packed = pack_codes(codes, width)
    assert len(packed) == -(-11 * width // 8)
    assert torch.equal(unpack_codes(packed, 11, width), codes)


def test_a_mask_that_removes_nothing() -> None:
    weight, mask = torch.randn(3, 8), torch.zeros(3, 8, dtype=torch.bool)
    for form in (Bitmask.pack(weight, mask), Compact.pack(weight, mask)):
        assert torch.equal(form.weight(), weight)
        assert not form.mask().any()


SPARSE = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 3.0, 0.0, 4.0]])
FITS = SPARSE == 0
CROOKED = torch.tensor([[True, False, True, False], [True, False, False, False]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bitmask.pack(SPARSE + 1, FITS), r"weight must be \+0.0 where mask .* got 4"),
        (lambda: Bitmask.pack(SPARSE.where(~FITS, -0.0), FITS), "got 4 other numbers"),
        (lambda: Bitmask.pack(SPARSE, FITS[:1]), r"mask must be bool of shape \(2, 4\)"),
        (lambda: Bitmask.pack(SPARSE, FITS.int()), "mask must be bool .* got torch.int32"),
        (lambda: Bitmask.pack(SPARSE.int(), FITS), "weight must be a matrix of floating"),
        (lambda: PackedNM.pack(SPARSE, CROOKED, 2, 4), "remove 2 of every 4 weights, but row 1"),
        (lambda: PackedNM.pack(SPARSE, FITS, 2, 3), "m = 3 does not divide the 4 columns"),
        (lambda: PackedNM.pack(SPARSE, FITS, 0, 4), r"n must lie in \[1, m\] = \[1, 4\] .* got 0"),
        (lambda: PackedNM.pack(SPARSE, FITS, 2, 65), r"m must lie in \[1, 64\] .* got 65"),
        (lambda: Compact.pack(SPARSE, CROOKED), "whole columns, but row 1 differs"),
        (lambda: pack("nm", SPARSE, FITS, Structured(0.5)), "nm is for n:m .* got structured:0.5"),
        (
            lambda: form_bytes("compact", SemiStructured(2, 4), (2, 4), 4),
            "one of bitmask, nm, compact",
        ),
        (lambda: pack("zip", SPARSE, FITS, Structured(0.5)), "one of bitmask, nm, compact, got"),
        (
            lambda: Bitmask.of((2, 4), {"bits": pack_bits(FITS), "values": SPARSE[0, :3]}),
            "values must be 4, as bits says, got 3",
        ),
        (lambda: Bitmask.of((3, 4), Bitmask.pack(SPARSE, FITS).tensors), "must hold 2 bytes"),
        (lambda: Compact.of((2, 5), Compact.pack(SPARSE, FITS).tensors), "beside must have"),
        (lambda: Compact.of((3, 4), Compact.pack(SPARSE, FITS).tensors), "columns must have"),
        (
            lambda: Compact.of(
                (2, 4), Compact.pack(SPARSE, FITS).tensors | {"kept": FITS[0].int()}
            ),
            "kept must be ascending indices below 4",
        ),
        (lambda: Compact.of((2, 3), Compact.pack(SPARSE, FITS).tensors), "indices below 3"),
        (lambda: PackedNM.of((2, 8), PackedNM.pack(SPARSE, FITS, 2, 4).tensors, 2, 4), "values"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], Form], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Unstructured(0.5), "bitmask"),
        (SemiStructured(2, 4, 0.1), "nm"),
        (SemiStructured(0, 4), "bitmask"),
        (SemiStructured(50, 100), "bitmask"),
        (Structured(0.3), "compact"),
    ],
)
def test_the_form_of_a_pattern(pattern: Pattern, expected: str) -> None:
    assert form_of(pattern) == expected
