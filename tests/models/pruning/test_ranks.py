"""What ranks tell one another."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.processes import on_ranks
from thanos_torch.runtime import ranks as module
from thanos_torch.runtime.ranks import Ranks, joined


def summand(rank: int) -> Tensor:
    return torch.randn(7, 11, generator=torch.Generator().manual_seed(rank))


@pytest.mark.parametrize("entries", [module.ENTRIES, 30], ids=["at once", "in parts"])
@pytest.mark.parametrize("count", [2, 3])
def test_sums_are_added_in_the_order_of_the_ranks(
    count: int, entries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRIES", entries)

    def work(ranks: Ranks) -> Tensor:
        matrix = summand(ranks.rank)
        ranks.add_up(matrix)
        return matrix

    expected = summand(0)
    for rank in range(1, count):
        expected += summand(rank)
    for matrix in on_ranks(count, work, tmp_path):
        assert torch.equal(matrix, expected)


def test_values_arrive_whole_and_in_order(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> object:
        own = {"rank": ranks.rank, "text": "ä" * 100 * ranks.rank, "share": list(ranks.share(7))}
        return ranks.gather(own), ranks.from_first(lambda: {"from": ranks.rank})

    expected = [
        {"rank": rank, "text": "ä" * 100 * rank, "share": share}
        for rank, share in enumerate([[0, 1], [2, 3], [4, 5, 6]])
    ]
    assert on_ranks(3, work, tmp_path) == [(expected, {"from": 0})] * 3


def test_tensors_travel_bit_for_bit(tmp_path: Path) -> None:
    special = torch.tensor([[1.5, -0.0, float("nan")], [float("inf"), 1e-40, -7.0]])

    def work(ranks: Ranks) -> Tensor:
        weight = special.to(torch.bfloat16) if ranks.first else torch.zeros(2, 3).bfloat16()
        ranks.copy_from_first([weight.T])  # no contiguous one
        if ranks.rank == 2:
            ranks.send_to_first(special.T)
        if ranks.first:
            received = ranks.receive(2, (3, 2), torch.float32)
            assert torch.equal(received.view(torch.int32), special.T.contiguous().view(torch.int32))
        return weight

    expected = special.to(torch.bfloat16).view(torch.int16)
    weights = on_ranks(3, work, tmp_path)
    assert all(torch.equal(weight.view(torch.int16), expected) for weight in weights)


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with joined() as ranks:
        assert not torch.distributed.is_initialized()
        assert ranks.gather("own") == ["own"]
        assert ranks.from_first(lambda: 5) == 5
        assert list(ranks.share(4)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="rank timeout must be positive, got 0"), joined(0):
        pass
